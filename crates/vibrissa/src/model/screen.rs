//! Encoding by a screen: products in bf16 say which latents can be among the k largest, and only these are computed in
//! f32. What is selected, and every value, is that of the dense product, to the bit.
//!
//! With `x̂, ŵ` the rounded rows, `|x·w - x̂·ŵ| ≤ ‖x‖ ‖w - ŵ‖ + ‖x - x̂‖ ‖ŵ‖` (Cauchy–Schwarz). Sums of D products in f32 add
//! at most `c ‖x̂‖ ‖ŵ‖`, `c = 1.2 D 2⁻²⁴`, whatever their order (Higham, Accuracy and Stability of Numerical Algorithms,
//! §3.1), those of the exact kernel included. The norms are computed, not guessed.

use super::{Config, Sae, reserve, thread};
use crate::activation::Screened;
use crate::kernels::Isa;
use crate::kernels::screen::{Line, Rounded, SIDE, Tiles, Weights, scratch_lines};
use crate::matrix::{Panels, Pieces};
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Weights that several batches were encoded with are rounded once for all that come; whoever changes them makes a new one.
#[derive(Debug, Default)]
pub struct Kept {
    batches: AtomicU32,
    rounded: OnceLock<Rounded>,
}

/// It belongs to one model, and is no part of what that is.
impl Clone for Kept {
    fn clone(&self) -> Kept {
        Kept::default()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Kept) -> bool {
        true
    }
}

/// Batches after which weights are rounded to be kept: rounding costs about as much as encoding a small batch.
const BATCHES: u32 = 3;

impl Kept {
    /// One more batch will be encoded.
    pub fn count(&self, sae: &Sae, isa: Isa, rows: usize) {
        if possible(isa, rows, &sae.config, true) && self.batches.fetch_add(1, Ordering::Relaxed) == BATCHES {
            // Outside of the lock: a worker that waits for others may come here for another batch.
            let _ = self.rounded.set(Rounded::new(isa, sae.W_enc.data(), sae.config.d_in));
        }
    }

    pub fn get(&self) -> Option<&Rounded> {
        self.rounded.get()
    }
}

/// Whether a screen may pay at all: rounding the weights must, and most exact products must be spared.
fn possible(isa: Isa, rows: usize, config: &Config, rounded: bool) -> bool {
    let enough = rows >= if rounded { SIDE } else { FEWEST_ROWS };
    isa.screens() && enough && 8 * config.k <= config.latents && config.d_in <= MOST_COLUMNS
}

/// Scratch of a screen.
#[derive(Debug, Default)]
pub struct Screen {
    tiles: Tiles,
    scratch: Vec<Mutex<Vec<Line>>>,
    /// `[‖w‖², ‖w - ŵ‖²]` of every latent, then their roots from above.
    lengths: Vec<[f32; 2]>,
    /// The largest of these, and of the biases.
    most: [f32; 2],
    bias_most: f32,
    /// The bound told too little on a batch before: so many more are left to the dense product.
    blunt: u32,
}

/// Batches that are left to the dense product where a screen did not pay: latents may become sparse while training.
const PATIENCE: u32 = 64;

/// A screen that asks for more exact products than one latent in so many (and the k largest) costs more than it spares.
const MOST_ASKED: usize = 8;

/// Fewer rows wait for the weights anyway, whatever is done with them.
const FEWEST_ROWS: usize = 32;

/// Fewer rows than that are better off with the dense product where they ask for more than one latent in [`MOST_READ`]: the weights
/// of these are read twice.
const FEW_ROWS: usize = 64;
const MOST_READ: usize = 3;

/// Beyond this many columns the sums of f32 are no longer small beside the rounding to bf16.
const MOST_COLUMNS: usize = 1 << 17;

/// A root from above, of a sum of `dim` squares that may have lost some to rounding and underflow.
fn root(square: f32, dim: usize) -> f32 {
    let dim = dim as f64;
    ((f64::from(square) + dim * f64::from(f32::MIN_POSITIVE)) * (1.0 + dim * 2f64.powi(-23))).sqrt() as f32 * 1.000_001
}

impl Screen {
    /// Whether a batch of this many rows is encoded faster by a screen.
    pub fn pays(&mut self, isa: Isa, rows: usize, sae: &Sae) -> bool {
        let may = possible(isa, rows, &sae.config, sae.kept.get().is_some());
        if may && self.blunt > 0 {
            self.blunt -= 1;
            return false;
        }
        may
    }

    /// Whether what a batch asks for costs less than the dense product; if not, the next ones are left to that, too.
    pub fn spares(&mut self, (asked, latents): (usize, usize), rows: usize, sae: &Sae) -> bool {
        let config = &sae.config;
        let few = rows < FEW_ROWS && MOST_READ * latents > config.latents && sae.kept.get().is_none();
        let spares = !few && asked <= rows * (config.k + config.latents / MOST_ASKED);
        if !spares {
            self.blunt = PATIENCE;
        }
        spares
    }

    /// Leaves approximate pre-activations of `input [B, D]` in `pre_acts`; false where no bound can be given (weights or
    /// rows are near the end of f32).
    pub fn fill(&mut self, sae: &Sae, isa: Isa, input: &[f32], pre_acts: &mut Panels, threads: usize) -> bool {
        let (dim, bias) = (sae.config.d_in, sae.bias());
        let rows = input.len() / dim;
        self.scratch.resize_with(threads, Mutex::default);
        for own in &mut self.scratch {
            reserve(own.get_mut().expect("no panic while held"), scratch_lines(rows, dim));
        }
        self.lengths.resize(bias.len(), [0.0; 2]);
        let rounded = sae.kept.get();
        if let Some(rounded) = rounded {
            self.lengths.copy_from_slice(rounded.squares());
        }
        self.tiles.fill(isa, input, dim);
        let (tiles, scratch) = (&self.tiles, &self.scratch);
        let panels = pre_acts.data_mut().par_chunks_mut(rows * Panels::WIDTH);
        panels.zip(self.lengths.par_chunks_mut(Panels::WIDTH)).enumerate().for_each(|(p, (out, lengths))| {
            let own = p * Panels::WIDTH..p * Panels::WIDTH + lengths.len();
            let w = &sae.W_enc.data()[own.start * dim..own.end * dim];
            let mut scratch = scratch[thread()].lock().expect("no panic while held");
            let w = rounded.map_or(Weights::Rows(w, lengths), |rounded| Weights::Rounded(rounded.panel(p)));
            isa.screen(tiles, w, &bias[own], dim, out, &mut scratch);
            lengths.iter_mut().for_each(|l| *l = l.map(|square| root(square, dim)));
        });
        let most = self.lengths.iter().fold([0.0f32; 2], |m, l| [m[0].max(l[0]), m[1].max(l[1])]);
        let bias_most = bias.iter().fold(0.0f32, |m, b| m.max(b.abs()));
        let finite = |row: &[f32; 2]| {
            let [x, lost] = row.map(|square| root(square, dim));
            (x + lost) * (most[0] + most[1]) + bias_most < 1e37
        };
        (self.most, self.bias_most) = (most, bias_most);
        self.tiles.squares().iter().all(finite)
    }

    /// What was filled last, and how far each value may be off.
    pub fn sums<'a>(&'a self, sae: &'a Sae, pre_acts: &'a Panels) -> Sums<'a> {
        Sums { sae, pre_acts, screen: self }
    }
}

/// The pre-activations of a batch, each up to an error.
pub struct Sums<'a> {
    sae: &'a Sae,
    pre_acts: &'a Panels,
    screen: &'a Screen,
}

impl Sums<'_> {
    /// One row: its approximate values, and their errors.
    pub fn row<'s>(&'s self, b: usize) -> Screened<impl Fn() -> Pieces<'s>, impl Fn(u32) -> f32 + 's> {
        let (dim, bias) = (self.sae.config.d_in, self.sae.bias());
        let Screen { tiles, lengths, most, bias_most, .. } = self.screen;
        let rounding = (1.2 * dim as f32 + 80.0) * (f32::EPSILON / 2.0);
        // What the sums that underflow lose, and the rounding of the bias, twice.
        let rest = move |bias: f32| 4.0 * f32::EPSILON * bias + 4.0 * dim as f32 * f32::MIN_POSITIVE;
        let [x, lost] = tiles.squares()[b].map(|square| root(square, dim));
        let [by_norm, by_lost] = [lost + rounding * (x + lost), (x + lost) * (1.0 + rounding)];
        let error = move |[norm, lost]: [f32; 2], bias: f32| 1.001 * (by_norm * norm + by_lost * lost + rest(bias));
        Screened {
            pieces: move || self.pre_acts.row(b),
            error: move |h: u32| error(lengths[h as usize], bias[h as usize].abs()),
            most: error(*most, *bias_most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::{Candidates, may_be_top, select, top_k_of};
    use crate::matrix::{Latents, Mat};
    use crate::model::asked::Asked;
    use crate::model::step::{Engine, State, StepOptions};
    use crate::model::{self, Work};
    use crate::random::Stream;

    fn sae(d_in: usize, latents: usize, k: usize, weights: Mat, bias: Vec<f32>) -> Sae {
        let config =
            Config { d_in, latents, k, relu_after: false, tied: true, decoder_bias: false, ..Config::default() };
        Sae::new(config, model::Weights { W_enc: weights, b_enc: bias, ..model::Weights::default() })
            .expect("consistent")
    }

    /// Indices and bits of every row, as the dense product gives them.
    fn dense(sae: &Sae, x: &Mat) -> Vec<Vec<(u32, u32)>> {
        let (mut work, mut latents) = (Work::default(), Latents::default());
        sae.encode(Isa::SCALAR, x.view(), &mut work, &mut latents).expect("finite");
        assert!(!work.screened);
        rows(&latents)
    }

    fn rows(latents: &Latents) -> Vec<Vec<(u32, u32)>> {
        let row = |b| {
            let (index, value) = latents.row(b);
            index.iter().zip(value).map(|(&i, v)| (i, v.to_bits())).collect()
        };
        (0..latents.rows()).map(row).collect()
    }

    fn screened(isa: Isa, sae: &Sae, x: &Mat) -> Option<Vec<Vec<(u32, u32)>>> {
        let (mut screen, mut pre_acts, mut latents) = (Screen::default(), Panels::default(), Latents::default());
        let candidates: Vec<Mutex<Candidates>> = (0..rayon::current_num_threads()).map(|_| Mutex::default()).collect();
        pre_acts.resize(x.rows(), sae.config().latents);
        screen.fill(sae, isa, x.data(), &mut pre_acts, candidates.len()).then_some(())?;
        let sums = screen.sums(sae, &pre_acts);
        let Config { k, relu_after, .. } = *sae.config();
        let mut asked = Asked::default();
        let find = |b: usize, own: &mut Candidates| may_be_top(isa, k, &sums.row(b), own);
        asked.ask(x.rows(), sae.config().latents, &candidates, find);
        asked.answer(sae, isa, x.data());
        let find = |b: usize, own: &mut Candidates, index: &mut [u32], value: &mut [f32]| {
            top_k_of(k, asked.row(b), own, index, value)
        };
        assert_eq!(select(k, relu_after, x.rows(), &candidates, &mut latents, find), None);
        Some(rows(&latents))
    }

    #[test]
    fn a_screen_selects_what_the_dense_product_selects() {
        let mut s = Stream::new(5, "screen", &[]);
        for (b, d, h, k) in [(20, 33, 100, 5), (17, 784, 256, 20), (64, 8, 500, 3), (3, 2000, 64, 64), (1, 1, 60, 7)] {
            let mut noise = |rows: usize, cols: usize, size: f64| {
                Mat::from_vec(rows, cols, (0..rows * cols).map(|_| (size * s.normal()) as f32).collect())
            };
            let (x, w) = (noise(b, d, 1.0), noise(h, d, 0.1));
            // Ties and neighbours one rounding apart; rows of zeros; weights that bf16 holds exactly; wide ranges.
            let mut close = w.clone();
            for i in 0..h {
                let from = w.row(i / 8 * 8).to_vec();
                let nudge = |(j, v): (usize, f32)| if j == i % 8 && i % 3 == 0 { v.next_up() } else { v };
                close.row_mut(i).copy_from_slice(&from.into_iter().enumerate().map(nudge).collect::<Vec<_>>());
            }
            let mut sparse = x.clone();
            (0..b).step_by(3).for_each(|r| sparse.row_mut(r).fill(0.0));
            let coarse = Mat::from_vec(h, d, w.data().iter().map(|v| (v * 16.0).round() / 16.0).collect());
            let whole = Mat::from_vec(b, d, x.data().iter().map(|v| v.round()).collect());
            let scale = |m: &Mat, f: &dyn Fn(usize) -> f32| {
                Mat::from_vec(m.rows(), d, m.data().iter().enumerate().map(|(i, v)| v * f(i / d)).collect())
            };
            let wild = scale(&w, &|h| 10f32.powi(h as i32 % 25 - 12));
            let tiny = scale(&x, &|_| 1e-30);
            for (case, x, w) in [
                ("normal", &x, &w),
                ("close", &x, &close),
                ("zero rows", &sparse, &close),
                ("exact in bf16", &whole, &coarse),
                ("wild", &x, &wild),
                ("tiny", &tiny, &w),
                ("tiny and wild", &tiny, &wild),
            ] {
                for bias in [vec![0.0; h], noise(1, h, 1.0).data().to_vec(), noise(1, h, 1e5).data().to_vec()] {
                    let sae = sae(d, h, k, w.clone(), bias);
                    let want = dense(&sae, x);
                    for isa in Isa::available() {
                        assert_eq!(screened(isa, &sae, x).as_ref(), Some(&want), "{} {case} {d}→{h}", isa.name());
                    }
                }
            }
        }
    }

    /// Weights that were rounded to be kept select the same, and are forgotten when a step moves the weights.
    #[test]
    fn kept_weights_select_the_same_and_do_not_outlive_a_step() {
        let mut s = Stream::new(8, "screen", &[]);
        let (b, d, h, k) = (64, 1100, 500, 6);
        let mut noise =
            |rows: usize, cols: usize| Mat::from_vec(rows, cols, (0..rows * cols).map(|_| s.normal() as f32).collect());
        let (x, w) = (noise(b, d), noise(h, d));
        let isa = *Isa::available().last().expect("scalar");
        let state = State::new(sae(d, h, k, w.clone(), vec![0.0; h]).config());
        let mut engine = Engine::new(isa, sae(d, h, k, w, vec![0.0; h]), state, StepOptions::default());
        for _ in 0..2 {
            let (mut work, mut latents) = (Work::default(), Latents::default());
            for _ in 0..BATCHES + 3 {
                engine.sae().encode(isa, x.view(), &mut work, &mut latents).expect("finite");
                assert_eq!(rows(&latents), dense(engine.sae(), &x));
            }
            assert_eq!((engine.sae().kept.get().is_some(), work.screened), (isa.screens(), isa.screens()));
            engine.step(x.view(), 0.1, None).expect("finite");
        }
    }

    /// The first latent is the largest by a hair, and rounding to bf16 makes it the smallest of all by as much as the
    /// bound allows.
    #[test]
    fn rounding_that_misleads_changes_nothing() {
        let (d, h) = (64, 400);
        let half = |sign: [f32; 2]| (0..d).map(move |j| sign[usize::from(j >= d / 2)]);
        // bf16 has 8 bits: `down` becomes 1, `up` becomes 1 + 2⁻⁷.
        let (down, up) = (1.0 + 2f32.powi(-8), (1.0 + 2f32.powi(-8)).next_up());
        let one_and_others = |one: Vec<f32>, other: Vec<f32>| {
            Mat::from_vec(h, d, (0..h).flat_map(|i| if i == h - 1 { one.clone() } else { other.clone() }).collect())
        };
        let mut first = vec![0.0; h];
        first[h - 1] = 2e-5;
        let by_weights = (vec![1.0; d], one_and_others(vec![down; d], vec![up; d]), first);
        let (plus, minus) = (half([1.0, -1.0]).collect(), half([-1.0, 1.0]).collect());
        first = vec![0.0; h];
        first[h - 1] = 3e-5;
        let by_input = (half([down, up]).collect(), one_and_others(plus, minus), first);
        for (x, w, bias) in [by_weights, by_input] {
            let x = Mat::from_vec(3, d, x.repeat(3));
            let sae = sae(d, h, 1, w, bias);
            assert!(dense(&sae, &x).iter().all(|row: &Vec<(u32, u32)>| row[0].0 == h as u32 - 1), "as it was meant");
            for isa in Isa::available() {
                assert_eq!(screened(isa, &sae, &x), Some(dense(&sae, &x)), "{}", isa.name());
            }
        }
    }

    /// Beside a large bias the sums differ by a few roundings only, which the two products take differently.
    #[test]
    fn the_rounding_of_the_bias_changes_nothing() {
        let mut s = Stream::new(6, "screen", &[]);
        let (d, h) = (40, 600);
        let mut noise = |n: usize, size: f64| (0..n).map(|_| (size * s.normal()) as f32).collect::<Vec<_>>();
        let (x, w) = (Mat::from_vec(50, d, noise(50 * d, 0.1)), Mat::from_vec(h, d, noise(h * d, 0.1)));
        let sae = sae(d, h, 20, w, vec![1e5; h]);
        for isa in Isa::available() {
            assert_eq!(screened(isa, &sae, &x), Some(dense(&sae, &x)), "{}", isa.name());
        }
    }

    #[test]
    fn numbers_near_the_end_of_f32_are_left_to_the_dense_product() {
        for (x, w) in [(1e20, 1.0), (1.0, 3e38), (1e19, 1e19), (f32::NAN, 1.0)] {
            let sae = sae(1, 3, 1, Mat::from_vec(3, 1, vec![w, 1.0, 0.5]), vec![0.0; 3]);
            for isa in Isa::available() {
                assert_eq!(screened(isa, &sae, &Mat::from_vec(1, 1, vec![x])), None, "{} {x} {w}", isa.name());
            }
        }
    }
}

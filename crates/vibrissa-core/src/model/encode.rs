//! Encoding: one dense product (or its screen), then the selection that the activation asks for.

use super::screen::{Screen, Wanted, most_left};
use super::{Config, Sae, Workspace, reserve, sigmoid};
use crate::activation::above::{Thresholds, above, above_of, cut_batch, select_any};
use crate::activation::{self, Activation, Screened, top_k, top_k_of};
use crate::error::Overflow;
use crate::matrix::{Latents, Mat, MatMut, MatRef, Panels, Pieces};
use rayon::prelude::*;
use std::time::{Duration, Instant};

/// Which pre-activations become latents. Training differs from inference in some activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Rule {
    /// The k largest of a row.
    TopK { k: usize, relu_after: bool },
    /// The B·k largest of the batch, above 0.
    BatchTopK { k: usize },
    /// All above `threshold - margin`; those not above the threshold get the value 0.
    Above { margin: f32 },
    /// All, through the sigmoid.
    All,
}

/// Shares of the last batch's smallest kept value above which this batch's are looked for, one after the other.
const GUESSES: [f32; 3] = [0.9, 0.6, 0.0];

/// The exact pre-activations that [`Sae::values`] left.
struct Exact<'a> {
    screened: bool,
    screen: &'a Screen,
    pre_acts: &'a Panels,
}

/// Those of a row: some, or all.
enum Entries<'a> {
    Some(Screened<'a>),
    All(Pieces<'a>),
}

impl Exact<'_> {
    fn of(work: &Workspace) -> Exact<'_> {
        Exact { screened: work.screened, screen: &work.screen, pre_acts: &work.pre_acts }
    }

    fn row(&self, b: usize) -> Entries<'_> {
        if !self.screened {
            return Entries::All(self.pre_acts.row(b));
        }
        match self.screen.left().binary_search(&(b as u32)) {
            Ok(at) => Entries::All(self.pre_acts.row(at)),
            Err(_) => Entries::Some(self.screen.row(b)),
        }
    }
}

/// The k-th largest value of a row of which these are the k largest; 0 where those not above 0 were dropped.
fn least(latents: &Latents, b: usize, k: usize) -> f32 {
    let values = latents.row(b).1;
    if values.len() < k { 0.0 } else { values.iter().fold(f32::INFINITY, |m, &v| m.min(v)) }
}

#[allow(non_snake_case)]
impl Sae {
    /// `latents = activation((x - b_dec) W_encᵀ + b_enc)`, as inference has it: batchtopk compares with its threshold.
    ///
    /// # Shapes
    /// `x [B, D]` → `latents [B, H]`.
    ///
    /// # Errors
    /// [`Overflow`] for the first row whose pre-activations are not finite.
    pub fn encode(&self, x: MatRef, work: &mut Workspace, latents: &mut Latents) -> std::result::Result<(), Overflow> {
        let Config { activation, k, relu_after, .. } = self.config;
        let rule = match activation {
            Activation::TopK => Rule::TopK { k, relu_after },
            Activation::Sigmoid => Rule::All,
            _ => Rule::Above { margin: 0.0 },
        };
        self.kept.count(self, work.isa, x.rows());
        self.encode_by(rule, x, work, latents)?;
        if activation == Activation::Gated {
            self.magnitudes(latents, true);
        }
        Ok(())
    }

    /// [`Sae::encode`] of rows any of which may overflow: such a row has the latents that were found, fewer than k.
    ///
    /// This is right for statistics over many rows and for reconstructions to look at: a valid model on finite rows can overflow at
    /// worst, and without this row the figures would be of other rows.
    pub fn encode_lossy(&self, x: MatRef, work: &mut Workspace, latents: &mut Latents) {
        // The latents of all rows are there before an overflow is reported.
        let _ = self.encode(x, work, latents);
    }

    /// Sets biases or thresholds so that about `k` latents a row are active on these rows before the first step, unless the selection
    /// fixes their number: relu and gated get lower biases, jumprelu and batchtopk thresholds, sigmoid biases at which the mean of
    /// every latent is about k/H.
    pub fn set_initial_sparsity(&mut self, k: usize, x: MatRef) {
        let Config { activation, latents, .. } = self.config;
        if matches!(activation, Activation::TopK) {
            return;
        }
        if activation == Activation::Sigmoid {
            let target = (k as f64 / latents as f64).clamp(1e-3, 0.5);
            return self.b_enc.fill((target / (1.0 - target)).ln() as f32);
        }
        let (mut work, mut codes) = (Workspace::default(), Latents::default());
        self.encode_by(Rule::BatchTopK { k }, x, &mut work, &mut codes).expect("a batch is selected by comparisons");
        let least = work.least_kept();
        match activation {
            Activation::Relu => self.b_enc.iter_mut().for_each(|b| *b -= least),
            Activation::Gated => self.b_gate.iter_mut().for_each(|b| *b -= least),
            _ => self.threshold.fill(least),
        }
    }

    /// Sets the threshold of a batchtopk model so that `k` latents a row are active on these rows, in the mean: half-way
    /// between the smallest value that stays and the largest that does not. `fill(i, out)` gives the rows in pieces of at
    /// most `size`, `rows` in all.
    pub fn calibrate(
        &mut self,
        k: usize,
        rows: usize,
        size: usize,
        mut fill: impl FnMut(std::ops::Range<usize>, MatMut),
    ) {
        let (mut work, mut codes) = (Workspace::default(), Latents::default());
        let mut x = Mat::zeros(size.min(rows), self.config.d_in);
        let begin = self.threshold[0];
        for share in [0.5, 0.0] {
            self.threshold[0] = share * begin;
            let mut values: Vec<u32> = Vec::new();
            for from in (0..rows).step_by(size.max(1)) {
                let n = size.min(rows - from);
                fill(from..from + n, x.top_mut(n));
                self.encode_by(Rule::Above { margin: 0.0 }, x.top(n), &mut work, &mut codes)
                    .expect("a threshold selects by comparisons");
                (0..n).for_each(|b| values.extend(codes.row(b).1.iter().map(|v| v.to_bits())));
            }
            if values.len() > rows * k {
                // Positive floats are in the order of their bits.
                let (above, &mut next, _) = values.select_nth_unstable_by(rows * k, |a, b| b.cmp(a));
                let last = above.iter().min().map_or(next, |&v| v);
                let half = 0.5 * (f32::from_bits(last) + f32::from_bits(next));
                // Neighbours have nothing between them: the lower one keeps the upper.
                self.threshold[0] = if half < f32::from_bits(last) { half } else { f32::from_bits(next) };
                return;
            }
        }
    }

    /// [`Sae::encode_lossy`] with the `k` largest values above 0 of each row, whatever the activation.
    pub fn encode_top(&self, x: MatRef, k: usize, work: &mut Workspace, latents: &mut Latents) {
        self.kept.count(self, work.isa, x.rows());
        // The latents of all rows are there before an overflow is reported.
        let _ = self.encode_by(Rule::TopK { k, relu_after: true }, x, work, latents);
    }

    /// The bias of what is selected by: the gate's, or that of the latents.
    pub(super) fn bias(&self) -> &[f32] {
        if self.config.activation == Activation::Gated { &self.b_gate } else { &self.b_enc }
    }

    /// [`Sae::encode`] by a rule; of a gated model the latents are `π` where it is above 0.
    pub(super) fn encode_by(
        &self,
        rule: Rule,
        x: MatRef,
        work: &mut Workspace,
        latents: &mut Latents,
    ) -> std::result::Result<(), Overflow> {
        let (rows, dim) = (x.rows(), self.config.d_in);
        assert_eq!(x.cols(), dim, "rows of another width than the model");
        work.prepare(rows, &self.config);
        work.product = Duration::ZERO;
        let mut centred = std::mem::take(&mut work.centred);
        let input = match &self.b_dec {
            Some(b_dec) => {
                let centred = &mut centred.data_mut()[..rows * dim];
                centred.par_chunks_mut(dim).enumerate().for_each(|(b, out)| {
                    out.copy_from_slice(b_dec);
                    work.isa.residual(x.row(b), out);
                });
                &*centred
            }
            None => x.data(),
        };
        let done = self.encode_input(rule, input, work, latents);
        work.centred = centred;
        done
    }

    /// [`Sae::encode_by`] of rows that are centred already.
    fn encode_input(
        &self,
        rule: Rule,
        input: &[f32],
        work: &mut Workspace,
        latents: &mut Latents,
    ) -> std::result::Result<(), Overflow> {
        let isa = work.isa;
        let rows = input.len() / self.config.d_in;
        work.screened = rule != Rule::All && work.screen.pays(isa, rows, self);
        match rule {
            Rule::TopK { k, relu_after } => {
                if work.screened && !work.screen.has_guess() {
                    self.probe(k, input, work, latents);
                }
                let looked = self.values(Wanted::Top(k), input, work);
                let exact = Exact::of(work);
                let bad = activation::select(k, relu_after, rows, &work.candidates, latents, |b, own, index, value| {
                    match exact.row(b) {
                        Entries::Some(row) => top_k_of(isa, k, row, own, index, value),
                        Entries::All(row) => top_k(isa, k, || row.clone(), own, index, value),
                    }
                });
                if looked {
                    work.screen.learn_from(|b| least(latents, b, k));
                }
                return bad.map_or(Ok(()), |row| Err(Overflow { row }));
            }
            Rule::BatchTopK { k } => {
                let mut all = false;
                for share in GUESSES {
                    let t = Thresholds { each: &[share * work.guess], margin: 0.0 };
                    // A screen for all that is positive would find half of all.
                    work.screened &= t.each[0] > 0.0;
                    if !all {
                        self.values(Wanted::Above(t), input, work);
                        all = !work.screened;
                    }
                    Sae::exceed(&t, rows, work, latents, |_, _| {});
                    if latents.count() >= rows * k || t.each[0] == 0.0 {
                        break;
                    }
                }
                work.guess = cut_batch(rows * k, latents, &mut work.bits);
            }
            Rule::Above { margin } => {
                let t = Thresholds { each: &self.threshold, margin };
                self.values(Wanted::Above(t), input, work);
                Sae::exceed(&t, rows, work, latents, |index, value| {
                    if margin > 0.0 {
                        for (&h, v) in index.iter().zip(value) {
                            if *v <= t.at(h as usize) + margin {
                                *v = 0.0;
                            }
                        }
                    }
                });
            }
            Rule::All => {
                self.dense(input, work);
                latents.resize(rows, self.config.latents);
                let (len, index, value, capacity) = latents.parts_mut();
                len.fill(capacity as u32);
                let each = index.par_chunks_mut(capacity).zip(value.par_chunks_mut(capacity));
                each.enumerate().for_each(|(b, (index, value))| {
                    for (first, p) in work.pre_acts.row(b) {
                        for (j, &p) in p.iter().enumerate() {
                            (index[first + j], value[first + j]) = ((first + j) as u32, sigmoid(p));
                        }
                    }
                });
            }
        }
        Ok(())
    }

    /// Leaves in `latents` what exceeds these thresholds, of the values that [`Sae::values`] left, changed by `mark(index, value)`.
    fn exceed(
        t: &Thresholds,
        rows: usize,
        work: &mut Workspace,
        latents: &mut Latents,
        mark: impl Fn(&[u32], &mut [f32]) + Sync,
    ) {
        let (isa, mut room) = (work.isa, work.room);
        let exact = Exact::of(work);
        select_any(rows, &mut room, &work.candidates, latents, |b, own| {
            let n = match exact.row(b) {
                Entries::Some(row) => above_of(t, row, own),
                Entries::All(row) => above(isa, t, row, own),
            };
            let (index, value) = own.found(n);
            mark(index, value);
            n
        });
        work.room = room;
    }

    /// Exact pre-activations of all that may be wanted: by a screen where `work.screened` says so and that spares something, or else,
    /// after which it says no, of all. Whether a screen looked at them.
    fn values(&self, wanted: Wanted, input: &[f32], work: &mut Workspace) -> bool {
        let (isa, dim) = (work.isa, self.config.d_in);
        let mut looked = work.screened;
        if looked {
            let Workspace { screen, candidates, pre_acts, some, .. } = work;
            // Room for rows that may be left, now or later.
            let most = most_left(input.len() / dim);
            pre_acts.resize(most, self.config.latents);
            some.resize(most * dim);
            looked = screen.ask((self, isa), input, wanted, candidates);
            work.product += screen.took();
            work.screened = looked && screen.spares(input.len() / dim, self);
        }
        if !work.screened {
            self.dense(input, work);
            return looked;
        }
        work.screen.answer(self, isa, input);
        let left = work.screen.left();
        if !left.is_empty() {
            let mut some = std::mem::take(&mut work.some);
            some.resize(left.len() * dim);
            for (row, &b) in some.chunks_exact_mut(dim).zip(left) {
                row.copy_from_slice(&input[b as usize * dim..][..dim]);
            }
            self.dense(&some, work);
            work.some = some;
        }
        looked
    }

    /// Exact pre-activations of all.
    fn dense(&self, input: &[f32], work: &mut Workspace) {
        let (isa, began) = (work.isa, Instant::now());
        let (dim, bias) = (self.config.d_in, self.bias());
        let rows = input.len() / dim;
        let Workspace { pre_acts, spill, product, .. } = work;
        pre_acts.resize(rows, self.config.latents);
        let (panel_len, spill) = (pre_acts.panel_len(), &*spill);
        pre_acts.data_mut().par_chunks_mut(panel_len.max(1)).enumerate().for_each(|(p, out)| {
            let first = p * Panels::WIDTH;
            let n = out.len() / rows;
            let w = &self.W_enc.data()[first * dim..(first + n) * dim];
            let mut spill = spill.lock();
            isa.dots(input, w, &bias[first..first + n], dim, out, &mut spill);
        });
        *product += began.elapsed();
    }

    /// Tells the screen where the k-th largest values of some rows lie.
    fn probe(&self, k: usize, input: &[f32], work: &mut Workspace, latents: &mut Latents) {
        const ROWS: usize = 16;
        let (isa, dim) = (work.isa, self.config.d_in);
        let rows = input.len() / dim;
        let input = &input[..rows.min(ROWS) * dim];
        self.dense(input, work);
        let Workspace { pre_acts, candidates, screen, .. } = work;
        let pre_acts = &*pre_acts;
        activation::select(k, false, rows.min(ROWS), candidates, latents, |b, own, index, value| {
            top_k(isa, k, || pre_acts.row(b), own, index, value)
        });
        screen.learn(input.chunks_exact(dim).enumerate().map(|(b, x)| (least(latents, b, k), isa.dot(x, x).sqrt())));
    }

    /// Turns `π > 0` of a gated model into its latents, `max((π - b_gate) exp(r_mag) + b_enc, 0)`; zeros are dropped or
    /// stay.
    pub(super) fn magnitudes(&self, latents: &mut Latents, drop: bool) {
        let (len, index, value, capacity) = latents.parts_mut();
        let rows = len.par_iter_mut().zip(index.par_chunks_mut(capacity)).zip(value.par_chunks_mut(capacity));
        rows.for_each(|((len, index), value)| {
            let mut kept = 0;
            for j in 0..*len as usize {
                let h = index[j] as usize;
                let m = (value[j] - self.b_gate[h]).mul_add(self.r_mag[h].exp(), self.b_enc[h]).max(0.0);
                (index[kept], value[kept]) = (index[j], m);
                kept += usize::from(!drop || m > 0.0);
            }
            *len = kept as u32;
        });
    }

    /// Exact pre-activations of some latents on the batch that was encoded last.
    ///
    /// # Shapes
    /// `x [B, D]`, `which` ascending → `out [B, which.len()]`.
    pub(super) fn pre_acts_of(&self, x: MatRef, which: &[u32], work: &mut Workspace, out: &mut Panels) {
        let (rows, dim) = (x.rows(), self.config.d_in);
        out.resize(rows, which.len());
        let Workspace { isa, centred, pre_acts, screened, gathered, spill, .. } = work;
        gathered.grow();
        for (w, bias) in gathered.iter_mut() {
            w.resize(Panels::WIDTH * dim);
            reserve(bias, Panels::WIDTH);
        }
        let input = if self.config.decoder_bias { &centred.data()[..rows * dim] } else { x.data() };
        let panels = out.data_mut().par_chunks_mut(rows * Panels::WIDTH);
        panels.zip(which.par_chunks(Panels::WIDTH)).for_each(|(out, which)| {
            if *screened {
                let mut own = gathered.lock();
                let (w, bias) = &mut *own;
                let w = &mut w[..which.len() * dim];
                w.chunks_exact_mut(dim).zip(which).for_each(|(w, &h)| w.copy_from_slice(self.W_enc.row(h as usize)));
                bias.clear();
                bias.extend(which.iter().map(|&h| self.bias()[h as usize]));
                let mut spill = spill.lock();
                isa.dots(input, w, bias, dim, out, &mut spill);
            } else {
                for (b, out) in out.chunks_exact_mut(which.len()).enumerate() {
                    out.iter_mut().zip(which).for_each(|(o, &h)| *o = pre_acts.get(b, h as usize));
                }
            }
        });
    }
}

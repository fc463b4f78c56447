//! Milliseconds per training step, beside the physical floor of this machine, which is measured in turns with it:
//! medians of fifteen rounds.
//!
//! ```text
//! floor = max( 2·B·D·H / GEMM rate,  read(W_enc) / read rate + (parameters + moments, in and out) / update rate )
//! ```
//!
//! `cargo bench` prints a table. `cargo bench --bench step -- --json FILE` also writes it, `--only NAME` keeps one
//! shape, `--threads N` sets the threads, `--smoke` (or `VIBRISSA_BENCH_SMOKE=1`) runs every shape tiny, once. Rows are
//! random around 0, so that all latents are in use. Set-up is outside the timing.

#![allow(non_snake_case)]

use rayon::prelude::*;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vibrissa_core::kernels::{Isa, dots_scratch_len};
use vibrissa_core::loss::AuxK;
use vibrissa_core::matrix::{Latents, Mat, Panels};
use vibrissa_core::model::init;
use vibrissa_core::model::step::{Engine, State, StepOptions, Times};
use vibrissa_core::model::{Config, Sae, Workspace};
use vibrissa_core::random::Stream;

const SEED: u64 = 42;

/// A shape. Tied ones follow the baseline recipe (raw topk, no decoder bias).
struct Shape {
    name: &'static str,
    dim: usize,
    latents: usize,
    k: usize,
    batch: usize,
    tied: bool,
    /// A tenth of the latents is dead and takes part in AuxK.
    auxk: bool,
}

#[rustfmt::skip]
const SHAPES: [Shape; 5] = [
    Shape { name: "mnist",       dim: 784,   latents: 1024,  k: 50,  batch: 128,  tied: true,  auxk: false },
    Shape { name: "photos",      dim: 12288, latents: 3072,  k: 128, batch: 32,   tied: true,  auxk: false },
    Shape { name: "mice64",      dim: 4096,  latents: 8192,  k: 100, batch: 16,   tied: true,  auxk: false },
    Shape { name: "activations", dim: 384,   latents: 6144,  k: 32,  batch: 1024, tied: false, auxk: true  },
    Shape { name: "wide",        dim: 768,   latents: 24576, k: 32,  batch: 2048, tied: false, auxk: false },
];

/// Length and number of the repetitions. The machine and the step are timed in turns: the speed of a shared machine
/// varies, so only figures of one round are compared.
#[derive(Clone, Copy)]
struct Effort {
    smoke: bool,
    rounds: usize,
    /// Floats in the buffer whose traffic is timed: far more than any cache.
    buffer: usize,
    least: usize,
    most: usize,
    seconds: f64,
}

impl Effort {
    fn new(smoke: bool) -> Effort {
        if smoke {
            Effort { smoke, rounds: 1, buffer: 1 << 20, least: 1, most: 2, seconds: 0.0 }
        } else {
            Effort { smoke, rounds: 15, buffer: 1 << 26, least: 7, most: 400, seconds: 0.5 }
        }
    }

    /// Returns the median time of a repetition in milliseconds.
    fn time(self, mut run: impl FnMut()) -> f64 {
        let (started, mut all) = (Instant::now(), Vec::new());
        while all.len() < self.least || (all.len() < self.most && started.elapsed().as_secs_f64() < self.seconds) {
            let one = Instant::now();
            run();
            all.push(one.elapsed().as_secs_f64() * 1e3);
        }
        median(all)
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0
}

fn noise(rows: usize, cols: usize, key: u64) -> Mat {
    let mut out = Mat::zeros(rows, cols);
    out.data_mut().par_chunks_mut(cols).enumerate().for_each(|(r, row)| {
        let mut stream = Stream::new(SEED, "bench", &[key, r as u64]);
        row.iter_mut().for_each(|v| *v = (2.0 * stream.uniform() - 1.0) as f32);
    });
    out
}

/// The peak rates of this machine at one moment.
#[derive(Clone, Copy, Debug)]
struct Machine {
    gemm_gflops: f64,
    read_gb_per_s: f64,
    /// Bytes in and bytes out are both counted.
    update_gb_per_s: f64,
}

/// Buffers and products that measure the machine.
struct Meter {
    isa: Isa,
    effort: Effort,
    products: Vec<Product>,
    buffer: Vec<f32>,
}

impl Meter {
    fn new(isa: Isa, effort: Effort) -> Meter {
        let problems: &[[usize; 3]] = if effort.smoke {
            &[[16, 64, 192]]
        } else {
            &[[128, 784, 3072], [256, 1024, 3072], [512, 768, 6144], [1024, 384, 6144], [64, 4096, 3072]]
        };
        let products = problems.iter().map(|&p| Product::new(p)).collect();
        Meter { isa, effort: Effort { seconds: 0.0, ..effort }, products, buffer: vec![1.0f32; effort.buffer] }
    }

    fn measure(&mut self) -> Machine {
        let Meter { isa, effort, products, buffer } = self;
        let (isa, bytes, piece) = (*isa, 4.0 * buffer.len() as f64, 1 << 16);
        let gemm_gflops = products.iter_mut().map(|p| p.gflops(isa, *effort)).fold(0.0, f64::max);
        let read = effort.time(|| {
            let sum: f32 = buffer.par_chunks(piece).map(|p| isa.dot(p, p)).sum();
            black_box(sum);
        });
        let update = effort.time(|| buffer.par_chunks_mut(piece).for_each(|p| isa.scale(p, 1.000_000_1)));
        black_box(&buffer);
        Machine { gemm_gflops, read_gb_per_s: bytes / read / 1e6, update_gb_per_s: 2.0 * bytes / update / 1e6 }
    }
}

impl Machine {
    fn medians(all: &[Machine]) -> Machine {
        let of = |rate: fn(&Machine) -> f64| median(all.iter().map(rate).collect());
        Machine {
            gemm_gflops: of(|m| m.gemm_gflops),
            read_gb_per_s: of(|m| m.read_gb_per_s),
            update_gb_per_s: of(|m| m.update_gb_per_s),
        }
    }

    /// Returns the physical floor of a step in milliseconds, and the quantity that sets it.
    fn floor(&self, s: &Shape, moved: usize) -> (f64, &'static str) {
        let weights = (s.dim * s.latents) as f64;
        let compute = 2.0 * s.batch as f64 * weights / self.gemm_gflops / 1e6;
        let matrices = if s.tied { 1.0 } else { 2.0 };
        let touched = 3.0 * matrices * 4.0 * (moved * s.dim) as f64;
        let memory = 4.0 * weights / self.read_gb_per_s / 1e6 + 2.0 * touched / self.update_gb_per_s / 1e6;
        if compute >= memory { (compute, "arithmetic") } else { (memory, "memory") }
    }
}

/// One dense product, in the encoder's panels.
struct Product {
    x: Mat,
    w: Mat,
    out: Vec<f32>,
}

impl Product {
    fn new([rows, dim, n]: [usize; 3]) -> Product {
        Product { x: noise(rows, dim, 100), w: noise(n, dim, 101), out: vec![0.0; rows * n] }
    }

    fn gflops(&mut self, isa: Isa, effort: Effort) -> f64 {
        let Product { x, w, out } = self;
        let (rows, dim, n) = (x.rows(), x.cols(), w.rows());
        let bias = [0.0; Panels::WIDTH];
        let once = || {
            out.par_chunks_mut(rows * Panels::WIDTH).enumerate().for_each_init(
                || vec![0.0; dots_scratch_len(rows, dim)],
                |spill, (p, out)| {
                    let (first, count) = (p * Panels::WIDTH, out.len() / rows);
                    let part = &w.data()[first * dim..(first + count) * dim];
                    isa.dots(x.data(), part, &bias[..count], dim, out, spill);
                },
            );
        };
        let ms = effort.time(once);
        black_box(&out);
        2.0 * (rows * dim * n) as f64 / ms / 1e6
    }
}

/// The times of one shape.
struct Timing {
    step_ms: f64,
    encode_ms: f64,
    /// Encode, select, decode, update: means over the steps of a round.
    parts: [f64; 4],
    moved: usize,
    /// Medians of the rounds.
    machine: Machine,
    floor_ms: f64,
    floor_set_by: &'static str,
    step_over_floor: f64,
}

fn config(s: &Shape) -> Config {
    Config {
        d_in: s.dim,
        latents: s.latents,
        k: s.k,
        relu_after: !s.tied,
        tied: s.tied,
        decoder_bias: !s.tied,
        ..Config::default()
    }
}

fn measure(meter: &mut Meter, effort: Effort, s: &Shape) -> Timing {
    let isa = meter.isa;
    let config = config(s);
    let batches: Vec<Mat> = (0..4).map(|b| noise(s.batch, s.dim, b)).collect();
    let mean = vec![0.0; s.dim];
    let mut sae = init::kaiming(config, &mean, SEED, 0).expect("a possible model");
    let mut state = State::new(&config);
    let mut auxk = AuxK { coef: 0.0, k_aux: 0, dead_after: u64::MAX };
    if s.auxk {
        let dead = s.latents / 10;
        auxk = AuxK { coef: 1.0 / 32.0, k_aux: (s.dim / 2).min(s.latents / 4).min(256), dead_after: 1_000_000 };
        let mut weights = sae.into_weights();
        weights.b_enc[..dead].fill(-5.0);
        state.silent[..dead].fill(auxk.dead_after);
        sae = Sae::new(config, weights).expect("the same model");
    }

    let (mut work, mut latents, mut next) = (Workspace::new(isa), Latents::default(), 0);
    let mut encode = || {
        next += 1;
        sae.encode(batches[next % batches.len()].view(), &mut work, &mut latents).expect("finite rows");
    };
    encode();
    let encode_ms = median((0..effort.rounds).map(|_| effort.time(&mut encode)).collect());

    let options = StepOptions { auxk, ..StepOptions::default() };
    let (mut rounds, mut all, mut moved) = (Vec::new(), Vec::new(), 0);
    for _ in 0..effort.rounds {
        // Every round starts anew: thousands of steps on few batches would overfit them.
        let (mut engine, mut next) = (Engine::new(isa, sae.clone(), state.clone(), options), 0);
        let mut step = |engine: &mut Engine| {
            next += 1;
            engine.step(batches[next % batches.len()].view(), 1e-4, None).expect("a finite step");
        };
        // Warm-up on each batch: the first steps allocate, and latents that never moved cost nothing.
        for _ in 0..if effort.smoke { 1 } else { batches.len() } {
            step(&mut engine);
        }
        engine.take_times();
        let before = meter.measure();
        rounds.push((before, effort.time(|| step(&mut engine))));
        all.push(engine.take_times());
        moved = engine.state().idle.iter().filter(|&&idle| idle != State::NEVER).count();
    }
    let part = |of: fn(&Times) -> Duration| {
        let mean = |t: &Times| of(t).as_secs_f64() * 1e3 / f64::from(t.steps);
        median(all.iter().map(mean).collect())
    };
    let parts = [part(|t| t.encode), part(|t| t.select), part(|t| t.decode), part(|t| t.update)];
    let over = |of: &dyn Fn(&(Machine, f64)) -> f64| median(rounds.iter().map(of).collect());
    let machine = Machine::medians(&rounds.iter().map(|r| r.0).collect::<Vec<_>>());
    Timing {
        step_ms: over(&|r| r.1),
        encode_ms,
        parts,
        moved,
        machine,
        floor_ms: over(&|r| r.0.floor(s, moved).0),
        floor_set_by: machine.floor(s, moved).1,
        step_over_floor: over(&|r| r.1 / r.0.floor(s, moved).0),
    }
}

fn shrunk(s: &Shape) -> Shape {
    Shape { dim: s.dim / 16, latents: s.latents / 16, k: s.k / 4, batch: (s.batch / 16).max(2), ..*s }
}

fn main() {
    let mut smoke = std::env::var("VIBRISSA_BENCH_SMOKE").is_ok_and(|v| v == "1");
    let (mut json, mut only, mut as_bench) = (None, None, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--bench" => as_bench = true,
            "--smoke" => smoke = true,
            "--json" => json = Some(args.next().expect("--json FILE")),
            "--only" => only = Some(args.next().expect("--only NAME")),
            "--threads" => {
                let n = args.next().and_then(|n| n.parse().ok()).expect("--threads N");
                rayon::ThreadPoolBuilder::new().num_threads(n).build_global().expect("threads");
            }
            other => panic!("unknown argument {other}: --smoke, --json FILE, --only NAME, --threads N"),
        }
    }
    // Without --bench, cargo runs this as a test (`cargo test --benches`).
    let effort = Effort::new(smoke || !as_bench);
    let (isa, threads) = (Isa::current(), rayon::current_num_threads());
    let mut meter = Meter::new(isa, effort);
    let machine = meter.measure();
    println!(
        "{} · {threads} threads · GEMM {:.0} GFLOP/s · memory {:.1} GB/s read, {:.1} GB/s updated{}\n",
        isa.name(),
        machine.gemm_gflops,
        machine.read_gb_per_s,
        machine.update_gb_per_s,
        if effort.smoke { " · smoke test, figures mean nothing" } else { "" },
    );
    println!(
        "shape              D      H    k     B  layout    step ms     rows/s     encode     select     decode     update   floor ms  set by      step/floor  encode alone"
    );
    let (mut records, mut machines) = (Vec::new(), Vec::new());
    for s in SHAPES.iter().filter(|s| only.as_deref().is_none_or(|o| o == s.name)) {
        let s = if effort.smoke { shrunk(s) } else { Shape { ..*s } };
        let t = rayon::scope(|_| measure(&mut meter, effort, &s));
        machines.push(t.machine);
        let rows_per_s = s.batch as f64 / t.step_ms * 1e3;
        println!(
            "{:<12} {:>7} {:>6} {:>4} {:>5}  {:<7} {:>9.2} {:>10.0} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>10.2}  {:<10} {:>11.2} {:>13.2}",
            s.name,
            s.dim,
            s.latents,
            s.k,
            s.batch,
            if s.tied { "tied" } else { "untied" },
            t.step_ms,
            rows_per_s,
            t.parts[0],
            t.parts[1],
            t.parts[2],
            t.parts[3],
            t.floor_ms,
            t.floor_set_by,
            t.step_over_floor,
            t.encode_ms,
        );
        records.push(serde_json::json!({
            "name": s.name, "d_in": s.dim, "latents": s.latents, "k": s.k, "batch": s.batch, "tied": s.tied, "auxk": s.auxk,
            "step_ms": t.step_ms, "rounds": effort.rounds, "rows_per_s": rows_per_s,
            "encode_ms": t.encode_ms, "encode_part_ms": t.parts[0], "select_part_ms": t.parts[1],
            "decode_part_ms": t.parts[2], "update_part_ms": t.parts[3], "moved_latents": t.moved, "floor_ms": t.floor_ms, "floor_set_by": t.floor_set_by,
            "step_over_floor": t.step_over_floor,
            "gemm_gflops": t.machine.gemm_gflops, "read_gb_per_s": t.machine.read_gb_per_s,
            "update_gb_per_s": t.machine.update_gb_per_s,
        }));
    }
    assert!(!records.is_empty(), "no shape of that name");
    if let Some(path) = json {
        let machine = Machine::medians(&machines);
        let record = serde_json::json!({
            "schema": "vibrissa.bench/1", "isa": isa.name(), "threads": threads, "smoke": effort.smoke,
            "gemm_gflops": machine.gemm_gflops, "read_gb_per_s": machine.read_gb_per_s,
            "update_gb_per_s": machine.update_gb_per_s, "shapes": records,
        });
        std::fs::write(&path, format!("{record:#}\n")).unwrap_or_else(|e| panic!("{path}: {e}"));
    }
}

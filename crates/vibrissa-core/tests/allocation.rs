//! A step allocates memory the first time only. This file has one test: allocations of others beside it would be
//! counted, too.
#![allow(unsafe_code)] // the allocator that counts

use rayon::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use vibrissa_core::activation::Activation;
use vibrissa_core::kernels::Isa;
use vibrissa_core::loss::{AuxK, Penalties};
use vibrissa_core::matrix::Mat;
use vibrissa_core::model::Config;
use vibrissa_core::model::init;
use vibrissa_core::model::step::{Engine, State, Step, StepOptions};
use vibrissa_core::optim::Optimizer;
use vibrissa_core::random::Stream;

/// The system's allocator, which counts allocations.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller guarantees what the system's allocator requires.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Case {
    name: &'static str,
    config: Config,
    batch: usize,
    options: StepOptions,
    prefixes: &'static [usize],
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let plain = Config { d_in: 48, latents: 640, k: 8, ..Config::default() };
    let auxk = AuxK { coef: 0.03, k_aux: 16, dead_after: 0 };
    let options = StepOptions { auxk, ..StepOptions::default() };
    let case = |name, config, batch, options| Case { name, config, batch, options, prefixes: &[] };
    for activation in
        [Activation::TopK, Activation::BatchTopK, Activation::Relu, Activation::JumpRelu, Activation::Gated]
    {
        let l1 = Penalties {
            l1: if activation.steered_by_l1() { 1e-3 } else { 0.0 },
            bandwidth: 0.1,
            ..Penalties::default()
        };
        let options = StepOptions { penalties: l1, ..options };
        for (tied, batch) in [(true, 24), (false, 24), (false, 96)] {
            let config = Config { activation, tied, decoder_bias: !tied, ..plain };
            all.push(case(activation.name(), config, batch, options));
        }
    }
    let dense = Penalties { kl: 0.1, ..Penalties::default() };
    let sigmoid = Config { activation: Activation::Sigmoid, ..plain };
    all.push(case("sigmoid, KL", sigmoid, 24, StepOptions { penalties: dense, ..StepOptions::default() }));
    let sparse = StepOptions { optimizer: Optimizer::SparseAdam, ..options };
    all.push(case("sparse Adam", Config { tied: true, ..plain }, 24, sparse));
    all.push(Case { prefixes: &[40, 160], ..case("prefixes", plain, 24, options) });
    let long = Config { d_in: 3000, latents: 130, tied: true, decoder_bias: false, ..plain };
    all.push(case("long rows", long, 24, StepOptions::default()));
    let many = Config { d_in: 300, latents: 1000, k: 64, ..plain };
    all.push(case("sums by panels", many, 96, StepOptions::default()));
    all
}

#[test]
fn a_step_allocates_the_first_time_only() {
    rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a pool").install(|| {
        // Every worker has started and stolen work once, for which the pool allocates.
        (0..300).into_par_iter().for_each(|_| std::thread::sleep(Duration::from_micros(200)));
        cases().iter().for_each(check);
    });
}

fn check(case: &Case) {
    let Config { d_in, latents, activation, k, .. } = case.config;
    let mut random = Stream::new(1, "allocation", &[]);
    let mut rows = || (0..case.batch * d_in).map(|_| random.normal() as f32).collect();
    let batches: Vec<Mat> = (0..3).map(|_| Mat::from_vec(case.batch, d_in, rows())).collect();
    let mean = vec![0.0; d_in];
    let mut sae = init::kaiming(case.config, &mean, 1, 0).expect("a possible model");
    sae.set_initial_sparsity(k, batches[0].view());
    let mut state = State::new(&case.config);
    state.silent[..latents / 4].fill(1);
    let mut engine = Engine::new(Isa::current(), sae, state, case.options);
    // If the number of active latents varies, a batch with more than any before may allocate.
    let lr = if activation == Activation::TopK { 1e-4 } else { 0.0 };
    for i in 0..24 {
        let before = ALLOCATIONS.load(Relaxed);
        let step = Step { prefixes: case.prefixes, ..Step::new(batches[i % 3].view(), lr) };
        engine.step_on(&step).expect("a finite step");
        let allocations = ALLOCATIONS.load(Relaxed) - before;
        assert!(i < 3 || allocations == 0, "{} B {}: {allocations} in step {i}", case.name, case.batch);
    }
}

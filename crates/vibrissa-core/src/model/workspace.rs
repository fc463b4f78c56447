//! The scratch memory of encoding and decoding.

use super::prefilter::Prefilter;
use super::{Config, reserve};
use crate::activation::select::Candidates;
use crate::activation::select::rank::buffer_len;
use crate::kernels::{Isa, PerThread, dots_scratch_len};
use crate::matrix::{Aligned, Mat, Panels};
use std::time::Duration;

/// The instruction set of encoding and decoding, and their scratch memory, which is kept between calls.
#[derive(Debug)]
pub struct Workspace {
    pub(super) isa: Isa,
    /// `x - b_dec` of the last batch `[B, D]`, with a decoder bias.
    pub(super) centred: Mat,
    /// Exact pre-activations of the last batch `[B, H]`; if it was prefiltered, of its unresolved rows alone.
    pub(super) pre_acts: Panels,
    /// True if the last batch was prefiltered.
    pub(super) prefiltered: bool,
    /// The input of the rows that the prefilter left unresolved.
    pub(super) unresolved_input: Aligned,
    pub(super) prefilter: Prefilter,
    pub(super) candidates: PerThread<Candidates>,
    /// Scratch of [`Isa::dots`].
    pub(super) spill: PerThread<Aligned>,
    /// Some rows of the encoder side by side, and their biases.
    pub(super) gathered: PerThread<(Aligned, Vec<f32>)>,
    /// Coefficients of decoder rows.
    pub(super) coefs: PerThread<Vec<f32>>,
    /// Latents that each row of the next batch has memory for: those of the fullest row of the last one, and some more.
    pub(super) capacity_hint: usize,
    /// batchtopk: the smallest value selected from the last batch, 0 if none was. A guess for the next one.
    pub(super) smallest_selected: f32,
    /// Scratch of batchtopk's selection.
    pub(super) bits: Vec<u32>,
    /// Wall time of the products of the last batch.
    pub(super) product_time: Duration,
}

impl Default for Workspace {
    /// A workspace with the fastest instruction set of this CPU.
    fn default() -> Self {
        Workspace::new(Isa::current())
    }
}

impl Workspace {
    /// A workspace with this instruction set. It changes speed only, never a result.
    pub fn new(isa: Isa) -> Workspace {
        Workspace {
            isa,
            centred: Mat::default(),
            pre_acts: Panels::default(),
            prefiltered: false,
            unresolved_input: Aligned::default(),
            prefilter: Prefilter::new(isa),
            candidates: PerThread::default(),
            spill: PerThread::default(),
            gathered: PerThread::default(),
            coefs: PerThread::default(),
            capacity_hint: 0,
            smallest_selected: 0.0,
            bits: Vec::new(),
            product_time: Duration::ZERO,
        }
    }

    /// Returns the instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Reserves memory for a batch; allocates only when it grows.
    pub(super) fn prepare(&mut self, rows: usize, config: &Config) {
        self.candidates.grow();
        self.spill.grow();
        self.coefs.grow();
        let most = config.latents.max(buffer_len(config.k));
        self.candidates.iter_mut().for_each(|candidates| candidates.prepare(most));
        self.coefs.iter_mut().for_each(|coefs| reserve(coefs, config.latents));
        let need = dots_scratch_len(rows, config.d_in);
        self.spill.iter_mut().for_each(|spill| spill.resize(need));
        if config.decoder_bias {
            self.centred.reserve(rows, config.d_in);
        }
    }

    /// The input of the encoder's product for the batch `x` that was encoded last: `x - b_dec`, or `x`.
    pub(super) fn input<'a>(&'a self, config: &Config, x: crate::matrix::MatRef<'a>) -> &'a [f32] {
        if config.decoder_bias { &self.centred.data()[..x.rows() * config.d_in] } else { x.data() }
    }
}

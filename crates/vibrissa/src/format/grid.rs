//! What a model file says of patches, and whether it can be. How they are cut is the business of `data`.

use super::ModelConfig;
use serde::{Deserialize, Serialize};

/// The patches that rows are: their size in pixels, and how far apart they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchGrid {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Pixels from one patch to the next, down and across.
    pub stride: [usize; 2],
}

impl ModelConfig {
    /// Values of `data.mean`: of a row, or of a whole picture where rows are patches.
    pub(super) fn mean_len(&self) -> usize {
        match (self.patches, self.pictures) {
            (Some(_), Some(p)) => p.channels * p.height * p.width,
            _ => self.sae.d_in,
        }
    }

    /// Whether patches, pictures and the width of rows belong together.
    ///
    /// # Errors
    /// What does not.
    pub(super) fn check_patches(&self) -> Result<(), String> {
        let Some(patches) = self.patches else { return Ok(()) };
        let Some(p) = self.pictures else { return Err("patches without pictures".into()) };
        let PatchGrid { height, width, stride: [down, across] } = patches;
        let inside =
            |side: usize, length: usize, stride: usize| (1..=length).contains(&side) && (1..=side).contains(&stride);
        let values = p.channels.checked_mul(height).and_then(|n| n.checked_mul(width));
        let whole = p.channels.checked_mul(p.height).and_then(|n| n.checked_mul(p.width));
        let fits = inside(height, p.height, down) && inside(width, p.width, across) && whole.is_some();
        if fits && values == Some(self.sae.d_in) {
            return Ok(());
        }
        let (w, h, rows) = (p.width, p.height, self.sae.d_in);
        Err(format!("patches of {width}x{height} every {across}x{down} pixels of {w}x{h} do not make rows of {rows}"))
    }
}

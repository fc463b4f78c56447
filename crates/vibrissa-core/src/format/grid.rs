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

#[cfg(test)]
mod tests {
    use super::super::Pictures;
    use super::*;
    use crate::model::Config;

    fn config(d_in: usize, patches: Option<PatchGrid>) -> ModelConfig {
        let pictures = Some(Pictures { channels: 3, height: 8, width: 6 });
        let sae = Config { d_in, latents: 4, k: 2, ..Config::default() };
        ModelConfig { sae, saes: 1, pictures, patches }
    }

    fn grid(height: usize, width: usize, stride: [usize; 2]) -> Option<PatchGrid> {
        Some(PatchGrid { height, width, stride })
    }

    #[test]
    fn patches_fit_pictures_and_rows() {
        assert!(config(144, None).check_patches().is_ok() && config(60, grid(5, 4, [5, 1])).check_patches().is_ok());
        assert_eq!((config(144, None).mean_len(), config(60, grid(5, 4, [5, 1])).mean_len()), (144, 144));
        for (d_in, broken) in [
            (61, grid(5, 4, [5, 1])),
            (108, grid(9, 4, [5, 1])),
            (105, grid(5, 7, [5, 1])),
            (60, grid(5, 4, [6, 1])),
            (60, grid(5, 4, [5, 0])),
            (0, grid(0, 4, [1, 1])),
            (60, grid(usize::MAX, 4, [1, 1])),
        ] {
            assert!(config(d_in, broken).check_patches().is_err(), "{d_in} {broken:?}");
        }
        let bare = ModelConfig { pictures: None, ..config(60, grid(5, 4, [5, 1])) };
        assert!(bare.check_patches().is_err_and(|e| e.contains("without pictures")));
    }

    #[test]
    fn a_configuration_without_patches_reads_and_writes_as_before() {
        let text = serde_json::to_string(&config(144, None)).expect("plain data");
        assert!(!text.contains("patches"), "{text}");
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).expect("reads"), config(144, None));
        let with = serde_json::to_string(&config(60, grid(5, 4, [2, 3]))).expect("plain data");
        assert!(with.contains(r#""patches":{"height":5,"width":4,"stride":[2,3]}"#), "{with}");
    }
}

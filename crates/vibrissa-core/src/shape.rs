//! Shapes of images and of the patches that they are cut into. No values, no files.

use serde::{Deserialize, Serialize};

/// The shape of the image behind a row. Values are channel-planar: `row[(c * height + y) * width + x]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageShape {
    /// Number of channels: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
}

impl ImageShape {
    /// Returns the number of values: channels × height × width.
    pub fn dim(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Returns `[channels, height, width]`, as records keep a shape.
    pub fn to_array(self) -> [usize; 3] {
        [self.channels, self.height, self.width]
    }

    /// Returns the number of values, or `None` where it exceeds the range of `usize`.
    pub fn checked_dim(&self) -> Option<usize> {
        self.channels.checked_mul(self.height)?.checked_mul(self.width)
    }
}

impl From<(usize, usize, usize)> for ImageShape {
    /// The shape of `(channels, height, width)`.
    fn from((channels, height, width): (usize, usize, usize)) -> ImageShape {
        ImageShape { channels, height, width }
    }
}

/// The size of patches, and their distance from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatchGrid {
    /// Height of a patch in pixels.
    pub height: usize,
    /// Width of a patch in pixels.
    pub width: usize,
    /// Pixels from one patch to the next, down and across; 1 to the height and width of a patch.
    pub stride: [usize; 2],
}

impl PatchGrid {
    /// Returns patches half a patch apart: every pixel but those near the border lies in four.
    pub fn half_overlapping(height: usize, width: usize) -> PatchGrid {
        PatchGrid { height, width, stride: [(height / 2).max(1), (width / 2).max(1)] }
    }

    /// Returns true if a patch is not empty and lies within `image`.
    pub fn fits(&self, image: ImageShape) -> bool {
        (1..=image.height).contains(&self.height) && (1..=image.width).contains(&self.width)
    }

    /// Returns true if the stride leaves out no pixel between two patches.
    pub fn covers(&self) -> bool {
        let [down, across] = self.stride;
        (1..=self.height).contains(&down) && (1..=self.width).contains(&across)
    }

    /// Returns the shape of one patch of an image with this number of channels.
    pub fn patch_shape(&self, channels: usize) -> ImageShape {
        ImageShape { channels, height: self.height, width: self.width }
    }
}

//! The order of the latents by score compared with the order by index.

use super::super::ranks::spearman;
use super::LatentMeasures;
use crate::metrics::mean;
use crate::model::Sae;
use crate::record::Number;
use crate::record::analysis::OrderRecord;
use crate::shape::ImageShape;

/// Latents compared.
const TOP: usize = 100;

/// Compares the orders; `image` is the shape of a row that is an image.
pub(super) fn compare_orders(sae: &Sae, measures: &LatentMeasures, image: Option<ImageShape>) -> OrderRecord {
    let columns = &measures.columns;
    let top = TOP.min(measures.order.len());
    let (best, first): (Vec<usize>, Vec<usize>) = (measures.order[..top].to_vec(), (0..top).collect());
    let share = |list: &[usize]| Number::from(mean(list.iter().map(|&h| columns.share[h])));
    let sharp = |list: &[usize]| match image {
        Some(shape) => Number::from(mean(list.iter().map(|&h| sharpness(&sae.feature(h), shape)))),
        None => Number(None),
    };
    let index: Vec<f64> = (0..columns.score.len()).map(|h| -(h as f64)).collect();
    OrderRecord {
        top: top as u64,
        share: [share(&best), share(&first)],
        sharpness: [sharp(&best), sharp(&first)],
        top_frequency: columns.frequency.iter().copied().fold(0.0, f64::max).into(),
        top_least_frequency: best.iter().map(|&h| columns.frequency[h]).fold(1.0, f64::min).into(),
        rank_index: spearman(&columns.score, &index).into(),
    }
}

/// Σ of squared differences of neighbouring pixels / Σ of squared pixels: 0 for a flat image, larger for finer detail.
fn sharpness(image: &[f32], shape: ImageShape) -> f64 {
    let ImageShape { channels, height, width } = shape;
    let (mut gradient, mut energy) = (0.0f64, 0.0f64);
    for plane in image.chunks_exact(height * width).take(channels) {
        let at = |y: usize, x: usize| f64::from(plane[y * width + x]);
        for y in 0..height {
            for x in 0..width {
                energy += at(y, x).powi(2);
                gradient += if x + 1 < width { (at(y, x + 1) - at(y, x)).powi(2) } else { 0.0 };
                gradient += if y + 1 < height { (at(y + 1, x) - at(y, x)).powi(2) } else { 0.0 };
            }
        }
    }
    if energy > 0.0 { gradient / energy } else { f64::NAN }
}

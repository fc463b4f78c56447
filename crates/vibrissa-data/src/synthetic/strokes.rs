//! Strokes, arcs and blobs as features of synthetic images.

use super::{dot, normalise, row_stream};
use rayon::prelude::*;
use vibrissa_core::matrix::Mat;
use vibrissa_core::random::Stream;

/// A feature as geometry in the unit square, independent of the size of the image.
#[derive(Clone, Copy)]
enum Figure {
    Stroke { centre: [f64; 2], along: [f64; 2], half_length: f64, half_width: f64 },
    Arc { centre: [f64; 2], towards: [f64; 2], radius: f64, cos_half_opening: f64, half_width: f64 },
    Blob { centre: [f64; 2], along: [f64; 2], half_length: f64, half_width: f64 },
}

impl Figure {
    /// Samples a figure; `which` in [0, 1) decides its kind.
    fn sample(which: f64, stream: &mut Stream) -> Figure {
        let along = stream.direction();
        let mut within = |low: f64, high: f64| stream.between(low, high);
        let centre = [within(0.15, 0.85), within(0.15, 0.85)];
        if which < 0.5 {
            Figure::Stroke { centre, along, half_length: within(0.12, 0.24), half_width: within(0.075, 0.1) }
        } else if which < 0.88 {
            let (radius, cos_half_opening) = (within(0.14, 0.2), within(-0.6, 0.3));
            Figure::Arc { centre, towards: along, radius, cos_half_opening, half_width: within(0.075, 0.1) }
        } else {
            Figure::Blob { centre, along, half_length: within(0.15, 0.22), half_width: within(0.11, 0.15) }
        }
    }

    /// Returns the brightness at a point: 1 on the figure's line, 0 from its half-width on.
    fn at(&self, point: [f64; 2]) -> f64 {
        // The squared distance in units of the half-width.
        let squared = match *self {
            Figure::Stroke { centre, along, half_length, half_width } => {
                let (u, v) = coordinates(point, centre, along);
                let beyond = (u.abs() - half_length).max(0.0);
                (beyond * beyond + v * v) / (half_width * half_width)
            }
            Figure::Blob { centre, along, half_length, half_width } => {
                let (u, v) = coordinates(point, centre, along);
                u * u / (half_length * half_length) + v * v / (half_width * half_width)
            }
            Figure::Arc { centre, towards, radius, cos_half_opening, half_width } => {
                let (u, v) = coordinates(point, centre, towards);
                let from_centre = (u * u + v * v).sqrt();
                let distance_squared = if u >= cos_half_opening * from_centre {
                    (from_centre - radius) * (from_centre - radius)
                } else {
                    let sin = (1.0 - cos_half_opening * cos_half_opening).sqrt();
                    let (du, dv) = (u - radius * cos_half_opening, v.abs() - radius * sin);
                    du * du + dv * dv
                };
                distance_squared / (half_width * half_width)
            }
        };
        let inside = (1.0 - squared).max(0.0);
        inside * inside
    }

    fn render(&self, size: usize) -> Vec<f32> {
        let pixel = |i: usize| (i as f64 + 0.5) / size as f64;
        let values: Vec<f64> = (0..size * size).map(|i| self.at([pixel(i % size), pixel(i / size)])).collect();
        let mut out = vec![0.0; size * size];
        normalise(&values, &mut out);
        out
    }
}

/// Returns the coordinates of a point along a unit vector and across it.
fn coordinates(point: [f64; 2], centre: [f64; 2], along: [f64; 2]) -> (f64, f64) {
    let (x, y) = (point[0] - centre[0], point[1] - centre[1]);
    (x * along[0] + y * along[1], y * along[0] - x * along[1])
}

/// Returns figures, each of them the one among a few samples that is least similar to its predecessors. Similarity is
/// measured at 16 × 16 pixels, so that a seed gives the same figures at every size.
pub fn strokes(n: usize, size: usize, seed: u64) -> Mat {
    const SAMPLES: u64 = 48;
    const SIMILAR: f32 = 0.2;
    let mut chosen: Vec<(Figure, Vec<f32>)> = Vec::with_capacity(n);
    for i in 0..n as u64 {
        // Fixed for all samples: otherwise the least similar one would hardly ever be a blob.
        let which = row_stream(seed, "which figure", i).uniform();
        let mut best: Option<(f32, Figure, Vec<f32>)> = None;
        for sample in 0..SAMPLES {
            let figure = Figure::sample(which, &mut row_stream(seed, "figure", i * SAMPLES + sample));
            let image = figure.render(16);
            let similarity = chosen.iter().map(|(_, other)| dot(&image, other)).fold(0.0, f32::max);
            if best.as_ref().is_none_or(|(least, ..)| similarity < *least) {
                best = Some((similarity, figure, image));
            }
            if similarity < SIMILAR {
                break;
            }
        }
        let (_, figure, image) = best.expect("there is at least one sample");
        chosen.push((figure, image));
    }
    let mut mat = Mat::zeros(n, size * size);
    mat.data_mut()
        .par_chunks_mut(size * size)
        .zip(&chosen)
        .for_each(|(row, (figure, _))| row.copy_from_slice(&figure.render(size)));
    mat
}

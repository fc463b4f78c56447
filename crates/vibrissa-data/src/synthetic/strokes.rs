//! Strokes, arcs and blobs as features of synthetic pictures.

use super::draw::Draw;
use super::{dot, normalise};
use rayon::prelude::*;
use vibrissa_core::matrix::Mat;

/// A feature as geometry in the unit square, so that it looks alike at every size.
#[derive(Clone, Copy)]
enum Figure {
    Stroke { centre: [f64; 2], along: [f64; 2], half_length: f64, half_width: f64 },
    Arc { centre: [f64; 2], towards: [f64; 2], radius: f64, cos_half_opening: f64, half_width: f64 },
    Blob { centre: [f64; 2], along: [f64; 2], half_length: f64, half_width: f64 },
}

impl Figure {
    /// `which` in [0, 1) decides between the kinds.
    fn draw(which: f64, draw: &mut Draw) -> Figure {
        let along = draw.direction();
        let mut within = |low: f64, high: f64| low + (high - low) * draw.uniform();
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

    /// Brightness at a point: 1 on the figure's line, 0 from its half-width on.
    fn at(&self, point: [f64; 2]) -> f64 {
        // The square of the distance in half-widths.
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

/// Coordinates of the point along a unit vector and across it.
fn coordinates(point: [f64; 2], centre: [f64; 2], along: [f64; 2]) -> (f64, f64) {
    let (x, y) = (point[0] - centre[0], point[1] - centre[1]);
    (x * along[0] + y * along[1], y * along[0] - x * along[1])
}

/// Figures drawn one after another, each the least like its predecessors among a few proposals. They are judged at 16
/// pixels whatever the size, so that a seed means the same figures at every size.
pub fn strokes(n: usize, size: usize, seed: u64) -> Mat {
    const PROPOSALS: u64 = 48;
    const ALIKE: f32 = 0.2;
    let mut chosen: Vec<(Figure, Vec<f32>)> = Vec::with_capacity(n);
    for i in 0..n as u64 {
        // Drawn once: were it open, the choice of the least alike would leave hardly a blob.
        let which = Draw::new(seed, "which figure", i).uniform();
        let mut best: Option<(f32, Figure, Vec<f32>)> = None;
        for proposal in 0..PROPOSALS {
            let figure = Figure::draw(which, &mut Draw::new(seed, "figure", i * PROPOSALS + proposal));
            let picture = figure.render(16);
            let likeness = chosen.iter().map(|(_, other)| dot(&picture, other)).fold(0.0, f32::max);
            if best.as_ref().is_none_or(|(least, ..)| likeness < *least) {
                best = Some((likeness, figure, picture));
            }
            if likeness < ALIKE {
                break;
            }
        }
        let (_, figure, picture) = best.expect("there is at least one proposal");
        chosen.push((figure, picture));
    }
    let mut mat = Mat::zeros(n, size * size);
    mat.data_mut()
        .par_chunks_mut(size * size)
        .zip(&chosen)
        .for_each(|(row, (figure, _))| row.copy_from_slice(&figure.render(size)));
    mat
}

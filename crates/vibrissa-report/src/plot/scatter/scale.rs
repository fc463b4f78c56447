//! Axes of a scatter plot: their ends in pixels, and their ticks.

use crate::plot::svg::{tick_text, ticks};

/// One axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// Name and unit.
    pub label: String,
    /// True for a logarithmic axis.
    pub log: bool,
    /// Named ticks; by default round numbers.
    pub ticks: Option<Vec<(f64, String)>>,
    /// Ends of the axis; by default those of the data, with a margin.
    pub range: Option<[f64; 2]>,
}

/// Position of values along an axis, in pixels.
pub(super) struct AxisScale {
    log: bool,
    /// Values (or their logarithms) at both ends.
    ends: [f64; 2],
    /// Pixels at both ends.
    pixels: [f64; 2],
}

impl AxisScale {
    /// Returns the scale of an axis between two pixels. Without a range, its ends are those of `values` with a margin.
    pub(super) fn new(axis: &Axis, values: impl Iterator<Item = f64>, pixels: [f64; 2]) -> AxisScale {
        let along = |v: f64| if axis.log { v.ln() } else { v };
        let ends = match axis.range {
            Some(range) => range.map(along),
            None => ends_with_margin(values.map(along), axis.log),
        };
        AxisScale { log: axis.log, ends, pixels }
    }

    /// Pixel of a value.
    pub(super) fn at(&self, v: f64) -> f64 {
        let v = if self.log { v.ln() } else { v };
        let [a, b] = self.pixels;
        a + (v - self.ends[0]) / (self.ends[1] - self.ends[0]) * (b - a)
    }

    /// Round numbers along the axis, about `n` of them.
    pub(super) fn ticks(&self, n: usize) -> Vec<(f64, String)> {
        let named = |all: Vec<f64>| all.into_iter().map(|v| (v, tick_text(v))).collect();
        if !self.log {
            return named(ticks(self.ends[0], self.ends[1], n));
        }
        let [low, high] = self.ends.map(f64::exp);
        let within = |steps: &[f64]| -> Vec<f64> {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            let all = decades.flat_map(|d| steps.iter().map(move |s| s * 10f64.powi(d)));
            all.filter(|v| (low * 0.999..=high * 1.001).contains(v)).collect()
        };
        let (tens, coarse) = (within(&[1.0]), within(&[1.0, 2.0, 5.0]));
        let fine = within(&[1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0]);
        match (fine.len(), coarse.len()) {
            (3.., 0..=2) => named(fine),
            (_, 0..=2) => named(ticks(low, high, n).into_iter().filter(|v| *v > 0.0).collect()),
            (_, few) if few <= 2 * n => named(coarse),
            _ => named(tens),
        }
    }
}

/// Smallest and largest value, with a margin around them.
fn ends_with_margin(values: impl Iterator<Item = f64>, log: bool) -> [f64; 2] {
    let mut ends = [f64::INFINITY, f64::NEG_INFINITY];
    values.filter(|v| v.is_finite()).for_each(|v| ends = [ends[0].min(v), ends[1].max(v)]);
    if ends[0] > ends[1] {
        return [0.0, 1.0];
    }
    let positive = |v: f64| Some(v).filter(|v| *v > 0.0);
    let margin = positive(0.06 * (ends[1] - ends[0]))
        .unwrap_or_else(|| if log { 0.5 } else { positive(0.25 * ends[0].abs()).unwrap_or(0.5) });
    // The axis does not go below 0 if no value does.
    let low = if !log && ends[0] >= 0.0 { (ends[0] - margin).max(0.0) } else { ends[0] - margin };
    [low, ends[1] + margin]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_ticks_are_round() {
        let of = |low: f64, high: f64| {
            let axis = Axis { log: true, range: Some([low, high]), ..Axis::default() };
            let names: Vec<String> =
                AxisScale::new(&axis, std::iter::empty(), [0.0, 1.0]).ticks(6).into_iter().map(|t| t.1).collect();
            names.join(" ")
        };
        assert_eq!(of(7.0, 140.0), "10 20 50 100");
        assert_eq!(of(1e-4, 1.0), "1e−4 0.001 0.01 0.1 1");
        assert_eq!([of(22.0, 31.0), of(3.5, 18.0)], ["22 24 26 28 30", "4 6 8 10 15"]);
    }
}

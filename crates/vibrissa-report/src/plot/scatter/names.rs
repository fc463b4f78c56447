//! Placement of names beside their points.

use crate::plot::svg::{TEXT, text_width};

/// Font size whose regular width is that of bold text.
const BOLD: f64 = 1.15 * TEXT;
/// Candidate distances between a point and its name, pixels.
const DISTANCES: [f64; 3] = [18.0, 28.0, 40.0];
/// Candidate directions from a point to its name, the preferred one first.
const DIRECTIONS: [[f64; 2]; 8] =
    [[0.0, -1.0], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8], [-0.8, -0.8], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]];

/// A rectangle: left, top, right, bottom.
type Rect = [f64; 4];

/// Width of a bold name, pixels.
pub(super) fn name_width(name: &str) -> f64 {
    text_width(name, BOLD)
}

/// Obstacles that names have to avoid, in pixels.
pub(super) struct Obstacles<'a> {
    /// Points of the plot.
    pub points: &'a [[f64; 2]],
    /// Samples along the lines.
    pub lines: &'a [[f64; 2]],
    /// The plot, which names do not leave.
    pub plot: Rect,
    /// Names placed so far.
    pub names: Vec<Rect>,
}

fn overlap(a: &Rect, b: &Rect) -> bool {
    a[2] >= b[0] && b[2] >= a[0] && a[3] >= b[1] && b[3] >= a[1]
}

fn around([x, y]: [f64; 2], radius: f64) -> Rect {
    [x - radius, y - radius, x + radius, y + radius]
}

impl Obstacles<'_> {
    /// Places a name beside a point, where it covers the fewest points, names and lines, and remembers it. Returns the
    /// start of its baseline.
    pub(super) fn place(&mut self, name: &str, point: [f64; 2]) -> [f64; 2] {
        let width = name_width(name);
        let mut candidates = Vec::new();
        for distance in DISTANCES {
            for [dx, dy] in DIRECTIONS {
                let x = point[0] + dx * distance + width * (dx.signum() * f64::from(dx != 0.0) - 1.0) / 2.0;
                candidates.push([x, point[1] + dy * distance + 4.0]);
            }
        }
        let best = *candidates.iter().min_by_key(|at| self.cost(**at, width, point)).expect("several candidates");
        self.names.push(box_of(best, width));
        best
    }

    fn cost(&self, at: [f64; 2], width: f64, point: [f64; 2]) -> usize {
        let name = box_of(at, width);
        let outside =
            name[0] < self.plot[0] || name[1] < self.plot[1] || name[2] > self.plot[2] || name[3] > self.plot[3];
        let covered = self.points.iter().filter(|p| overlap(&name, &around(**p, 8.0))).count();
        let middle = [(name[0] + name[2]) / 2.0, at[1] - 4.0];
        let distance = |p: &[f64; 2]| (p[0] - middle[0]).hypot(p[1] - middle[1]);
        // A name nearer to another point looks like the name of that point.
        let nearer = self.points.iter().filter(|p| distance(p) + 1.0 < distance(&point)).count();
        let crossed = self.lines.iter().filter(|p| overlap(&name, &around(**p, 3.0))).count();
        let other_names = self.names.iter().filter(|n| overlap(&name, n)).count();
        6 * covered + 2 * nearer + crossed + 60 * other_names + if outside { 150 } else { 0 }
    }
}

/// Rectangle of a name whose baseline starts at `(x, y)`.
fn box_of([x, y]: [f64; 2], width: f64) -> Rect {
    [x, y - 10.0, x + width, y + 3.0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_overlap() {
        let points = [[150.0, 150.0], [152.0, 150.0], [148.0, 152.0]];
        let mut obstacles =
            Obstacles { points: &points, lines: &[], plot: [0.0, 0.0, 300.0, 300.0], names: Vec::new() };
        for p in points {
            obstacles.place("knee", p);
        }
        for (i, a) in obstacles.names.iter().enumerate() {
            for b in &obstacles.names[..i] {
                assert!(a[2] < b[0] || b[2] < a[0] || a[3] < b[1] || b[3] < a[1], "{:?}", obstacles.names);
            }
        }
    }
}

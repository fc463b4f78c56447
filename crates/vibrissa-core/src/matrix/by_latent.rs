//! Sparse latents, by latent.

use super::Latents;

/// The rows of some [`Latents`] with the numbers that they get: row b has number `first + b · step`.
#[derive(Clone, Copy, Debug)]
pub struct NumberedRows<'a> {
    /// The rows.
    pub latents: &'a Latents,
    /// Number of the first row.
    pub first: u32,
    /// Distance of the numbers.
    pub step: u32,
}

/// The entries of one or more [`Latents`] by latent: for each latent the numbers of its rows, ascending, and its
/// values. Sorted by counting.
#[derive(Clone, Debug, Default)]
pub struct ByLatent {
    start: Vec<u32>,
    row: Vec<u32>,
    value: Vec<f32>,
    /// See [`ByLatent::active`].
    active: Vec<u32>,
}

impl ByLatent {
    /// Sorts the entries of `parts` by latent. The row numbers of latent h in the first part are `offset_of[h]` higher
    /// than [`NumberedRows`] says (an empty slice: 0). Many entries are sorted in parallel, by ranges of latents.
    /// Allocates only when it grows.
    pub fn group(&mut self, n_latents: usize, parts: &[NumberedRows], offset_of: &[u32]) {
        let ByLatent { start, row, value, active } = self;
        let total = parts.iter().map(|p| p.latents.count()).sum();
        row.resize(total, 0);
        value.resize(total, 0.0);
        active.clear();
        active.resize(n_latents, 0);
        count_by_latent(n_latents, parts.iter().map(|p| p.latents), start);
        let rows: usize = parts.iter().map(|p| p.latents.rows()).sum();
        let ranges = (total / 8192).min(total / rows.max(1) / 8).clamp(1, 16);
        let all = LatentRange { first: 0, start: &mut start[1..=n_latents], active, row, value };
        all.fill(parts, offset_of, n_latents.div_ceil(ranges).max(1));
    }

    /// The entries of a latent: row numbers, ascending, and values.
    pub fn latent(&self, h: usize) -> (&[u32], &[f32]) {
        let (from, to) = (self.start[h] as usize, self.start[h + 1] as usize);
        (&self.row[from..to], &self.value[from..to])
    }

    /// Number of rows of the first part in which each latent is active (its value is not 0), `[H]`.
    pub fn active(&self) -> &[u32] {
        &self.active
    }

    /// Number of active latents in all rows of the first part.
    pub fn total_active(&self) -> u32 {
        self.active.iter().sum()
    }
}

/// The memory for the entries of a range of latents.
struct LatentRange<'a> {
    first: usize,
    /// Position of the next entry of each latent, counted over all latents.
    start: &'a mut [u32],
    active: &'a mut [u32],
    row: &'a mut [u32],
    value: &'a mut [f32],
}

impl LatentRange<'_> {
    /// Writes the entries of these latents, at most `most` latents a task.
    fn fill(self, parts: &[NumberedRows], offset_of: &[u32], most: usize) {
        let LatentRange { first, start, active, row, value } = self;
        let n = start.len();
        let Some(&begin) = start.first() else { return };
        if n > most {
            let half = n / 2;
            let ((low, high), (active0, active1)) = (start.split_at_mut(half), active.split_at_mut(half));
            let at = (high[0] - begin) as usize;
            let ((row0, row1), (value0, value1)) = (row.split_at_mut(at), value.split_at_mut(at));
            let low = LatentRange { first, start: low, active: active0, row: row0, value: value0 };
            let high = LatentRange { first: first + half, start: high, active: active1, row: row1, value: value1 };
            rayon::join(|| low.fill(parts, offset_of, most), || high.fill(parts, offset_of, most));
            return;
        }
        for (p, part) in parts.iter().enumerate() {
            let offset_of = if p == 0 { offset_of } else { &[] };
            for b in 0..part.latents.rows() {
                let (index, values) = part.latents.row(b);
                // Indices ascend.
                let from = if first == 0 { 0 } else { index.partition_point(|&h| (h as usize) < first) };
                for (&h, &v) in index.iter().zip(values).skip(from) {
                    let Some(next) = start.get_mut(h as usize - first) else { break };
                    let at = (*next - begin) as usize;
                    row[at] = part.first + b as u32 * part.step + offset_of.get(h as usize).copied().unwrap_or(0);
                    value[at] = v;
                    *next += 1;
                    active[h as usize - first] += u32::from(p == 0 && v != 0.0);
                }
            }
        }
    }
}

/// Counts the entries of each latent: `start[h + 1]` becomes the position of the first entry of latent h. Writing an
/// entry moves it on by one; when all are written, `start[h]..start[h + 1]` is the range of latent h.
fn count_by_latent<'a>(n_latents: usize, parts: impl Iterator<Item = &'a Latents>, start: &mut Vec<u32>) {
    start.clear();
    start.resize(n_latents + 2, 0);
    for part in parts {
        for b in 0..part.rows() {
            part.row(b).0.iter().for_each(|&h| start[h as usize + 2] += 1);
        }
    }
    for h in 2..start.len() {
        start[h] += start[h - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough entries for several tasks, some latents without any.
    #[test]
    fn parallel_sorting_gives_the_same_as_plain_loops() {
        let (rows, n, each) = (900, 500, 60);
        let mut l = Latents::default();
        l.resize(rows, each);
        let (len, index, value, cap) = l.parts_mut();
        for b in 0..rows {
            len[b] = (each - b % 3) as u32;
            for j in 0..each {
                index[b * cap + j] = ((8 * j + b * 7 % 8) % 490) as u32;
                value[b * cap + j] = (b * each + j) as f32;
            }
            index[b * cap..][..each].sort_unstable();
        }
        let (mut by, offset_of) = (ByLatent::default(), (0..n as u32).map(|h| h % 2).collect::<Vec<_>>());
        by.group(n, &[NumberedRows { latents: &l, first: 0, step: 2 }], &offset_of);
        let mut naive = vec![(Vec::new(), Vec::new()); n];
        for b in 0..rows {
            for (&h, &v) in l.row(b).0.iter().zip(l.row(b).1) {
                naive[h as usize].0.push(2 * b as u32 + h % 2);
                naive[h as usize].1.push(v);
            }
        }
        for (h, (rows, values)) in naive.iter().enumerate() {
            assert_eq!(by.latent(h), (&rows[..], &values[..]), "{h}");
            assert_eq!(by.active()[h] as usize, values.iter().filter(|v| **v != 0.0).count(), "{h}");
        }
    }

    #[test]
    fn by_latent_keeps_rows_in_order() {
        let make = |rows: &[&[(u32, f32)]]| {
            let mut l = Latents::default();
            l.resize(rows.len(), 4);
            let (len, index, value, cap) = l.parts_mut();
            for (b, row) in rows.iter().enumerate() {
                len[b] = row.len() as u32;
                for (j, &(h, v)) in row.iter().enumerate() {
                    index[b * cap + j] = h;
                    value[b * cap + j] = v;
                }
            }
            l
        };
        let a = make(&[&[(0, 1.0), (3, 2.0)], &[(3, 3.0)], &[]]);
        let b = make(&[&[(3, 4.0)], &[(1, 5.0)]]);
        let mut by = ByLatent::default();
        let numbered = |latents, first, step| NumberedRows { latents, first, step };
        by.group(5, &[numbered(&a, 0, 2), numbered(&b, 1, 2)], &[]);
        assert_eq!(by.latent(0), (&[0][..], &[1.0][..]));
        assert_eq!(by.latent(1), (&[3][..], &[5.0][..]));
        assert_eq!(by.latent(2), (&[][..], &[][..]));
        assert_eq!(by.latent(3), (&[0, 2, 1][..], &[2.0, 3.0, 4.0][..]));
        assert_eq!(by.latent(4), (&[][..], &[][..]));
        assert_eq!(by.active(), [1, 0, 0, 2, 0]);
        by.group(5, &[numbered(&a, 0, 3), numbered(&b, 2, 3)], &[0, 0, 0, 1, 1]);
        assert_eq!(by.latent(0), (&[0][..], &[1.0][..]));
        assert_eq!(by.latent(3), (&[1, 4, 2][..], &[2.0, 3.0, 4.0][..]));
    }
}

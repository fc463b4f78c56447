//! Vectors of f32 that start at a cache line.

use std::ops::{Deref, DerefMut};

/// A vector of f32 that starts at a cache line, so that 16 values are read from one line instead of parts of two, which
/// takes twice as long. A vector of at least one large page starts at a large page and owns its last one whole.
#[derive(Debug, Default)]
pub struct Aligned {
    all: Vec<f32>,
    start: usize,
}

impl Aligned {
    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// Largest number of values before the first cache line.
    const PADDING: usize = Aligned::LINE / size_of::<f32>() - 1;

    /// Bytes of a large page.
    pub const LARGE_PAGE: usize = 2 << 20;

    /// Values of a large page.
    const PAGE: usize = Aligned::LARGE_PAGE / size_of::<f32>();

    /// A vector of `n` zeros.
    pub fn zeros(n: usize) -> Aligned {
        if n == 0 {
            return Aligned::default();
        }
        // Pages that are never written take no memory.
        let (capacity, alignment) = match n {
            Aligned::PAGE.. => (n.next_multiple_of(Aligned::PAGE) + Aligned::PAGE, Aligned::LARGE_PAGE),
            _ => (n + Aligned::PADDING, Aligned::LINE),
        };
        let mut all = vec![0.0; capacity];
        let start = all.as_ptr().align_offset(alignment);
        all.truncate(start + n);
        Aligned { all, start }
    }

    /// The memory of the values, as start and number of bytes: up to the end of the last large page if the vector owns
    /// it.
    pub fn page_range(&self) -> (*const u8, usize) {
        let (n, capacity) = (self.len().next_multiple_of(Aligned::PAGE), self.all.capacity() - self.start);
        (self.as_ptr().cast(), if n <= capacity { n } else { self.len() } * size_of::<f32>())
    }

    /// Sets the number of values. If it has to allocate, the old values are lost; otherwise they stay, and new ones are
    /// 0.
    pub fn resize(&mut self, n: usize) {
        if self.start + n > self.all.capacity() {
            *self = Aligned::zeros(n);
        } else {
            self.all.resize(self.start + n, 0.0);
        }
    }
}

impl From<Vec<f32>> for Aligned {
    fn from(mut all: Vec<f32>) -> Aligned {
        let n = all.len();
        all.reserve_exact(Aligned::PADDING);
        let start = all.as_ptr().align_offset(Aligned::LINE);
        all.resize(start + n, 0.0);
        all.copy_within(..n, start);
        Aligned { all, start }
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Aligned {
        let mut out = Aligned::zeros(self.len());
        out.copy_from_slice(self);
        out
    }
}

impl PartialEq for Aligned {
    fn eq(&self, other: &Aligned) -> bool {
        **self == **other
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        &self.all[self.start..]
    }
}

impl DerefMut for Aligned {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_start_at_a_cache_line_and_keep_their_values() {
        for n in [1, 15, 16, 17, 1000] {
            let values: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let (from, mut grown) = (Aligned::from(values.clone()), Aligned::zeros(n / 2));
            grown.resize(n);
            grown.copy_from_slice(&values);
            for one in [from.clone(), from, grown] {
                assert_eq!((&one[..], one.as_ptr().addr() % 64), (&values[..], 0));
            }
        }
        assert!(Aligned::zeros(0).is_empty() && Aligned::from(Vec::new()).is_empty());
    }

    #[test]
    fn large_vectors_own_whole_large_pages() {
        for n in [Aligned::PAGE, Aligned::PAGE + 1, 3 * Aligned::PAGE - 1] {
            let zeros = Aligned::zeros(n);
            let (start, bytes) = zeros.page_range();
            assert_eq!((start.addr() % Aligned::LARGE_PAGE, zeros.len()), (0, n));
            assert_eq!(bytes, (4 * n).next_multiple_of(Aligned::LARGE_PAGE));
        }
        // Small vectors own no page.
        for short in [Aligned::zeros(100), Aligned::from(vec![0.0; 100])] {
            assert_eq!(short.page_range().1, 400);
        }
    }
}

//! Scratch memory of the workers of a thread pool.

use crossbeam_utils::CachePadded;
use std::sync::{Mutex, MutexGuard};

/// One value for each worker of the current rayon pool, behind a lock that only its worker takes.
///
/// Each value lies on cache lines of its own: locks of two workers on one line would move that line between their cores
/// with every row.
#[derive(Debug)]
pub struct PerThread<T>(Vec<CachePadded<Mutex<T>>>);

impl<T> Default for PerThread<T> {
    /// No values yet; [`PerThread::grow`] adds them.
    fn default() -> Self {
        PerThread(Vec::new())
    }
}

impl<T: Default> PerThread<T> {
    /// One default value for each worker.
    pub fn new() -> Self {
        let mut all = Self::default();
        all.grow();
        all
    }

    /// Adds default values until each worker has one. Allocates only when the pool is larger than at the last call.
    pub fn grow(&mut self) {
        let threads = rayon::current_num_threads().max(self.0.len());
        self.0.resize_with(threads, CachePadded::default);
    }
}

impl<T> PerThread<T> {
    /// Locks the value of the calling worker; outside of a pool, the first one.
    ///
    /// # Panics
    /// If the pool has more workers than there are values, or a worker panicked while it held its value.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0[rayon::current_thread_index().unwrap_or(0)].lock().expect(NO_PANIC)
    }

    /// All values, without locking.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|value| value.get_mut().expect(NO_PANIC))
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no values.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const NO_PANIC: &str = "no worker panics while it holds its scratch";

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn each_worker_has_one_value_and_growing_keeps_them() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| {
            let mut counts = PerThread::<usize>::new();
            (0..100).into_par_iter().for_each(|_| *counts.lock() += 1);
            counts.grow();
            assert_eq!((counts.len(), counts.iter_mut().map(|n| *n).sum::<usize>()), (3, 100));
        });
        assert!(PerThread::<usize>::default().is_empty());
    }
}

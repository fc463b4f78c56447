//! What each worker has of its own.

use crossbeam_utils::CachePadded;
use std::sync::Mutex;

/// Something that one worker uses at a time, on lines of a cache that it shares with nothing else: locks of two workers on one line
/// would take it from each other with every row.
pub type Own<T> = CachePadded<Mutex<T>>;

/// The number of the worker that asks; 0 outside of the pool.
pub fn thread() -> usize {
    rayon::current_thread_index().unwrap_or(0)
}

/// One for each worker.
pub fn own_of_each<T: Default>() -> Vec<Own<T>> {
    (0..rayon::current_num_threads().max(1)).map(|_| Own::default()).collect()
}

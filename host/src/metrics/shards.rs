//! Which shard a thread counts in.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many shards there are: one that all threads may use, and those that
/// belong to one thread at a time.
pub(super) const SHARDS: usize = u64::BITS as usize;

/// The shard of threads that found all others taken.
const SHARED: usize = 0;

/// A bit for each shard that a thread has, and for the shared one.
static TAKEN: AtomicU64 = AtomicU64::new(1 << SHARED);

thread_local! {
    static MINE: Mine = const { Mine(Cell::new(None)) };
}

/// The number of a thread's shard, from its first use to the thread's end.
struct Mine(Cell<Option<usize>>);

impl Mine {
    fn number(&self) -> usize {
        self.0.get().unwrap_or_else(|| {
            let number = take();
            self.0.set(Some(number));
            number
        })
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(number) = self.0.get().filter(|&number| number != SHARED) {
            // The next thread to take the shard sees all that was added to it.
            TAKEN.fetch_and(!(1 << number), Ordering::Release);
        }
    }
}

/// A shard that no thread has, or the shared one.
#[cold]
fn take() -> usize {
    let free = |taken: u64| Some(taken.trailing_ones() as usize).filter(|&number| number < SHARDS);
    let taken = TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, |taken| {
        free(taken).map(|number| taken | 1 << number)
    });
    taken.ok().and_then(free).unwrap_or(SHARED)
}

/// Adds to the counters of a shard, for the thread that asked for it.
///
/// A counter that only one thread changes needs no locked instruction, which
/// costs about 20 cycles even where nobody else wants the cache line. Other
/// threads may read it at any time.
#[derive(Clone, Copy)]
pub(super) struct Adder {
    shard: usize,
    /// It must stay on its thread.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Adder {
    pub(super) fn of_this_thread() -> Adder {
        Adder {
            // Where the thread is ending, its shard is given back already.
            shard: MINE.try_with(Mine::number).unwrap_or(SHARED),
            _not_send: std::marker::PhantomData,
        }
    }

    /// The number of the shard.
    pub(super) fn shard(self) -> usize {
        self.shard
    }

    /// Adds to a counter of the shard, modulo 2^64.
    pub(super) fn add(self, counter: &AtomicU64, more: u64) {
        if self.shard == SHARED {
            counter.fetch_add(more, Ordering::Relaxed);
        } else {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// More threads than shards, all at once, twice: no shard but the shared one
    /// is two threads' at a time, and what one thread gave back another takes.
    #[test]
    fn a_shard_is_one_threads_until_it_ends() {
        for _ in 0..2 {
            let barrier = Barrier::new(2 * SHARDS);
            let numbers: Vec<usize> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..2 * SHARDS)
                    .map(|_| {
                        scope.spawn(|| {
                            let number = Adder::of_this_thread().shard();
                            barrier.wait();
                            assert_eq!(Adder::of_this_thread().shard(), number);
                            number
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mut alone: Vec<usize> = numbers.iter().copied().filter(|&number| number != SHARED).collect();
            let count = alone.len();
            alone.sort_unstable();
            alone.dedup();
            assert_eq!(alone.len(), count, "{numbers:?}");
            // Threads of other tests have the others.
            assert!(count > 0, "{numbers:?}");
        }
    }
}

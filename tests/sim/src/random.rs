//! Random numbers from a seed (splitmix64), the same everywhere and always.

use std::{ops::Range, time::Duration};

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A stream of its own for one purpose: what another purpose draws does not change it.
    pub fn of(seed: u64, purpose: &str) -> Random {
        let mut mixed = Random(seed);
        for byte in purpose.bytes() {
            mixed.0 ^= u64::from(byte).wrapping_mul(0x0100_0000_01b3);
            mixed.0 = mixed.next();
        }
        mixed
    }

    /// The next number.
    #[allow(
        clippy::should_implement_trait,
        reason = "a stream without end is no Iterator: there is nothing to unwrap"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of a range that is not empty.
    pub fn among(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// A time of a range that is not empty, to the microsecond.
    pub fn time(&mut self, range: Range<Duration>) -> Duration {
        let us = |duration: Duration| duration.as_micros() as u64;
        Duration::from_micros(self.among(us(range.start)..us(range.end).max(us(range.start) + 1)))
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of a list that is not empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }
}

//! Random numbers from a seed (splitmix64), the same everywhere and always.

use super::Crash;

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(crash: Crash) -> Random {
        Random(match crash {
            Crash::Random(seed) => seed,
            Crash::LoseAll | Crash::KeepAll => 0,
        })
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

//! Chance for those who ask the operating system for it: tokio's `select!`, hash maps, election timeouts.
//!
//! They all end up in the C library's `getrandom`. This program has one of its own, which counts on from the
//! simulation's seed; std, and the crate of that name, take what they find under the symbol.

use std::{
    ffi::{c_uint, c_void},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::random::Random;

/// What the next call gives; the operating system is never asked.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// From now on, what this process draws depends on the seed alone. To be called before anything is drawn, so once
/// in a process.
pub fn seed(seed: u64) {
    NEXT.store(seed, Ordering::Relaxed);
}

/// Takes the place of getrandom(2): fills a buffer.
///
/// # Safety
/// As the system call: `buffer` must be valid for `length` bytes.
#[allow(
    unsafe_code,
    reason = "there is no other way to take the place of a function of the C library"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    let mut random = Random::new(NEXT.fetch_add(1, Ordering::Relaxed));
    for at in 0..length {
        // SAFETY: the caller's promise.
        unsafe { buffer.cast::<u8>().add(at).write(random.next() as u8) };
    }
    length.cast_signed()
}

//! Work that may wait for the disk, on a thread of the runtime.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work` after telling the runtime that this thread may be held up, so that another one takes over
/// what it would have done: heartbeats, not least. That costs a thread's wake-up; where work hardly ever
/// waits, call it directly. A runtime of one thread, as in tests, simply waits.
pub fn may_wait<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}

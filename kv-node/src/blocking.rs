//! Work that may wait for the disk, on a thread of the runtime.

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::JoinError,
};

/// Whether this is the only thread of its runtime.
pub fn is_alone() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

/// Runs `work` after telling the runtime that this thread may be held up, so that another one takes over
/// what it would have done: heartbeats, not least. That costs a thread's wake-up; where work hardly ever
/// waits, call it directly. A runtime of one thread, as in tests, simply waits.
pub fn may_wait<T>(work: impl FnOnce() -> T) -> T {
    if is_alone() {
        work()
    } else {
        tokio::task::block_in_place(work)
    }
}

/// Runs `work` that may wait long on a thread that serves nobody else. A runtime of one thread simply waits, as in
/// [`may_wait`]: in a simulation everything happens on that thread, in an order that can be had again.
///
/// # Errors
/// When `work` panics.
pub async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    if is_alone() {
        Ok(work())
    } else {
        tokio::task::spawn_blocking(work).await
    }
}

//! Waiting for something to become true, by asking until it is or the time is up.

use std::time::{Duration, Instant};

/// Pause between two attempts.
const INTERVAL: Duration = Duration::from_millis(25);

/// Repeats `attempt` until it succeeds and returns its result; panics with its last refusal after `within`.
pub(crate) async fn eventually<T, F>(what: &str, within: Duration, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(result) => return result,
            Err(refusal) if started.elapsed() > within => {
                panic!("{what}: not within {} s; at last: {refusal}", within.as_secs())
            }
            Err(_) => tokio::time::sleep(INTERVAL).await,
        }
    }
}

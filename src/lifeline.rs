//! When a server of this binary is to stop: on SIGTERM or SIGINT, and, as a child of `quorate demo`, when its
//! parent is gone.
//!
//! The parent holds the other end of the child's standard input and never writes to it. However the parent ends,
//! even by SIGKILL, the kernel closes that end, and the child reads the end of its input.

use std::io::Read;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Set in the environment of a child that is to stop when its standard input ends.
pub(crate) const EXIT_WITH_PARENT: &str = "QUORATE_EXIT_WITH_PARENT";

/// Longest that a child whose parent is gone may take to stop by itself.
const ORPHAN_STOP_SECONDS_MAX: u64 = 15;

/// Completes once this process is asked to stop.
///
/// Signals are caught from the moment of this call, not from the first poll.
pub(crate) fn shutdown() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let parent = std::env::var_os(EXIT_WITH_PARENT).map(|_| parent_gone());
    Ok(async move {
        let parent = async {
            match parent {
                Some(gone) => drop(gone.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = parent => {}
        }
    })
}

/// Completes at the end of standard input. A thread of its own waits for it: a read of standard input cannot be
/// cancelled, and must not keep the runtime from stopping.
fn parent_gone() -> oneshot::Receiver<()> {
    let (gone, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        loop {
            match std::io::stdin().lock().read(&mut byte) {
                Ok(0) => break,
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => break,
                Ok(_) | Err(_) => {}
            }
        }
        drop(gone);
        // Whatever hangs, nothing of a demo outlives it for long.
        std::thread::sleep(Duration::from_secs(ORPHAN_STOP_SECONDS_MAX));
        std::process::exit(1);
    });
    receiver
}

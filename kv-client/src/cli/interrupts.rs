//! Signals that a command must not simply die of.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::Failure;

/// The signals that end a command which has something to put back, or to say.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(crate) fn listen() -> Result<Interrupts, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::usage(
                    format!("no signals: {error}"),
                    "see whether the system is short of resources",
                )
            })
        };
        Ok(Interrupts {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The signal that only this process gets: an interrupt from the terminal reaches a command by itself.
    pub(crate) async fn terminated(&mut self) {
        self.terminate.recv().await;
    }
}

//! What callers and the writer share, and the thread that drives the writer.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::Failure;
use crate::options::Options;
use crate::state::State;
use crate::writer::{Driven, Writer};

/// What callers and the writer share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) wake: Condvar,
    /// Held by whoever drives.
    pub(crate) writer: Mutex<Writer>,
    pub(crate) options: Options,
}

impl Shared {
    /// The thread of the log.
    fn run(&self) {
        let _alarm = Alarm(self);
        loop {
            let (driven, removal_due) = {
                let mut writer = self.writer.lock();
                (writer.step(self, false), writer.removal_due())
            };
            let mut state = self.state.lock();
            match (driven, removal_due) {
                (Driven::Worked, _) => {}
                (Driven::Idle, Some(due)) => {
                    while !state.has_work()
                        && !state.closing
                        && !self.wake.wait_until(&mut state, due).timed_out()
                    {}
                }
                (Driven::Idle | Driven::Failed, _) => {
                    while !state.has_work() && !state.closing {
                        self.wake.wait(&mut state);
                    }
                }
                (Driven::Full, _) => {
                    let until = Instant::now() + self.options.full_retry;
                    while !state.closing && !self.wake.wait_until(&mut state, until).timed_out() {}
                }
            }
            if state.closing {
                break;
            }
        }
        self.drain();
    }

    /// Writes everything that waits, for the last time.
    pub(crate) fn drain(&self) {
        let mut writer = self.writer.lock();
        loop {
            match writer.step(self, true) {
                Driven::Worked => {}
                Driven::Failed => return,
                Driven::Full => {
                    let text = "the log was closed while the disk was full";
                    self.state
                        .lock()
                        .fail(Failure::text(io::ErrorKind::StorageFull, text));
                    writer.abandon(self);
                    return;
                }
                Driven::Idle => break,
            }
        }
        if let Err(error) = writer.seal() {
            writer.fail(self, &error);
        }
    }
}

/// Tells everybody when the writer's thread panics.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let failure = Failure::text(io::ErrorKind::Other, "the log's thread panicked");
            let dones = {
                let mut state = self.0.state.lock();
                state.fail(failure.clone());
                state.abandon()
            };
            for done in dones {
                done(Err(failure.to_io()));
            }
        }
    }
}

/// Starts the thread.
pub(crate) fn spawn(shared: &Arc<Shared>) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name("wal".to_string())
        .spawn(move || shared.run())
}

//! Turns sled's errors and panics into [`EngineError`]s.
//!
//! sled 0.34 asserts and unwraps on what it reads from disk, when it opens and whenever it loads a
//! page later. A flipped bit would then take the whole node down, although the node can be
//! rebuilt from its log or its peers. So every call into sled runs under `catch_unwind`. What sled
//! held in memory is suspect after a panic, which is why the first one stops the engine for good:
//! no later call reaches sled, and that is what makes it sound to go on after the unwinding.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use super::EngineError;

/// The first failure after which an engine takes no more work.
#[derive(Debug, Default)]
pub(super) struct Guard {
    reads_stopped: OnceLock<String>,
    writes_stopped: OnceLock<EngineError>,
}

impl Guard {
    /// Runs a read; a panic in it stops the engine.
    pub(super) fn read<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, EngineError> {
        if let Some(reason) = self.reads_stopped.get() {
            return Err(EngineError::Stopped(reason.clone()));
        }
        caught(call).unwrap_or_else(|panic| {
            let reason = format!("sled panicked: {panic}");
            // Whoever set it first gave the reason; a second one adds nothing.
            let _ = self.reads_stopped.set(reason.clone());
            Err(EngineError::Corrupt(reason))
        })
    }

    /// Runs a write; any failure in it stops further writes, because sled may have taken a part of
    /// it into its memory. Reads go on: the records of a half-taken batch are right, or not asked for.
    pub(super) fn write<T>(&self, call: impl FnOnce() -> sled::Result<T>) -> Result<T, EngineError> {
        if let Some(stopped) = self.writes_stopped.get() {
            return Err(stopped.clone());
        }
        let result = self.read(call).map_err(|error| match error {
            // What sled could not write it does not write later: there is no trying again.
            EngineError::NoSpace { .. } => EngineError::SpaceRanOut(error.to_string()),
            other => other,
        });
        self.stop_writes_on_error(result)
    }

    /// Lets a result pass; an error stops further writes. For our own calls to the kernel: after a
    /// failed fsync a second one may well succeed although pages were lost.
    pub(super) fn stop_writes_on_error<T>(&self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if let Err(error) = &result {
            let _ = self.writes_stopped.set(match error {
                EngineError::SpaceRanOut(_) => error.clone(),
                other => EngineError::Stopped(other.to_string()),
            });
        }
        result
    }
}

/// Runs `call`; a panic comes back as its text in the outer error.
pub(super) fn caught<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<Result<T, EngineError>, String> {
    catch_unwind(AssertUnwindSafe(call))
        .map(|result| result.map_err(EngineError::from))
        .map_err(|panic| panic_text(panic.as_ref()))
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "without a message".to_owned()
    }
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            other => EngineError::Corrupt(other.to_string()),
        }
    }
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::NoSpace {
                free_bytes: 0,
                needed_bytes: 1,
            },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                EngineError::NotWritable(error.to_string())
            }
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                EngineError::Corrupt(error.to_string())
            }
            // sled reports a lock that is taken as an error of kind `Other` with this text.
            _ if error.to_string().starts_with("could not acquire lock") => {
                EngineError::Locked(error.to_string())
            }
            _ => EngineError::Io(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> sled::Error {
        sled::Error::Io(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn a_write_that_met_a_full_disk_is_not_tried_again() {
        let guard = Guard::default();
        let first = guard.write(|| Err::<(), _>(full()));
        assert!(matches!(first, Err(EngineError::SpaceRanOut(_))), "{first:?}");
        let later = guard.write(|| -> sled::Result<()> { panic!("sled is asked again") });
        assert!(matches!(later, Err(EngineError::SpaceRanOut(_))), "{later:?}");
        assert_eq!(guard.read(|| Ok(7)).expect("reads go on"), 7);
    }

    #[test]
    fn after_a_failed_sync_there_is_no_want_of_room_to_wait_out() {
        let guard = Guard::default();
        let failed = guard.stop_writes_on_error(Err::<(), _>(EngineError::from(io::Error::from(
            io::ErrorKind::StorageFull,
        ))));
        assert!(matches!(failed, Err(EngineError::NoSpace { .. })), "{failed:?}");
        let later = guard.write(|| Ok(()));
        assert!(matches!(later, Err(EngineError::Stopped(_))), "{later:?}");
    }
}

//! A clock for one node: its wall clock is off by what a file says, through libfaketime. Its monotonic clock is the
//! machine's, as when somebody sets the time.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where Debian's package `libfaketime` has its library, by architecture.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
];
/// After this many seconds at most a node takes notice of a change.
const NOTICED_AFTER_S: u32 = 1;

/// The library, if it is installed.
pub(crate) fn library() -> anyhow::Result<PathBuf> {
    match LIBRARIES.iter().map(Path::new).find(|library| library.exists()) {
        Some(library) => Ok(library.to_owned()),
        None => bail!("libfaketime is not installed (Debian package libfaketime)"),
    }
}

/// A node's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, told by this file.
    pub(crate) fn new(file: PathBuf) -> anyhow::Result<Clock> {
        let clock = Clock { file };
        clock.set_offset(0)?;
        Ok(clock)
    }

    /// Moves it off by so many seconds.
    pub(crate) fn set_offset(&self, seconds: i64) -> anyhow::Result<()> {
        // The node reads it at any moment: it must never be half written.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}s\n"))
            .with_context(|| format!("cannot write {}", new.display()))?;
        std::fs::rename(&new, &self.file).with_context(|| format!("cannot write {}", self.file.display()))
    }

    /// What makes a process follow it.
    pub(crate) fn environment(&self) -> anyhow::Result<Vec<(String, String)>> {
        let set = |name: &str, value: String| (name.to_owned(), value);
        Ok(vec![
            set("LD_PRELOAD", library()?.display().to_string()),
            set("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            set("FAKETIME_CACHE_DURATION", NOTICED_AFTER_S.to_string()),
            set("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            set("FAKETIME_DONT_RESET", "1".to_owned()),
        ])
    }
}

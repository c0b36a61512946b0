//! The directory of a demo: kept or temporary, locked while a demo runs in it, and bound to its shape.
//!
//! A demo's nodes know each other by the addresses of the first start, so kept data is only good for as many
//! nodes on the same ports. `demo.json` remembers both, and a start with others is refused before anything runs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// A log that has grown past this is set aside as `NAME.log.1` at the next start.
const LOG_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// What kept data cannot be started without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    /// Number of nodes.
    pub(crate) nodes: u16,
    /// As given with `--base-port`.
    pub(crate) base_port: Option<u16>,
}

/// A directory that belongs to this demo until it is dropped; a temporary one is removed then.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    ephemeral: bool,
    _lock: File,
}

impl DataDir {
    /// Opens or creates `path` for a demo of this shape.
    ///
    /// Fails if it is not writable, in use by another demo, or holds data of another shape.
    pub(crate) fn open(path: &Path, shape: Shape) -> anyhow::Result<DataDir> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot create data directory {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        let lock = lock(&path)?;
        check_shape(&path, shape)?;
        DataDir {
            path,
            ephemeral: false,
            _lock: lock,
        }
        .with_logs()
    }

    /// A new directory of this process's own under the system's place for temporary files.
    pub(crate) fn ephemeral() -> anyhow::Result<DataDir> {
        let place = std::env::temp_dir();
        let path = place.join(format!("quorate-demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let lock = lock(&path)?;
        DataDir {
            path,
            ephemeral: true,
            _lock: lock,
        }
        .with_logs()
    }

    /// Where the data is, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes with the demo.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// The log of one child; an overgrown one is set aside first.
    pub(crate) fn log_path(&self, child: &str) -> PathBuf {
        self.path.join("logs").join(format!("{child}.log"))
    }

    /// Opens the log of one child for appending.
    pub(crate) fn open_log(&self, child: &str) -> anyhow::Result<File> {
        let path = self.log_path(child);
        let append = || {
            if fs::metadata(&path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
                fs::rename(&path, path.with_extension("log.1"))?;
            }
            File::options().create(true).append(true).open(&path)
        };
        append().with_context(|| format!("cannot write {}", path.display()))
    }

    fn with_logs(self) -> anyhow::Result<DataDir> {
        let logs = self.path.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        Ok(self)
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.ephemeral
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn lock(path: &Path) -> anyhow::Result<File> {
    let lock_path = path.join("demo.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock_path)
        .with_context(|| format!("data directory {} is not writable", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "data directory {} is in use by another demo (choose one with --data-dir)",
                path.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", lock_path.display()))
        }
    }
}

fn check_shape(path: &Path, shape: Shape) -> anyhow::Result<()> {
    let file = path.join("demo.json");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = serde_json::to_string(&shape).context("cannot encode demo.json")?;
            return fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let kept: Shape =
        serde_json::from_str(&text).with_context(|| format!("{} is not of this program", file.display()))?;
    let elsewhere = "remove it, or choose another place with --data-dir";
    if kept.nodes != shape.nodes {
        bail!(
            "{} holds a cluster of {} nodes, and {} are asked for: say --nodes {}, {elsewhere}",
            path.display(),
            kept.nodes,
            shape.nodes,
            kept.nodes
        );
    }
    if kept.base_port != shape.base_port {
        let remedy = match kept.base_port {
            Some(base) => format!("say --base-port {base}"),
            None => "leave --base-port out".to_owned(),
        };
        bail!(
            "{} holds a cluster made on other ports: {remedy}, {elsewhere}",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Shape = Shape {
        nodes: 3,
        base_port: None,
    };

    fn refusal(path: &Path, shape: Shape) -> String {
        format!("{:#}", DataDir::open(path, shape).expect_err("refused"))
    }

    #[test]
    fn kept_data_is_only_for_the_shape_it_was_made_with() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), THREE).unwrap());
        drop(DataDir::open(dir.path(), THREE).expect("a second start of the same shape"));
        let other = refusal(dir.path(), Shape { nodes: 5, ..THREE });
        assert!(other.contains("say --nodes 3"), "{other}");
        let other = refusal(
            dir.path(),
            Shape {
                base_port: Some(4000),
                ..THREE
            },
        );
        assert!(other.contains("leave --base-port out"), "{other}");
    }

    #[test]
    fn two_demos_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path(), THREE).unwrap();
        let second = refusal(dir.path(), THREE);
        assert!(second.contains("in use by another demo"), "{second}");
        drop(first);
        DataDir::open(dir.path(), THREE).expect("free again");
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("demo.json"), "{\"nodes\":3}garbage").unwrap();
        let text = refusal(dir.path(), THREE);
        assert!(text.contains("not of this program"), "{text}");
    }

    #[test]
    fn an_overgrown_log_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), THREE).unwrap();
        let log = data.open_log("n1").unwrap();
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        let fresh = data.open_log("n1").unwrap();
        assert_eq!(fresh.metadata().unwrap().len(), 0);
        assert_eq!(
            fs::metadata(dir.path().join("logs/n1.log.1")).unwrap().len(),
            LOG_BYTES_MAX + 1
        );
    }

    #[test]
    fn a_log_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path(), THREE).unwrap();
        fs::remove_dir(dir.path().join("logs")).unwrap();
        let error = format!("{:#}", data.open_log("n1").unwrap_err());
        let expected = format!("cannot write {}: ", dir.path().join("logs/n1.log").display());
        assert!(error.starts_with(&expected), "{error}");
    }
}

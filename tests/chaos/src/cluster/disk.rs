//! A disk for one node: a file system in a file, which can be filled up, and held so that every write waits.
//!
//! It is mounted in the sandbox's own mount namespace (see [`crate::sandbox`]) and gone with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::command::run;

/// Size of a disk: room for the log's segments, the store, and a while of load.
const SIZE: &str = "2G";

/// One disk.
#[derive(Debug)]
pub(crate) struct Disk {
    /// Where it is mounted.
    mounted_at: PathBuf,
}

impl Disk {
    /// Makes a disk in a file beside `at`, and mounts it there.
    pub(crate) fn mount(at: &Path) -> anyhow::Result<Disk> {
        std::fs::create_dir_all(at).with_context(|| format!("cannot create {}", at.display()))?;
        let image = at.with_extension("img");
        if image.exists() {
            std::fs::remove_file(&image).with_context(|| format!("cannot remove {}", image.display()))?;
        }
        let (image, at_text) = (image.display().to_string(), at.display().to_string());
        run(&["truncate", "-s", SIZE, &image])?;
        run(&[
            "mkfs.ext4",
            "-q",
            "-F",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1",
            &image,
        ])?;
        run(&["mount", "-o", "loop", &image, &at_text])?;
        Ok(Disk {
            mounted_at: at.to_owned(),
        })
    }

    /// Takes all room that is left, or gives it back.
    pub(crate) fn set_full(&self, full: bool) -> anyhow::Result<()> {
        let ballast = self.mounted_at.join("ballast");
        if !full {
            return match std::fs::remove_file(&ballast) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", ballast.display()))
                }
                _ => Ok(()),
            };
        }
        let file = std::fs::File::create(&ballast).context("cannot create the ballast")?;
        let mut length = 0;
        // Blocks are taken in ever smaller pieces, until not one is left.
        for piece in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            while rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, piece).is_ok() {
                length += piece;
            }
        }
        Ok(())
    }

    /// Lets every write wait for so long. A process of its own ends it, so that no disk stays frozen if this one is killed.
    pub(crate) async fn freeze(&self, time: Duration) -> anyhow::Result<()> {
        let script = "fsfreeze --freeze \"$1\" && sleep \"$2\"; fsfreeze --unfreeze \"$1\"";
        let status = tokio::process::Command::new("sh")
            .args(["-c", script, "freeze"])
            .arg(&self.mounted_at)
            .arg(time.as_secs_f64().to_string())
            .status()
            .await
            .context("cannot run sh")?;
        ensure!(status.success(), "freezing {} failed", self.mounted_at.display());
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace's end does the same; this frees the place before. Lazily: a process may not be quite gone.
        if let Err(error) = run(&["umount", "--lazy", &self.mounted_at.display().to_string()]) {
            eprintln!("{error:#}");
        }
    }
}

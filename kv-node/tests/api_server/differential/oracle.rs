//! The etcd to compare with.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::common::{DEADLINE, free_address};

/// A running etcd of one node. Killed when dropped.
pub(crate) struct Etcd {
    pub(crate) address: String,
    child: Child,
    _dir: TempDir,
}

impl Etcd {
    /// None where there is no etcd on this machine.
    pub(crate) fn start() -> Option<Etcd> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let child = Command::new(&program)
            .arg("--data-dir")
            .arg(dir.path())
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer_url}"),
                "--unsafe-no-fsync",
            ])
            .args(["--log-level", "panic", "--bcrypt-cost", "4"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Some(Etcd {
            address: client,
            child,
            _dir: dir,
        })
    }

    /// Waits until it does.
    pub(crate) async fn answers(&self) {
        let health = format!("http://{}/health", self.address);
        let started = Instant::now();
        while !reqwest::get(&health)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            assert!(started.elapsed() < DEADLINE, "etcd does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself: then the requests have failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `scripts/oracle` puts it.
pub(crate) fn program() -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/etcd-3.5.1/etcd");
    if program.exists() {
        return Some(program);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "scripts/test setup installs the etcd to compare with"
    );
    eprintln!("skipped: no etcd to compare with (scripts/oracle installs it)");
    None
}

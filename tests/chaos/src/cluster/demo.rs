//! The cluster of a running `quorate demo` on this machine. Its nodes are the demo's own processes: it starts each again
//! that ends, and they are found by the arguments that it gave them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::node::{Body, Node, State, asker};

/// A node's process, whichever it is now.
pub(crate) struct Child {
    data_dir: PathBuf,
}

/// What a running node was started with.
struct Found {
    pid: Pid,
    name: String,
    client_url: String,
    data_dir: PathBuf,
}

/// The nodes of the demo whose data is in `dir`.
pub(crate) fn nodes(dir: &Path) -> anyhow::Result<Vec<Node>> {
    let dir = dir
        .canonicalize()
        .with_context(|| format!("no demo runs in {}", dir.display()))?;
    let mut found = running()?;
    found.retain(|node| node.data_dir.parent() == Some(&dir));
    if found.is_empty() {
        bail!(
            "no demo runs in {}: start it with `quorate demo`, or name its data directory with --demo=DIR",
            dir.display()
        );
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let node = |found: Found| {
        Ok(Node {
            client: asker(&found.client_url)?,
            client_url: found.client_url,
            name: found.name,
            body: Body::Demo(Child {
                data_dir: found.data_dir,
            }),
            state: State::Up,
        })
    };
    found.into_iter().map(node).collect()
}

impl Child {
    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&self, within: Duration) -> anyhow::Result<()> {
        self.end(Signal::KILL, within).await
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn terminate(&self, within: Duration) -> anyhow::Result<()> {
        self.end(Signal::TERM, within).await
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn set_paused(&self, paused: bool) -> anyhow::Result<()> {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        pidfd_send_signal(self.process()?, signal).context("cannot signal a node")
    }

    async fn end(&self, signal: Signal, within: Duration) -> anyhow::Result<()> {
        let process = self.process()?;
        pidfd_send_signal(process.as_fd(), signal).context("cannot signal a node")?;
        let ended = tokio::task::spawn_blocking(move || ends(&process, within)).await??;
        ensure!(ended, "it still runs after {} s", within.as_secs());
        Ok(())
    }

    fn process(&self) -> anyhow::Result<OwnedFd> {
        let found = running()?;
        let found = found.iter().find(|node| node.data_dir == self.data_dir);
        let found = found.with_context(|| format!("no node runs on {}", self.data_dir.display()))?;
        pidfd_open(found.pid, PidfdFlags::empty()).context("the node has just ended")
    }
}

/// Whether a process ends in time: its descriptor can be read from then on.
fn ends(process: &OwnedFd, within: Duration) -> anyhow::Result<bool> {
    let mut wanted = [PollFd::new(process, PollFlags::IN)];
    let within = Timespec::try_from(within)?;
    let ready = poll(&mut wanted, Some(&within)).context("cannot wait for a node")?;
    Ok(ready > 0)
}

/// All nodes that run on this machine.
fn running() -> anyhow::Result<Vec<Found>> {
    let processes = std::fs::read_dir("/proc").context("cannot list the processes")?;
    let found = processes.filter_map(|process| {
        let process = process.ok()?;
        let pid = process.file_name().to_str()?.parse().ok()?;
        // It may have ended since it was listed.
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        found(Pid::from_raw(pid)?, &line)
    });
    Ok(found.collect())
}

fn found(pid: Pid, line: &[u8]) -> Option<Found> {
    let words: Vec<&str> = line
        .split(|byte| *byte == 0)
        .map(std::str::from_utf8)
        .collect::<Result<_, _>>()
        .ok()?;
    let value = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).map(|value| (*value).to_owned())
    };
    if words.get(1) != Some(&"node") {
        return None;
    }
    Some(Found {
        pid,
        name: value("--name")?,
        client_url: value("--advertise-client-urls")?,
        data_dir: value("--data-dir")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_arguments() {
        let line = |words: &[&str]| words.join("\0").into_bytes();
        let pid = Pid::from_raw(7).unwrap();
        let words = [
            "quorate",
            "node",
            "--name",
            "n1",
            "--data-dir",
            "/data/n1",
            "--advertise-client-urls",
            "http://127.0.0.1:12379",
            "",
        ];
        let node = found(pid, &line(&words)).unwrap();
        assert_eq!(
            (node.name.as_str(), node.client_url.as_str()),
            ("n1", "http://127.0.0.1:12379")
        );
        assert_eq!(node.data_dir, Path::new("/data/n1"));
        assert!(found(pid, &line(&words[..5])).is_none());
        assert!(found(pid, &line(&["quorate", "web"])).is_none());
        assert!(found(pid, b"").is_none());
    }
}

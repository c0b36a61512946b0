//! A system that etcdctl talks to: etcd, a node, or a node behind a balancer. One member, nothing stored yet.

use std::time::Duration;

use super::oracle;
use crate::harness::{Process, eventually, free_ports};

/// Longest that it may take until it serves: compiled without optimisation, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running system; its processes end with it.
pub(crate) struct Target {
    port: u16,
    _processes: Vec<Process>,
    // The last field, because fields are dropped in order.
    _dir: tempfile::TempDir,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// The flags that etcd and a node have in common.
fn member(dir: &std::path::Path, client: u16, peer: u16) -> Vec<String> {
    [
        "--name=one".to_owned(),
        format!("--data-dir={}", dir.join("data").display()),
        format!("--listen-client-urls={}", url(client)),
        format!("--advertise-client-urls={}", url(client)),
        format!("--listen-peer-urls={}", url(peer)),
        format!("--initial-advertise-peer-urls={}", url(peer)),
        format!("--initial-cluster=one={}", url(peer)),
    ]
    .into()
}

impl Target {
    /// A real etcd.
    pub(crate) async fn etcd() -> Target {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2);
        let args = member(dir.path(), port, port + 1);
        let etcd = Process::start_program(&oracle::dir().join("etcd"), "etcd", dir.path(), args);
        Target::ready(port, vec![etcd], dir, "/health").await
    }

    /// A node of Quorate.
    pub(crate) async fn node() -> Target {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2);
        let node = Target::start_node(&dir, port);
        Target::ready(port, vec![node], dir, "/readyz").await
    }

    /// A node behind a balancer.
    pub(crate) async fn balanced() -> Target {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(5);
        let node = Target::start_node(&dir, port);
        let args = [
            "balancer".to_owned(),
            format!("--listen-client=127.0.0.1:{}", port + 2),
            format!("--listen-http=127.0.0.1:{}", port + 3),
            format!("--listen-stats=127.0.0.1:{}", port + 4),
            format!("--seed=127.0.0.1:{port}"),
        ];
        let balancer = Process::start("balancer", dir.path(), args.into());
        Target::ready(port + 2, vec![balancer, node], dir, "/readyz").await
    }

    fn start_node(dir: &tempfile::TempDir, port: u16) -> Process {
        let args = std::iter::once("node".to_owned())
            .chain(member(dir.path(), port, port + 1))
            .collect();
        Process::start("node", dir.path(), args)
    }

    async fn ready(port: u16, mut processes: Vec<Process>, dir: tempfile::TempDir, probe: &str) -> Target {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(2))
            .build()
            .unwrap();
        let address = format!("{}{probe}", url(port));
        eventually("ready", READY_WITHIN, || {
            for process in &mut processes {
                process.check();
            }
            let answer = http.get(&address).send();
            async move {
                let answer = answer.await.map_err(|error| error.to_string())?;
                let status = answer.status();
                status
                    .is_success()
                    .then_some(())
                    .ok_or_else(|| status.to_string())
            }
        })
        .await;
        Target {
            port,
            _processes: processes,
            _dir: dir,
        }
    }

    /// Where clients reach it.
    pub(crate) fn endpoint(&self) -> String {
        url(self.port)
    }
}

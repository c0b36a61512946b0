//! A system that etcdctl talks to: etcd, nodes, or nodes behind a balancer. Nothing is stored yet.

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

/// The first of the ports of member `at`: for clients, then for peers.
fn ports(first: u16, at: u16) -> (u16, u16) {
    (first + 2 * at, first + 2 * at + 1)
}

/// The flags that etcd and a node have in common: member `at` of so many.
fn member(dir: &std::path::Path, first: u16, at: u16, members: u16) -> Vec<String> {
    let (client, peer) = ports(first, at);
    let founders: Vec<String> = (0..members)
        .map(|at| format!("m{at}={}", url(ports(first, at).1)))
        .collect();
    [
        format!("--name=m{at}"),
        format!("--data-dir={}", dir.join(format!("m{at}")).display()),
        format!("--listen-client-urls={}", url(client)),
        format!("--advertise-client-urls={}", url(client)),
        format!("--listen-peer-urls={}", url(peer)),
        format!("--initial-advertise-peer-urls={}", url(peer)),
        format!("--initial-cluster={}", founders.join(",")),
    ]
    .into()
}

impl Target {
    /// A real etcd of so many members.
    pub(crate) async fn etcd(members: u16) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2 * members);
        let etcd = |at| {
            let args = member(dir.path(), port, at, members);
            Process::start_program(
                &oracle::dir().join("etcd"),
                &format!("etcd{at}"),
                dir.path(),
                args,
            )
        };
        let processes = (0..members).map(etcd).collect();
        Target::ready(port, processes, dir, "/health").await
    }

    /// So many nodes of Quorate.
    pub(crate) async fn nodes(members: u16) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2 * members);
        let processes = Target::start_nodes(&dir, port, members);
        Target::ready(port, processes, dir, "/readyz").await
    }

    /// So many nodes behind a balancer.
    pub(crate) async fn balanced(members: u16) -> Target {
        let dir = tempfile::tempdir().unwrap();
        let port = free_ports(2 * members + 3);
        let mut processes = Target::start_nodes(&dir, port, members);
        let own = port + 2 * members;
        let seeds: Vec<String> = (0..members)
            .map(|at| format!("127.0.0.1:{}", ports(port, at).0))
            .collect();
        let args = [
            "balancer".to_owned(),
            format!("--listen-client=127.0.0.1:{own}"),
            format!("--listen-http=127.0.0.1:{}", own + 1),
            format!("--listen-stats=127.0.0.1:{}", own + 2),
            format!("--seed={}", seeds.join(",")),
        ];
        processes.insert(0, Process::start("balancer", dir.path(), args.into()));
        Target::ready(own, processes, dir, "/readyz").await
    }

    fn start_nodes(dir: &tempfile::TempDir, port: u16, members: u16) -> Vec<Process> {
        let start = |at| {
            let args = member(dir.path(), port, at, members);
            let args = std::iter::once("node".to_owned()).chain(args).collect();
            Process::start(&format!("node{at}"), dir.path(), args)
        };
        (0..members).map(start).collect()
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

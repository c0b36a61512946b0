//! A whole system of real processes: nodes, a balancer in front, two web apps.

use std::path::Path;
use std::time::Duration;

use kv_client::{Client, Config};

use super::{Browser, Process, eventually, free_ports};

/// Longest that a process may take to become ready: it is compiled without optimisation, and its machine is busy.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longest that the nodes may take to agree on a leader, or to catch up.
const AGREE_WITHIN: Duration = Duration::from_secs(30);
/// Longest that a process may take to stop when asked.
pub(crate) const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The state of one node at one revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateHash {
    /// The revision it is of.
    pub(crate) revision: i64,
    /// etcd's hash of all keys at that revision.
    pub(crate) hash: u32,
}

/// A running system; every process ends with it.
pub(crate) struct System {
    /// The nodes n1, n2, …
    pub(crate) nodes: Vec<Process>,
    balancer: Process,
    /// The web apps web1 and web2.
    pub(crate) web: Vec<Process>,
    ports: Ports,
    client: Client,
    // The last field, because fields are dropped in order: the data goes when nobody uses it any more.
    _dir: tempfile::TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    first: u16,
    nodes: u16,
}

impl Ports {
    fn kv(self) -> u16 {
        self.first
    }
    fn http(self) -> u16 {
        self.first + 1
    }
    fn stats(self) -> u16 {
        self.first + 2
    }
    fn web(self, index: u16) -> u16 {
        self.first + 3 + index
    }
    fn client(self, node: u16) -> u16 {
        self.first + 5 + 2 * node
    }
    fn peer(self, node: u16) -> u16 {
        self.client(node) + 1
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn command(subcommand: &str, flags: &[(&str, String)]) -> Vec<String> {
    let flags = flags.iter().map(|(flag, value)| format!("{flag}={value}"));
    std::iter::once(subcommand.to_owned()).chain(flags).collect()
}

fn node(ports: Ports, index: u16, dir: &Path) -> Process {
    let name = format!("n{}", index + 1);
    let cluster = (0..ports.nodes)
        .map(|i| format!("n{}={}", i + 1, url(ports.peer(i))))
        .collect::<Vec<_>>();
    let args = command(
        "node",
        &[
            ("--name", name.clone()),
            ("--data-dir", dir.join(&name).display().to_string()),
            ("--listen-client-urls", url(ports.client(index))),
            ("--advertise-client-urls", url(ports.client(index))),
            ("--listen-peer-urls", url(ports.peer(index))),
            ("--initial-advertise-peer-urls", url(ports.peer(index))),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
        ],
    );
    Process::start(&name, dir, args)
}

fn balancer(ports: Ports, dir: &Path) -> Process {
    let list = |ports: &[u16]| {
        ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let nodes: Vec<u16> = (0..ports.nodes).map(|node| ports.client(node)).collect();
    let args = command(
        "balancer",
        &[
            ("--listen-client", list(&[ports.kv()])),
            ("--listen-http", list(&[ports.http()])),
            ("--listen-stats", list(&[ports.stats()])),
            ("--seed", list(&nodes)),
            ("--web-service", "webapp".to_owned()),
        ],
    );
    Process::start("balancer", dir, args)
}

fn web(ports: Ports, index: u16, dir: &Path) -> Process {
    let name = format!("web{}", index + 1);
    let args = command(
        "web",
        &[
            ("--listen", format!("127.0.0.1:{}", ports.web(index))),
            ("--endpoints", url(ports.kv())),
            ("--host-name", name.clone()),
            ("--advertise", url(ports.web(index))),
        ],
    );
    Process::start(&name, dir, args)
}

impl System {
    /// Starts everything for the first time and waits until it serves.
    pub(crate) async fn start(nodes: u16) -> System {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports {
            first: free_ports(5 + 2 * nodes),
            nodes,
        };
        let endpoints: Vec<String> = (0..nodes).map(|node| url(ports.client(node))).collect();
        let mut system = System {
            nodes: (0..nodes).map(|index| node(ports, index, dir.path())).collect(),
            balancer: balancer(ports, dir.path()),
            web: (0..2).map(|index| web(ports, index, dir.path())).collect(),
            ports,
            client: Client::new(Config::new(endpoints)).unwrap(),
            _dir: dir,
        };
        system.ready().await;
        system
    }

    /// Waits until every process that runs is ready, and panics if one has ended by itself.
    pub(crate) async fn ready(&mut self) {
        let probes: Vec<u16> = (0..self.ports.nodes)
            .map(|node| self.ports.client(node))
            .chain([self.ports.stats(), self.ports.web(0), self.ports.web(1)])
            .collect();
        for (process, port) in self
            .nodes
            .iter_mut()
            .chain([&mut self.balancer])
            .chain(&mut self.web)
            .zip(probes)
        {
            let running = process.check();
            if running {
                eventually(&format!("{} ready", process.name), READY_WITHIN, || {
                    process.check();
                    probe(port)
                })
                .await;
            }
        }
    }

    /// A client of all nodes.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A person in front of the balancer.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(url(self.ports.http()))
    }

    /// How many web apps the balancer knows, and how many of them it uses.
    pub(crate) async fn web_apps(&self) -> Result<(usize, u64), String> {
        let stats = Browser::new(url(self.ports.stats())).page("/stats.json").await?.1;
        let stats: serde_json::Value = serde_json::from_str(&stats).map_err(|e| e.to_string())?;
        let pools = stats["pools"].as_array().ok_or("no pools in the stats")?;
        let web = pools
            .iter()
            .find(|pool| pool["kind"] == "web")
            .ok_or("no web apps in the stats")?;
        let known = web["backends"]
            .as_array()
            .ok_or("no backends in the stats")?
            .len();
        Ok((known, web["usable"].as_u64().ok_or("no count in the stats")?))
    }

    /// Index of the node that leads, as seen by itself.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", AGREE_WITHIN, || async {
            for node in 0..self.ports.nodes {
                if let Ok(status) = self.client.status(&url(self.ports.client(node))).await
                    && status
                        .header
                        .is_some_and(|header| header.member_id == status.leader)
                {
                    return Ok(usize::from(node));
                }
            }
            Err("no node leads".to_owned())
        })
        .await
    }

    /// Stops everything politely, front to back, and starts it again from what is on disk.
    pub(crate) async fn restart_all(&mut self) {
        for process in self
            .web
            .iter_mut()
            .chain([&mut self.balancer])
            .chain(&mut self.nodes)
        {
            if process.check() {
                let status = process.terminate(STOP_WITHIN).await;
                assert!(
                    status.success(),
                    "{} ended with {status}:\n{}",
                    process.name,
                    process.log_tail()
                );
            }
        }
        for process in self
            .nodes
            .iter_mut()
            .chain([&mut self.balancer])
            .chain(&mut self.web)
        {
            process.start_again();
        }
        self.ready().await;
    }

    /// The state of every node, once all of them are at the same revision.
    pub(crate) async fn hashes(&self) -> Vec<StateHash> {
        eventually("all nodes at one revision", AGREE_WITHIN, || async {
            let mut hashes = Vec::new();
            for node in 0..self.ports.nodes {
                let answer = self.client.hash_kv(&url(self.ports.client(node)), 0).await;
                let answer = answer.map_err(|error| format!("n{}: {error}", node + 1))?;
                hashes.push(StateHash {
                    revision: answer.hash_revision,
                    hash: answer.hash,
                });
            }
            match hashes.iter().all(|hash| hash.revision == hashes[0].revision) {
                true => Ok(hashes),
                false => Err(format!("{hashes:?}")),
            }
        })
        .await
    }

    /// The keys below a prefix that one node has, as it sees them itself.
    pub(crate) async fn keys_on(&self, node: usize, prefix: &str) -> Vec<String> {
        let endpoint = url(self
            .ports
            .client(u16::try_from(node).expect("a handful of nodes")));
        let client = Client::new(Config::new([endpoint])).unwrap();
        let mut range_end = prefix.as_bytes().to_vec();
        *range_end.last_mut().expect("a prefix is not empty") += 1;
        let request = kv_proto::etcdserverpb::RangeRequest {
            key: prefix.as_bytes().to_vec().into(),
            range_end: range_end.into(),
            serializable: true,
            keys_only: true,
            ..Default::default()
        };
        let found = client.range(request).await.unwrap();
        found
            .kvs
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect()
    }
}

/// Whether a server on this port calls itself ready.
async fn probe(port: u16) -> Result<(), String> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    let answer = http
        .get(format!("{}/readyz", url(port)))
        .send()
        .await
        .map_err(|e| format!("{e:?}"))?;
    match answer.status().is_success() {
        true => Ok(()),
        false => Err(answer.text().await.unwrap_or_default()),
    }
}

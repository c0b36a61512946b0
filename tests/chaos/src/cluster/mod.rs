//! A cluster of real `quorate node` processes, and everything that can be done to it.
//!
//! It promises that no process, namespace or mount outlives it, and that a node which ends without being asked to is
//! an error that names the node and its log.

mod clock;
mod command;
mod damage;
mod disk;
mod layout;
mod members;
mod network;
mod node;
mod ports;
mod process;
mod trouble;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kv_client::{Client, Config};
use tokio::sync::watch;

use clock::Clock;
pub(crate) use clock::library as clock_library;
pub(crate) use command::run_line;
pub(crate) use damage::Part;
use disk::Disk;
use layout::Layout;
pub(crate) use node::{Node, State, asker};
use process::{Process, Program};

use crate::kind::Abilities;

/// Longest that the cluster may take to serve on every node: after a fault it may have to send a snapshot.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// Longest that a node may take to stop when it is asked to, or is no member any more.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Longest that a change of members may take, with all its attempts.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two attempts at something that is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// How a cluster is made.
pub(crate) struct Plan {
    /// Nodes at first.
    pub(crate) nodes: u16,
    /// Where its data and logs go.
    pub(crate) dir: PathBuf,
    /// The `quorate` binary.
    pub(crate) binary: PathBuf,
    /// What is to be possible with it.
    pub(crate) abilities: Abilities,
}

/// A running cluster.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    layout: Layout,
    plan: Plan,
    endpoints: watch::Sender<Vec<Endpoint>>,
}

/// Where clients reach a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The node's name.
    pub(crate) name: String,
    /// `http://…`.
    pub(crate) url: String,
}

impl Cluster {
    /// Starts it and waits until every node serves.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Cluster> {
        let layout = match plan.abilities.network {
            true => Layout::namespaces()?,
            false => Layout::loopback()?,
        };
        let mut cluster = Cluster {
            nodes: Vec::new(),
            layout,
            plan,
            endpoints: watch::Sender::new(Vec::new()),
        };
        let members: Vec<(String, String)> = (1..=cluster.plan.nodes)
            .map(|number| (name(number), cluster.layout.peer_url(number)))
            .collect();
        for number in 1..=cluster.plan.nodes {
            let mut node = cluster.new_node(number)?;
            node.process.set_command(cluster.command(&node, &members, "new"));
            node.process.start()?;
            cluster.nodes.push(node);
        }
        cluster.publish();
        cluster.serves().await?;
        Ok(cluster)
    }

    /// Its nodes.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The endpoints of its nodes, now and whenever they change.
    pub(crate) fn endpoints(&self) -> watch::Receiver<Vec<Endpoint>> {
        self.endpoints.subscribe()
    }

    /// A client of all nodes.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let mut config = Config::new(self.nodes.iter().map(|node| &node.client_url));
        config.request_timeout = CHANGE_WITHIN / 3;
        Ok(Client::new(config)?)
    }

    /// Names of all nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The node that leads, as it says itself in the highest term.
    pub(crate) async fn leader(&self) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            let mut leader = None;
            for node in self.nodes.iter().filter(|node| node.state == State::Up) {
                if let Some(status) = node.status().await
                    && status
                        .header
                        .is_some_and(|header| header.member_id == status.leader)
                    && leader.as_ref().is_none_or(|(term, _)| *term < status.raft_term)
                {
                    leader = Some((status.raft_term, node.name.clone()));
                }
            }
            match leader {
                Some((_, name)) => return Ok(name),
                None if started.elapsed() > SERVES_WITHIN => bail!("no node leads"),
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits until every node serves linearizable reads.
    ///
    /// # Errors
    /// If a node ended by itself, or one does not serve in time.
    pub(crate) async fn serves(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        for index in 0..self.nodes.len() {
            loop {
                self.check_alive()?;
                match self.nodes[index].serves().await {
                    Ok(()) => break,
                    Err(refusal) if started.elapsed() > SERVES_WITHIN => {
                        bail!(
                            "not all nodes serve after {} s; at last {refusal}",
                            SERVES_WITHIN.as_secs()
                        )
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        }
        Ok(())
    }

    /// An error if a node ended that nobody asked to.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if let Some(status) = node.process.ended_by_itself() {
                node.state = State::Down;
                bail!(
                    "{} ended by itself ({status}); its log is {}",
                    node.name,
                    node.process.log().display()
                );
            }
        }
        Ok(())
    }

    fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.name == name);
        node.with_context(|| format!("there is no node {name}"))
    }

    fn publish(&self) {
        let endpoint = |node: &Node| Endpoint {
            name: node.name.clone(),
            url: node.client_url.clone(),
        };
        self.endpoints
            .send_replace(self.nodes.iter().map(endpoint).collect());
    }

    fn new_node(&mut self, number: u16) -> anyhow::Result<Node> {
        let name = name(number);
        self.layout.plug_in(number)?;
        let data_dir = self.plan.dir.join("data").join(&name);
        let abilities = self.plan.abilities;
        let disk = abilities.disks.then(|| Disk::mount(&data_dir)).transpose()?;
        let clock_file = self.plan.dir.join("data").join(format!("{name}.clock"));
        let clock = abilities.clocks.then(|| Clock::new(clock_file)).transpose()?;
        let program = Program {
            command: Vec::new(),
            environment: clock
                .as_ref()
                .map(Clock::environment)
                .transpose()?
                .unwrap_or_default(),
            log: self.plan.dir.join(format!("{name}.log")),
        };
        let client_url = self.layout.client_url(number);
        Ok(Node {
            client: asker(&client_url)?,
            client_url,
            peer_url: self.layout.peer_url(number),
            // Not the disk's own root, which is never empty.
            data_dir: if disk.is_some() {
                data_dir.join("data")
            } else {
                data_dir
            },
            process: Process::new(program),
            state: State::Up,
            disk,
            clock,
            number,
            name,
        })
    }

    fn command(&self, node: &Node, members: &[(String, String)], state: &str) -> Vec<String> {
        let cluster: Vec<String> = members
            .iter()
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let mut command = self.layout.prefix(node.number);
        command.push(self.plan.binary.display().to_string());
        command.push("node".to_owned());
        let flags = [
            ("--name", node.name.clone()),
            ("--data-dir", node.data_dir.display().to_string()),
            ("--listen-client-urls", node.client_url.clone()),
            ("--advertise-client-urls", node.client_url.clone()),
            ("--listen-peer-urls", node.peer_url.clone()),
            ("--initial-advertise-peer-urls", node.peer_url.clone()),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-state", state.to_owned()),
        ];
        command.extend(flags.into_iter().map(|(flag, value)| format!("{flag}={value}")));
        command
    }
}

fn name(number: u16) -> String {
    format!("n{number}")
}

/// Whether a path lies in memory, where a kill loses nothing that was not synced.
pub(crate) fn is_in_memory(path: &Path) -> anyhow::Result<bool> {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    let file_system =
        rustix::fs::statfs(path).with_context(|| format!("cannot examine {}", path.display()))?;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&file_system.f_type.cast_unsigned()))
}

//! A cluster of real `quorate node` processes, and everything that can be done to it.
//!
//! It promises that no process, namespace or mount outlives it, and that a node which ends without being asked to is
//! an error that names the node and its log.

mod clock;
mod command;
mod compose;
mod damage;
mod demo;
mod disk;
mod layout;
mod members;
mod network;
mod node;
mod own;
mod ports;
mod process;
mod trouble;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kv_client::{Client, Config};
use tokio::sync::watch;

pub(crate) use clock::library as clock_library;
pub(crate) use command::run_line;
use compose::Project;
pub(crate) use damage::Part;
use node::Body;
pub(crate) use node::{Node, State, asker};
pub(crate) use own::Plan;
use own::Site;

/// Longest that the cluster may take to serve on every node: after a fault it may have to send a snapshot.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// Longest that a node may take to stop when it is asked to, or is no member any more.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Longest that a change of members may take, with all its attempts.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two attempts at something that is waited for.
const PAUSE: Duration = Duration::from_millis(50);

/// A running cluster.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    home: Home,
    endpoints: watch::Sender<Vec<Endpoint>>,
}

/// Who made the nodes.
enum Home {
    /// We did.
    Own(Box<Site>),
    /// Compose did.
    Compose(Project),
    /// `quorate demo` did.
    Demo,
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
    /// Starts one of our own and waits until every node serves.
    pub(crate) async fn start(plan: Plan) -> anyhow::Result<Cluster> {
        let mut site = Site::new(plan)?;
        let nodes = site.first_nodes()?;
        Cluster::of(nodes, Home::Own(Box::new(site))).await
    }

    /// Takes the one that Compose runs here.
    pub(crate) async fn compose() -> anyhow::Result<Cluster> {
        let project = Project::here()?;
        let nodes = project.containers()?.into_iter().map(compose::node);
        let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
        Cluster::of(nodes, Home::Compose(project)).await
    }

    /// Takes the one that `quorate demo` runs on this data directory.
    pub(crate) async fn demo(dir: &Path) -> anyhow::Result<Cluster> {
        Cluster::of(demo::nodes(dir)?, Home::Demo).await
    }

    async fn of(nodes: Vec<Node>, home: Home) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster {
            nodes,
            home,
            endpoints: watch::Sender::new(Vec::new()),
        };
        cluster.publish();
        cluster.serves().await?;
        Ok(cluster)
    }

    /// Whether it is our own, with nobody else's keys, and nodes that come back under their names.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.home, Home::Own(_))
    }

    /// Ends one of our own.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            if let Body::Process(own) = &mut node.body {
                own.process.kill().await?;
            }
        }
        Ok(())
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
            if let Body::Process(own) = &mut node.body
                && let Some(status) = own.process.ended_by_itself()
            {
                node.state = State::Down;
                let log = own.process.log().display();
                bail!("{} ended by itself ({status}); its log is {log}", node.name);
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
}

/// Whether a path lies in memory, where a kill loses nothing that was not synced.
pub(crate) fn is_in_memory(path: &Path) -> anyhow::Result<bool> {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    let file_system =
        rustix::fs::statfs(path).with_context(|| format!("cannot examine {}", path.display()))?;
    Ok([TMPFS_MAGIC, RAMFS_MAGIC].contains(&file_system.f_type.cast_unsigned()))
}

//! A cluster of our own processes: where they listen, what they are started with, and what each has for itself.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context;

use super::clock::Clock;
use super::disk::Disk;
use super::layout::Layout;
use super::network::Silence;
use super::node::{Body, Node, Own, State, asker};
use super::process::{Process, Program};
use crate::kind::{Abilities, Cutting};

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

/// What the nodes of a cluster of our own share.
pub(crate) struct Site {
    plan: Plan,
    layout: Layout,
}

/// Name and peer URL of each member.
type Members = Vec<(String, String)>;

impl Site {
    /// Makes room for a cluster.
    pub(crate) fn new(plan: Plan) -> anyhow::Result<Site> {
        let layout = match plan.abilities.cutting {
            Cutting::Packets => Layout::namespaces()?,
            Cutting::Nothing | Cutting::Nodes => Layout::loopback()?,
        };
        Ok(Site { plan, layout })
    }

    /// Starts the first nodes.
    pub(crate) fn first_nodes(&mut self) -> anyhow::Result<Vec<Node>> {
        let member = |number| (name(number), self.layout.peer_url(number));
        let members: Members = (1..=self.plan.nodes).map(member).collect();
        (1..=self.plan.nodes)
            .map(|number| {
                let mut node = self.new_node(number)?;
                self.start(&mut node, &members, "new")?;
                Ok(node)
            })
            .collect()
    }

    /// A node that is not started, with the first number that none of these has.
    pub(crate) fn further_node(&mut self, nodes: &[Node]) -> anyhow::Result<Node> {
        let used: BTreeSet<u16> = nodes.iter().filter_map(number).collect();
        let number = (1..=Layout::NODES_MAX).find(|number| !used.contains(number));
        self.new_node(number.with_context(|| format!("there are {} nodes already", nodes.len()))?)
    }

    /// Starts it beside these.
    pub(crate) fn start_beside(&self, node: &mut Node, nodes: &[Node]) -> anyhow::Result<()> {
        let members: Members = nodes.iter().chain([&*node]).filter_map(member).collect();
        self.start(node, &members, "existing")
    }

    /// Drops these packets, each from the first node to the second, and a part of all others; nothing else.
    pub(crate) fn drop_only(&self, silences: &BTreeSet<Silence>, loss_percent: u8) -> anyhow::Result<()> {
        self.layout.drop_only(silences, loss_percent)
    }

    fn start(&self, node: &mut Node, members: &Members, state: &str) -> anyhow::Result<()> {
        let (name, client_url) = (node.name.clone(), node.client_url.clone());
        let own = node.own()?;
        let cluster: Vec<String> = members
            .iter()
            .map(|(name, url)| format!("{name}={url}"))
            .collect();
        let mut command = self.layout.prefix(own.number);
        command.push(self.plan.binary.display().to_string());
        command.push("node".to_owned());
        let flags = [
            ("--name", name),
            ("--data-dir", own.data_dir.display().to_string()),
            ("--listen-client-urls", client_url.clone()),
            ("--advertise-client-urls", client_url),
            ("--listen-peer-urls", own.peer_url.clone()),
            ("--initial-advertise-peer-urls", own.peer_url.clone()),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-state", state.to_owned()),
        ];
        command.extend(flags.into_iter().map(|(flag, value)| format!("{flag}={value}")));
        own.process.set_command(command);
        own.process.start()
    }

    fn new_node(&mut self, number: u16) -> anyhow::Result<Node> {
        let name = name(number);
        self.layout.plug_in(number)?;
        let place = self.plan.dir.join("data").join(&name);
        let abilities = self.plan.abilities;
        let disk = abilities.disks.then(|| Disk::mount(&place)).transpose()?;
        let clock = abilities
            .clocks
            .then(|| Clock::new(place.with_extension("clock")))
            .transpose()?;
        let environment = clock.as_ref().map(Clock::environment).transpose()?;
        let program = Program {
            command: Vec::new(),
            environment: environment.unwrap_or_default(),
            log: self.plan.dir.join(format!("{name}.log")),
        };
        let client_url = self.layout.client_url(number);
        Ok(Node {
            client: asker(&client_url)?,
            client_url,
            body: Body::Process(Box::new(Own {
                peer_url: self.layout.peer_url(number),
                // Not a disk's own root, which is never empty.
                data_dir: if disk.is_some() { place.join("data") } else { place },
                process: Process::new(program),
                disk,
                clock,
                number,
            })),
            state: State::Up,
            name,
        })
    }
}

fn name(number: u16) -> String {
    format!("n{number}")
}

/// The number of a node of our own.
pub(crate) fn number(node: &Node) -> Option<u16> {
    match &node.body {
        Body::Process(own) => Some(own.number),
        Body::Container(_) | Body::Demo(_) => None,
    }
}

fn member(node: &Node) -> Option<(String, String)> {
    match &node.body {
        Body::Process(own) => Some((node.name.clone(), own.peer_url.clone())),
        Body::Container(_) | Body::Demo(_) => None,
    }
}

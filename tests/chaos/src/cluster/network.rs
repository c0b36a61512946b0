//! A network of this run's own: a namespace for each node on one bridge, and packets dropped as told.
//!
//! It needs `ip`, `nft` and `nsenter`, and to be in namespaces that belong to this process (see [`crate::sandbox`]); all
//! of it ends with these.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::command::run_line;

/// The bridge's number among the nodes: where the clients of this process are.
const OWN: u16 = 254;

/// Packets of the first node that the second one does not get.
pub(crate) type Silence = (u16, u16);

/// The bridge.
pub(crate) struct Network {
    nodes: BTreeSet<u16>,
}

/// A node's address.
pub(crate) fn address(node: u16) -> String {
    format!("10.77.0.{node}")
}

/// A node's namespace.
fn namespace(node: u16) -> String {
    format!("n{node}")
}

/// What runs a command in a node's namespace.
pub(crate) fn prefix(node: u16) -> Vec<String> {
    vec![
        "nsenter".to_owned(),
        format!("--net=/run/netns/{}", namespace(node)),
    ]
}

impl Network {
    /// A bridge without nodes.
    pub(crate) fn new() -> anyhow::Result<Network> {
        run_line("ip link add quorate type bridge")?;
        run_line(&format!("ip address add {}/24 dev quorate", address(OWN)))?;
        run_line("ip link set quorate up")?;
        Ok(Network {
            nodes: BTreeSet::new(),
        })
    }

    /// Makes a node's namespace, unless there is one.
    pub(crate) fn plug_in(&mut self, node: u16) -> anyhow::Result<()> {
        if !self.nodes.insert(node) {
            return Ok(());
        }
        let (name, address) = (namespace(node), address(node));
        let inside = prefix(node).join(" ");
        run_line(&format!("ip netns add {name}"))?;
        run_line(&format!(
            "ip link add port{node} type veth peer name eth0 netns {name}"
        ))?;
        run_line(&format!("ip link set port{node} master quorate up"))?;
        run_line(&format!("{inside} ip address add {address}/24 dev eth0"))?;
        run_line(&format!("{inside} ip link set eth0 up"))?;
        run_line(&format!("{inside} ip link set lo up"))?;
        Ok(())
    }

    /// Drops these packets, and a part of all others between nodes; what was dropped before is let through again.
    pub(crate) fn drop_only(&self, silences: &BTreeSet<Silence>, loss_percent: u8) -> anyhow::Result<()> {
        for node in &self.nodes {
            let unheard = silences
                .iter()
                .filter(|(_, to)| to == node)
                .map(|(from, _)| *from);
            let mut rules: Vec<String> = unheard
                .map(|from| format!("ip saddr {} drop", address(from)))
                .collect();
            if loss_percent > 0 {
                let others = format!("ip saddr != {}", address(OWN));
                rules.push(format!("{others} numgen random mod 100 < {loss_percent} drop"));
            }
            self.filter(*node, &rules)?;
        }
        Ok(())
    }

    fn filter(&self, node: u16, rules: &[String]) -> anyhow::Result<()> {
        // Declared first, so that there is one to delete.
        let text = format!(
            "table inet chaos\ndelete table inet chaos\ntable inet chaos {{\nchain input {{\n\
             type filter hook input priority 0\n{}\n}}\n}}\n",
            rules.join("\n")
        );
        let inside = prefix(node);
        let mut nft = Command::new(&inside[0])
            .args(&inside[1..])
            .args(["nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot run nsenter")?;
        let mut input = nft.stdin.take().context("nft has no input")?;
        input.write_all(text.as_bytes()).context("cannot write to nft")?;
        drop(input);
        let status = nft.wait().context("cannot wait for nft")?;
        ensure!(status.success(), "nft ended with {status} on:\n{text}");
        Ok(())
    }
}

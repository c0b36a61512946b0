//! Where the nodes of a cluster listen, and in which network.

use std::collections::BTreeSet;

use anyhow::bail;

use super::network::{self, Network, Silence};
use super::ports;

/// Addresses of nodes by their number, from 1.
pub(crate) enum Layout {
    /// On the loopback address, two ports each.
    Loopback {
        /// The first port.
        first_port: u16,
    },
    /// Each in a network namespace of its own.
    Namespaces(Network),
}

impl Layout {
    /// Nodes at most: those of the start, and those that are added.
    pub(crate) const NODES_MAX: u16 = 16;

    /// On free ports of the loopback address.
    pub(crate) fn loopback() -> anyhow::Result<Layout> {
        let first_port = ports::free(2 * Layout::NODES_MAX)?;
        Ok(Layout::Loopback { first_port })
    }

    /// In namespaces; the process must be in a sandbox.
    pub(crate) fn namespaces() -> anyhow::Result<Layout> {
        Ok(Layout::Namespaces(Network::new()?))
    }

    /// Where clients reach a node.
    pub(crate) fn client_url(&self, number: u16) -> String {
        match self {
            Layout::Loopback { first_port } => format!("http://127.0.0.1:{}", first_port + 2 * (number - 1)),
            Layout::Namespaces(_) => format!("http://{}:2379", network::address(number)),
        }
    }

    /// Where other nodes reach it.
    pub(crate) fn peer_url(&self, number: u16) -> String {
        match self {
            Layout::Loopback { first_port } => format!("http://127.0.0.1:{}", first_port + 2 * number - 1),
            Layout::Namespaces(_) => format!("http://{}:2380", network::address(number)),
        }
    }

    /// Makes room for a node.
    pub(crate) fn plug_in(&mut self, number: u16) -> anyhow::Result<()> {
        match self {
            Layout::Loopback { .. } => Ok(()),
            Layout::Namespaces(network) => network.plug_in(number),
        }
    }

    /// What stands before the command of a node.
    pub(crate) fn prefix(&self, number: u16) -> Vec<String> {
        match self {
            Layout::Loopback { .. } => Vec::new(),
            Layout::Namespaces(_) => network::prefix(number),
        }
    }

    /// Drops these packets, and a part of all others; nothing else.
    pub(crate) fn drop_only(&self, silences: &BTreeSet<Silence>, loss_percent: u8) -> anyhow::Result<()> {
        match self {
            Layout::Loopback { .. } if silences.is_empty() && loss_percent == 0 => Ok(()),
            Layout::Loopback { .. } => bail!("without namespaces there is nothing that could be cut"),
            Layout::Namespaces(network) => network.drop_only(silences, loss_percent),
        }
    }
}

//! What `quorate demo` starts: which process on which ports with which arguments.
//!
//! Pure: it decides and touches nothing, so that the ports and flags of a demo can be tested as values.

use std::path::Path;

/// Nodes of a demo at most: the seventh node's default port would be 72379, which is no port.
pub(crate) const NODES_MAX: u16 = 6;

/// Ports which `--base-port` needs above its own value: five of balancer and web apps, and ten per node.
const BASE_PORT_SPAN: u16 = 10 * NODES_MAX + 2;

/// The lowest `--base-port`: those below are the system's.
pub(crate) const BASE_PORT_MIN: u16 = 1024;

/// The highest `--base-port` that leaves room for everything above it.
pub(crate) const BASE_PORT_MAX: u16 = u16::MAX - BASE_PORT_SPAN;

/// Where one node of the demo listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodePorts {
    /// etcd's client API.
    pub(crate) client: u16,
    /// Raft, between nodes only.
    pub(crate) peer: u16,
}

/// Every port of a demo, all on the loopback address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports {
    /// The nodes n1, n2, … in this order.
    pub(crate) nodes: Vec<NodePorts>,
    /// The balancer's address for key-value clients.
    pub(crate) kv: u16,
    /// The balancer's address for browsers.
    pub(crate) http: u16,
    /// The balancer's page of backends, and its metrics.
    pub(crate) stats: u16,
    /// The two web apps.
    pub(crate) web: [u16; 2],
}

impl Ports {
    /// The ports for `nodes` nodes.
    ///
    /// Without a base: node i on i·10000 + 2379 and the next, balancer on 2379, 8080 and 8404, web apps on 3001
    /// and 3002. With base B: balancer on B, B+1 and B+2, web apps on B+3 and B+4, node i on B+10·i and the next.
    pub(crate) fn new(nodes: u16, base: Option<u16>) -> Ports {
        assert!(
            (1..=NODES_MAX).contains(&nodes),
            "clap bounds the number of nodes"
        );
        let node = |first: u16| NodePorts {
            client: first,
            peer: first + 1,
        };
        match base {
            None => Ports {
                nodes: (1..=nodes).map(|i| node(i * 10_000 + 2379)).collect(),
                kv: 2379,
                http: 8080,
                stats: 8404,
                web: [3001, 3002],
            },
            Some(base) => {
                assert!(base <= BASE_PORT_MAX, "clap bounds the base port");
                Ports {
                    nodes: (1..=nodes).map(|i| node(base + 10 * i)).collect(),
                    kv: base,
                    http: base + 1,
                    stats: base + 2,
                    web: [base + 3, base + 4],
                }
            }
        }
    }
}

/// The part a child plays; the demo stops web apps first and nodes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A storage node.
    Node,
    /// The balancer in front of nodes and web apps.
    Balancer,
    /// A web app.
    Web,
}

/// One child process.
#[derive(Debug, Clone)]
pub(crate) struct ChildSpec {
    /// Its name in messages and its log's file name.
    pub(crate) name: String,
    /// Its part.
    pub(crate) role: Role,
    /// Arguments of the `quorate` binary.
    pub(crate) args: Vec<String>,
    /// Answers 200 once the child serves.
    pub(crate) ready_url: String,
    /// What it listens on, with what for.
    pub(crate) ports: Vec<(u16, &'static str)>,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().collect::<Vec<_>>().join(",")
}

/// The children of a demo in the order in which they are started.
pub(crate) fn children(ports: &Ports, data: &Path) -> Vec<ChildSpec> {
    let mut children: Vec<ChildSpec> = (0..ports.nodes.len()).map(|i| node(ports, i, data)).collect();
    children.push(balancer(ports));
    children.extend((0..ports.web.len()).map(|i| web(ports, i)));
    children
}

fn node(ports: &Ports, index: usize, data: &Path) -> ChildSpec {
    let name = format!("n{}", index + 1);
    let own = ports.nodes[index];
    let cluster = joined(
        ports
            .nodes
            .iter()
            .enumerate()
            .map(|(i, p)| format!("n{}={}", i + 1, url(p.peer))),
    );
    let flags = [
        ("--name", name.clone()),
        ("--data-dir", data.join(&name).display().to_string()),
        ("--listen-client-urls", url(own.client)),
        ("--advertise-client-urls", url(own.client)),
        ("--listen-peer-urls", url(own.peer)),
        ("--initial-advertise-peer-urls", url(own.peer)),
        ("--initial-cluster", cluster),
        ("--initial-cluster-state", "new".to_owned()),
    ];
    ChildSpec {
        role: Role::Node,
        args: command("node", flags),
        ready_url: format!("{}/readyz", url(own.client)),
        ports: vec![(own.client, "its clients"), (own.peer, "its peers")],
        name,
    }
}

fn balancer(ports: &Ports) -> ChildSpec {
    let flags = [
        ("--listen-client", address(ports.kv)),
        ("--listen-http", address(ports.http)),
        ("--listen-stats", address(ports.stats)),
        ("--seed", joined(ports.nodes.iter().map(|p| address(p.client)))),
        ("--web-service", "webapp".to_owned()),
    ];
    ChildSpec {
        name: "balancer".to_owned(),
        role: Role::Balancer,
        args: command("balancer", flags),
        ready_url: format!("{}/readyz", url(ports.stats)),
        ports: vec![
            (ports.kv, "key-value clients"),
            (ports.http, "browsers"),
            (ports.stats, "its stats page"),
        ],
    }
}

fn web(ports: &Ports, index: usize) -> ChildSpec {
    let name = format!("web{}", index + 1);
    let port = ports.web[index];
    let flags = [
        ("--listen", address(port)),
        ("--endpoints", url(ports.kv)),
        ("--host-name", name.clone()),
        ("--advertise", url(port)),
    ];
    ChildSpec {
        role: Role::Web,
        args: command("web", flags),
        ready_url: format!("{}/readyz", url(port)),
        ports: vec![(port, "the balancer")],
        name,
    }
}

fn command<const N: usize>(subcommand: &str, flags: [(&str, String); N]) -> Vec<String> {
    let mut args = vec![subcommand.to_owned()];
    args.extend(
        flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]),
    );
    args
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(ports: &Ports) -> Vec<u16> {
        children(ports, Path::new("/data"))
            .iter()
            .flat_map(|c| c.ports.iter().map(|(port, _)| *port))
            .collect()
    }

    #[test]
    fn default_ports_are_those_of_the_documentation() {
        let ports = Ports::new(3, None);
        assert_eq!(
            all(&ports),
            [
                12379, 12380, 22379, 22380, 32379, 32380, 2379, 8080, 8404, 3001, 3002
            ],
            "nodes, balancer, web apps"
        );
    }

    #[test]
    fn no_two_children_share_a_port() {
        for nodes in 1..=NODES_MAX {
            for base in [None, Some(BASE_PORT_MIN), Some(BASE_PORT_MAX)] {
                let ports = all(&Ports::new(nodes, base));
                let distinct: BTreeSet<u16> = ports.iter().copied().collect();
                assert_eq!(
                    distinct.len(),
                    ports.len(),
                    "{nodes} nodes, base {base:?}: {ports:?}"
                );
                assert!(
                    base.is_none_or(|base| distinct.first() >= Some(&base)),
                    "{ports:?}"
                );
            }
        }
    }

    #[test]
    fn a_node_is_started_as_etcd_would_be() {
        let children = children(&Ports::new(2, Some(5000)), Path::new("/data"));
        assert_eq!(
            children[1].args.join(" "),
            "node --name n2 --data-dir /data/n2 --listen-client-urls http://127.0.0.1:5020 \
             --advertise-client-urls http://127.0.0.1:5020 --listen-peer-urls http://127.0.0.1:5021 \
             --initial-advertise-peer-urls http://127.0.0.1:5021 \
             --initial-cluster n1=http://127.0.0.1:5011,n2=http://127.0.0.1:5021 --initial-cluster-state new"
        );
    }
}

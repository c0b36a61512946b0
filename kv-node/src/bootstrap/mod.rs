//! From an empty data directory to a member of a cluster.
//!
//! Three ways lead there: the static list of `--initial-cluster` (etcd's way), founding a cluster with
//! whoever is found ([`agree`]), and joining one that exists. All end in a [`Start`]; what was decided
//! is on disk before anybody acts on it.

pub mod agree;
pub mod control;
pub mod discover;
pub mod founding;
mod places;

use std::collections::BTreeMap;

use crate::raft::types::Member;

/// How consensus begins on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The first entry of the log is this membership, the same on each founder.
    Found(BTreeMap<u64, Member>),
    /// Ask the cluster to be let in.
    Join,
    /// The log knows.
    Restart,
}

/// How a node is told where its cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bootstrap {
    /// etcd's `--initial-cluster`: every founder by name and peer URLs.
    Static {
        /// Peer URLs by member name.
        members: BTreeMap<String, Vec<String>>,
        /// Tells clusters with the same members apart.
        token: String,
        /// Whether the cluster exists already, so that this node joins it.
        existing: bool,
    },
    /// `--join` and `--bootstrap-expect`.
    Dynamic {
        /// Host names to ask, as `host` or `host:port`.
        join: Vec<String>,
        /// How many nodes found a cluster; `None`: only join one that exists.
        expect: Option<usize>,
    },
}

impl Bootstrap {
    /// Where members may be found, as far as names resolve right now.
    pub async fn places(&self) -> Vec<String> {
        match self {
            Bootstrap::Static { members, .. } => members.values().flatten().cloned().collect(),
            Bootstrap::Dynamic { join, .. } => discover::resolve(join).await.0,
        }
    }

    /// The other nodes' URLs, as far as they are known by URL.
    pub fn urls(&self) -> Vec<&str> {
        match self {
            Bootstrap::Static { members, .. } => members.values().flatten().map(String::as_str).collect(),
            Bootstrap::Dynamic { join, .. } => join.iter().map(String::as_str).collect(),
        }
    }
}

/// Why a node did not become a member.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The data directory refuses.
    #[error(transparent)]
    Dir(#[from] crate::identity::DirError),
    /// `--name` is not in `--initial-cluster`.
    #[error(
        "couldn't find local name {name:?} in the initial cluster configuration: add it to --initial-cluster, or set --name to one of {known}"
    )]
    NameNotInCluster {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// `--initial-cluster` and `--initial-advertise-peer-urls` disagree.
    #[error(
        "--initial-cluster says {listed} for {name:?}, but --initial-advertise-peer-urls says {advertised}: make them the same"
    )]
    UrlMismatch {
        /// This node's name.
        name: String,
        /// URLs in the list.
        listed: String,
        /// URLs advertised.
        advertised: String,
    },
    /// A peer that the flags name is of another cluster.
    #[error(
        "the data directory belongs to cluster {ours:x}, but the peer at {url} is of cluster {theirs:x}: give this node the directory that is its own (--data-dir), or an empty one"
    )]
    OtherCluster {
        /// The peer.
        url: String,
        /// The cluster of the data directory.
        ours: u64,
        /// The cluster of the peer.
        theirs: u64,
    },
    /// The data directory is another member's.
    #[error(
        "the data directory belongs to member {owner:?}, but --name says {name:?}: give this node the directory that is its own (--data-dir), or an empty one"
    )]
    OtherMember {
        /// The name stored.
        owner: String,
        /// The name given.
        name: String,
    },
    /// Another process has the same data.
    #[error(
        "member {name:?} runs already, at {url}, with a copy of this data directory: a member must not run twice"
    )]
    RunsElsewhere {
        /// Where.
        url: String,
        /// The member.
        name: String,
    },
    /// This node has been a member before, and its data are gone.
    #[error(
        "member {name:?} ({node_id:x}) has already been bootstrapped: its data directory was lost, and with it what it promised to the others. Remove the member and start it with --join and an empty data directory, so that it gets a new id"
    )]
    AlreadyBootstrapped {
        /// Its name.
        name: String,
        /// Its id.
        node_id: u64,
    },
    /// This node was a founder, and the cluster has removed it since.
    #[error(
        "member {name:?} ({node_id:x}) was removed from this cluster: to let it in as a new member, add it (kv-client member add) and start it with --initial-cluster-state existing, or start it with --join"
    )]
    RemovedBefore {
        /// Its name.
        name: String,
        /// The id it had.
        node_id: u64,
    },
    /// Not all founders have the same backup.
    #[error(
        "this node {}, but the one at {url} {}: restore the same backup on every member of --initial-cluster, or on none",
        restored_from(ours),
        restored_from(theirs)
    )]
    OtherBackup {
        /// The other node.
        url: String,
        /// The hash of this node's backup.
        ours: Option<String>,
        /// The hash of the other's.
        theirs: Option<String>,
    },
    /// A peer speaks no version of the protocol that this release speaks.
    #[error(
        "the peer at {url} speaks versions {theirs} of the protocol between nodes, this release {ours}: upgrade one release after the other, all nodes each time"
    )]
    VersionsApart {
        /// The peer.
        url: String,
        /// What it speaks.
        theirs: control::Speaks,
        /// What this node speaks.
        ours: control::Speaks,
    },
    /// There are two clusters to join.
    #[error(
        "there are two clusters: {first:x} answers at {url}, {second:x} at {other_url}: name the hosts of one (--join, --initial-cluster)"
    )]
    TwoClusters {
        /// One.
        first: u64,
        /// Where it answers.
        url: String,
        /// The other.
        second: u64,
        /// Where it answers.
        other_url: String,
    },
    /// The cluster does not give this node the place that was made for it.
    #[error("the cluster refuses this node: {0}")]
    PlaceRefused(String),
}

fn restored_from(backup: &Option<String>) -> String {
    match backup {
        Some(hash) => format!("starts with the backup {hash}"),
        None => "starts without a backup".to_owned(),
    }
}

/// A 64-bit id out of a hash; never 0, which means "none" on etcd's wire.
fn hashed_id(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let (first, _) = hasher
        .finalize()
        .as_bytes()
        .split_first_chunk::<8>()
        .map_or(([0; 8], ()), |(id, _)| (*id, ()));
    u64::from_le_bytes(first).max(1)
}

/// Ids of a static cluster: the same on each node, because they follow from the list alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticIds {
    /// The cluster.
    pub cluster_id: u64,
    /// The founders.
    pub members: BTreeMap<u64, Member>,
    /// This node.
    pub node_id: u64,
}

/// Works out the ids of a static cluster for the node called `name`.
///
/// # Errors
/// When the name is not in the list, or the list and the advertised URLs disagree.
pub fn static_ids(
    members: &BTreeMap<String, Vec<String>>,
    token: &str,
    name: &str,
    advertised: &[String],
) -> Result<StaticIds, BootstrapError> {
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let known = || members.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let listed = members
        .get(name)
        .ok_or_else(|| BootstrapError::NameNotInCluster {
            name: name.to_owned(),
            known: known(),
        })?;
    if sorted(listed) != sorted(advertised) {
        return Err(BootstrapError::UrlMismatch {
            name: name.to_owned(),
            listed: listed.join(","),
            advertised: advertised.join(","),
        });
    }
    let id_of = |name: &str, urls: &[String]| hashed_id(&["node", token, name, &sorted(urls).join(",")]);
    let ids = members.iter().map(|(name, urls)| {
        let member = Member {
            name: name.clone(),
            peer_urls: urls.clone(),
            ..Member::default()
        };
        (id_of(name, urls), member)
    });
    let all: Vec<String> = members
        .iter()
        .map(|(name, urls)| format!("{name}={}", sorted(urls).join("+")))
        .collect();
    Ok(StaticIds {
        cluster_id: hashed_id(&["cluster", token, &all.join(",")]),
        members: ids.collect(),
        node_id: id_of(name, listed),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(of: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
        of.iter()
            .map(|(name, url)| (name.to_string(), vec![url.to_string()]))
            .collect()
    }

    #[test]
    fn every_node_works_out_the_same_ids() {
        let members = list(&[
            ("n1", "http://a:2380"),
            ("n2", "http://b:2380"),
            ("n3", "http://c:2380"),
        ]);
        let of = |name: &str, url: &str| static_ids(&members, "token", name, &[url.to_string()]).unwrap();
        let (one, two) = (of("n1", "http://a:2380"), of("n2", "http://b:2380"));
        assert_eq!((one.cluster_id, &one.members), (two.cluster_id, &two.members));
        assert_ne!(one.node_id, two.node_id);
        assert_eq!(one.members[&one.node_id].name, "n1");
        let other = static_ids(&members, "other", "n1", &["http://a:2380".to_string()]).unwrap();
        assert_ne!(one.cluster_id, other.cluster_id);
    }

    #[test]
    fn says_what_does_not_fit() {
        let members = list(&[("n1", "http://a:2380")]);
        let error = static_ids(&members, "t", "x", &[]).unwrap_err().to_string();
        assert!(error.starts_with("couldn't find local name \"x\""), "{error}");
        let error = static_ids(&members, "t", "n1", &["http://b:2380".to_string()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("says http://a:2380 for \"n1\""), "{error}");
    }
}

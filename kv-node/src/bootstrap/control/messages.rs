//! What the nodes say to each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    bootstrap::agree::Seen,
    membership::{
        changes::Changed,
        rules::{Change, Refusal},
    },
    raft::types::Member,
};

/// The newest version of the protocol between nodes that this release speaks …
pub const PROTOCOL: u32 = 1;
/// … and the oldest: that of the release before, so that nodes of neighbouring releases work together.
pub const PROTOCOL_MIN: u32 = 1;

/// The versions of the protocol that a node speaks. The first release did not say the oldest, and spoke one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaks {
    /// Its [`PROTOCOL`].
    #[serde(default = "first_protocol")]
    pub protocol: u32,
    /// Its [`PROTOCOL_MIN`].
    #[serde(default = "first_protocol")]
    pub protocol_min: u32,
}

fn first_protocol() -> u32 {
    1
}

impl Speaks {
    /// This release.
    pub const OURS: Speaks = Speaks {
        protocol: PROTOCOL,
        protocol_min: PROTOCOL_MIN,
    };

    /// Whether there is a version that this release speaks, too.
    pub fn is_understood(self) -> bool {
        self.protocol >= PROTOCOL_MIN && self.protocol_min <= PROTOCOL
    }
}

impl std::fmt::Display for Speaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.protocol_min, self.protocol)
    }
}

/// A node's answer to "who are you".
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// What it speaks.
    #[serde(flatten)]
    pub speaks: Speaks,
    /// Drawn anew by each process: tells a node from another one with the same data.
    pub instance: u64,
    /// What it says of itself.
    pub seen: Seen,
    /// The hash of the backup that its cluster is made of, if it is.
    #[serde(default)]
    pub restored: Option<String>,
    /// The members of its cluster, as last seen.
    pub members: BTreeMap<u64, Member>,
}

/// Asks the leader to let a node in, or to note its new addresses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberRequest {
    /// What the node speaks.
    #[serde(flatten)]
    pub speaks: Speaks,
    /// The cluster meant.
    pub cluster_id: u64,
    /// The node.
    pub node_id: u64,
    /// Its name and addresses.
    pub member: Member,
    /// Whether a node that is not a member yet is to be added.
    pub join: bool,
}

/// The answer to a [`MemberRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum MemberAnswer {
    /// It is so.
    Done,
    /// Ask this one, which leads; `None`: nobody does right now.
    Leader(Option<Member>),
    /// The node asked belongs to another cluster: somebody else has its old address.
    OtherCluster(u64),
    /// No, and why.
    Refused(String),
    /// The node is not a member, and does not ask to become one: it was removed.
    Removed,
}

/// Asks the leader to change the membership for a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeRequest {
    /// The cluster meant.
    pub cluster_id: u64,
    /// What is to change.
    pub change: Change,
}

/// The answer to a [`ChangeRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ChangeAnswer {
    /// It is so.
    Done(Changed),
    /// It must not be. Nothing has changed.
    Refused(Refusal),
    /// The node asked does not lead, or not with a quorum. Nothing has changed.
    NotLeader,
    /// It may have changed, or may still.
    Unknown,
}

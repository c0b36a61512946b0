//! openraft's types as this node uses them.

use std::fmt;

use bytes::Bytes;
use kv_core::{Command, Outcome};
use serde::{Deserialize, Serialize};

pub use super::member::{Member, Standing};
use crate::codec::{self, CodecError};

openraft::declare_raft_types!(
    /// At most one leader per term, so that a log id is a term and an index, as in the Raft paper.
    pub TypeConfig:
        D = Proposal,
        R = Applied,
        NodeId = u64,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// A node's consensus instance.
pub type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;
/// Term and index of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A log entry.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// What an entry carries.
pub type Payload = openraft::alias::PayloadOf<TypeConfig>;
/// A vote: term, candidate, and whether a quorum granted it.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// A membership and the id of the entry that set it.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// A snapshot as openraft carries it.
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, super::state_machine::SnapshotData>;
/// Identity of a snapshot.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;

/// A command as the log carries it: encoded once, by the node that took the request, and decoded
/// by each node that applies it. The log, the network and the followers pass the bytes on unread.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// A frame of [`crate::codec`] around a [`Command`].
    pub encoded: Bytes,
}

impl Proposal {
    /// Encodes a command.
    ///
    /// # Errors
    /// When it is larger than a frame may be, which request limits prevent.
    pub fn new(command: &Command) -> Result<Proposal, CodecError> {
        Ok(Proposal {
            encoded: codec::encode(command)?,
        })
    }

    /// The command again.
    ///
    /// # Errors
    /// When the bytes are not a command of this version: a fault, as only whole commands are proposed.
    pub fn command(&self) -> Result<Command, CodecError> {
        codec::decode(&self.encoded)
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.encoded.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying an entry gave: an outcome for a command, nothing for the entries of Raft itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Applied(pub Option<Outcome>);

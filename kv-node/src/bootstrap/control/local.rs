//! What a node knows of itself.

use super::messages::{Hello, Speaks};
use crate::{
    bootstrap::agree::Seen,
    identity::{DataDir, DirError, Identity},
    raft::types::Member,
};

/// What this node is, shared between the calls of others and its own bootstrap.
pub struct Local {
    dir: DataDir,
    identity: Identity,
    member: Member,
    instance: u64,
}

impl Local {
    /// A node with its data directory.
    pub fn new(dir: DataDir, identity: Identity, member: Member) -> Local {
        Local {
            dir,
            identity,
            member,
            instance: rand::random(),
        }
    }

    /// What it says of itself.
    pub fn seen(&self) -> Seen {
        Seen {
            node_id: self.identity.node_id,
            member: Member {
                claim: self.identity.claim,
                ..self.member.clone()
            },
            cluster_id: self.identity.cluster_id,
            ballot: self.identity.ballot.clone(),
            floor: self.identity.floor,
        }
    }

    /// The stored identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Changes the identity: on disk first, then in memory.
    ///
    /// # Errors
    /// When the disk refuses; nothing has changed then.
    pub fn update(&mut self, change: impl FnOnce(&mut Identity)) -> Result<(), DirError> {
        let mut identity = self.identity.clone();
        change(&mut identity);
        if identity != self.identity {
            self.dir.save(&identity)?;
            self.identity = identity;
        }
        Ok(())
    }

    /// What it answers to "who are you".
    pub fn hello(&self) -> Hello {
        Hello {
            speaks: Speaks::OURS,
            instance: self.instance,
            seen: self.seen(),
            restored: self.identity.restored.clone(),
            members: self.identity.members.clone(),
        }
    }
}

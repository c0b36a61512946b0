//! Who this node is, and how it gets into its cluster.

use anyhow::Context;
use kv_store::Store;
use kv_wal::Wal;

use super::Running;
use crate::{
    backup::{self, Backup},
    bootstrap::{self, Bootstrap, BootstrapError, Start, control::ControlClient, founding},
    identity::{DataDir, Identity},
    node::{Config, Node},
};

/// The stored identity. A member that left of its own accord has promised nothing to anybody: the directory is
/// emptied for a new one, unless the founders' list would give it the old id again.
pub(super) fn load(dir: &DataDir, config: &Config) -> anyhow::Result<Option<Identity>> {
    let identity = dir.load()?;
    let founds = matches!(config.bootstrap, Bootstrap::Static { existing: false, .. });
    if founds || !identity.as_ref().is_some_and(|identity| identity.left) {
        return Ok(identity);
    }
    tracing::info!("this member has left its cluster: it comes back as a new one, without its old data");
    dir.clear()?;
    Ok(None)
}

/// That the founders of a static start are named as they have to be.
pub(super) fn check_founding(config: &Config) -> Result<(), BootstrapError> {
    if let Bootstrap::Static {
        members,
        token,
        existing: false,
    } = &config.bootstrap
    {
        bootstrap::static_ids(members, token, &config.name, &config.peer_urls)?;
    }
    Ok(())
}

/// A new identity; `backup` is the hash of the backup that the cluster is to be made of.
pub(super) fn new_identity(config: &Config, backup: Option<String>) -> anyhow::Result<Identity> {
    let node_id = match &config.bootstrap {
        Bootstrap::Static {
            members,
            token,
            existing: false,
        } => {
            let token = backup::founding_token(token, backup.as_deref());
            bootstrap::static_ids(members, &token, &config.name, &config.peer_urls)?.node_id
        }
        _ if backup.is_some() => anyhow::bail!(
            "a backup is restored on all members of a new cluster: start them with --initial-cluster and --initial-cluster-state new"
        ),
        Bootstrap::Static { .. } | Bootstrap::Dynamic { .. } => rand::random::<u64>().max(1),
    };
    let mut identity = Identity::new(node_id);
    identity.restored = backup;
    Ok(identity)
}

impl Running {
    /// Finds out how this node begins: with a cluster of which it is a founder, or that it joins, or where it left off.
    pub(super) async fn bootstrap(
        &self,
        client: &ControlClient,
        log_is_empty: bool,
        was_settled: bool,
    ) -> anyhow::Result<Start> {
        if !log_is_empty {
            anyhow::ensure!(
                was_settled,
                "{} knows no cluster, but there is a log beside it: restore it from a backup, or start the node with \
                 --join and an empty data directory",
                self.config.data_dir.join("identity.json").display()
            );
            self.check_company(client).await?;
            return Ok(Start::Restart);
        }
        let identity = self.local.lock().identity().clone();
        if was_settled && let Some(ballot) = identity.ballot {
            return Ok(Start::Found(ballot.founders));
        }
        match &self.config.bootstrap {
            Bootstrap::Static {
                members,
                existing: true,
                ..
            } => {
                let others: Vec<String> = members.values().flatten().cloned().collect();
                Ok(founding::found_or_join(&self.local, client, &others, None, &self.progress).await?)
            }
            Bootstrap::Static { members, token, .. } => {
                let token = backup::founding_token(token, identity.restored.as_deref());
                let ids = bootstrap::static_ids(members, &token, &self.config.name, &self.config.peer_urls)?;
                Ok(founding::found_static(&self.local, client, ids, &self.progress).await?)
            }
            Bootstrap::Dynamic { .. } if was_settled => Ok(Start::Join),
            Bootstrap::Dynamic { join, expect } => {
                Ok(founding::found_or_join(&self.local, client, join, *expect, &self.progress).await?)
            }
        }
    }

    async fn check_company(&self, client: &ControlClient) -> anyhow::Result<()> {
        if let Bootstrap::Static { .. } = &self.config.bootstrap {
            let identity = self.local.lock().identity().clone();
            let owner = identity
                .members
                .get(&identity.node_id)
                .map(|member| member.name.clone());
            if let Some(owner) = owner.filter(|owner| *owner != self.config.name) {
                let name = self.config.name.clone();
                return Err(BootstrapError::OtherMember { owner, name }.into());
            }
        }
        let urls = self.config.bootstrap.places().await;
        Ok(founding::check_company(&self.local, client, &urls).await?)
    }

    /// Takes in the backup that this cluster is made of, if it is and has not yet.
    pub(super) async fn restore(&self, wal: &Wal, store: &Store, start: &Start) -> anyhow::Result<()> {
        if self.local.lock().identity().restored.is_none() {
            return Ok(());
        }
        let is_new = wal.last().is_none() && wal.vote().is_none() && store.applied().is_none();
        let (dir, store) = (self.config.data_dir.clone(), store.clone());
        let founders = match start {
            Start::Found(founders) if is_new => Some(founders.clone()),
            _ => None,
        };
        tokio::task::spawn_blocking(move || {
            let backup = Backup::find(&dir)?;
            match (founders, backup) {
                (Some(founders), Some(backup)) => {
                    backup.restore(&store, founders)?;
                    Ok(backup.remove()?)
                }
                (Some(_), None) => anyhow::bail!(
                    "the backup that this member begins with is gone from {}: restore it again into an empty data directory",
                    dir.display()
                ),
                (None, Some(backup)) => Ok(backup.remove()?),
                (None, None) => Ok(()),
            }
        })
        .await?
    }

    /// Writes the first entry of the log. Each founder may: it is the same entry.
    pub(super) async fn found(&self, node: &Node, start: &Start) -> anyhow::Result<()> {
        let Start::Found(members) = start else {
            return Ok(());
        };
        use openraft::errors::{InitializeError, RaftError};
        match node.inner.raft.initialize(members.clone()).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error).context("cannot found the cluster"),
        }
    }
}

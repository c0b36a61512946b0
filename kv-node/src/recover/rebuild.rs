//! The data directory of the member that founds the new cluster.
//!
//! What it starts with is a backup ([`crate::backup`]), made of the survivor's store after all of its log, and an
//! identity that has settled on a cluster of this member alone. The node's first start takes the backup in, as every
//! founder's does that begins with one; a crash in between changes nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, ensure};
use kv_backup::RESTORE_FILE;
use kv_store::Store;
use openraft::EntryPayload;

use super::survivor::{Opened, open_store};
use crate::{
    backup::{self, Backup},
    bootstrap::agree::Ballot,
    codec,
    identity::{DataDir, Identity},
    raft::types::{Member, StoredMembership},
};

/// Entries that are applied at a time.
const BATCH_ENTRIES: usize = 512;

/// The new member.
pub(super) struct Made {
    pub(super) name: String,
    pub(super) node_id: u64,
    pub(super) cluster_id: u64,
    pub(super) revision: i64,
}

/// Makes the directory `into` of a survivor.
///
/// # Errors
/// When a disk refuses, or the log does not fit the store.
pub(super) fn rebuild(best: &Opened, into: &Path) -> anyhow::Result<Made> {
    let dir = DataDir::open(into)?;
    // The survivor's own store stays as it is: its log may hold what was never committed.
    let copy = into.join("copy");
    copy_dir(&best.store_path(), &copy).context("the store cannot be copied")?;
    let store = open_store(&copy, best.survivor.cluster_id)?;
    apply_log(best, &store)?;
    let revision = store.revision();
    let ready = into.join("backup.new");
    write_backup(&store, &ready)?;
    drop(store);
    fs::remove_dir_all(&copy)?;
    // Under its name once the identity says what it is for.
    let hash = Backup::hash_of(&ready)?;
    let old = best.survivor.members.get(&best.survivor.node_id);
    let member = Member {
        name: best.survivor.name.clone(),
        peer_urls: old.map(|member| member.peer_urls.clone()).unwrap_or_default(),
        zone: old.map(|member| member.zone.clone()).unwrap_or_default(),
        ..Member::default()
    };
    let (node_id, cluster_id) = (rand::random::<u64>().max(1), rand::random::<u64>().max(1));
    let founders: BTreeMap<u64, Member> = [(node_id, member)].into();
    let mut identity = Identity::new(node_id);
    identity.hold(Ballot {
        author: node_id,
        cluster_id,
        founders: founders.clone(),
    });
    identity.cluster_id = Some(cluster_id);
    identity.members = founders;
    identity.restored = Some(hash);
    dir.save(&identity)?;
    fs::rename(&ready, into.join(RESTORE_FILE))?;
    File::open(into)?.sync_all()?;
    Ok(Made {
        name: best.survivor.name.clone(),
        node_id,
        cluster_id,
        revision,
    })
}

/// Applies what the store does not have yet.
fn apply_log(best: &Opened, store: &Store) -> anyhow::Result<()> {
    let mut point = best.point.clone();
    let next = point.last_applied.map_or(0, |id| id.index + 1);
    let end = best.wal.last().map_or(next, |last| last.index + 1);
    let mut batch = Vec::with_capacity(BATCH_ENTRIES);
    let mut applied = next;
    best.log.each(next..end, |entry| {
        ensure!(
            entry.log_id.index == applied,
            "entry {applied} is missing from the log"
        );
        applied += 1;
        let command = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(proposal) => Some(proposal.command()?),
            EntryPayload::Membership(membership) => {
                point.membership = StoredMembership::new(Some(entry.log_id), membership);
                None
            }
        };
        point.last_applied = Some(entry.log_id);
        batch.push((entry.log_id.index, command));
        if batch.len() == BATCH_ENTRIES {
            store.apply(&batch, codec::encode(&point)?)?;
            batch.clear();
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        store.apply(&batch, codec::encode(&point)?)?;
    }
    Ok(())
}

fn write_backup(store: &Store, path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut failed = None;
    backup::write(store, &mut |piece| {
        failed = file.write_all(&piece.bytes).err();
        failed.is_none()
    })?;
    if let Some(error) = failed {
        return Err(error).context(path.display().to_string());
    }
    file.into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()?;
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

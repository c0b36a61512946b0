//! What the data directory of a stopped member holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context, ensure};
use kv_store::Store;
use kv_wal::{Position, Wal};
use openraft::EntryPayload;

use crate::{
    codec,
    identity::{DataDir, Identity},
    node::OpenLog,
    raft::{
        log_store::LogStore,
        state_machine::RaftPoint,
        types::{Member, Vote},
    },
    storage,
};

/// What a data directory says.
#[derive(Debug, Clone)]
pub(super) struct Survivor {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The member's name.
    pub(super) name: String,
    /// Its id.
    pub(super) node_id: u64,
    /// Its cluster.
    pub(super) cluster_id: u64,
    /// The highest term in which it voted or followed.
    pub(super) term: u64,
    /// The end of its log.
    pub(super) last: Position,
    /// The last entry that its store has for certain: what it knew to be committed.
    pub(super) applied: u64,
    /// The revision there.
    pub(super) revision: i64,
    /// When the log was last written.
    pub(super) written: SystemTime,
    /// The voters of the last membership in its log; two sets where that was about to change.
    pub(super) configs: Vec<BTreeSet<u64>>,
    /// All members.
    pub(super) members: BTreeMap<u64, Member>,
}

/// A data directory that is held, so that no node starts on it.
pub(super) struct Opened {
    pub(super) survivor: Survivor,
    pub(super) log: LogStore,
    pub(super) wal: Wal,
    /// The end of what the store has.
    pub(super) point: RaftPoint,
    _dir: DataDir,
    // The last field, because fields are dropped in order: the log is closed then.
    _times: Times,
}

impl Opened {
    /// Reads a data directory.
    ///
    /// # Errors
    /// When it is none, or a node runs on it, or its log or store is damaged.
    pub(super) fn open(path: &Path) -> anyhow::Result<Opened> {
        ensure!(
            path.join("identity.json").is_file(),
            "this is no data directory: there is no identity.json"
        );
        let dir = DataDir::open(path)?;
        let identity = dir.load()?.context("there is no identity")?;
        let cluster_id = identity
            .cluster_id
            .context("this node never belonged to a cluster")?;
        ensure!(
            !identity.removed,
            "this member was removed from its cluster: its data are old"
        );
        ensure!(
            path.join("wal").is_dir() && path.join("store").is_dir(),
            "there is no log, or no store"
        );
        let times = Times::of(&path.join("wal"))?;
        let written = times.newest();
        let open: OpenLog = Arc::new(storage::open_log_in);
        let wal = storage::open_log(&open, &path.join("wal"), &identity, Arc::new(|_| {}))
            .context("the log cannot be used")?;
        let store = open_store(&path.join("store"), cluster_id)?;
        let point = RaftPoint::of(&store)?;
        let (applied, revision) = (point.last_applied.map_or(0, |id| id.index), store.revision());
        drop(store);
        let log = LogStore::new(wal.clone());
        ensure!(
            wal.purged().is_none_or(|purged| purged.index <= applied),
            "the store is behind the start of the log: it cannot be completed without a peer"
        );
        let membership = last_membership(&log, &wal, &point)?;
        let vote: Option<Vote> = wal.vote().map(|vote| codec::decode(&vote)).transpose()?;
        let last = wal
            .last()
            .max(applied_position(&point))
            .context("there is nothing in it")?;
        let survivor = Survivor {
            path: path.to_owned(),
            name: own_name(&identity, &membership),
            node_id: identity.node_id,
            cluster_id,
            term: vote.map_or(0, |vote| vote.leader_id.term).max(last.term),
            last,
            applied,
            revision,
            written,
            configs: membership.get_joint_config().clone(),
            members: membership
                .nodes()
                .map(|(id, member)| (*id, member.clone()))
                .collect(),
        };
        Ok(Opened {
            survivor,
            log,
            wal,
            point,
            _dir: dir,
            _times: times,
        })
    }

    /// The store of this directory.
    pub(super) fn store_path(&self) -> PathBuf {
        self.survivor.path.join("store")
    }
}

/// Opens a store that must be whole: a damaged one is left where it is.
pub(super) fn open_store(dir: &Path, cluster_id: u64) -> anyhow::Result<Store> {
    let options = kv_store::Options {
        cluster_id: Some(cluster_id),
        ..kv_store::Options::default()
    };
    Store::open(dir, options).context("the store cannot be used")
}

fn applied_position(point: &RaftPoint) -> Option<Position> {
    point.last_applied.map(|id| Position {
        term: **id.committed_leader_id(),
        index: id.index,
    })
}

type Members = openraft::Membership<u64, Member>;

/// A membership counts from when it is in the log, not from when it is committed.
fn last_membership(log: &LogStore, wal: &Wal, point: &RaftPoint) -> anyhow::Result<Members> {
    let mut membership = point.membership.membership().clone();
    let next = point.last_applied.map_or(0, |id| id.index + 1);
    let end = wal.last().map_or(next, |last| last.index + 1);
    log.each(next..end, |entry| {
        if let EntryPayload::Membership(newer) = entry.payload {
            membership = newer;
        }
        Ok(())
    })?;
    ensure!(
        membership.voter_ids().next().is_some(),
        "its log holds no membership"
    );
    Ok(membership)
}

fn own_name(identity: &Identity, membership: &Members) -> String {
    let known = membership
        .get_node(&identity.node_id)
        .or_else(|| identity.members.get(&identity.node_id));
    known.map_or_else(|| format!("{:x}", identity.node_id), |member| member.name.clone())
}

/// When the files of a log were last changed. Opening a log marks it; here that is not to count, so that whoever looks
/// again is told the same.
struct Times(Vec<(PathBuf, SystemTime)>);

impl Times {
    fn of(dir: &Path) -> anyhow::Result<Times> {
        let mut times = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            times.push((entry.path(), entry.metadata()?.modified()?));
        }
        Ok(Times(times))
    }

    fn newest(&self) -> SystemTime {
        self.0
            .iter()
            .map(|(_, time)| *time)
            .max()
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        for (path, time) in &self.0 {
            // A time that cannot be set is told wrong the next time, no more.
            let _ = File::options()
                .append(true)
                .open(path)
                .and_then(|file| file.set_modified(*time));
        }
    }
}

//! A running node as its APIs and tests see it, and what it is configured with. [`crate::running`] starts it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use kv_core::{Alarm, AlarmKind, AuthError, Caller, Command, Outcome};
use kv_store::{Fault, Store};
use kv_wal::Wal;
use openraft::{ServerState, async_runtime::watch::WatchReceiver};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Authenticator, TokenOptions, UnixClock, system_clock},
    bootstrap::{Bootstrap, control::Carry},
    compaction::Retention,
    corruption,
    lease::{
        clock::{ClusterClock, Monotonic},
        renew::Renewer,
    },
    membership::{Membership, Refused, autopilot::Policy, rules::Change},
    raft::{
        leader::{Heard, Leadership},
        network::{self, Dial},
        propose::Proposer,
        read_index::ReadIndex,
        types::{Member, Raft, Standing},
    },
    space::{self, FreeBytes, Space},
    storage,
    tls::Tls,
    upkeep,
    urls::Listen,
    watch::Hub,
};

pub use crate::membership::{ChangeError, Changed};
pub use crate::raft::{propose::ProposeError, read_index::ReadBarrierError};

/// How a node is to run. Made from the command line by [`crate::cli::Args::config`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where to listen for clients.
    pub listen_client: Vec<Listen>,
    /// URLs told to clients.
    pub client_urls: Vec<String>,
    /// Where to listen for peers.
    pub listen_peer: Vec<Listen>,
    /// URLs told to peers.
    pub peer_urls: Vec<String>,
    /// Certificates.
    pub tls: Tls,
    /// How the node finds its cluster.
    pub bootstrap: Bootstrap,
    /// What fails together with this node; empty where that is not said.
    pub zone: String,
    /// What the leader changes of its own accord.
    pub autopilot: Policy,
    /// Whether this node leaves its cluster for good when it is stopped.
    pub leave_on_terminate: bool,
    /// Most learners that clients may add.
    pub max_learners: usize,
    /// Bound on live bytes.
    pub quota_bytes: u64,
    /// What history is kept; `None`: all that clients do not compact.
    pub retention: Option<Retention>,
    /// When members are compared.
    pub corruption_checks: corruption::Checks,
    /// Time between heartbeats.
    pub heartbeat_interval_ms: u64,
    /// How long a node believes in a leader that it does not hear; it starts an election a third of that
    /// to all of that later, at random.
    pub election_timeout_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_count: u64,
    /// How often a quiet watch is told how far it is, if it wants to know.
    pub watch_progress_interval: Duration,
    /// Bounds of requests.
    pub limits: Limits,
    /// How tokens are made and read.
    pub tokens: TokenOptions,
}

/// Bounds of requests.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request.
    pub max_request_bytes: usize,
    /// Most operations of a transaction.
    pub max_txn_ops: usize,
    /// Longest time a request may wait.
    pub request_timeout: Duration,
}

/// Opens the log in a directory.
pub type OpenLog =
    Arc<dyn Fn(&Path, kv_wal::Options) -> anyhow::Result<(Wal, kv_wal::Recovery)> + Send + Sync>;
/// Opens the store of a cluster in a directory.
pub type OpenStore = Arc<dyn Fn(&Path, u64) -> anyhow::Result<Store> + Send + Sync>;

/// The seams: what a simulation replaces.
#[derive(Clone)]
pub struct Env {
    /// Opens the log in a directory.
    pub log: OpenLog,
    /// Opens the store of a cluster in a directory.
    pub store: OpenStore,
    /// Connects to peers.
    pub dial: Dial,
    /// Carries the control calls to peers, where that is not to be done over TCP.
    pub carry: Option<Carry>,
    /// Bytes that are free in the data directory.
    pub free_bytes: FreeBytes,
    /// Tells the time of day.
    pub unix_time: UnixClock,
    /// The time since some moment, by which leases end.
    pub monotonic: Monotonic,
}

impl Env {
    /// Disk, sled and TCP.
    pub fn real() -> Env {
        Env {
            log: Arc::new(storage::open_log_in),
            store: Arc::new(storage::open_store),
            dial: Arc::new(network::dial),
            carry: None,
            free_bytes: Arc::new(space::free_bytes),
            unix_time: system_clock(),
            monotonic: {
                let started = std::time::Instant::now();
                Arc::new(move || started.elapsed())
            },
        }
    }
}

/// The ids of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
}

/// A member as clients see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote, and was not added to get one.
    pub is_learner: bool,
}

impl MemberInfo {
    /// The members as a node knows them, sorted by id.
    pub(crate) fn all(raft: &Raft) -> Vec<MemberInfo> {
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let info = |(id, member): (&u64, &Member)| MemberInfo {
            id: *id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: !voters.contains(id) && member.standing != Standing::Voter,
        };
        membership.nodes().map(info).collect()
    }
}

/// The state of a node at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The leader, if known.
    pub leader: Option<u64>,
    /// Raft's term; never goes back.
    pub term: u64,
    /// Index of the last entry in the log.
    pub last_log_index: u64,
    /// Index of the last committed entry.
    pub committed_index: u64,
    /// Index of the last applied entry.
    pub applied_index: u64,
    /// Whether this node has no vote.
    pub is_learner: bool,
    /// Bytes of the store on disk.
    pub db_size_bytes: u64,
    /// Bytes of live keys and values.
    pub live_bytes: u64,
    /// Bound on live bytes.
    pub quota_bytes: u64,
    /// The store's revision.
    pub revision: i64,
    /// What is wrong, if anything.
    pub errors: Vec<String>,
}

/// One condition of being ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name.
    pub name: &'static str,
    /// Why it does not hold, if so.
    pub failure: Option<String>,
}

/// A running node. Clones share it.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

/// What the handles of a node share.
pub(crate) struct Inner {
    pub(crate) ids: Ids,
    pub(crate) limits: Limits,
    pub(crate) leadership: Leadership,
    pub(crate) heard: Heard,
    pub(crate) raft: Raft,
    pub(crate) wal: Wal,
    pub(crate) store: Store,
    pub(crate) authenticator: Authenticator,
    pub(crate) hub: Hub,
    pub(crate) watch_progress_interval: Duration,
    /// Whether there has been no leader for some time.
    pub(crate) leaderless: watch::Sender<bool>,
    pub(crate) proposer: Proposer,
    pub(crate) read_index: ReadIndex,
    pub(crate) clock: ClusterClock,
    pub(crate) renewer: Renewer,
    pub(crate) space: Space,
    pub(crate) membership: Membership,
    pub(crate) background: TaskTracker,
    pub(crate) stop: CancellationToken,
    /// Why the cluster does not want this node, if it does not.
    pub(crate) refused: watch::Sender<Option<Refused>>,
}

/// An alarm as etcd's status writes it.
fn alarm_text(alarm: &Alarm) -> String {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    };
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}

/// What a member that was removed has to say.
pub(crate) const REMOVED: &str = "this member was removed from its cluster, and its data directory cannot be used again: \
    to bring the machine back, empty the directory and let it join as a new member";

/// Entries that a ready node may be behind in applying what is committed.
const READY_BEHIND_MAX: u64 = 5000;

/// How often the store is asked whether it has failed: where nobody writes, nobody else notices.
const STORE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

impl Node {
    /// Proposes one validated command of the node's own accord and waits until it is applied: nobody's
    /// permission is asked.
    ///
    /// # Errors
    /// See [`ProposeError`], which says whether the command may have been executed.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Outcome, ProposeError> {
        self.propose_by(Caller::Node, command, deadline).await
    }

    /// Proposes as [`Node::propose`], for a caller, whose permission is asked where the command is applied.
    ///
    /// # Errors
    /// As [`Node::propose`].
    pub async fn propose_by(
        &self,
        caller: Caller,
        command: Command,
        deadline: Instant,
    ) -> Result<Outcome, ProposeError> {
        self.inner.proposer.propose(&command.by(caller), deadline).await
    }

    /// Who shows a token; `None` while authentication is off, as far as this node knows.
    ///
    /// # Errors
    /// [`AuthError::InvalidToken`].
    pub fn caller(&self, token: &[u8]) -> Result<Option<Caller>, AuthError> {
        self.inner.authenticator.caller(&self.inner.store, token)
    }

    /// Finds out who asks.
    pub fn authenticator(&self) -> &Authenticator {
        &self.inner.authenticator
    }

    /// Waits until this node has applied everything acknowledged before the call.
    ///
    /// # Errors
    /// See [`ReadBarrierError`].
    pub async fn read_barrier(&self, deadline: Instant) -> Result<(), ReadBarrierError> {
        self.inner.read_index.barrier(deadline).await
    }

    /// The cluster's clock, by which leases end, in milliseconds: never ahead of the leader's.
    pub fn clock_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }

    /// Starts a lease's TTL anew, together with whatever other renewals wait; its TTL in seconds, or 0 where there
    /// is no such lease.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn renew_lease(&self, id: i64) -> Result<i64, ProposeError> {
        self.inner.renewer.renew(id).await
    }

    /// The applied state.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Where writes become known to watches.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// How often a quiet watch is told how far it is.
    pub fn watch_progress_interval(&self) -> Duration {
        self.inner.watch_progress_interval
    }

    /// The leader, if there are signs of life of it.
    pub fn leader(&self) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        self.inner.leadership.alive(&metrics)
    }

    /// The last term that has a leader as far as this node knows, and who it is, dead or alive.
    pub fn led(&self) -> Option<(u64, u64)> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .current_leader
            .map(|leader| (metrics.vote.leader_id.term, leader))
    }

    /// Follows whether there has been no leader for longer than an election takes.
    pub(crate) fn leaderless(&self) -> watch::Receiver<bool> {
        self.inner.leaderless.subscribe()
    }

    /// Resolves when the node begins to stop.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// The log.
    pub fn wal(&self) -> &Wal {
        &self.inner.wal
    }

    /// Cluster and member id.
    pub fn identity(&self) -> Ids {
        self.inner.ids
    }

    /// Bounds of requests.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Raft's term, for response headers.
    pub fn term(&self) -> u64 {
        self.inner
            .raft
            .server_metrics()
            .borrow_watched()
            .vote
            .leader_id
            .term
    }

    /// Proposals that wait on this node.
    pub fn pending_proposals(&self) -> usize {
        self.inner.proposer.pending()
    }

    /// The state of the node now.
    pub fn status(&self) -> Status {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (store, space) = (&self.inner.store, &self.inner.space);
        let mut errors = Vec::new();
        if let Err(fatal) = &metrics.running_state {
            errors.push(fatal.to_string());
        }
        let alarms = self.alarms();
        errors.extend(alarms.iter().map(alarm_text));
        let is_own = |alarm: &Alarm| alarm.member_id == metrics.id && alarm.kind == AlarmKind::NoSpace;
        if space.is_exhausted() && !alarms.iter().any(is_own) {
            errors.push("NOSPACE".to_owned());
        }
        Status {
            leader: self.inner.leadership.alive(&metrics),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed_index: metrics.local_committed.map_or(0, |id| id.index),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            is_learner: metrics.state == ServerState::Learner,
            db_size_bytes: store.size_bytes().unwrap_or(0),
            live_bytes: store.live_bytes(),
            quota_bytes: space.quota_bytes(),
            revision: store.revision(),
            errors,
        }
    }

    /// The alarms that are raised, as this node has applied.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.inner.store.with_state(|state| state.alarms().collect())
    }

    /// Whether writes that grow the store are refused here for want of room.
    pub fn is_out_of_space(&self) -> bool {
        self.inner.space.is_exhausted()
    }

    /// The members, sorted by id.
    pub fn members(&self) -> Vec<MemberInfo> {
        MemberInfo::all(&self.inner.raft)
    }

    /// How many members have a vote.
    pub fn voters(&self) -> usize {
        self.inner.raft.voter_ids().count()
    }

    /// Changes the membership.
    ///
    /// # Errors
    /// See [`ChangeError`], which says whether it may have changed.
    pub async fn change_members(&self, change: Change, deadline: Instant) -> Result<Changed, ChangeError> {
        self.inner.membership.ask(change, deadline).await
    }

    /// Who belongs to the cluster.
    pub fn membership(&self) -> &Membership {
        &self.inner.membership
    }

    /// Whether a member votes. One that a client has added as a voter does not before it has caught up.
    pub fn is_voter(&self, id: u64) -> bool {
        upkeep::is_voter(&self.inner.raft, id)
    }

    /// Hands leadership over to a voter, if this node leads; `false`: it is none, or has not taken over by the deadline.
    pub async fn transfer_leader(&self, to: u64, deadline: Instant) -> bool {
        let timeout = deadline.saturating_duration_since(Instant::now());
        upkeep::transfer_leader(&self.inner.raft, to, timeout).await
    }

    /// What being ready depends on.
    pub fn checks(&self) -> Vec<Check> {
        let status = self.status();
        let behind = status.committed_index.saturating_sub(status.applied_index);
        let metrics = self.inner.raft.metrics();
        let running = metrics
            .borrow_watched()
            .running_state
            .as_ref()
            .err()
            .map(ToString::to_string);
        let log = self.inner.wal.stats();
        let stalled = log
            .stalled_for
            .map(|for_| format!("the disk has been full for {} s", for_.as_secs()));
        let check = |name, failure| Check { name, failure };
        vec![
            check("running", running),
            check(
                "leader",
                status
                    .leader
                    .is_none()
                    .then(|| "no leader with a quorum".to_owned()),
            ),
            check(
                "caught_up",
                (behind > READY_BEHIND_MAX).then(|| format!("{behind} entries behind")),
            ),
            check("log", log.failed.or(stalled)),
            check(
                "stopping",
                self.inner
                    .stop
                    .is_cancelled()
                    .then(|| "the node is stopping".to_owned()),
            ),
        ]
    }

    /// Resolves when the node can no longer run, with the reason.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        let mut refused = self.inner.refused.subscribe();
        let mut look = tokio::time::interval(STORE_CHECK_INTERVAL);
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            match &*refused.borrow_and_update() {
                Some(Refused::Never(why)) => return format!("the cluster refuses this node: {why}"),
                Some(Refused::Removed) => return REMOVED.to_owned(),
                None => {}
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    return "raft has stopped".to_owned();
                },
                _ = refused.changed() => {}
                _ = look.tick() => match self.store().trouble() {
                    Some(Fault::NoSpace { .. }) | None => {}
                    Some(fault) => return fault.to_string(),
                },
            }
        }
    }
}

//! One node: how its parts are put together, started and stopped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    sync::OnceLock,
    time::Duration,
};

use anyhow::Context;
use kv_core::{Command, Outcome};
use kv_store::Store;
use kv_wal::{Disk, RealDisk, Wal};
use openraft::{
    Config as RaftConfig, Instant as _, ServerState, SnapshotPolicy, async_runtime::watch::WatchReceiver,
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api,
    bootstrap::{
        self, Bootstrap, BootstrapError, Start,
        control::{self, Control, ControlClient, Local, MemberRequest},
        discover, founding,
    },
    identity::{DataDir, Identity},
    membership::{self, Membership},
    raft::{
        leader::{Heard, Leadership},
        log_store::LogStore,
        network::{Dial, Network},
        peer_service::{PeerServerGuarded, PeerService},
        propose::Proposer,
        read_index::ReadIndex,
        state_machine::StateMachine,
        types::{Member, Raft},
    },
    server,
    space::Space,
    storage,
    switch::{self, Front, Port},
};

pub use crate::raft::{propose::ProposeError, read_index::ReadBarrierError};

/// How a node is to run. Made from the command line by [`crate::cli::Args::config`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// `host:port` to listen on for clients.
    pub listen_client: Vec<String>,
    /// URLs told to clients.
    pub client_urls: Vec<String>,
    /// `host:port` to listen on for peers.
    pub listen_peer: Vec<String>,
    /// URLs told to peers.
    pub peer_urls: Vec<String>,
    /// How the node finds its cluster.
    pub bootstrap: Bootstrap,
    /// Most voters.
    pub max_voters: usize,
    /// Bound on live bytes.
    pub quota_bytes: u64,
    /// Time between heartbeats.
    pub heartbeat_interval_ms: u64,
    /// How long a node believes in a leader that it does not hear; it starts an election a third of that
    /// to all of that later, at random.
    pub election_timeout_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_count: u64,
    /// Bounds of requests.
    pub limits: Limits,
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

/// Opens the directory of a log.
pub type OpenDisk = Arc<dyn Fn(&Path) -> std::io::Result<Arc<dyn Disk>> + Send + Sync>;
/// Opens the store of a cluster in a directory.
pub type OpenStore = Arc<dyn Fn(&Path, u64) -> anyhow::Result<Store> + Send + Sync>;

/// The seams: what a simulation replaces.
#[derive(Clone)]
pub struct Env {
    /// Opens the log's directory.
    pub disk: OpenDisk,
    /// Opens the store of a cluster in a directory.
    pub store: OpenStore,
    /// Connects to peers.
    pub dial: Dial,
}

impl Env {
    /// Disk, sled and TCP.
    pub fn real() -> Env {
        Env {
            disk: Arc::new(|dir| Ok(Arc::new(RealDisk::new(dir)?))),
            store: Arc::new(storage::open_store),
            dial: Arc::new(|endpoint| endpoint.connect_lazy()),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
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
    inner: Arc<Inner>,
}

struct Inner {
    ids: Ids,
    limits: Limits,
    leadership: Leadership,
    heard: Heard,
    raft: Raft,
    wal: Wal,
    store: Store,
    proposer: Proposer,
    read_index: ReadIndex,
    space: Space,
    background: TaskTracker,
    stop: CancellationToken,
    /// Why the cluster does not want this node, if it does not.
    refused: watch::Sender<Option<String>>,
}

/// Entries that a ready node may be behind in applying what is committed.
const READY_BEHIND_MAX: u64 = 5000;
/// How long a leader that stops waits for another to take over.
const HANDOVER_TIMEOUT: Duration = Duration::from_millis(1000);
/// How long consensus, and then the disk, may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Compaction sweeps pause this long between two slices.
const SWEEP_PAUSE: Duration = Duration::from_millis(20);
/// How often the sweeper looks for work.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

impl Node {
    /// Proposes one validated command and waits until it is applied.
    ///
    /// # Errors
    /// See [`ProposeError`], which says whether the command may have been executed.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Outcome, ProposeError> {
        self.inner.proposer.propose(&command, deadline).await
    }

    /// Waits until this node has applied everything acknowledged before the call.
    ///
    /// # Errors
    /// See [`ReadBarrierError`].
    pub async fn read_barrier(&self, deadline: Instant) -> Result<(), ReadBarrierError> {
        self.inner.read_index.barrier(deadline).await
    }

    /// The applied state.
    pub fn store(&self) -> &Store {
        &self.inner.store
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
        if space.is_exhausted() {
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

    /// Whether writes that grow the store are refused here for want of room.
    pub fn is_out_of_space(&self) -> bool {
        self.inner.space.is_exhausted()
    }

    /// The members, sorted by id.
    pub fn members(&self) -> Vec<MemberInfo> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let info = |(id, member): (&u64, &Member)| MemberInfo {
            id: *id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: !voters.contains(id),
        };
        membership.nodes().map(info).collect()
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
    async fn failed(&self) -> String {
        let mut metrics = self.inner.raft.metrics();
        let mut refused = self.inner.refused.subscribe();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.to_string();
            }
            if let Some(why) = &*refused.borrow_and_update() {
                return format!("the cluster refuses this node: {why}");
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    return "raft has stopped".to_owned();
                },
                _ = refused.changed() => {}
            }
        }
    }
}

/// Runs a node until `shutdown` resolves or it must stop.
///
/// # Errors
/// When it cannot start, or its log or store failed.
pub async fn run(config: Config, env: Env, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let mut running = Running::open(config).await?;
    tokio::pin!(shutdown);
    let node = tokio::select! {
        node = running.start(env) => match node {
            Ok(node) => node,
            Err(error) => {
                running.close().await;
                return Err(error);
            }
        },
        () = &mut shutdown => {
            running.close().await;
            return Ok(());
        }
    };
    // A task of its own: it is woken by every entry, and this thread should not be.
    let watched = node.clone();
    let failed = tokio::spawn(async move { watched.failed().await });
    let failure = tokio::select! {
        () = &mut shutdown => None,
        failure = failed => Some(failure?),
    };
    running.stop(&node).await;
    match failure {
        None => Ok(()),
        Some(failure) => anyhow::bail!("the node cannot go on: {failure}"),
    }
}

type PeerPort = Front<PeerServerGuarded>;

/// A node's ports and data directory: open from the first moment, before there is consensus.
pub struct Running {
    config: Config,
    local: Arc<Mutex<Local>>,
    control: Control,
    peers: Port<PeerPort>,
    clients: Port<api::ClientPort>,
    progress: watch::Sender<String>,
    /// Stops the client ports, and says that the node is stopping.
    stop: CancellationToken,
    client_servers: TaskTracker,
    /// Stops the peer ports and what runs in the background: after consensus, whose streams they carry.
    stop_peers: CancellationToken,
    peer_servers: TaskTracker,
}

impl Running {
    /// Locks the data directory, opens the ports, and answers on them.
    ///
    /// # Errors
    /// When directory or ports refuse.
    pub async fn open(config: Config) -> anyhow::Result<Running> {
        let dir = DataDir::open(&config.data_dir)?;
        let identity = match dir.load()? {
            Some(identity) => identity,
            None => {
                // Stored before anything is made under this id, the log first of all.
                let identity = new_identity(&config)?;
                dir.save(&identity)?;
                identity
            }
        };
        let member = Member {
            name: config.name.clone(),
            peer_urls: config.peer_urls.clone(),
            client_urls: config.client_urls.clone(),
        };
        let peer_ports = listen_all(&config.listen_peer, "--listen-peer-urls").await?;
        let client_ports = listen_all(&config.listen_client, "--listen-client-urls").await?;
        let local = Arc::new(Mutex::new(Local::new(dir, identity, member)));
        let control = Control {
            local: local.clone(),
            members: Arc::new(OnceLock::new()),
        };
        let progress = watch::Sender::new("starting".to_owned());
        let running = Running {
            peers: Port::new(control::router(control.clone()).fallback(switch::raft_not_running)),
            clients: Port::new(switch::starting(progress.subscribe())),
            control,
            config,
            local,
            progress,
            stop: CancellationToken::new(),
            client_servers: TaskTracker::new(),
            stop_peers: CancellationToken::new(),
            peer_servers: TaskTracker::new(),
        };
        for port in peer_ports {
            running.peer_servers.spawn(server::serve(
                port,
                running.peers.clone(),
                running.stop_peers.clone(),
                // Their streams have no end of their own, and consensus has stopped before.
                Duration::ZERO,
            ));
        }
        for port in client_ports {
            running.client_servers.spawn(server::serve(
                port,
                running.clients.clone(),
                running.stop.clone(),
                server::DRAIN_TIMEOUT,
            ));
        }
        Ok(running)
    }

    /// Gets the node into its cluster and starts serving.
    ///
    /// # Errors
    /// When storage or bootstrap refuse.
    pub async fn start(&mut self, env: Env) -> anyhow::Result<Node> {
        let client = ControlClient::new()?;
        let identity = self.local.lock().identity().clone();
        let (node_id, was_settled) = (identity.node_id, identity.cluster_id.is_some());
        let dir = self.config.data_dir.clone();
        let on_sync = api::wal_sync_observer();
        let wal = storage::open_log((env.disk)(&dir.join("wal"))?, &identity, on_sync)
            .map_err(|error| error.context("the log cannot be used"))?;
        self.local.lock().update(|identity| identity.log_created = true)?;
        let start = self.bootstrap(&client, &wal, was_settled).await?;
        let identity = self.local.lock().identity().clone();
        let cluster_id = identity.cluster_id.context("bootstrap ends with a cluster id")?;
        let network = Network::new(cluster_id, env.dial.clone());
        let store =
            tokio::task::spawn_blocking(move || (env.store)(&dir.join("store"), cluster_id)).await??;
        storage::reconcile(&wal, &store, &identity, &network, &self.progress).await?;
        let node = self
            .start_raft(
                Ids {
                    cluster_id,
                    member_id: node_id,
                },
                wal,
                store,
                network.clone(),
            )
            .await?;
        self.found(&node, &start).await?;
        self.serve(&node, network, client, start == Start::Join);
        Ok(node)
    }

    async fn bootstrap(&self, client: &ControlClient, wal: &Wal, was_settled: bool) -> anyhow::Result<Start> {
        let log_is_empty = wal.last().is_none() && wal.vote().is_none();
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
                let ids = bootstrap::static_ids(members, token, &self.config.name, &self.config.peer_urls)?;
                Ok(founding::found_static(&self.local, client, ids, &self.progress).await?)
            }
            Bootstrap::Dynamic { .. } if was_settled => Ok(match identity.ballot {
                Some(ballot) => Start::Found(ballot.founders),
                None => Start::Join,
            }),
            Bootstrap::Dynamic { join, expect } => {
                Ok(founding::found_or_join(&self.local, client, join, *expect, &self.progress).await?)
            }
        }
    }

    async fn check_company(&self, client: &ControlClient) -> anyhow::Result<()> {
        let urls = match &self.config.bootstrap {
            Bootstrap::Static { members, .. } => {
                let identity = self.local.lock().identity().clone();
                let owner = identity
                    .members
                    .get(&identity.node_id)
                    .map(|member| member.name.clone());
                if let Some(owner) = owner.filter(|owner| *owner != self.config.name) {
                    let name = self.config.name.clone();
                    return Err(BootstrapError::OtherMember { owner, name }.into());
                }
                members.values().flatten().cloned().collect()
            }
            Bootstrap::Dynamic { join, .. } => discover::resolve(join).await.0,
        };
        Ok(founding::check_company(&self.local, client, &urls).await?)
    }

    async fn start_raft(&self, ids: Ids, wal: Wal, store: Store, network: Network) -> anyhow::Result<Node> {
        let (applied, applied_rx) = watch::channel(None);
        let machine = StateMachine::new(store.clone(), Arc::new(applied))?;
        let config = Arc::new(raft_config(&self.config, ids.cluster_id).validate()?);
        let raft = Raft::new(
            ids.member_id,
            config,
            network.clone(),
            LogStore::new(wal.clone()),
            machine,
        )
        .await?;
        let space = Space::new(wal.clone(), store.clone(), self.config.quota_bytes);
        let timeout = self.config.limits.request_timeout;
        let heard = Heard::now();
        let lease = Duration::from_millis(self.config.election_timeout_ms);
        let leadership = Leadership::new(&raft, heard.clone(), lease);
        let proposer = Proposer::new(
            raft.clone(),
            leadership.clone(),
            network.clone(),
            space.clone(),
            timeout,
        );
        let read_index = ReadIndex::start(raft.clone(), leadership.clone(), network, applied_rx);
        Ok(Node {
            inner: Arc::new(Inner {
                ids,
                limits: self.config.limits.clone(),
                leadership,
                heard,
                raft,
                wal,
                store,
                proposer,
                read_index,
                space,
                background: TaskTracker::new(),
                stop: self.stop.clone(),
                refused: watch::Sender::new(None),
            }),
        })
    }

    /// Writes the first entry of the log. Each founder may: it is the same entry.
    async fn found(&self, node: &Node, start: &Start) -> anyhow::Result<()> {
        let Start::Found(members) = start else {
            return Ok(());
        };
        use openraft::errors::{InitializeError, RaftError};
        match node.inner.raft.initialize(members.clone()).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error).context("cannot found the cluster"),
        }
    }

    /// Puts the APIs in place and starts what runs beside them.
    fn serve(&self, node: &Node, network: Network, client: ControlClient, join: bool) {
        let inner = &node.inner;
        let Ids {
            cluster_id,
            member_id,
        } = inner.ids;
        let peer = PeerService::new(
            inner.raft.clone(),
            inner.store.clone(),
            inner.proposer.clone(),
            inner.read_index.clone(),
            inner.heard.clone(),
            inner.space.clone(),
            self.stop_peers.clone(),
        );
        self.peers.set(Front {
            path: "/quorate.peer.v1.Peer/",
            grpc: peer.into_server(cluster_id, member_id),
            rest: control::router(self.control.clone()),
        });
        let membership = Membership::new(inner.raft.clone(), inner.leadership.clone());
        assert!(
            self.control.members.set(Arc::new(membership.clone())).is_ok(),
            "a node starts once"
        );
        let member = self.local.lock().seen().member;
        let request = MemberRequest {
            cluster_id,
            node_id: member_id,
            member,
            join,
        };
        let known = self.local.lock().identity().members.clone();
        let ask = known
            .values()
            .flat_map(|member| member.peer_urls.clone())
            .collect();
        let announced = membership::announce(client, request, ask, membership.clone());
        let refused = inner.refused.clone();
        self.background(node, async move {
            if let Err(why) = announced.await {
                refused.send_replace(Some(why));
            }
        });
        self.background(node, membership.promote(self.config.max_voters));
        self.background(node, inner.space.clone().watch(self.config.data_dir.clone()));
        self.background(node, sweep(inner.store.clone()));
        self.background(node, count_leader_changes(inner.raft.clone()));
        self.background(
            node,
            remember_members(inner.raft.clone(), network, self.local.clone()),
        );
        self.clients.set(api::client_port(node.clone()));
        tracing::info!(
            cluster_id = format!("{cluster_id:x}"),
            member_id = format!("{member_id:x}"),
            name = self.config.name,
            clients = self.config.client_urls.join(","),
            "serving"
        );
    }

    fn background(&self, node: &Node, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop_peers.clone();
        node.inner.background.spawn(async move {
            tokio::select! { () = task => {}, () = stop.cancelled() => {} }
        });
    }

    /// Hands leadership over, lets requests finish, then stops consensus and closes the log.
    pub async fn stop(self, node: &Node) {
        hand_over(&node.inner.raft).await;
        self.stop.cancel();
        self.client_servers.close();
        self.client_servers.wait().await;
        // Consensus may be waiting for a disk that is full: closing the log frees it then.
        if tokio::time::timeout(STOP_TIMEOUT, node.inner.raft.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("consensus does not stop by itself: closing the log under it");
        }
        self.close().await;
        node.inner.background.close();
        node.inner.background.wait().await;
        let store = node.inner.store.clone();
        let wal = node.inner.wal.clone();
        let closed = tokio::task::spawn_blocking(move || {
            let synced = store.sync();
            wal.close();
            synced
        });
        match tokio::time::timeout(STOP_TIMEOUT, closed).await {
            Ok(Ok(Ok(_))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(%error, "the store is not synced; the log will make up for it")
            }
            Ok(Err(_)) | Err(_) => tracing::warn!("the disk does not answer; the log will make up for it"),
        }
        tracing::info!("stopped");
    }

    async fn close(&self) {
        self.stop.cancel();
        self.stop_peers.cancel();
        for servers in [&self.client_servers, &self.peer_servers] {
            servers.close();
            servers.wait().await;
        }
    }
}

fn new_identity(config: &Config) -> anyhow::Result<Identity> {
    Ok(Identity::new(match &config.bootstrap {
        Bootstrap::Static {
            members,
            token,
            existing: false,
        } => bootstrap::static_ids(members, token, &config.name, &config.peer_urls)?.node_id,
        Bootstrap::Static { .. } | Bootstrap::Dynamic { .. } => rand::random::<u64>().max(1),
    }))
}

async fn listen_all(hosts: &[String], flag: &'static str) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for host in hosts {
        listeners.extend(server::listen(host, flag).await?);
    }
    Ok(listeners)
}

fn raft_config(config: &Config, cluster_id: u64) -> RaftConfig {
    RaftConfig {
        cluster_name: format!("{cluster_id:x}"),
        heartbeat_interval: config.heartbeat_interval_ms,
        // openraft takes the longest for the lease of a leader too, and waits for both one after the other.
        election_timeout_min: (config.election_timeout_ms / 3).max(config.heartbeat_interval_ms + 1),
        election_timeout_max: config.election_timeout_ms,
        max_payload_entries: 1024,
        // A follower is sent a snapshot when it is so far behind that the log is shorter than the store.
        replication_lag_threshold: config.snapshot_count * 2,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.snapshot_count),
        max_in_snapshot_log_to_keep: config.snapshot_count,
        purge_batch_size: (config.snapshot_count / 10).max(1),
        // A snapshot takes as long as it takes: the stream has its own signs of life.
        install_snapshot_timeout: 600_000,
        enable_pre_vote: Some(true),
        // A restarted leader is elected again like any other: its store may be behind its log.
        enable_leader_restore: Some(false),
        // A leader that lost its quorum sends heartbeats in phases only, so that others may elect one
        // (openraft #2080). The least that openraft allows: lease and longest election.
        quorum_loss_probe_interval: Some(config.election_timeout_ms * 2),
        backoff: "100ms".to_owned(),
        ..RaftConfig::default()
    }
}

/// Makes the most advanced follower lead before this node goes.
async fn hand_over(raft: &Raft) {
    let target = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return;
        }
        let own = metrics.id;
        let answers = |id: &u64| {
            let heard = metrics
                .heartbeat
                .as_ref()
                .and_then(|heard| heard.get(id).cloned().flatten());
            heard.is_some_and(|heard| heard.elapsed() < HANDOVER_TIMEOUT)
        };
        let voters = metrics.membership_config.membership().voter_ids();
        let matched = |id: &u64| {
            metrics
                .replication
                .as_ref()
                .and_then(|r| r.get(id).copied().flatten())
        };
        voters.filter(|id| *id != own && answers(id)).max_by_key(matched)
    };
    let Some(target) = target else { return };
    tracing::info!(to = format!("{target:x}"), "handing leadership over");
    if raft.trigger().transfer_leader(target).await.is_err() {
        return;
    }
    let handed = raft
        .wait(Some(HANDOVER_TIMEOUT))
        .metrics(|m| m.current_leader == Some(target), "handover")
        .await;
    if handed.is_err() {
        tracing::warn!("nobody took over in time; the others will elect a leader");
    }
}

/// Frees what compaction gave up, a slice at a time.
async fn sweep(store: Store) {
    loop {
        let step = {
            let store = store.clone();
            tokio::task::spawn_blocking(move || store.sweep_step()).await
        };
        match step {
            Ok(Ok(true)) => tokio::time::sleep(SWEEP_PAUSE).await,
            Ok(Ok(false)) => tokio::time::sleep(SWEEP_INTERVAL).await,
            Ok(Err(error)) => {
                tracing::warn!(%error, "compacted revisions are not freed yet");
                tokio::time::sleep(SWEEP_INTERVAL).await;
            }
            Err(_) => return,
        }
    }
}

async fn count_leader_changes(raft: Raft) {
    let changes = api::leader_changes();
    let mut metrics = raft.server_metrics();
    let mut last = None;
    loop {
        let leader = metrics.borrow_and_update().current_leader;
        if leader.is_some() && leader != last {
            if last.is_some() {
                changes.increment(1);
            }
            tracing::info!(leader = leader.map(|id| format!("{id:x}")), "there is a leader");
            last = leader;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the network where the members are, and keeps them on disk: whom to ask when the store must be
/// rebuilt.
async fn remember_members(raft: Raft, network: Network, local: Arc<Mutex<Local>>) {
    let mut metrics = raft.server_metrics();
    loop {
        let members: BTreeMap<u64, Member> = {
            let metrics = metrics.borrow_and_update();
            metrics
                .membership_config
                .membership()
                .nodes()
                .map(|(id, member)| (*id, member.clone()))
                .collect()
        };
        if !members.is_empty() {
            network.know(members.clone());
            let local = local.clone();
            let saved = tokio::task::spawn_blocking(move || {
                local.lock().update(|identity| identity.members = members)
            });
            if let Ok(Err(error)) = saved.await {
                tracing::warn!(%error, "members not remembered");
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

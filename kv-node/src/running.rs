//! From a configuration to a running node, and back: data directory, ports, bootstrap, storage, consensus, APIs;
//! and stopping them in an order in which nothing that is under way is lost.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use kv_store::{EngineError, Fault, Store};
use kv_tls::{ClientTls, ServerTls};
use kv_wal::Wal;
use openraft::{Config as RaftConfig, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod stopping;

use crate::{
    alarms, api,
    auth::Authenticator,
    backup::{self, Backup},
    blocking::{elsewhere, may_wait},
    bootstrap::{
        self, Bootstrap, BootstrapError, Start,
        control::{self, Control, ControlClient, Local, MemberRequest, Speaks},
        founding,
    },
    compaction, corruption,
    identity::{DataDir, Identity},
    lease::{clock::ClusterClock, expire::Expiry, renew::Renewer},
    membership::{Announced, Membership, Refused},
    node::{Config, Env, Ids, Inner, Node, REMOVED},
    raft::{
        leader::{Heard, Leadership},
        log_store::{APPEND_ENTRIES_MAX, LogStore},
        network::Network,
        peer_service::{PeerServerGuarded, PeerService},
        propose::Proposer,
        read_index::ReadIndex,
        state_machine::StateMachine,
        types::{Member, Raft},
    },
    server::{self, Security},
    space::{FreeBytes, Space},
    storage,
    switch::{self, Front, Port},
    upkeep,
    urls::Listen,
    usage::Usage,
    watch::Hub,
};

/// Runs a node until `shutdown` resolves or it must stop.
///
/// # Errors
/// When it cannot start, or its log or store failed.
pub async fn run(config: Config, env: Env, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    tokio::pin!(shutdown);
    while let Ended::ToStartAgain(why) = run_once(config.clone(), env.clone(), shutdown.as_mut()).await? {
        tracing::warn!("starting again from the data directory: {why}");
    }
    Ok(())
}

/// How a node ended that did not fail.
enum Ended {
    Asked,
    /// With a store that only has to be opened again.
    ToStartAgain(String),
}

async fn run_once(
    config: Config,
    env: Env,
    mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> anyhow::Result<Ended> {
    let mut running = Running::open(config).await?;
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
            return Ok(Ended::Asked);
        }
    };
    // A task of its own: it is woken by every entry, and this thread should not be.
    let watched = node.clone();
    let failed = tokio::spawn(async move { watched.failed().await });
    let failure = tokio::select! {
        () = &mut shutdown => None,
        failure = failed => Some(failure?),
    };
    if failure.is_none() && running.config.leave_on_terminate {
        running.leave(&node).await;
    }
    let trouble = node.store().trouble();
    running.stop(&node).await;
    match (failure, trouble) {
        (None, _) => Ok(Ended::Asked),
        (Some(_), Some(fault @ Fault::Engine(EngineError::SpaceRanOut(_)))) => {
            Ok(Ended::ToStartAgain(fault.to_string()))
        }
        (Some(failure), _) => anyhow::bail!("the node cannot go on: {failure}"),
    }
}

/// What consensus is put together from.
struct Parts {
    wal: Wal,
    store: Store,
    network: Network,
    client: ControlClient,
    authenticator: Authenticator,
    clock: ClusterClock,
}

/// What a running node needs of its surroundings.
struct Around {
    network: Network,
    client: ControlClient,
    free_bytes: FreeBytes,
}

/// What stands behind a peer port.
pub type PeerPort = Front<PeerServerGuarded>;

/// A node's ports and data directory: open from the first moment, before there is consensus.
pub struct Running {
    config: Config,
    dial: Option<ClientTls>,
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
        // What is wrong with the flags is found before anything is left on the disk.
        let tls = config.tls.load()?;
        if !DataDir::is_used(&config.data_dir) {
            check_founding(&config).map_err(|error| Usage(error.into()))?;
        }
        let dir = DataDir::open(&config.data_dir)?;
        let backup = Backup::find(&config.data_dir)?.map(|backup| backup.hash);
        let peer_ports = listen_all(&config.listen_peer, &tls.peer, "--listen-peer-urls").await?;
        let client_ports = listen_all(&config.listen_client, &tls.client, "--listen-client-urls").await?;
        let running = Running::with(config, dir, backup, tls.dial)?;
        for (port, security) in peer_ports {
            running.peer_servers.spawn(server::serve(
                port,
                security,
                running.peers.clone(),
                running.stop_peers.clone(),
                // Their streams have no end of their own, and consensus has stopped before.
                Duration::ZERO,
            ));
        }
        for (port, security) in client_ports {
            running.client_servers.spawn(server::serve(
                port,
                security,
                running.clients.clone(),
                running.stop.clone(),
                server::DRAIN_TIMEOUT,
            ));
        }
        Ok(running)
    }

    /// A node that listens nowhere: whoever makes it carries calls to [`Running::peers`] and [`Running::clients`].
    ///
    /// # Errors
    /// When the directory refuses.
    pub fn without_ports(config: Config, dir: DataDir) -> anyhow::Result<Running> {
        Running::with(config, dir, None, None)
    }

    /// `backup` is the hash of the backup that the cluster is to be made of.
    fn with(
        config: Config,
        dir: DataDir,
        backup: Option<String>,
        dial: Option<ClientTls>,
    ) -> anyhow::Result<Running> {
        let identity = match load(&dir, &config)? {
            Some(identity) => {
                anyhow::ensure!(
                    backup.is_none() || backup == identity.restored,
                    "{} has been used before: a backup is restored into an empty data directory",
                    config.data_dir.display()
                );
                identity
            }
            None => {
                // Stored before anything is made under this id, the log first of all.
                let identity = new_identity(&config, backup)?;
                dir.save(&identity)?;
                identity
            }
        };
        anyhow::ensure!(!identity.removed, REMOVED);
        let member = Member {
            name: config.name.clone(),
            peer_urls: config.peer_urls.clone(),
            client_urls: config.client_urls.clone(),
            zone: config.zone.clone(),
            ..Member::default()
        };
        let local = Arc::new(Mutex::new(Local::new(dir, identity, member)));
        let control = Control {
            local: local.clone(),
            members: Arc::new(OnceLock::new()),
        };
        let progress = watch::Sender::new("starting".to_owned());
        Ok(Running {
            peers: Port::new(control::router(control.clone()).fallback(switch::raft_not_running)),
            clients: Port::new(api::starting(progress.subscribe())),
            control,
            config,
            dial,
            local,
            progress,
            stop: CancellationToken::new(),
            client_servers: TaskTracker::new(),
            stop_peers: CancellationToken::new(),
            peer_servers: TaskTracker::new(),
        })
    }

    /// What stands behind the peer port.
    pub fn peers(&self) -> Port<PeerPort> {
        self.peers.clone()
    }

    /// What stands behind the client port.
    pub fn clients(&self) -> Port<api::ClientPort> {
        self.clients.clone()
    }

    /// Gets the node into its cluster and starts serving.
    ///
    /// # Errors
    /// When storage or bootstrap refuse.
    pub async fn start(&mut self, env: Env) -> anyhow::Result<Node> {
        let client = ControlClient::over(env.carry.clone(), self.dial.clone());
        let authenticator =
            Authenticator::new(&self.config.tokens, env.unix_time.clone()).context("--auth-token")?;
        let identity = self.local.lock().identity().clone();
        let was_settled = identity.cluster_id.is_some();
        // A node without a log gets into its cluster first: the cluster may have an id for it.
        let first = match identity.log_created {
            false => Some(self.bootstrap(&client, true, was_settled).await?),
            true => None,
        };
        let identity = self.local.lock().identity().clone();
        let dir = self.config.data_dir.clone();
        let on_sync = api::wal_sync_observer();
        let wal = storage::open_log(&env.log, &dir.join("wal"), &identity, on_sync)
            .map_err(|error| error.context("the log cannot be used"))?;
        self.local.lock().update(|identity| identity.log_created = true)?;
        let start = match first {
            Some(start) => start,
            None => {
                let log_is_empty = wal.last().is_none() && wal.vote().is_none();
                self.bootstrap(&client, log_is_empty, was_settled).await?
            }
        };
        if start == Start::Join {
            self.local.lock().update(|identity| identity.joining = true)?;
        }
        let identity = self.local.lock().identity().clone();
        let cluster_id = identity.cluster_id.context("bootstrap ends with a cluster id")?;
        let network = Network::new(cluster_id, env.dial.clone(), self.dial.clone());
        let store = elsewhere(move || (env.store)(&dir.join("store"), cluster_id)).await??;
        self.restore(&wal, &store, &start).await?;
        storage::reconcile(&wal, &store, &identity, &network, &self.progress).await?;
        let ids = Ids {
            cluster_id,
            member_id: identity.node_id,
        };
        let parts = Parts {
            wal,
            store,
            network: network.clone(),
            client: client.clone(),
            authenticator,
            clock: ClusterClock::new(env.monotonic),
        };
        let node = self.start_raft(ids, parts).await?;
        self.found(&node, &start).await?;
        let around = Around {
            network,
            client,
            free_bytes: env.free_bytes,
        };
        self.serve(&node, around, identity.joining);
        Ok(node)
    }

    /// Takes in the backup that this cluster is made of, if it is and has not yet.
    async fn restore(&self, wal: &Wal, store: &Store, start: &Start) -> anyhow::Result<()> {
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

    async fn bootstrap(
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

    async fn start_raft(&self, ids: Ids, parts: Parts) -> anyhow::Result<Node> {
        let Parts {
            wal,
            store,
            network,
            client,
            authenticator,
            clock,
        } = parts;
        let (applied, applied_rx) = watch::channel(None);
        let hub = Hub::new(store.clone());
        let machine = StateMachine::new(
            store.clone(),
            hub.clone(),
            Arc::new(applied),
            clock.clone(),
            network.transfers().clone(),
        )?;
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
            clock.clone(),
            timeout,
        );
        let renewer = Renewer::start(proposer.clone(), timeout);
        let read_index = ReadIndex::start(raft.clone(), leadership.clone(), network, applied_rx);
        let membership = Membership::new(
            ids.cluster_id,
            raft.clone(),
            leadership.clone(),
            client,
            self.config.max_learners,
            self.config.autopilot,
        );
        Ok(Node {
            inner: Arc::new(Inner {
                ids,
                limits: self.config.limits.clone(),
                leadership,
                heard,
                raft,
                wal,
                store,
                authenticator,
                hub,
                watch_progress_interval: self.config.watch_progress_interval,
                leaderless: watch::Sender::new(false),
                proposer,
                read_index,
                clock,
                renewer,
                space,
                membership,
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
    fn serve(&self, node: &Node, around: Around, join: bool) {
        let Around {
            network,
            client,
            free_bytes,
        } = around;
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
            rest: control::router(self.control.clone())
                .merge(corruption::router(cluster_id, inner.store.clone())),
        });
        let membership = inner.membership.clone();
        assert!(
            self.control.members.set(Arc::new(membership.clone())).is_ok(),
            "a node starts once"
        );
        let member = self.local.lock().seen().member;
        let request = MemberRequest {
            speaks: Speaks::OURS,
            cluster_id,
            node_id: member_id,
            member,
            join,
        };
        let announced = Announced {
            membership: membership.clone(),
            request,
            local: self.local.clone(),
            bootstrap: self.config.bootstrap.clone(),
            heard: inner.heard.clone(),
        };
        let (refused, local) = (inner.refused.clone(), self.local.clone());
        self.background(node, async move {
            let why = announced.keep().await;
            if why == Refused::Removed
                && let Err(error) = may_wait(|| local.lock().update(|identity| identity.removed = true))
            {
                tracing::warn!(%error, "the removal is not noted");
            }
            refused.send_replace(Some(why));
        });
        self.background(node, membership.pilot());
        let dir = self.config.data_dir.clone();
        self.background(node, inner.space.clone().watch(dir, free_bytes));
        self.background(node, alarms::run(node.clone()));
        if let Some(retention) = self.config.retention {
            self.background(node, compaction::run(node.clone(), retention));
        }
        let checks = self.config.corruption_checks;
        self.background(node, corruption::run(node.clone(), client, checks));
        self.background(node, upkeep::sweep(inner.store.clone()));
        let expiry = Expiry {
            store: inner.store.clone(),
            clock: inner.clock.clone(),
            leadership: inner.leadership.clone(),
            read_index: inner.read_index.clone(),
            proposer: inner.proposer.clone(),
        };
        self.background(node, expiry.run());
        let election = Duration::from_millis(self.config.election_timeout_ms);
        self.background(node, upkeep::notice_no_leader(node.clone(), election));
        self.background(node, upkeep::count_leader_changes(inner.raft.clone()));
        self.background(
            node,
            upkeep::remember_members(inner.raft.clone(), network, self.local.clone()),
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
}

/// The stored identity. A member that left of its own accord has promised nothing to anybody: the directory is
/// emptied for a new one, unless the founders' list would give it the old id again.
fn load(dir: &DataDir, config: &Config) -> anyhow::Result<Option<Identity>> {
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
fn check_founding(config: &Config) -> Result<(), BootstrapError> {
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
fn new_identity(config: &Config, backup: Option<String>) -> anyhow::Result<Identity> {
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

async fn listen_all(
    places: &[Listen],
    tls: &Option<ServerTls>,
    flag: &'static str,
) -> anyhow::Result<Vec<(TcpListener, Security)>> {
    let mut listeners = Vec::new();
    for place in places {
        let security = Security::of(place, tls.as_ref())?;
        let bound = server::listen(&place.address, flag).await?;
        listeners.extend(bound.into_iter().map(|listener| (listener, security.clone())));
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
        max_payload_entries: APPEND_ENTRIES_MAX,
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

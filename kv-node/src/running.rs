//! From a configuration to a running node, and back: data directory, ports, bootstrap, storage, consensus, APIs;
//! and stopping them in an order in which nothing that is under way is lost.
//!
//! | file | what |
//! | --- | --- |
//! | `beginning` | who this node is, and how it gets into its cluster |
//! | `consensus` | putting consensus together |
//! | `serving` | the APIs, and what runs beside them |
//! | `stopping` | leaving and stopping |
//! | this one | the order of it all, ports and data directory |

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use kv_store::{EngineError, Fault};
use kv_tls::{ClientTls, ServerTls};
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod beginning;
mod consensus;
mod serving;
mod stopping;

use crate::{
    api,
    auth::Authenticator,
    backup::Backup,
    blocking::elsewhere,
    bootstrap::{
        Start,
        control::{self, Control, ControlClient, Local},
    },
    identity::DataDir,
    lease::clock::ClusterClock,
    node::{Config, Env, Ids, Node, REMOVED},
    raft::{network::Network, peer_service::PeerServerGuarded, types::Member},
    server::{self, Security},
    storage,
    switch::{self, Front, Port},
    urls::Listen,
    usage::Usage,
};
use consensus::Parts;
use serving::Around;

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
            beginning::check_founding(&config).map_err(|error| Usage(error.into()))?;
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
        let identity = match beginning::load(&dir, &config)? {
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
                let identity = beginning::new_identity(&config, backup)?;
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

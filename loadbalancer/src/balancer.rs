//! The balancer as a whole: binds its listeners, starts discovery for each pool, and ends in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use kv_client::Client;
use kv_tls::{ClientTls, ServerTls};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backend::Kind;
use crate::check::CheckTiming;
use crate::discovery::{Discovery, DiscoveryConfig};
use crate::health::Thresholds;
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::resolve::Resolve;
use crate::seed::Seed;
use crate::serve::{ListenerLimits, ListenerStats, Server, Shutdown};
use crate::services::{self, Instances};
use crate::stats::{Stats, StatsPool};
use crate::upstream::Limits;

/// From one sample of the request rates to the next.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// One pool and its listener.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// The flag that sets the address, for errors.
    pub flag: &'static str,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where backends are found.
    pub seeds: Vec<Seed>,
    /// The service whose instances are backends too, and the client to follow them with.
    pub service: Option<(String, Client)>,
}

/// What a balancer does.
#[derive(Debug, Clone)]
pub struct Config {
    /// Storage nodes; none: no such listener.
    pub nodes: Option<PoolConfig>,
    /// Web apps; none: no such listener.
    pub web: Option<PoolConfig>,
    /// Where the stats are.
    pub stats: SocketAddr,
    /// From one look at names and members to the next.
    pub discovery_interval: Duration,
    /// How long requests in flight may take to end.
    pub drain_timeout: Duration,
    /// Timing of the active checks.
    pub check: CheckTiming,
    /// Rules for up, down and ejected.
    pub thresholds: Thresholds,
    /// Bounds towards each backend.
    pub limits: Limits,
    /// Bounds towards clients, per listener.
    pub listener: ListenerLimits,
    /// For backends that speak TLS.
    pub backend_tls: Option<ClientTls>,
    /// For clients of nodes and web apps, who then must speak TLS. The stats are without it.
    pub listen_tls: Option<ServerTls>,
}

/// Why a balancer cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("{flag} {addr}: {}; give another ADDR:PORT with {flag}", bind_reason(source))]
    Bind {
        /// The flag that sets it.
        flag: &'static str,
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".into(),
        io::ErrorKind::PermissionDenied => "no permission to use this port".into(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        _ => error.to_string(),
    }
}

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    stats: Arc<Stats>,
    stats_addr: SocketAddr,
    drain_timeout: Duration,
    /// Listeners and connections of clients.
    clients: Shutdown,
    /// Discovery, checks, and the stats listener: they outlive the clients.
    rest: Shutdown,
}

impl Balancer {
    /// Binds everything and starts.
    ///
    /// # Errors
    /// [`StartError`] if a listener cannot be bound; then nothing has been started.
    pub async fn start(config: Config, resolver: Arc<dyn Resolve>) -> Result<Balancer, StartError> {
        let mut bound = Vec::new();
        for (kind, pool) in [(Kind::Node, &config.nodes), (Kind::Web, &config.web)] {
            if let Some(pool) = pool {
                let (listener, addr) = bind(pool.flag, pool.listen).await?;
                bound.push((kind, pool.clone(), listener, addr));
            }
        }
        let (stats_listener, stats_addr) = bind("--listen-stats", config.stats).await?;
        let own: Vec<SocketAddr> = bound.iter().map(|(.., addr)| *addr).chain([stats_addr]).collect();

        let clients = Shutdown::default();
        let rest = Shutdown::default();
        let mut pools = Vec::new();
        for (kind, found_by, listener, listen) in bound {
            let (instances, found) = watch::channel(Instances::new());
            if let Some((service, client)) = found_by.service {
                let following = services::follow(client, service, instances, rest.drain.clone());
                rest.tasks.spawn(following);
            }
            let pool = Arc::new(Pool::new(kind));
            let listener_stats = Arc::new(ListenerStats::default());
            let discovery = Discovery::new(
                discovery_config(&config, found_by.seeds, found, own.clone()),
                Arc::clone(&pool),
                Arc::clone(&resolver),
            );
            rest.tasks.spawn(discovery.run(rest.drain.clone()));
            rest.tasks
                .spawn(sample_rates(Arc::clone(&pool), rest.drain.clone()));
            let server = Server {
                limits: config.listener,
                stats: Arc::clone(&listener_stats),
                shutdown: clients.clone(),
                tls: config.listen_tls.clone(),
            };
            let proxy = Arc::new(Proxy::new(Arc::clone(&pool)));
            clients.tasks.spawn(server.run(listener, move |request, client| {
                let proxy = Arc::clone(&proxy);
                async move { proxy.handle(request, client).await }
            }));
            tracing::info!(%listen, kind = kind.as_str(), "listening");
            pools.push(StatsPool {
                pool,
                listen,
                listener: listener_stats,
            });
        }

        let stats = Arc::new(Stats::new(pools, clients.drain.clone()));
        let server = Server {
            limits: config.listener,
            stats: Arc::new(ListenerStats::default()),
            shutdown: rest.clone(),
            tls: None,
        };
        let shown = Arc::clone(&stats);
        rest.tasks.spawn(server.run(stats_listener, move |request, _| {
            std::future::ready(shown.respond(request.method(), request.uri().path()))
        }));
        tracing::info!(listen = %stats_addr, "listening for stats");
        Ok(Balancer {
            stats,
            stats_addr,
            drain_timeout: config.drain_timeout,
            clients,
            rest,
        })
    }

    /// Where clients of a kind of backend connect.
    #[must_use]
    pub fn listen_addr(&self, kind: Kind) -> Option<SocketAddr> {
        self.stats
            .pools()
            .iter()
            .find(|p| p.pool.kind == kind)
            .map(|p| p.listen)
    }

    /// Where the stats are.
    #[must_use]
    pub fn stats_addr(&self) -> SocketAddr {
        self.stats_addr
    }

    /// What the balancer knows about itself.
    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Takes nothing new, lets what is in flight finish within the drain timeout, and ends.
    /// True if everything finished by itself.
    pub async fn shutdown(self) -> bool {
        let started = Instant::now();
        self.clients.drain.cancel();
        self.clients.tasks.close();
        let finished = tokio::time::timeout(self.drain_timeout, self.clients.tasks.wait())
            .await
            .is_ok();
        if finished {
            tracing::info!(took = ?started.elapsed(), "all requests finished");
        } else {
            let in_flight: usize = self.stats.pools().iter().map(StatsPool::in_flight).sum();
            tracing::warn!(in_flight, "drain timeout: the rest is cut off");
        }
        self.clients.kill.cancel();
        self.clients.tasks.wait().await;
        self.rest.drain.cancel();
        self.rest.kill.cancel();
        self.rest.tasks.close();
        self.rest.tasks.wait().await;
        finished
    }
}

async fn bind(flag: &'static str, addr: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let error = |source| StartError::Bind { flag, addr, source };
    let listener = TcpListener::bind(addr).await.map_err(error)?;
    let addr = listener.local_addr().map_err(error)?;
    Ok((listener, addr))
}

fn discovery_config(
    config: &Config,
    seeds: Vec<Seed>,
    instances: watch::Receiver<Instances>,
    own: Vec<SocketAddr>,
) -> DiscoveryConfig {
    DiscoveryConfig {
        seeds,
        interval: config.discovery_interval,
        drain_timeout: config.drain_timeout,
        check: config.check,
        thresholds: config.thresholds,
        limits: config.limits,
        instances,
        tls: config.backend_tls.clone(),
        own,
    }
}

async fn sample_rates(pool: Arc<Pool>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SAMPLE_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for backend in pool.backends().iter() {
            backend
                .history
                .lock()
                .sample(backend.counters.requests.load(Relaxed));
        }
    }
}

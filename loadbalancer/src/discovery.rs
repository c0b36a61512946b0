//! Who the backends are: follows the seed names and, for nodes, the cluster's member list, and keeps
//! the pool as they say.
//!
//! Every interval the seeds are resolved again and a node is asked for the members. What is new is
//! checked from then on; what is listed nowhere any more is drained, and removed once it is idle or its
//! time is up. A name that cannot be resolved and a list that cannot be had change nothing.
//!
//! A node is known by the member id that it reports. Found under several addresses it gets one place in
//! the round; an address that only the member list gives gets none before the node there has answered
//! with the id that the list says. So an advertised address that leads nowhere, or to somebody else,
//! does no harm. Only nodes of one cluster are given requests: [`crate::cluster`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kv_tls::ClientTls;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, Kind};
use crate::check::{self, CheckTiming};
use crate::cluster::Cluster;
use crate::health::{State, Thresholds};
use crate::members::{Member, MemberSource, is_reachable};
use crate::pool::{BACKENDS_MAX, Pool};
use crate::resolve::Resolve;
use crate::seed::Seed;
use crate::services::Instances;
use crate::upstream::{Dial, Limits};

/// How a pool finds and judges its backends.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// Names to resolve.
    pub seeds: Vec<Seed>,
    /// From one look at names and members to the next.
    pub interval: Duration,
    /// How long a backend that is listed no more may finish what it has.
    pub drain_timeout: Duration,
    /// Timing of the active checks.
    pub check: CheckTiming,
    /// Rules for up, down and ejected.
    pub thresholds: Thresholds,
    /// Bounds of the connections to each backend.
    pub limits: Limits,
    /// Instances that announced themselves; they are used like those that names lead to.
    pub instances: watch::Receiver<Instances>,
    /// For backends that speak TLS.
    pub tls: Option<ClientTls>,
    /// The balancer's own listeners, which are never backends.
    pub own: Vec<SocketAddr>,
}

/// Where an address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A seed name: used at once.
    Seed,
    /// What it announced of itself: used at once.
    Announcement,
    /// The member list, for the member of this id: used once proved.
    Member(u64),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Seed => f.write_str("seed"),
            Origin::Announcement => f.write_str("announcement"),
            Origin::Member(id) => write!(f, "member list, for {id:x}"),
        }
    }
}

/// Addresses that should be backends: by what they were found, and how they are spoken to.
type Wanted = BTreeMap<SocketAddr, (Origin, Dial)>;

struct Entry {
    backend: Arc<Backend>,
    origin: Origin,
    check: AbortHandle,
    unlisted_since: Option<Instant>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.check.abort();
    }
}

/// Keeps one pool.
pub struct Discovery {
    config: DiscoveryConfig,
    pool: Arc<Pool>,
    resolver: Arc<dyn Resolve>,
    changed: Arc<Notify>,
    /// The last good answer for each name; none yet if the last attempt was the first and failed.
    resolved: HashMap<Seed, Vec<SocketAddr>>,
    failing: BTreeSet<Seed>,
    members: Vec<Member>,
    source: Option<MemberSource>,
    entries: BTreeMap<SocketAddr, Entry>,
    cluster: Arc<Cluster>,
}

impl Discovery {
    /// Discovery for a pool.
    #[must_use]
    pub fn new(config: DiscoveryConfig, pool: Arc<Pool>, resolver: Arc<dyn Resolve>) -> Self {
        Discovery {
            config,
            pool,
            resolver,
            changed: Arc::new(Notify::new()),
            resolved: HashMap::new(),
            failing: BTreeSet::new(),
            members: Vec::new(),
            source: None,
            entries: BTreeMap::new(),
            cluster: Arc::default(),
        }
    }

    /// Runs until told to stop; checks end with it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let changed = Arc::clone(&self.changed);
        let mut instances = self.config.instances.clone();
        loop {
            let look = tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => true,
                // Without a service there is nobody who could send more.
                Ok(()) = instances.changed() => true,
                () = changed.notified() => false,
            };
            if look {
                tokio::select! { () = stop.cancelled() => return, () = self.look() => {} }
            }
            self.settle();
            self.publish();
        }
    }

    /// Keeps to one cluster.
    fn settle(&mut self) {
        let backends = self
            .entries
            .values()
            .map(|entry| (&*entry.backend, is_seed(entry)));
        if self.cluster.settle(backends) {
            self.members.clear();
            self.source = None;
        }
    }

    /// Looks at names and members once.
    async fn look(&mut self) {
        let mut wanted = BTreeMap::new();
        let mut listed = self.config.seeds.clone();
        let seeds = listed.len();
        listed.extend(self.config.instances.borrow().values().cloned());
        for (at, seed) in listed.iter().enumerate() {
            let origin = if at < seeds {
                Origin::Seed
            } else {
                Origin::Announcement
            };
            for addr in self.resolve(seed).await {
                wanted.entry(addr).or_insert((origin, self.dial(addr, seed)));
            }
        }
        if self.pool.kind == Kind::Node {
            self.ask_members().await;
            self.add_members(&mut wanted).await;
        }
        self.forget(&listed);
        self.reconcile(wanted);
    }

    /// The addresses of a name, or the last ones if it cannot be resolved now.
    async fn resolve(&mut self, seed: &Seed) -> Vec<SocketAddr> {
        match self.resolver.resolve(&seed.host, seed.port).await {
            Ok(addrs) => {
                if self.failing.remove(seed) {
                    tracing::info!(%seed, "resolves again");
                }
                self.resolved.insert(seed.clone(), addrs);
            }
            Err(error) => {
                if self.failing.insert(seed.clone()) {
                    tracing::warn!(%seed, %error, "cannot be resolved");
                }
            }
        }
        self.resolved.get(seed).cloned().unwrap_or_default()
    }

    async fn ask_members(&mut self) {
        let is_up = |addr: &SocketAddr| {
            self.entries.get(addr).is_some_and(|entry| {
                entry.unlisted_since.is_none()
                    && entry.backend.is_usable()
                    && entry.backend.member_id().is_some()
            })
        };
        let current = self.source.take().filter(|source| is_up(&source.addr));
        let source = current.or_else(|| {
            let addr = self.entries.keys().copied().find(is_up)?;
            MemberSource::new(&self.entries.get(&addr)?.backend.dial, self.config.check.timeout)
        });
        let Some(mut source) = source else { return };
        match source.members().await {
            // The node there is no longer the one that was judged; its next identification tells.
            Ok((cluster, _)) if cluster != 0 && self.cluster.id().is_some_and(|id| id != cluster) => {
                tracing::debug!(from = %source.addr, "member list of another cluster");
            }
            Ok((_, members)) => {
                if members != self.members {
                    tracing::info!(from = %source.addr, members = members.len(), "member list changed");
                    self.members = members;
                }
                self.source = Some(source);
            }
            Err(status) => tracing::debug!(from = %source.addr, %status, "no member list"),
        }
    }

    /// Adds the addresses of members that no seed leads to.
    async fn add_members(&mut self, wanted: &mut Wanted) {
        let seeds: Vec<SocketAddr> = wanted.keys().copied().collect();
        let on_loopback = seeds.iter().any(|addr| addr.ip().is_loopback());
        let by_seed = |addr: &SocketAddr| {
            let backend = &self.entries.get(addr)?.backend;
            backend.member_id().filter(|_| !backend.is_barred())
        };
        let known: BTreeSet<u64> = seeds.iter().filter_map(by_seed).collect();
        for member in self.members.clone() {
            if known.contains(&member.id) {
                continue;
            }
            let speaks_tls = self.config.tls.is_some();
            for url in member.urls.iter().filter(|url| !url.tls || speaks_tls) {
                for addr in self.resolve(url).await {
                    if is_reachable(addr, on_loopback, &self.config.own) {
                        let found = (Origin::Member(member.id), self.dial(addr, url));
                        wanted.entry(addr).or_insert(found);
                    }
                }
            }
        }
    }

    /// Forgets names that are not looked up any more.
    fn forget(&mut self, listed: &[Seed]) {
        let urls = self.members.iter().flat_map(|member| &member.urls);
        let names: BTreeSet<&Seed> = urls.chain(listed).collect();
        self.resolved.retain(|seed, _| names.contains(seed));
        self.failing.retain(|seed| names.contains(seed));
    }

    /// Makes the entries follow what is wanted.
    fn reconcile(&mut self, wanted: Wanted) {
        let now = Instant::now();
        for (addr, entry) in &mut self.entries {
            if let Some((origin, _)) = wanted.get(addr) {
                entry.origin = *origin;
                entry.unlisted_since = None;
                if entry.backend.set_draining(false) {
                    tracing::info!(backend = %addr, "listed again");
                }
            } else if entry.unlisted_since.is_none() {
                entry.unlisted_since = Some(now);
                entry.backend.set_draining(true);
                tracing::info!(backend = %addr, in_flight = entry.backend.in_flight(), "no longer listed");
            }
        }
        let patience = self.config.drain_timeout;
        self.entries.retain(|_, entry| {
            let waited = entry.unlisted_since.map(|since| now.duration_since(since));
            waited.is_none_or(|waited| entry.backend.in_flight() > 0 && waited < patience)
        });
        for (addr, (origin, dial)) in wanted {
            if self.entries.contains_key(&addr) {
                continue;
            }
            if self.entries.len() >= BACKENDS_MAX {
                tracing::warn!(backend = %addr, max = BACKENDS_MAX, "left out: too many backends");
                continue;
            }
            self.add(dial, origin);
        }
    }

    /// How a backend found by a name is spoken to: its certificate must be for that name.
    fn dial(&self, addr: SocketAddr, found_by: &Seed) -> Dial {
        let tls = self.config.tls.clone().filter(|_| found_by.tls);
        Dial {
            addr,
            tls: tls.map(|tls| (tls, found_by.host.clone())),
        }
    }

    fn add(&mut self, dial: Dial, origin: Origin) {
        let addr = dial.addr;
        tracing::info!(backend = %addr, kind = self.pool.kind.as_str(), by = %origin, "found");
        let backend = Backend::new(dial, self.pool.kind, self.config.thresholds, &self.config.limits);
        let watch = check::watch(
            Arc::clone(&backend),
            origin == Origin::Seed,
            Arc::clone(&self.cluster),
            self.config.check,
            Arc::clone(&self.changed),
        );
        let check = tokio::spawn(watch).abort_handle();
        self.entries.insert(
            addr,
            Entry {
                backend,
                origin,
                check,
                unlisted_since: None,
            },
        );
    }

    /// Gives the pool one backend for each node.
    fn publish(&self) {
        let mut chosen: Vec<&Entry> = Vec::new();
        let mut draining: Vec<Arc<Backend>> = Vec::new();
        for entry in self.entries.values() {
            if entry.unlisted_since.is_some() {
                draining.push(Arc::clone(&entry.backend));
                continue;
            }
            let id = entry.backend.member_id();
            if let Origin::Member(claimed) = entry.origin
                && id != Some(claimed)
            {
                continue;
            }
            let identity = |entry: &Entry| (entry.backend.member_id(), entry.backend.cluster_id());
            let twin = id.and_then(|_| chosen.iter_mut().find(|e| identity(e) == identity(entry)));
            match twin {
                Some(twin) if is_better(entry, twin) => *twin = entry,
                Some(_) => {}
                None => chosen.push(entry),
            }
        }
        let mut backends: Vec<_> = chosen.iter().map(|entry| Arc::clone(&entry.backend)).collect();
        backends.append(&mut draining);
        self.pool.publish(backends);
    }
}

/// Whether a seed leads to it now.
fn is_seed(entry: &Entry) -> bool {
    entry.origin == Origin::Seed && entry.unlisted_since.is_none()
}

/// Of two addresses of one node: the one that works, then the one that a seed gives.
fn is_better(entry: &Entry, than: &Entry) -> bool {
    let rank = |entry: &Entry| (entry.backend.state().0 == State::Up, entry.origin == Origin::Seed);
    rank(entry) > rank(than)
}

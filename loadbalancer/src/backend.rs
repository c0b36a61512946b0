//! One backend: its address, its judgement, its counters, and its connections.
//!
//! What every request touches (may it be used, is there room) is atomic; the judgement itself stands
//! behind a mutex that a request takes only when something failed or just got better.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::health::{Fault, Health, State, Thresholds};
use crate::history::History;
use crate::upstream::{Dial, Http1Pool, Http2Pool, Limits};

/// What kind of server a backend is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A storage node: gRPC and HTTP.
    Node,
    /// A web app: HTTP only.
    Web,
}

impl Kind {
    /// The word for pages, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Node => "node",
            Kind::Web => "web",
        }
    }
}

/// What has been counted about a backend since it was found.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts that were given to it.
    pub requests: AtomicU64,
    /// Attempts that failed: no connection, broken connection, or its own failure (500, 502).
    pub errors: AtomicU64,
    /// Attempts that failed here and went on to another backend.
    pub retries: AtomicU64,
    /// Times it was ejected.
    pub ejections: AtomicU64,
    /// Active checks made.
    pub checks: AtomicU64,
    /// Active checks that failed.
    pub checks_failed: AtomicU64,
}

/// The last active check, for the stats page.
#[derive(Debug, Clone)]
pub struct LastCheck {
    /// Whether it was good.
    pub good: bool,
    /// The answer, or the error.
    pub text: String,
    /// How long it took.
    pub latency: Duration,
    /// When it ended.
    pub at: Instant,
}

/// `usable_at_ms` of a backend that may not be used however long one waits.
const NEVER: u64 = u64::MAX;

/// One backend.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens. This is its identity here, next to the member id that it reports.
    pub addr: SocketAddr,
    /// Node or web app.
    pub kind: Kind,
    /// Counters.
    pub counters: Counters,
    /// Requests per second of the last minute.
    pub history: Mutex<History>,
    /// HTTP/2 connections, for gRPC.
    pub http2: Http2Pool,
    /// HTTP/1.1 connections, for everything else.
    pub http1: Arc<Http1Pool>,
    in_flight: AtomicUsize,
    in_flight_max: usize,
    health: Mutex<Health>,
    last_check: Mutex<Option<LastCheck>>,
    /// Milliseconds after `epoch` from which it may be used; 0: at once.
    usable_at_ms: AtomicU64,
    /// Whether there is a failure or ejection that a success should clear.
    troubled: AtomicBool,
    member_id: AtomicU64,
    cluster_id: AtomicU64,
    epoch: Instant,
    /// What it takes to connect.
    pub dial: Dial,
}

impl Backend {
    /// A backend just found.
    #[must_use]
    pub fn new(dial: Dial, kind: Kind, thresholds: Thresholds, limits: &Limits) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Backend {
            addr: dial.addr,
            kind,
            counters: Counters::default(),
            history: Mutex::new(History::default()),
            http2: Http2Pool::new(dial.clone(), limits),
            http1: Arc::new(Http1Pool::new(dial.clone(), limits)),
            in_flight: AtomicUsize::new(0),
            in_flight_max: limits.in_flight_max,
            health: Mutex::new(Health::new(thresholds, now)),
            last_check: Mutex::new(None),
            usable_at_ms: AtomicU64::new(NEVER),
            troubled: AtomicBool::new(false),
            member_id: AtomicU64::new(0),
            cluster_id: AtomicU64::new(0),
            epoch: now,
            dial,
        })
    }

    /// Whether requests should go to it now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        match self.usable_at_ms.load(Relaxed) {
            0 => true,
            NEVER => false,
            at => self.epoch.elapsed().as_millis() >= u128::from(at),
        }
    }

    /// Whether it gets nothing even if no other backend is up: no longer listed, or of another cluster.
    #[must_use]
    pub fn is_barred(&self) -> bool {
        matches!(self.state().0, State::Draining | State::WrongCluster)
    }

    /// Its state, and since when.
    #[must_use]
    pub fn state(&self) -> (State, Instant) {
        self.health.lock().state(Instant::now())
    }

    /// Requests it has now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Takes one of its places for a request; none if it has as many as it may.
    #[must_use]
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        if self.in_flight.fetch_add(1, Relaxed) >= self.in_flight_max {
            self.in_flight.fetch_sub(1, Relaxed);
            return None;
        }
        self.counters.requests.fetch_add(1, Relaxed);
        Some(Lease {
            backend: Arc::clone(self),
        })
    }

    /// The member id that it reported, once it has.
    #[must_use]
    pub fn member_id(&self) -> Option<u64> {
        Some(self.member_id.load(Relaxed)).filter(|id| *id != 0)
    }

    /// Notes the member id that it reports; true if that is news.
    pub fn set_member_id(&self, id: u64) -> bool {
        self.member_id.swap(id, Relaxed) != id
    }

    /// The cluster id that it reported, once it has.
    #[must_use]
    pub fn cluster_id(&self) -> Option<u64> {
        Some(self.cluster_id.load(Relaxed)).filter(|id| *id != 0)
    }

    /// Notes the cluster id that it reports; true if that is news.
    pub fn set_cluster_id(&self, id: u64) -> bool {
        self.cluster_id.swap(id, Relaxed) != id
    }

    /// Marks that it belongs to another cluster than the one served, or to the right one again; true if
    /// that changed its state.
    pub fn set_foreign(&self, foreign: bool) -> bool {
        self.judge(|health, now| health.set_foreign(foreign, now))
    }

    /// The last active check.
    #[must_use]
    pub fn last_check(&self) -> Option<LastCheck> {
        self.last_check.lock().clone()
    }

    /// Takes in an active check; true if the state changed.
    pub fn checked(&self, check: LastCheck) -> bool {
        self.counters.checks.fetch_add(1, Relaxed);
        if !check.good {
            self.counters.checks_failed.fetch_add(1, Relaxed);
        }
        let (good, text) = (check.good, check.text.clone());
        *self.last_check.lock() = Some(check);
        let changed = self.judge(|health, now| health.checked(good, now));
        if changed {
            let state = self.state().0.as_str();
            tracing::info!(backend = %self.addr, kind = self.kind.as_str(), state, check = text, "state changed");
        }
        changed
    }

    /// Takes in that a request got an answer.
    pub fn succeeded(&self) {
        if self.troubled.load(Relaxed) {
            self.troubled.store(false, Relaxed);
            self.judge(Health::succeeded);
        }
    }

    /// Takes in that a request failed.
    pub fn failed(&self, fault: Fault, why: &dyn std::fmt::Display) {
        self.counters.errors.fetch_add(1, Relaxed);
        self.troubled.store(true, Relaxed);
        if self.judge(|health, now| health.failed(fault, now)) && self.state().0 == State::Ejected {
            self.counters.ejections.fetch_add(1, Relaxed);
            tracing::warn!(backend = %self.addr, kind = self.kind.as_str(), %why, "ejected");
        }
    }

    /// Marks that it is no longer listed, or listed again; true if that is news.
    pub fn set_draining(&self, draining: bool) -> bool {
        self.judge(|health, now| health.set_draining(draining, now))
    }

    fn judge(&self, event: impl FnOnce(&mut Health, Instant) -> bool) -> bool {
        let now = Instant::now();
        let mut health = self.health.lock();
        let changed = event(&mut health, now);
        let usable_at = match health.state(now).0 {
            State::Up => 0,
            State::Ejected => health.ejected_until().map_or(NEVER, |until| {
                let ms = until.saturating_duration_since(self.epoch).as_millis();
                // Rounded up, so that it is never used before the state says so.
                u64::try_from(ms).map_or(NEVER, |ms| ms.saturating_add(1))
            }),
            State::Unchecked | State::Down | State::Draining | State::WrongCluster => NEVER,
        };
        self.usable_at_ms.store(usable_at, Relaxed);
        changed
    }
}

/// One request's place at a backend; given back when dropped, that is when the response has ended.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
}

impl Lease {
    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let before = self.backend.in_flight.fetch_sub(1, Relaxed);
        assert!(before > 0, "a lease was given back twice");
    }
}

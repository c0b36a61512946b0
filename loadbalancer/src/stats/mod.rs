//! What the balancer shows of itself: a page, JSON, Prometheus metrics, and its own health.
//!
//! Each view is rendered from one [`Snapshot`], so that they agree.

mod html;
mod json;
mod prometheus;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use tokio_util::sync::CancellationToken;

use crate::answer::own;
use crate::backend::{Backend, Kind};
use crate::body::ProxyBody;
use crate::health::State;
use crate::pool::Pool;
use crate::serve::ListenerStats;

const STYLE: &str = include_str!("style.css");

/// One pool, its listener, and where that listens.
#[derive(Debug)]
pub struct StatsPool {
    /// The pool.
    pub pool: Arc<Pool>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The listener's counters.
    pub listener: Arc<ListenerStats>,
}

impl StatsPool {
    /// Requests in flight at all backends.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pool
            .backends()
            .iter()
            .map(|backend| backend.in_flight())
            .sum()
    }
}

/// Everything that is shown.
#[derive(Debug)]
pub struct Stats {
    pools: Vec<StatsPool>,
    draining: CancellationToken,
    started: Instant,
    host: String,
}

/// The state of a balancer at a moment.
#[derive(Debug, serde::Serialize)]
pub struct Snapshot {
    /// The balancer's host name.
    pub host: String,
    /// Its version.
    pub version: &'static str,
    /// Since it started.
    pub uptime_s: u64,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// Its pools.
    pub pools: Vec<PoolSnapshot>,
}

/// A pool at a moment.
#[derive(Debug, serde::Serialize)]
pub struct PoolSnapshot {
    /// Nodes or web apps.
    pub kind: Kind,
    /// Where clients connect.
    pub listen: String,
    /// Client connections now.
    pub connections: usize,
    /// Client connections turned away.
    pub connections_rejected: u64,
    /// Requests from clients.
    pub requests: u64,
    /// Attempts on a further backend.
    pub retries: u64,
    /// Answered "not executed" by the balancer.
    pub undelivered: u64,
    /// Answered "outcome unknown" by the balancer.
    pub broken: u64,
    /// Turned away at the bound.
    pub rejected: u64,
    /// Requests sent although no backend was up.
    pub all_down_picks: u64,
    /// Backends that may be used.
    pub usable: usize,
    /// The backends.
    pub backends: Vec<BackendSnapshot>,
    #[serde(skip)]
    duration: ([u64; crate::histogram::BOUNDS_US.len() + 1], u64),
}

/// A backend at a moment.
#[derive(Debug, serde::Serialize)]
pub struct BackendSnapshot {
    /// Where it listens.
    pub address: String,
    /// Its member id in hexadecimal, as etcd's tools print it.
    pub member_id: Option<String>,
    /// Its cluster's id in hexadecimal.
    pub cluster_id: Option<String>,
    /// Its state.
    pub state: State,
    /// How long it has been in it.
    pub since_ms: u64,
    /// Attempts given to it.
    pub requests: u64,
    /// Requests it has now.
    pub in_flight: usize,
    /// Attempts that failed.
    pub errors: u64,
    /// Attempts that failed here and went on to another backend.
    pub retries: u64,
    /// Times it was ejected.
    pub ejections: u64,
    /// Connections to it, except those of checks.
    pub connections: usize,
    /// Active checks made.
    pub checks: u64,
    /// Active checks that failed.
    pub checks_failed: u64,
    /// The last check.
    pub last_check: Option<CheckSnapshot>,
    /// Requests in each of the last 60 seconds, oldest first.
    pub requests_per_second: Vec<u32>,
}

/// A check at a moment.
#[derive(Debug, serde::Serialize)]
pub struct CheckSnapshot {
    /// Whether it was good.
    pub good: bool,
    /// The answer or the error.
    pub text: String,
    /// How long it took.
    pub latency_us: u64,
    /// How long ago it was.
    pub age_ms: u64,
}

impl Stats {
    /// Stats over some pools; `draining` tells when the balancer is about to end.
    #[must_use]
    pub fn new(pools: Vec<StatsPool>, draining: CancellationToken) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Stats {
            pools,
            draining,
            started: Instant::now(),
            host: host.trim().to_owned(),
        }
    }

    /// The pools.
    #[must_use]
    pub fn pools(&self) -> &[StatsPool] {
        &self.pools
    }

    /// Everything at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            host: self.host.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            draining: self.draining.is_cancelled(),
            pools: self.pools.iter().map(pool_snapshot).collect(),
        }
    }

    /// Answers a request to the stats listener.
    #[must_use]
    pub fn respond(&self, method: &Method, path: &str) -> Response<ProxyBody> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if method != Method::GET && method != Method::HEAD {
            let mut response = own(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".into());
            response
                .headers_mut()
                .insert(http::header::ALLOW, http::HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" | "/stats" => own(
                StatusCode::OK,
                "text/html; charset=utf-8",
                html::page(&self.snapshot()),
            ),
            "/style.css" => own(StatusCode::OK, "text/css", STYLE.into()),
            "/stats.json" => own(
                StatusCode::OK,
                "application/json",
                json::document(&self.snapshot()),
            ),
            "/metrics" => own(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                prometheus::text(&self.snapshot()),
            ),
            "/healthz" | "/livez" => own(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => match self.not_ready() {
                None => own(StatusCode::OK, TEXT, "ok\n".into()),
                Some(reason) => own(StatusCode::SERVICE_UNAVAILABLE, TEXT, reason),
            },
            _ => own(
                StatusCode::NOT_FOUND,
                TEXT,
                "not found; there are / /stats.json /metrics /livez /readyz\n".into(),
            ),
        }
    }

    /// Why no requests should be sent to this balancer.
    fn not_ready(&self) -> Option<String> {
        if self.draining.is_cancelled() {
            return Some("draining: the balancer is about to end\n".into());
        }
        let empty: String = self
            .pools
            .iter()
            .filter(|pool| pool.pool.usable() == 0)
            .map(|pool| format!("no usable {} backend\n", pool.pool.kind.as_str()))
            .collect();
        (!empty.is_empty()).then_some(empty)
    }
}

fn pool_snapshot(pool: &StatsPool) -> PoolSnapshot {
    let totals = &pool.pool.totals;
    PoolSnapshot {
        kind: pool.pool.kind,
        listen: pool.listen.to_string(),
        connections: pool.listener.open.load(Relaxed),
        connections_rejected: pool.listener.rejected.load(Relaxed),
        requests: totals.requests.load(Relaxed),
        retries: totals.retries.load(Relaxed),
        undelivered: totals.undelivered.load(Relaxed),
        broken: totals.broken.load(Relaxed),
        rejected: totals.rejected.load(Relaxed),
        all_down_picks: totals.all_down_picks.load(Relaxed),
        usable: pool.pool.usable(),
        backends: pool.pool.backends().iter().map(|b| backend_snapshot(b)).collect(),
        duration: totals.duration.cumulative(),
    }
}

fn backend_snapshot(backend: &Backend) -> BackendSnapshot {
    let (state, since) = backend.state();
    let counters = &backend.counters;
    BackendSnapshot {
        address: backend.addr.to_string(),
        member_id: backend.member_id().map(|id| format!("{id:x}")),
        cluster_id: backend.cluster_id().map(|id| format!("{id:x}")),
        state,
        since_ms: ms(since.elapsed()),
        requests: counters.requests.load(Relaxed),
        in_flight: backend.in_flight(),
        errors: counters.errors.load(Relaxed),
        retries: counters.retries.load(Relaxed),
        ejections: counters.ejections.load(Relaxed),
        connections: backend.http2.connections() + backend.http1.connections(),
        checks: counters.checks.load(Relaxed),
        checks_failed: counters.checks_failed.load(Relaxed),
        last_check: backend.last_check().map(|check| CheckSnapshot {
            good: check.good,
            text: check.text,
            latency_us: u64::try_from(check.latency.as_micros()).unwrap_or(u64::MAX),
            age_ms: ms(check.at.elapsed()),
        }),
        requests_per_second: backend.history.lock().per_second(),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! The snapshot in Prometheus's text format.
//!
//! Written by hand from the balancer's own counters: they exist for the page anyway, and a registry
//! would be a second place for them.

use std::fmt::Write as _;

use super::{BackendSnapshot, PoolSnapshot, Snapshot};
use crate::health::State;
use crate::histogram::BOUNDS_US;

type PoolValue = fn(&PoolSnapshot) -> u64;
type BackendValue = fn(&BackendSnapshot) -> u64;

const POOL: [(&str, &str, &str, PoolValue); 9] = [
    ("client_connections", "gauge", "Client connections now.", |p| {
        p.connections as u64
    }),
    (
        "client_connections_rejected_total",
        "counter",
        "Client connections turned away.",
        |p| p.connections_rejected,
    ),
    ("requests_total", "counter", "Requests from clients.", |p| {
        p.requests
    }),
    (
        "retries_total",
        "counter",
        "Attempts on a further backend.",
        |p| p.retries,
    ),
    (
        "undelivered_total",
        "counter",
        "Requests that no backend took.",
        |p| p.undelivered,
    ),
    ("broken_total", "counter", "Requests of unknown outcome.", |p| {
        p.broken
    }),
    (
        "rejected_total",
        "counter",
        "Requests turned away at the bound.",
        |p| p.rejected,
    ),
    (
        "all_down_picks_total",
        "counter",
        "Requests sent although no backend was up.",
        |p| p.all_down_picks,
    ),
    ("usable_backends", "gauge", "Backends that may be used.", |p| {
        p.usable as u64
    }),
];

const BACKEND: [(&str, &str, &str, BackendValue); 10] = [
    ("backend_up", "gauge", "1 if requests go to the backend.", |b| {
        u64::from(b.state == State::Up)
    }),
    (
        "backend_wrong_cluster",
        "gauge",
        "1 if the backend belongs to another cluster than the one served.",
        |b| u64::from(b.state == State::WrongCluster),
    ),
    (
        "backend_in_flight",
        "gauge",
        "Requests the backend has now.",
        |b| b.in_flight as u64,
    ),
    (
        "backend_connections",
        "gauge",
        "Connections to the backend.",
        |b| b.connections as u64,
    ),
    (
        "backend_requests_total",
        "counter",
        "Attempts given to the backend.",
        |b| b.requests,
    ),
    ("backend_errors_total", "counter", "Attempts that failed.", |b| {
        b.errors
    }),
    (
        "backend_retries_total",
        "counter",
        "Attempts that went on to another backend.",
        |b| b.retries,
    ),
    (
        "backend_ejections_total",
        "counter",
        "Times the backend was ejected.",
        |b| b.ejections,
    ),
    ("backend_checks_total", "counter", "Active checks made.", |b| {
        b.checks
    }),
    (
        "backend_checks_failed_total",
        "counter",
        "Active checks that failed.",
        |b| b.checks_failed,
    ),
];

const LATENCY: &str = "quorate_lb_request_duration_seconds";

/// The whole exposition.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(8 << 10);
    head(&mut out, "build_info", "gauge", "The version of the balancer.");
    let _ = writeln!(out, "quorate_lb_build_info{{version=\"{}\"}} 1", snapshot.version);
    head(
        &mut out,
        "draining",
        "gauge",
        "1 while the balancer is about to end.",
    );
    let _ = writeln!(out, "quorate_lb_draining {}", u8::from(snapshot.draining));
    for (name, kind, help, value) in POOL {
        head(&mut out, name, kind, help);
        for pool in &snapshot.pools {
            let _ = writeln!(
                out,
                "quorate_lb_{name}{{pool=\"{}\"}} {}",
                pool.kind.as_str(),
                value(pool)
            );
        }
    }
    for (name, kind, help, value) in BACKEND {
        head(&mut out, name, kind, help);
        for pool in &snapshot.pools {
            for backend in &pool.backends {
                let (kind, addr) = (pool.kind.as_str(), &backend.address);
                let value = value(backend);
                let _ = writeln!(
                    out,
                    "quorate_lb_{name}{{pool=\"{kind}\",backend=\"{addr}\"}} {value}"
                );
            }
        }
    }
    head(
        &mut out,
        "request_duration_seconds",
        "histogram",
        "Time to the head of the response.",
    );
    for pool in &snapshot.pools {
        latency(&mut out, pool);
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        out,
        "# HELP quorate_lb_{name} {help}\n# TYPE quorate_lb_{name} {kind}"
    );
}

fn latency(out: &mut String, pool: &PoolSnapshot) {
    let kind = pool.kind.as_str();
    let (counts, sum_us) = &pool.duration;
    for (bound, count) in BOUNDS_US.iter().zip(counts) {
        let _ = writeln!(
            out,
            "{LATENCY}_bucket{{pool=\"{kind}\",le=\"{}\"}} {count}",
            seconds(*bound)
        );
    }
    let total = counts[BOUNDS_US.len()];
    let _ = writeln!(out, "{LATENCY}_bucket{{pool=\"{kind}\",le=\"+Inf\"}} {total}");
    let _ = writeln!(out, "{LATENCY}_sum{{pool=\"{kind}\"}} {}", seconds(*sum_us));
    let _ = writeln!(out, "{LATENCY}_count{{pool=\"{kind}\"}} {total}");
}

#[allow(
    clippy::cast_precision_loss,
    reason = "microseconds of decades fit in 53 bits"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

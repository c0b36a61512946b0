//! What `/metrics` tells: Prometheus text, with etcd's names where etcd has the metric.
//!
//! Two recorders make one page. The process has one behind the `metrics` macros, installed by [`install`]:
//! whatever part of the program counts there is shown by every node of the process. Each node has one of its
//! own for what is its alone (leader, sizes, calls), so that several nodes in one process, as in tests, do
//! not mix. A name belongs to one of the two.
//!
//! Counting a call is two atomic additions: the handles are made at the start.

use std::{
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics::{Counter, counter, describe_counter, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

mod gauges;
mod methods;
mod process;

use super::ops::ETCD_VERSION;
use crate::{lease::counts, node::Node};
use gauges::Gauges;
use methods::{Call, Methods};
pub(super) use methods::{Method, StreamCall, code_name, counted};

/// How often the samples of histograms are folded into their buckets, so that they do not pile up where
/// nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds for durations, in seconds: etcd's (1 ms doubled up to 8.192 s) and three finer ones below,
/// where a disk of today answers.
const DURATION_BUCKETS: [f64; 17] = [
    0.000_125, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512,
    1.024, 2.048, 4.096, 8.192,
];

/// Upper bounds for the TTLs of leases, in seconds: etcd's, doubled from 1 s up to 97 days.
const TTL_BUCKETS: [f64; 24] = {
    let mut buckets = [1.0; 24];
    let mut at = 1;
    while at < buckets.len() {
        buckets[at] = buckets[at - 1] * 2.0;
        at += 1;
    }
    buckets
};

const LEADER_CHANGES: &str = "etcd_server_leader_changes_seen_total";
const AUTOPILOT_ACTIONS: &str = "quorate_autopilot_actions_total";
const WAL_SYNC: &str = "etcd_disk_wal_fsync_duration_seconds";

static PROCESS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the process's recorder; further calls do nothing.
///
/// A handle made by the macros of `metrics` before this counts nothing, so call it first thing. Where the
/// program has installed a recorder of its own, that one stays, and `/metrics` leaves out what it holds.
pub fn install() {
    PROCESS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &DURATION_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(counts::TTL.into()), &TTL_BUCKETS)
            })
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        describe_process();
        let upkeep = handle.clone();
        let started = thread::Builder::new().name("metrics-upkeep".into()).spawn(move || {
            loop {
                thread::sleep(UPKEEP_INTERVAL);
                upkeep.run_upkeep();
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for the upkeep of metrics: they are folded at each scrape only");
        }
        Some(handle)
    });
}

/// Texts for what the parts below the API count through the macros.
fn describe_process() {
    describe_histogram!(WAL_SYNC, "How long making the log durable took.");
    describe_counter!(LEADER_CHANGES, "How often the leader changed.");
    describe_counter!(
        AUTOPILOT_ACTIONS,
        "Changes of the membership that this node decided as leader."
    );
    counts::describe();
}

/// For [`kv_wal::Options::on_sync`]: puts the time of each sync into a histogram.
pub fn wal_sync_observer() -> kv_wal::SyncObserver {
    install();
    let syncs = histogram!(WAL_SYNC);
    Arc::new(move |took| syncs.record(took))
}

/// Counts how often this process saw a leader that is not the one before; for whoever follows the leader.
pub fn leader_changes() -> Counter {
    install();
    counter!(LEADER_CHANGES)
}

/// Counts the changes of one kind that a leader decides.
pub fn autopilot_actions(action: &'static str) -> Counter {
    install();
    counter!(AUTOPILOT_ACTIONS, "action" => action)
}

/// One node's metrics.
pub(super) struct Metrics {
    handle: PrometheusHandle,
    methods: Methods,
    rest: [Counter; 4],
    gauges: Gauges,
    /// Proposals without an outcome.
    pub(super) proposals_failed: Counter,
    /// Answers of `/health` that said yes.
    pub(super) health_success: Counter,
    /// Answers of `/health` that said no.
    pub(super) health_failures: Counter,
}

impl Metrics {
    /// Registers everything at zero.
    pub(super) fn new(node: &Node) -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            gauges::describe();
            let id = format!("{:x}", node.identity().member_id);
            gauge!("etcd_server_id", "server_id" => id).set(1.0);
            gauge!("etcd_server_version", "server_version" => ETCD_VERSION).set(1.0);
            gauge!("quorate_version", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            gauge!("process_start_time_seconds").set(start.as_secs_f64());
            Metrics {
                handle,
                methods: Methods::new(),
                rest: ["2xx", "3xx", "4xx", "5xx"]
                    .map(|class| counter!("quorate_rest_requests_total", "code" => class)),
                gauges: Gauges::new(),
                proposals_failed: counter!("etcd_server_proposals_failed_total"),
                health_success: counter!("etcd_server_health_success"),
                health_failures: counter!("etcd_server_health_failures"),
            }
        })
    }

    /// Counts a call as started; see [`Methods::start`].
    pub(super) fn call(&self, method: Method) -> Call<'_> {
        self.methods.start(method)
    }

    /// Counts an answer of REST.
    pub(super) fn rest(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        self.rest[class.clamp(2, 5) - 2].increment(1);
    }

    /// The page.
    pub(super) fn render(&self, node: &Node) -> String {
        self.gauges.set(node);
        let mut page = self.handle.render();
        if let Some(process) = PROCESS.get().and_then(Option::as_ref) {
            page.push_str(&process.render());
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_counts_is_shown() {
        install();
        install();
        metrics::counter!("quorate_test_total").increment(3);
        metrics::histogram!("quorate_test_duration_seconds").record(0.0003);
        let page = PROCESS
            .get()
            .and_then(Option::as_ref)
            .map(PrometheusHandle::render)
            .unwrap();
        assert!(page.contains("quorate_test_total 3"), "{page}");
        assert!(
            page.contains("quorate_test_duration_seconds_bucket{le=\"0.0005\"} 1"),
            "{page}"
        );
        assert!(
            page.contains("quorate_test_duration_seconds_bucket{le=\"0.00025\"} 0"),
            "{page}"
        );
    }
}

//! What a node is and holds, looked up for each page.

use metrics::{Gauge, describe_counter, describe_gauge, gauge};

use super::process;
use crate::{api::watch, node::Node};

/// Handles on them.
pub(super) struct Gauges {
    has_leader: Gauge,
    is_leader: Gauge,
    is_learner: Gauge,
    committed: Gauge,
    applied: Gauge,
    pending: Gauge,
    term: Gauge,
    last_index: Gauge,
    log_segments: Gauge,
    log_bytes: Gauge,
    log_queued: Gauge,
    db_total: Gauge,
    db_in_use: Gauge,
    quota: Gauge,
    revision: Gauge,
    compacted: Gauge,
    keys: Gauge,
    autopilot_healthy: Gauge,
    failure_tolerance: Gauge,
    process: process::Gauges,
    watch: watch::Gauges,
}

impl Gauges {
    pub(super) fn new() -> Gauges {
        Gauges {
            has_leader: gauge!("etcd_server_has_leader"),
            is_leader: gauge!("etcd_server_is_leader"),
            is_learner: gauge!("etcd_server_is_learner"),
            committed: gauge!("etcd_server_proposals_committed_total"),
            pending: gauge!("etcd_server_proposals_pending"),
            applied: gauge!("etcd_server_proposals_applied_total"),
            term: gauge!("quorate_raft_term"),
            last_index: gauge!("quorate_raft_last_index"),
            log_segments: gauge!("quorate_wal_segments"),
            log_bytes: gauge!("quorate_wal_disk_bytes"),
            log_queued: gauge!("quorate_wal_queued_bytes"),
            db_total: gauge!("etcd_mvcc_db_total_size_in_bytes"),
            db_in_use: gauge!("etcd_mvcc_db_total_size_in_use_in_bytes"),
            quota: gauge!("etcd_server_quota_backend_bytes"),
            revision: gauge!("etcd_debugging_mvcc_current_revision"),
            compacted: gauge!("etcd_debugging_mvcc_compact_revision"),
            keys: gauge!("etcd_debugging_mvcc_keys_total"),
            autopilot_healthy: gauge!("quorate_autopilot_healthy"),
            failure_tolerance: gauge!("quorate_autopilot_failure_tolerance"),
            process: process::Gauges::new(),
            watch: watch::Gauges::new(),
        }
    }

    pub(super) fn set(&self, node: &Node) {
        let status = node.status();
        let flag = |gauge: &Gauge, on: bool| gauge.set(if on { 1.0 } else { 0.0 });
        flag(&self.has_leader, status.leader.is_some());
        flag(&self.is_leader, status.leader == Some(node.identity().member_id));
        flag(&self.is_learner, status.is_learner);
        self.committed.set(status.committed_index as f64);
        self.pending.set(node.pending_proposals() as f64);
        self.applied.set(status.applied_index as f64);
        self.term.set(status.term as f64);
        self.last_index.set(status.last_log_index as f64);
        let log = node.wal().stats();
        self.log_segments.set(log.segments as f64);
        self.log_bytes.set(log.disk_bytes as f64);
        self.log_queued.set(log.queued_bytes as f64);
        self.db_total.set(status.db_size_bytes as f64);
        self.db_in_use.set(status.live_bytes as f64);
        self.quota.set(status.quota_bytes as f64);
        self.revision.set(status.revision as f64);
        self.compacted.set(node.store().compacted() as f64);
        self.keys.set(node.store().keys() as f64);
        let health = node.membership().health_here();
        let known = |value: Option<f64>| value.unwrap_or(f64::NAN);
        self.autopilot_healthy
            .set(known(health.map(|(healthy, _)| f64::from(healthy))));
        self.failure_tolerance
            .set(known(health.map(|(_, tolerance)| tolerance as f64)));
        self.process.set();
        self.watch.set(&node.hub().stats());
    }
}

/// Texts for a node's own metrics.
pub(super) fn describe() {
    describe_gauge!("etcd_server_has_leader", "1 while a leader is known, else 0.");
    describe_gauge!(
        "etcd_server_is_leader",
        "1 while this member is the leader, else 0."
    );
    describe_gauge!(
        "etcd_server_is_learner",
        "1 while this member is a learner, else 0."
    );
    describe_gauge!("etcd_server_id", "1 for this member's id, in hexadecimal digits.");
    describe_gauge!(
        "etcd_server_version",
        "1 for the version of etcd whose API this is."
    );
    describe_gauge!("quorate_version", "1 for the version of Quorate.");
    describe_counter!(
        "etcd_server_proposals_failed_total",
        "Writes without an outcome, unknown ones among them."
    );
    describe_gauge!(
        "etcd_server_proposals_pending",
        "Writes that wait to be committed and applied."
    );
    describe_gauge!(
        "etcd_server_proposals_committed_total",
        "Index of the last log entry committed."
    );
    describe_gauge!(
        "etcd_server_proposals_applied_total",
        "Index of the last log entry applied."
    );
    describe_gauge!("quorate_raft_term", "The current term.");
    describe_gauge!("quorate_raft_last_index", "Index of the last entry of the log.");
    describe_gauge!("quorate_wal_segments", "Segment files of the log.");
    describe_gauge!("quorate_wal_disk_bytes", "What the log takes on disk.");
    describe_gauge!(
        "quorate_wal_queued_bytes",
        "Bytes of the log that wait to be written."
    );
    describe_gauge!(
        "etcd_mvcc_db_total_size_in_bytes",
        "What the store takes on disk."
    );
    describe_gauge!(
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "Bytes of live keys and values."
    );
    describe_gauge!(
        "etcd_server_quota_backend_bytes",
        "How many bytes may be live before writes are refused."
    );
    describe_gauge!("etcd_debugging_mvcc_current_revision", "The current revision.");
    describe_gauge!(
        "etcd_debugging_mvcc_compact_revision",
        "The compacted revision; -1 before the first."
    );
    describe_gauge!("etcd_debugging_mvcc_keys_total", "Keys that exist.");
    describe_gauge!(
        "quorate_autopilot_healthy",
        "On the leader, 1 while all members answer and have caught up, else 0; NaN elsewhere."
    );
    describe_gauge!(
        "quorate_autopilot_failure_tolerance",
        "On the leader, how many voters more may fail; NaN elsewhere."
    );
    describe_counter!("grpc_server_started_total", "gRPC calls started.");
    describe_counter!("grpc_server_handled_total", "gRPC calls ended, by code.");
    describe_counter!(
        "quorate_rest_requests_total",
        "Answers of the REST API, by class of status."
    );
    describe_counter!("etcd_server_health_success", "Answers of /health that said yes.");
    describe_counter!("etcd_server_health_failures", "Answers of /health that said no.");
    describe_gauge!(
        "process_start_time_seconds",
        "When the node started, in seconds since 1970."
    );
    process::describe();
}

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

use futures::{Stream, StreamExt};
use metrics::{
    Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tonic::{Code, Status};

use super::{calls::Api, ops::ETCD_VERSION, process, watch};
use crate::{lease::counts, node::Node};

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

/// The gRPC methods that are served and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    RangeStream,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    Status,
    Alarm,
    Defragment,
    Hash,
    Snapshot,
    MoveLeader,
    Downgrade,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    LeaseKeepAlive,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
    HashKv,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    Watch,
}

impl Method {
    /// Service and method, in the order of the variants.
    const NAMES: [(&'static str, &'static str); 49] = [
        ("etcdserverpb.KV", "Range"),
        ("etcdserverpb.KV", "Put"),
        ("etcdserverpb.KV", "DeleteRange"),
        ("etcdserverpb.KV", "Txn"),
        ("etcdserverpb.KV", "Compact"),
        ("etcdserverpb.KV", "RangeStream"),
        ("etcdserverpb.Cluster", "MemberList"),
        ("etcdserverpb.Cluster", "MemberAdd"),
        ("etcdserverpb.Cluster", "MemberRemove"),
        ("etcdserverpb.Cluster", "MemberUpdate"),
        ("etcdserverpb.Cluster", "MemberPromote"),
        ("etcdserverpb.Maintenance", "Status"),
        ("etcdserverpb.Maintenance", "Alarm"),
        ("etcdserverpb.Maintenance", "Defragment"),
        ("etcdserverpb.Maintenance", "Hash"),
        ("etcdserverpb.Maintenance", "Snapshot"),
        ("etcdserverpb.Maintenance", "MoveLeader"),
        ("etcdserverpb.Maintenance", "Downgrade"),
        ("etcdserverpb.Lease", "LeaseGrant"),
        ("etcdserverpb.Lease", "LeaseRevoke"),
        ("etcdserverpb.Lease", "LeaseTimeToLive"),
        ("etcdserverpb.Lease", "LeaseLeases"),
        ("etcdserverpb.Lease", "LeaseKeepAlive"),
        ("v3lockpb.Lock", "Lock"),
        ("v3lockpb.Lock", "Unlock"),
        ("v3electionpb.Election", "Campaign"),
        ("v3electionpb.Election", "Proclaim"),
        ("v3electionpb.Election", "Leader"),
        ("v3electionpb.Election", "Observe"),
        ("v3electionpb.Election", "Resign"),
        ("etcdserverpb.Maintenance", "HashKV"),
        ("etcdserverpb.Auth", "AuthEnable"),
        ("etcdserverpb.Auth", "AuthDisable"),
        ("etcdserverpb.Auth", "AuthStatus"),
        ("etcdserverpb.Auth", "Authenticate"),
        ("etcdserverpb.Auth", "UserAdd"),
        ("etcdserverpb.Auth", "UserGet"),
        ("etcdserverpb.Auth", "UserList"),
        ("etcdserverpb.Auth", "UserDelete"),
        ("etcdserverpb.Auth", "UserChangePassword"),
        ("etcdserverpb.Auth", "UserGrantRole"),
        ("etcdserverpb.Auth", "UserRevokeRole"),
        ("etcdserverpb.Auth", "RoleAdd"),
        ("etcdserverpb.Auth", "RoleGet"),
        ("etcdserverpb.Auth", "RoleList"),
        ("etcdserverpb.Auth", "RoleDelete"),
        ("etcdserverpb.Auth", "RoleGrantPermission"),
        ("etcdserverpb.Auth", "RoleRevokePermission"),
        ("etcdserverpb.Watch", "Watch"),
    ];
}

/// gRPC's codes as its Go implementation spells them, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// As gRPC's Go implementation names a code.
pub(super) fn code_name(code: Code) -> &'static str {
    CODES[code as usize]
}

/// One node's metrics.
pub(super) struct Metrics {
    handle: PrometheusHandle,
    methods: [MethodCounters; Method::NAMES.len()],
    rest: [Counter; 4],
    gauges: Gauges,
    /// Proposals without an outcome.
    pub(super) proposals_failed: Counter,
    /// Answers of `/health` that said yes.
    pub(super) health_success: Counter,
    /// Answers of `/health` that said no.
    pub(super) health_failures: Counter,
}

struct MethodCounters {
    started: Counter,
    handled: [Counter; CODES.len()],
}

struct Gauges {
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

impl Metrics {
    /// Registers everything at zero.
    pub(super) fn new(node: &Node) -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            let id = format!("{:x}", node.identity().member_id);
            gauge!("etcd_server_id", "server_id" => id).set(1.0);
            gauge!("etcd_server_version", "server_version" => ETCD_VERSION).set(1.0);
            gauge!("quorate_version", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            gauge!("process_start_time_seconds").set(start.as_secs_f64());
            Metrics {
                handle,
                methods: Method::NAMES.map(|(service, method)| MethodCounters::new(service, method)),
                rest: ["2xx", "3xx", "4xx", "5xx"]
                    .map(|class| counter!("quorate_rest_requests_total", "code" => class)),
                gauges: Gauges::new(),
                proposals_failed: counter!("etcd_server_proposals_failed_total"),
                health_success: counter!("etcd_server_health_success"),
                health_failures: counter!("etcd_server_health_failures"),
            }
        })
    }

    /// Counts a call as started. It ends as cancelled unless [`Call::end`] says otherwise, as the future of
    /// a request whose client went away is dropped.
    pub(super) fn call(&self, method: Method) -> Call<'_> {
        let method = &self.methods[method as usize];
        method.started.increment(1);
        Call {
            method,
            code: Code::Cancelled,
        }
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

/// A gRPC call under way.
pub(super) struct Call<'a> {
    method: &'a MethodCounters,
    code: Code,
}

impl Call<'_> {
    /// Turns the result into the answer and remembers its code.
    pub(super) fn end<T>(
        mut self,
        result: Result<T, super::errors::ApiError>,
    ) -> Result<tonic::Response<T>, Status> {
        let answer = result.map(tonic::Response::new).map_err(Status::from);
        self.code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        answer
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.method.handled[self.code as usize].increment(1);
    }
}

/// A stream under way.
pub(super) struct StreamCall {
    api: Api,
    method: Method,
}

impl StreamCall {
    /// Counts it as started.
    pub(super) fn new(api: &Api, method: Method) -> StreamCall {
        api.metrics().methods[method as usize].started.increment(1);
        StreamCall {
            api: api.clone(),
            method,
        }
    }

    /// Counts it as ended; to be called once.
    pub(super) fn end(&self, code: Code) {
        self.api.metrics().methods[self.method as usize].handled[code as usize].increment(1);
    }
}

/// Counts a stream that ends as its last answer does.
pub(super) fn counted<T, S: Stream<Item = Result<T, Status>>>(
    api: &Api,
    method: Method,
    answers: S,
) -> impl Stream<Item = Result<T, Status>> + use<T, S> {
    let mut ending = Ending(StreamCall::new(api, method), Code::Ok);
    answers.inspect(move |answer| ending.last(answer.as_ref().err().map_or(Code::Ok, Status::code)))
}

/// Counts a stream as ended when it is dropped.
struct Ending(StreamCall, Code);

impl Ending {
    fn last(&mut self, code: Code) {
        self.1 = code;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

impl MethodCounters {
    fn new(service: &'static str, method: &'static str) -> MethodCounters {
        let kind = match method {
            "Watch" | "LeaseKeepAlive" => "bidi_stream",
            "Observe" => "server_stream",
            _ => "unary",
        };
        let started = counter!(
            "grpc_server_started_total",
            "grpc_method" => method, "grpc_service" => service, "grpc_type" => kind
        );
        let handled = CODES.map(|code| {
            counter!(
                "grpc_server_handled_total",
                "grpc_code" => code,
                "grpc_method" => method, "grpc_service" => service, "grpc_type" => kind
            )
        });
        MethodCounters { started, handled }
    }
}

impl Gauges {
    fn new() -> Gauges {
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

    fn set(&self, node: &Node) {
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

fn describe() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_at_their_numbers() {
        assert_eq!(CODES[Code::Cancelled as usize], "Canceled");
        assert_eq!(CODES[Code::OutOfRange as usize], "OutOfRange");
        assert_eq!(CODES[Code::Unavailable as usize], "Unavailable");
        assert_eq!(Code::Unauthenticated as usize, CODES.len() - 1);
    }

    #[test]
    fn methods_stand_at_their_names() {
        assert_eq!(Method::NAMES[Method::Put as usize].1, "Put");
        assert_eq!(Method::NAMES[Method::HashKv as usize].1, "HashKV");
        assert_eq!(Method::Watch as usize, Method::NAMES.len() - 1);
    }

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

//! What operators, probes and balancers ask: health, readiness, version, metrics, and where things are.
//!
//! | path | answer |
//! | --- | --- |
//! | `/health` | etcd's `{"health":"true","reason":""}`: 200 when a linearizable read succeeds, else 503; with `?serializable=true` this node's own store is enough |
//! | `/livez` | 200 `ok` while the process works, else 503: restart it |
//! | `/readyz` | 200 `ok` when requests can be served, else 503 and every check by name |
//! | `/version` | etcd's `etcdserver` and `etcdcluster`, and `quorate` |
//! | `/metrics` | Prometheus text |
//!
//! `/livez` and `/readyz` list their checks, `[+]name ok` or `[-]name failed: why`, with `?verbose`, and
//! whenever one failed.

use std::{fmt::Write, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use kv_core::{AlarmKind, Caller};
use serde_json::json;
use tokio::time::Instant;

use super::{
    calls::{Api, Consistency},
    problem::Problem,
};
use crate::node::Check;

/// The version of etcd whose API this is. Clients read capabilities off it (Kubernetes asks for watch
/// progress from 3.5.13 on), and its parts must be plain numbers.
pub(super) const ETCD_VERSION: &str = "3.5.21";
/// As etcd tells the version of the cluster: without the patch.
pub(super) const ETCD_CLUSTER_VERSION: &str = "3.5.0";

/// How long a readiness probe waits for the quorum: less than what probes usually wait for the answer.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);

/// What can be asked here, for the answer to a path that does not exist.
const PATHS: [&str; 10] = [
    "/v1/kv/{key}",
    "/v1/kv/?prefix=",
    "/v1/cluster/autopilot",
    "/v3/kv/range",
    "/metrics",
    "/health",
    "/livez",
    "/readyz",
    "/version",
    "gRPC: etcdserverpb.KV, etcdserverpb.Watch, etcdserverpb.Cluster, etcdserverpb.Maintenance",
];

/// The operational endpoints.
pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/health", reading(get(health)))
        .route("/livez", reading(get(livez)))
        .route("/readyz", reading(get(readyz)))
        .route("/version", reading(get(version)))
        .route("/metrics", reading(get(metrics)))
}

/// GET and HEAD; a clear 405 otherwise.
fn reading(route: MethodRouter<Api>) -> MethodRouter<Api> {
    route.fallback(|method: Method| async move { Problem::method_not_allowed(&method, "GET, HEAD") })
}

/// What no route takes: UNIMPLEMENTED to a gRPC client, and a 404 that names what exists to others.
pub(super) async fn not_found(request: http::Request<axum::body::Body>) -> Response {
    let is_grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return tonic::Status::unimplemented("").into_http();
    }
    let body = json!({
        "error": "no_such_path",
        "message": format!("there is nothing at {}", request.uri().path()),
        "paths": PATHS,
    });
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

/// Whether the query has the flag: alone, empty, or saying so.
fn flag(uri: &Uri, name: &str) -> bool {
    uri.query()
        .unwrap_or("")
        .split('&')
        .any(|pair| match pair.split_once('=') {
            None => pair == name,
            Some((key, value)) => key == name && matches!(value, "" | "1" | "true"),
        })
}

/// The values that the query gives for a name.
fn values(uri: &Uri, name: &str) -> Vec<String> {
    let pairs = uri.query().unwrap_or("").split('&');
    let given = pairs.filter_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name));
    given.map(|(_, value)| value.to_owned()).collect()
}

async fn health(State(api): State<Api>, uri: Uri) -> Response {
    let excluded = values(&uri, "exclude");
    let reason = unhealthy(&api, flag(&uri, "serializable"), &excluded).await;
    let (status, health) = match reason {
        None => {
            api.metrics().health_success.increment(1);
            (StatusCode::OK, "true")
        }
        Some(_) => {
            api.metrics().health_failures.increment(1);
            (StatusCode::SERVICE_UNAVAILABLE, "false")
        }
    };
    (
        status,
        Json(json!({"health": health, "reason": reason.unwrap_or_default()})),
    )
        .into_response()
}

/// etcd's test: no alarm but those excluded, a leader is known and a read succeeds, a linearizable one unless told otherwise.
async fn unhealthy(api: &Api, serializable: bool, excluded: &[String]) -> Option<String> {
    if !serializable && api.node().status().leader.is_none() {
        return Some("RAFT NO LEADER".into());
    }
    let excluded = |kind: &str| excluded.iter().any(|name| name == kind);
    for alarm in api.node().alarms() {
        let kind = match alarm.kind {
            AlarmKind::NoSpace => "NOSPACE",
            AlarmKind::Corrupt => "CORRUPT",
        };
        if !excluded(kind) {
            return Some(format!("ALARM {kind}"));
        }
    }
    let probe = kv_core::Range {
        key: "health".into(),
        count_only: true,
        ..kv_core::Range::default()
    };
    let read = async {
        api.settle(Consistency::of(serializable)).await?;
        api.range_by(&Caller::Node, &probe).await
    };
    let error = read.await.err()?;
    Some(format!("RANGE ERROR:{}", error.row().message))
}

/// Whether the process works: what a restart would mend.
async fn livez(State(api): State<Api>, uri: Uri) -> Response {
    let checks = api
        .node()
        .checks()
        .into_iter()
        .filter(|check| check.name == "running")
        .collect();
    report(checks, flag(&uri, "verbose"))
}

/// Whether requests can be served: the node's own checks, and where they pass a linearizable read.
async fn readyz(State(api): State<Api>, uri: Uri) -> Response {
    let mut checks = api.node().checks();
    if checks.iter().all(|check| check.failure.is_none()) {
        let deadline = api.deadline().min(Instant::now() + PROBE_TIMEOUT);
        let read = api.node().read_barrier(deadline).await;
        checks.push(Check {
            name: "linearizable_read",
            failure: read.err().map(|error| error.to_string()),
        });
    }
    report(checks, flag(&uri, "verbose"))
}

fn report(checks: Vec<Check>, verbose: bool) -> Response {
    let failed = checks.iter().any(|check| check.failure.is_some());
    let mut text = String::new();
    if verbose || failed {
        for check in &checks {
            // Writing to a string does not fail.
            let _ = match &check.failure {
                None => writeln!(text, "[+]{} ok", check.name),
                Some(why) => writeln!(text, "[-]{} failed: {why}", check.name),
            };
        }
    }
    text.push_str(if failed { "failed\n" } else { "ok\n" });
    let status = if failed {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (status, text).into_response()
}

async fn version() -> Response {
    Json(json!({
        "etcdserver": ETCD_VERSION,
        "etcdcluster": ETCD_CLUSTER_VERSION,
        "quorate": env!("CARGO_PKG_VERSION"),
    }))
    .into_response()
}

async fn metrics(State(api): State<Api>) -> Response {
    let page = api.metrics().render(api.node());
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], page).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn shown(response: Response) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn check(name: &'static str, failure: Option<&str>) -> Check {
        Check {
            name,
            failure: failure.map(String::from),
        }
    }

    #[tokio::test]
    async fn failing_checks_are_always_named() {
        let good = || vec![check("leader", None), check("disk", None)];
        assert_eq!(shown(report(good(), false)).await, (200, "ok\n".into()));
        assert_eq!(
            shown(report(good(), true)).await,
            (200, "[+]leader ok\n[+]disk ok\nok\n".into())
        );
        let bad = || vec![check("leader", Some("no quorum")), check("disk", None)];
        let expected = (
            503,
            "[-]leader failed: no quorum\n[+]disk ok\nfailed\n".to_string(),
        );
        assert_eq!(shown(report(bad(), false)).await, expected);
        assert_eq!(shown(report(bad(), true)).await, expected);
    }

    #[test]
    fn flags_of_a_query() {
        let on = |query: &str| flag(&format!("/readyz{query}").parse().unwrap(), "verbose");
        assert!(on("?verbose") && on("?verbose=") && on("?verbose=true") && on("?a=b&verbose=1"));
        assert!(!on("") && !on("?verbose=false") && !on("?a=verbose") && !on("?verboses"));
    }

    #[test]
    fn versions_are_plain_numbers() {
        for version in [ETCD_VERSION, ETCD_CLUSTER_VERSION] {
            let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
            assert_eq!(parts.len(), 3);
        }
        let patch: u32 = ETCD_VERSION.rsplit('.').next().unwrap().parse().unwrap();
        assert!(ETCD_VERSION.starts_with("3.5.") && patch >= 13);
    }
}

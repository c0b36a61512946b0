//! Health, readiness, version, metrics; and what is said without a quorum.

use kv_proto::etcdserverpb::{MemberListRequest, PutRequest, RangeRequest, StatusRequest};
use serde_json::json;
use tonic::Code;

use crate::{common::until, harness::Server};

#[tokio::test]
async fn a_node_that_can_serve() {
    let server = Server::start().await;
    let health = server.get("/health").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"health": "true", "reason": ""}))
    );
    assert_eq!(server.get("/health?serializable=true").await.status, 200);
    assert_eq!(server.get("/livez").await.text(), "ok\n");
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.text()), (200, "ok\n"));
    let verbose = server.get("/readyz?verbose").await;
    for check in [
        "[+]running ok\n",
        "[+]leader ok\n",
        "[+]caught_up ok\n",
        "[+]linearizable_read ok\n",
    ] {
        assert!(verbose.text().contains(check), "{}", verbose.text());
    }
    let version = server.get("/version").await.json();
    assert_eq!(
        (&version["etcdserver"], &version["etcdcluster"]),
        (&json!("3.5.21"), &json!("3.5.0"))
    );
    assert_eq!(version["quorate"], env!("CARGO_PKG_VERSION"));
    let head = server.ask("HEAD", "/health", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_clearly() {
    let server = Server::start().await;
    for path in ["/", "/v1", "/v2/keys", "/v3alpha/kv/range", "/metric"] {
        let answer = server.get(path).await;
        assert_eq!(answer.problem(), (404, "no_such_path".to_owned()), "{path}");
        let paths = answer.json()["paths"].to_string();
        assert!(
            paths.contains("/v1/kv/{key}") && paths.contains("/metrics"),
            "{paths}"
        );
    }
    for path in ["/health", "/livez", "/readyz", "/version", "/metrics"] {
        let answer = server.ask("POST", path, &[], "").await;
        assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()), "{path}");
        assert_eq!(answer.header("allow"), "GET, HEAD");
    }
    server.stop().await;
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let server = Server::start().await;
    let mut kv = server.kv();
    kv.range(RangeRequest {
        key: "a".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    kv.range(RangeRequest::default()).await.unwrap_err();
    server.get("/v1/kv/nothing").await;
    server.get("/health").await;
    let page = server.get("/metrics").await;
    assert_eq!(
        page.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let page = page.text();
    let service = r#"grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    for line in [
        "etcd_server_has_leader 1".to_owned(),
        "etcd_server_is_leader 1".to_owned(),
        "etcd_server_is_learner 0".to_owned(),
        "etcd_server_proposals_pending 0".to_owned(),
        "etcd_server_proposals_failed_total 0".to_owned(),
        "etcd_server_health_success 1".to_owned(),
        "etcd_debugging_mvcc_keys_total 1".to_owned(),
        "etcd_debugging_mvcc_current_revision 2".to_owned(),
        r#"quorate_rest_requests_total{code="4xx"} 1"#.to_owned(),
        format!(r#"grpc_server_handled_total{{grpc_code="OK",grpc_method="Put",{service}}} 1"#),
        format!(r#"grpc_server_handled_total{{grpc_code="OK",grpc_method="Range",{service}}} 1"#),
        format!(
            r#"grpc_server_handled_total{{grpc_code="InvalidArgument",grpc_method="Range",{service}}} 1"#
        ),
        format!(r#"grpc_server_started_total{{grpc_method="Range",{service}}} 2"#),
        format!(
            r#"etcd_server_id{{server_id="{:x}"}} 1"#,
            server.node.identity().member_id
        ),
    ] {
        assert!(
            page.lines().any(|shown| shown == line),
            "{line} is not in\n{page}"
        );
    }
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!(value("etcd_disk_wal_fsync_duration_seconds_count") >= 1.0);
    assert!(value("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}") >= 1.0);
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 3.0);
    assert!(value("etcd_server_proposals_committed_total") >= value("etcd_server_proposals_applied_total"));
    assert!(value("etcd_mvcc_db_total_size_in_bytes") > 0.0);
    for family in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().unwrap();
        assert_eq!(
            page.matches(&format!("# TYPE {name} ")).count(),
            1,
            "{name} is told twice"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_quorum() {
    let server = Server::start_without_quorum().await;
    let health = server.get("/health").await;
    assert_eq!(
        (health.status, health.json()),
        (503, json!({"health": "false", "reason": "RAFT NO LEADER"}))
    );
    assert_eq!(server.get("/health?serializable=true").await.status, 200);
    assert_eq!(server.get("/livez").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.text().contains("[-]leader failed: ") && ready.text().contains("[+]running ok"),
        "{}",
        ready.text()
    );

    // A leader without followers keeps looking for them: what it takes into its log meanwhile is unknown.
    let put = server.ask("PUT", "/v1/kv/a", &[], "1").await;
    let (status, error) = put.problem();
    let (outcome, retry_after) = (put.json()["outcome"].to_string(), put.header("retry-after"));
    match error.as_str() {
        "no_leader" => assert_eq!((status, &*outcome, retry_after), (503, "\"not executed\"", "1")),
        "timed_out" => assert_eq!((status, &*outcome, retry_after), (504, "\"unknown\"", "")),
        other => panic!("{other}"),
    }
    let read = server.get("/v1/kv/a").await;
    assert!(matches!(read.status, 503 | 504), "{read:?}");
    assert_eq!(read.json()["outcome"], "not executed");
    let stale = server.get("/v1/kv/a?consistency=serializable").await;
    assert_eq!(stale.problem(), (404, "key_not_found".to_owned()));

    let mut kv = server.kv();
    let refused = kv
        .put(PutRequest {
            key: "a".into(),
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let expected = ["etcdserver: no leader", "etcdserver: request timed out"];
    assert!(expected.contains(&refused.message()), "{refused:?}");
    let stale = RangeRequest {
        key: "a".into(),
        serializable: true,
        ..Default::default()
    };
    assert_eq!(kv.range(stale).await.unwrap().into_inner().count, 0);
    until("no leader", || server.node.status().leader.is_none()).await;
    let status = server
        .maintenance()
        .status(StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.leader, status.errors),
        (0, vec!["etcdserver: no leader".to_owned()])
    );
    let members = server
        .cluster()
        .member_list(MemberListRequest { linearizable: false })
        .await
        .unwrap();
    assert_eq!(members.into_inner().members.len(), 2);
    server.stop().await;
}

//! What the balancer shows of itself.

use loadbalancer::backend::Kind;

use crate::support::*;

#[tokio::test]
async fn page_json_and_metrics_agree() {
    let (a, b) = (TestBackend::echo("a").await, TestBackend::echo("b").await);
    let rig = Rig::nodes(&[&a, &b]).await;
    rig.names.set("apps", [nobody()[0]]);
    rig.until(Kind::Web, "checked", |pool| {
        pool.backends.iter().any(|b| b.checks > 2)
    })
    .await;
    let client = rig.http2().await;
    for _ in 0..6 {
        client.call("/etcdserverpb.KV/Put", "x").await;
    }
    let stats = rig.balancer.stats_addr();

    let (response, page) = http1(stats, get("/")).await;
    assert_eq!(
        response.headers()["content-security-policy"],
        "default-src 'none'; style-src 'self'"
    );
    assert!(
        page.contains("http-equiv=\"refresh\"") && !page.contains("<script") && !page.contains("style=\"")
    );
    for part in [
        &a.addr.to_string(),
        "Storage nodes",
        "Web apps",
        "state up",
        "state down",
        "0 of 1",
        "connection refused",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let (response, _) = http1(stats, get("/style.css")).await;
    assert_eq!(response.headers()["content-type"], "text/css");

    let (_, json) = http1(stats, get("/stats.json")).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["pools"][0]["requests"], 6);
    assert_eq!(json["pools"][0]["backends"][0]["requests"], 3);
    assert_eq!(json["pools"][1]["backends"][0]["state"], "down");

    let (_, metrics) = http1(stats, get("/metrics")).await;
    for line in [
        "quorate_lb_requests_total{pool=\"node\"} 6".to_owned(),
        format!(
            "quorate_lb_backend_requests_total{{pool=\"node\",backend=\"{}\"}} 3",
            a.addr
        ),
        format!("quorate_lb_backend_up{{pool=\"node\",backend=\"{}\"}} 1", b.addr),
        "quorate_lb_request_duration_seconds_count{pool=\"node\"} 6".to_owned(),
        "quorate_lb_usable_backends{pool=\"web\"} 0".to_owned(),
        "# TYPE quorate_lb_request_duration_seconds histogram".to_owned(),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let rig = Rig::start(config()).await;
    let stats = rig.balancer.stats_addr();
    let (response, text) = http1(stats, get("/readyz")).await;
    assert_eq!(
        (response.status().as_u16(), text.as_str()),
        (503, "no usable node backend\nno usable web backend\n")
    );
    let backend = TestBackend::echo("a").await;
    rig.names.set("nodes", [backend.addr]);
    rig.names.set("apps", [backend.addr]);
    rig.until_usable(Kind::Node, 1).await;
    rig.until_usable(Kind::Web, 1).await;
    assert_eq!(http1(stats, get("/readyz")).await.0.status(), 200);
    assert_eq!(http1(stats, get("/healthz")).await.0.status(), 200);
    assert_eq!(http1(stats, get("/nothing")).await.0.status(), 404);
    let post = http::Request::post("/").body(full("x")).unwrap();
    assert_eq!(http1(stats, post).await.0.status(), 405);
}

//! What a client port answers before the node is up, in each protocol's own form of an error: one that says that
//! nothing was done, and that the request may be sent again.

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use tokio::sync::watch;
use tonic::Status;

use super::{errors::ApiError, gateway, problem::Problem};
use crate::raft::read_index::ReadBarrierError;

/// The routes; `progress` is what the node waits for.
pub(super) fn router(progress: watch::Receiver<String>) -> Router {
    let readyz = move || {
        let what = progress.borrow().clone();
        async move {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("[-]starting failed: {what}\n"),
            )
        }
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .fallback(unavailable)
}

async fn unavailable(request: Request) -> Response {
    let no_leader = || Status::from(ApiError::from(ReadBarrierError::NoLeader));
    let is_grpc = |value: &HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        return no_leader().into_http();
    }
    if gateway::is_path(request.uri().path()) {
        return gateway::failure(&no_leader());
    }
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "starting",
        "the node is starting, see /readyz",
    )
    .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::*;

    async fn asked(path: &str, content_type: &str) -> Response {
        let progress = watch::Sender::new("waiting for peers".to_owned());
        let request = Request::builder().uri(path).header("content-type", content_type);
        let request = request.body(Body::empty()).unwrap();
        router(progress.subscribe()).oneshot(request).await.unwrap()
    }

    async fn body(response: Response) -> Value {
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn each_protocol_hears_it_in_its_own_words() {
        let rest = body(asked("/v1/kv/a", "").await).await;
        assert_eq!(
            (&rest["error"], &rest["outcome"]),
            (&json!("starting"), &json!("not executed"))
        );
        for path in ["/v3/kv/range", "/v3beta/kv/range"] {
            let gateway = body(asked(path, "application/json").await).await;
            let expected =
                json!({"error": "etcdserver: no leader", "message": "etcdserver: no leader", "code": 14});
            assert_eq!(gateway, expected);
        }
        let grpc = asked("/etcdserverpb.KV/Range", "application/grpc").await;
        assert_eq!(
            (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
            (200, &HeaderValue::from_static("14"))
        );
        let ready = asked("/readyz", "").await;
        assert_eq!(ready.status(), 503);
        let why = ready.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(why, "[-]starting failed: waiting for peers\n");
    }
}

//! A router that can be put in place after its port is open.
//!
//! A node answers on its ports from the first moment: before consensus runs, probes learn what it
//! waits for, and clients get an error that is safe to retry.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;
use tower::ServiceExt;

/// The place for a router that comes later.
#[derive(Clone, Default)]
pub struct Later(Arc<OnceLock<Router>>);

impl Later {
    /// Puts the router in place, once.
    pub fn set(&self, router: Router) {
        assert!(self.0.set(router).is_ok(), "a router is put in place once");
    }

    /// `first`, then the later router for everything `first` does not route; until it is there, `before`.
    pub fn behind(self, first: Router, before: fn() -> Response) -> Router {
        first.fallback(move |request: Request| {
            let later = self.clone();
            async move {
                match later.0.get() {
                    Some(router) => router.clone().oneshot(request).await.unwrap_or_else(|never| match never {}),
                    None => before(),
                }
            }
        })
    }

    /// The router once it is there, and before that one for a client port, which says what the node
    /// waits for.
    pub fn or_starting(self, progress: watch::Receiver<String>) -> Router {
        let starting = starting(progress);
        Router::new().fallback(move |request: Request| {
            let router = self.0.get().unwrap_or(&starting).clone();
            async move { router.oneshot(request).await.unwrap_or_else(|never| match never {}) }
        })
    }
}

fn starting(progress: watch::Receiver<String>) -> Router {
    let readyz = move || {
        let what = progress.borrow().clone();
        async move { (StatusCode::SERVICE_UNAVAILABLE, format!("[-]starting failed: {what}\n")) }
    };
    Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).fallback(unavailable)
}

async fn unavailable(request: Request) -> Response {
    let is_grpc = |value: &axum::http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    if request.headers().get(header::CONTENT_TYPE).is_some_and(is_grpc) {
        return tonic::Status::unavailable("etcdserver: no leader").into_http();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the node is starting, see /readyz\n").into_response()
}

/// The answer to a peer's call before consensus runs: like a call that is not for this node, it was
/// certainly not executed.
pub fn raft_not_running() -> Response {
    tonic::Status::failed_precondition("the node is starting").into_http()
}

//! The way of one request: choose a backend, connect, send, and pass the response through; on failure
//! decide whether another backend may be tried, and say what is known if not.
//!
//! A second attempt is made only where the first certainly was not executed, or where executing twice
//! is the same as once (reads), and only while the whole request body is still at hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::answer::{Style, Trouble, answer};
use crate::backend::{Backend, Kind, Lease};
use crate::body::{GrpcBody, HttpBody, ProxyBody};
use crate::headers;
use crate::health::Fault;
use crate::pool::{NoBackend, Pool};
use crate::replay::{Progress, Replay, ReplayBody};
use crate::upstream::Failure;

/// Backends that one request tries at most.
const ATTEMPTS_MAX: usize = 5;

/// Calls that change nothing, besides GET and HEAD.
const READ_ONLY: [&str; 7] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Cluster/MemberList",
    "/v3/kv/range",
    "/v3/maintenance/status",
    "/v3/cluster/member/list",
];

/// Passes requests on to the backends of one pool.
#[derive(Debug, Clone)]
pub struct Proxy {
    pool: Arc<Pool>,
}

impl Proxy {
    /// A proxy for a pool.
    #[must_use]
    pub fn new(pool: Arc<Pool>) -> Self {
        Proxy { pool }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>, client: SocketAddr) -> Response<ProxyBody> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let style = Style::of(&parts);
        if headers::wants_upgrade(&parts) {
            return answer(Trouble::Upgrade, self.pool.kind, style);
        }
        if style == Style::Grpc && parts.version != Version::HTTP_2 {
            return answer(Trouble::GrpcOverHttp1, self.pool.kind, Style::Json);
        }
        match self.deliver(&parts, body, style, client).await {
            Ok(response) => {
                self.pool.totals.duration.observe(started.elapsed());
                response
            }
            Err(trouble) => {
                self.count(trouble);
                answer(trouble, self.pool.kind, style)
            }
        }
    }

    fn count(&self, trouble: Trouble) {
        let totals = &self.pool.totals;
        let counter = match trouble {
            Trouble::Broken | Trouble::Timeout => &totals.broken,
            Trouble::Full => &totals.rejected,
            Trouble::NotExecuted | Trouble::Upgrade | Trouble::GrpcOverHttp1 => &totals.undelivered,
        };
        counter.fetch_add(1, Relaxed);
    }

    async fn deliver(
        &self,
        parts: &Parts,
        body: Incoming,
        style: Style,
        client: SocketAddr,
    ) -> Result<Response<ProxyBody>, Trouble> {
        let replay = Replay::new(body);
        let mut turn = self.pool.turn();
        // What is to be said if no further attempt succeeds.
        let mut trouble = Trouble::NotExecuted;
        let mut failed_on: Option<Arc<Backend>> = None;
        for _ in 0..ATTEMPTS_MAX {
            let Some(body) = replay.attempt() else { break };
            let lease = match turn.next_backend() {
                Ok(lease) => lease,
                Err(NoBackend::Full) if trouble == Trouble::NotExecuted => return Err(Trouble::Full),
                Err(_) => break,
            };
            if let Some(backend) = failed_on.take() {
                backend.counters.retries.fetch_add(1, Relaxed);
                self.pool.totals.retries.fetch_add(1, Relaxed);
            }
            let backend = Arc::clone(lease.backend());
            let streams = style == Style::Grpc && backend.kind == Kind::Node;
            let result = if streams {
                send_grpc(parts, body, lease).await
            } else {
                send_http(parts, body, lease, client).await
            };
            match result {
                Ok(response) => {
                    replay.commit();
                    return Ok(response);
                }
                Err(failure) => {
                    let upload_broke_off = match replay.progress() {
                        Progress::Aborted => true,
                        // The upload of a gRPC stream stays open as long as the stream: says nothing.
                        Progress::Coming => !streams,
                        Progress::Complete => false,
                    };
                    note(&backend, &failure, upload_broke_off);
                    if !failure.is_certain() {
                        let timeout = matches!(failure, Failure::Timeout(_));
                        trouble = if timeout {
                            Trouble::Timeout
                        } else {
                            Trouble::Broken
                        };
                        if !is_read_only(parts) || replay.progress() == Progress::Aborted {
                            break;
                        }
                    }
                    failed_on = Some(backend);
                }
            }
        }
        Err(trouble)
    }
}

/// Whether executing the request twice is the same as once.
fn is_read_only(parts: &Parts) -> bool {
    match parts.method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        Method::POST => READ_ONLY.contains(&parts.uri.path()),
        _ => false,
    }
}

/// Tells the backend's health of a failed attempt.
///
/// An upload that broke off says nothing about it: a client can bring that about with a body that the
/// backend refuses, or by going away, or by being slow. The active checks judge then.
fn note(backend: &Backend, failure: &Failure, upload_broke_off: bool) {
    tracing::debug!(backend = %backend.addr, %failure, "attempt failed");
    match failure {
        Failure::Connect(_) => backend.failed(Fault::Connect, failure),
        Failure::Upload(_) => {}
        Failure::Broken(_) | Failure::Timeout(_) if upload_broke_off => {}
        Failure::Broken(_) | Failure::Timeout(_) => backend.failed(Fault::Request, failure),
        // A backend that is shutting down in good order did nothing wrong.
        Failure::NotExecuted(_) => {}
    }
}

async fn send_grpc(parts: &Parts, body: ReplayBody, lease: Lease) -> Result<Response<ProxyBody>, Failure> {
    let backend = lease.backend();
    let connection = backend.http2.connection().await?;
    let head = headers::to_http2(parts, backend.addr);
    let (response, count) = connection.send(head, body).await?;
    backend.succeeded();
    Ok(response.map(|stream| ProxyBody::Grpc(GrpcBody::new(stream, lease, count))))
}

async fn send_http(
    parts: &Parts,
    body: ReplayBody,
    lease: Lease,
    client: SocketAddr,
) -> Result<Response<ProxyBody>, Failure> {
    let backend = lease.backend();
    let mut connection = backend.http1.connection().await?;
    let request = headers::to_http1(parts, backend.addr, client.ip()).map(|()| body);
    let mut response = connection.send(request).await?;
    // 503 and 504 say something about the cluster behind; these two about the backend itself.
    if matches!(
        response.status(),
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY
    ) {
        backend.failed(Fault::Request, &response.status());
    } else {
        backend.succeeded();
    }
    headers::strip_hop_by_hop(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    Ok(response.map(|body| ProxyBody::Http(HttpBody::new(body, connection, lease))))
}

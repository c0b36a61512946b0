//! What stands behind a port: one gRPC service that is called often, a router for everything else, and
//! both only once the node is up.
//!
//! The gRPC service is called directly: a router would box and clone for every request, which costs more
//! than most reads. A node answers on its ports from the first moment: before consensus runs, probes
//! learn what it waits for, and clients get an error that is safe to retry.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use axum::{BoxError, Router, body::Body, http::Request, response::Response, routing::future::RouteFuture};
use bytes::Bytes;
use futures::{
    TryFutureExt,
    future::{Either, MapOk},
};
use tower::Service;

/// A gRPC service at its path, and a router for all other paths.
#[derive(Clone)]
pub struct Front<G> {
    /// Where the service is, as in `/package.Service/`.
    pub path: &'static str,
    /// The service.
    pub grpc: G,
    /// Everything else.
    pub rest: Router,
}

impl<G, B, R> Service<Request<R>> for Front<G>
where
    G: Service<Request<R>, Response = http::Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<MapOk<G::Future, fn(http::Response<B>) -> Response>, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        self.grpc.poll_ready(context)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        if request.uri().path().starts_with(self.path) {
            Either::Left(self.grpc.call(request).map_ok(|response| response.map(Body::new)))
        } else {
            Either::Right(self.rest.call(request))
        }
    }
}

/// A port whose service comes later.
pub struct Port<S> {
    service: Arc<OnceLock<S>>,
    before: Router,
}

impl<S> Clone for Port<S> {
    fn clone(&self) -> Port<S> {
        Port {
            service: self.service.clone(),
            before: self.before.clone(),
        }
    }
}

impl<S> Port<S> {
    /// A port that `before` answers until the service is put in place.
    pub fn new(before: Router) -> Port<S> {
        Port {
            service: Arc::default(),
            before,
        }
    }

    /// Puts the service in place, once.
    pub fn set(&self, service: S) {
        assert!(self.service.set(service).is_ok(), "a node starts once");
    }
}

impl<S, R> Service<Request<R>> for Port<S>
where
    S: Service<Request<R>, Response = Response, Error = Infallible> + Clone,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, RouteFuture<Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // tonic's services and axum's routers are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        match self.service.get() {
            Some(service) => Either::Left(service.clone().call(request)),
            None => Either::Right(self.before.call(request)),
        }
    }
}

/// The answer to a peer's call before consensus runs: like a call that is not for this node, it was
/// certainly not executed.
pub async fn raft_not_running() -> Response {
    tonic::Status::failed_precondition("the node is starting").into_http()
}

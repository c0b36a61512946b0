//! The gRPC services as one router, with etcd's limit on the size of a request.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::middleware;
use futures::{FutureExt, future::Map};
use http::{HeaderValue, Request, Response};
use kv_proto::{
    etcdserverpb::{
        auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
        lease_server::LeaseServer, maintenance_server::MaintenanceServer, watch_server::WatchServer,
    },
    v3electionpb::election_server::ElectionServer,
    v3lockpb::lock_server::LockServer,
};
use tonic::{Code, Status, body::Body, server::NamedService, service::Routes};
use tower::Service;

use super::{
    auth::AuthService, calls::Api, cluster::ClusterService, election::ElectionService, guard::guard,
    kv::KvService, lease::LeaseService, lock::LockService, maintenance::MaintenanceService,
    watch::WatchService,
};

/// How much larger than a request may be a message is read, so that a request slightly too large gets etcd's
/// own answer and not the transport's. etcd's number.
const OVERHEAD_BYTES: usize = 512 << 10;

/// The KV service, which is called directly, and where it is.
pub type KvEndpoint = TooLarge<KvServer<KvService>>;
pub(super) const KV_PATH: &str = "/etcdserverpb.KV/";

/// Bytes of the largest message that is read, and at which fragments of answers end.
pub(super) fn message_bytes_max(api: &Api) -> usize {
    api.node().limits().max_request_bytes + OVERHEAD_BYTES
}

/// The KV service.
pub(super) fn kv(api: &Api) -> KvEndpoint {
    let kv = KvServer::new(KvService(api.clone())).max_decoding_message_size(message_bytes_max(api));
    TooLarge(kv.max_encoding_message_size(usize::MAX))
}

/// The other services. Paths of services that are not served are left to the fallback of the router they
/// are merged into.
pub(super) fn router(api: &Api) -> axum::Router {
    let limit = message_bytes_max(api);
    let cluster = ClusterServer::new(ClusterService(api.clone())).max_decoding_message_size(limit);
    let maintenance =
        MaintenanceServer::new(MaintenanceService(api.clone())).max_decoding_message_size(limit);
    let watch = WatchServer::new(WatchService(api.clone())).max_decoding_message_size(limit);
    let auth = AuthServer::new(AuthService(api.clone())).max_decoding_message_size(limit);
    let lease = LeaseServer::new(LeaseService(api.clone())).max_decoding_message_size(limit);
    let lock = LockServer::new(LockService(api.clone())).max_decoding_message_size(limit);
    let election = ElectionServer::new(ElectionService(api.clone())).max_decoding_message_size(limit);
    Routes::new(TooLarge(cluster))
        .add_service(TooLarge(auth))
        .add_service(TooLarge(watch.max_encoding_message_size(usize::MAX)))
        .add_service(TooLarge(maintenance))
        .add_service(TooLarge(lease))
        .add_service(TooLarge(lock))
        .add_service(TooLarge(election))
        .into_axum_router()
        .route_layer(middleware::from_fn_with_state(api.clone(), guard))
}

/// Answers a message beyond the transport's limit with RESOURCE_EXHAUSTED, as gRPC's own implementations do.
/// tonic says OUT_OF_RANGE, which to a client of etcd means a compacted or future revision.
#[derive(Clone)]
pub struct TooLarge<S>(S);

impl<S: NamedService> NamedService for TooLarge<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for TooLarge<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Map<S::Future, fn(Result<Response<Body>, Infallible>) -> Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.0.call(request).map(|response| response.map(correct))
    }
}

/// A refusal stands in the headers of a response without a body: others cost one look-up.
fn correct(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    let out_of_range = HeaderValue::from(Code::OutOfRange as i32);
    if headers.get(Status::GRPC_STATUS) == Some(&out_of_range)
        && headers
            .get(Status::GRPC_MESSAGE)
            .is_some_and(|message| message.as_bytes().starts_with(b"Error,"))
    {
        headers.insert(
            Status::GRPC_STATUS,
            HeaderValue::from(Code::ResourceExhausted as i32),
        );
        headers.insert(
            Status::GRPC_MESSAGE,
            HeaderValue::from_static("grpc: received message larger than max"),
        );
    }
    response
}

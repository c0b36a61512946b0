//! Who may call which gRPC method, before the method sees the request: one table.
//!
//! What depends on more than the method is asked further in: keys where they are read and written, a watch's
//! keys when it is created, a lease's keys where it is renewed, users and roles in their service.

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use kv_core::Request as Asked;
use tonic::Status;

use super::calls::Api;

/// Asks for permission, or answers that there is none.
pub(super) async fn guard(State(api): State<Api>, request: Request<Body>, next: Next) -> Response {
    if let Some(asked) = asked(request.uri().path()) {
        let session = api.session_of(request.headers(), request.extensions());
        if let Err(refused) = session.allow(asked).await {
            return Status::from(refused).into_http();
        }
    }
    next.run(request).await
}

/// What has to be asked for before a method is called; `None` where the method asks by itself, or where
/// everybody may.
///
/// Who is to find the members and their state has no user yet: as in etcd 3.5, these two methods are open.
/// Methods that are not named here are for administrators.
fn asked(path: &str) -> Option<Asked<'static>> {
    let (service, method) = path.trim_start_matches('/').split_once('/')?;
    match (service, method) {
        ("etcdserverpb.KV" | "etcdserverpb.Auth" | "etcdserverpb.Watch", _)
        | ("etcdserverpb.Cluster", "MemberList")
        | ("etcdserverpb.Maintenance", "Status") => None,
        ("etcdserverpb.Lease" | "v3lockpb.Lock" | "v3electionpb.Election", _)
        | ("etcdserverpb.Maintenance", "Alarm") => Some(Asked::User),
        _ => Some(Asked::Admin),
    }
}

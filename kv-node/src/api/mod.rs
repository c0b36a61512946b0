//! What clients see of a node, all on one port: etcd v3 over gRPC, plain REST, and the endpoints for operators.
//!
//! Promises: every refusal is told with the code and text of the one table in [`errors`]; a request whose
//! outcome is not known is never told as one that failed; every request is bounded in size and time; keys
//! and values are passed on as the bytes they came in.
//!
//! Leaves to others: accepting connections and their limits (the caller of [`client_port`]), deciding what a
//! request does (`kv_core`), agreeing on it and keeping it ([`Node`]). Nothing here holds a lock.
//!
//! | file | what |
//! | --- | --- |
//! | `session`, `calls` | the one way from every protocol to the node: who asks; check, make linearizable, ask |
//! | `guard` | who may call which method |
//! | `errors` | the one table of errors |
//! | `grpc`, `kv`, `watch`, `cluster`, `maintenance`, `auth`, `lease`, `lock`, `election`, `convert` | etcd's services |
//! | `gateway` | the same services as JSON, `/v3/…`, documented there |
//! | `rest` | `/v1/kv/…` for curl and browsers, documented there |
//! | `autopilot` | `/v1/cluster/autopilot`: what the leader sees of the members, and is about to change |
//! | `starting` | all of it before the node is up |
//! | `ops`, `metrics` | `/health`, `/livez`, `/readyz`, `/version`, `/metrics` |

use crate::{node::Node, switch::Front};

mod auth;
mod autopilot;
mod body;
mod calls;
mod cluster;
mod convert;
mod election;
pub mod errors;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gateway;
pub mod grpc;
mod guard;
mod kv;
mod lease;
mod line;
mod lock;
mod maintenance;
mod metrics;
mod ops;
mod problem;
mod range_stream;
mod rest;
mod session;
mod starting;
mod watch;

pub use metrics::{autopilot_actions, install as install_metrics, leader_changes, wal_sync_observer};

/// What stands behind a client port.
pub type ClientPort = Front<grpc::KvEndpoint>;

/// What a client port answers before the node is up; `progress` is what the node waits for.
pub fn starting(progress: tokio::sync::watch::Receiver<String>) -> axum::Router {
    starting::router(progress)
}

/// Everything a node serves on its client port. To be called inside a tokio runtime, once for a node.
///
/// Unknown gRPC methods are answered with UNIMPLEMENTED, unknown paths with a 404 that names what exists.
pub fn client_port(node: Node) -> ClientPort {
    install_metrics();
    let api = calls::Api::new(node);
    let http = ops::router()
        .merge(rest::router())
        .merge(autopilot::router())
        .with_state(api.clone());
    let others = grpc::router(&api);
    let gateway = gateway::router(
        api.clone(),
        others
            .clone()
            .route_service(&format!("{}{{method}}", grpc::KV_PATH), grpc::kv(&api))
            .fallback(ops::not_found),
        grpc::message_bytes_max(&api),
    );
    Front {
        path: grpc::KV_PATH,
        grpc: grpc::kv(&api),
        rest: others.merge(gateway).merge(http).fallback(ops::not_found),
    }
}

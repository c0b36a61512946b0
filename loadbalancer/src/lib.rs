//! Quorate's balancer: an L7 reverse proxy in front of the storage nodes (gRPC and HTTP) and the web
//! apps (HTTP).
//!
//! It promises: requests go round by request, not by connection; bodies and streams of any length flow
//! through in both directions with their trailers; a request is tried on a second backend only where the
//! first certainly did not execute it (or where it only reads); and when nobody answered, the client is
//! told whether the request can have been executed.
//!
//! It leaves to others: what requests mean, authentication.
//!
//! The way of a request: [`serve`] → [`proxy`] → [`pool`] (whose turn) → [`upstream`] (connection) →
//! [`body`] (response back). Beside it: [`discovery`] and [`services`] (who is there), [`check`] and [`health`] (who may
//! be used), [`stats`] (what is seen of it).

pub mod answer;
pub mod backend;
pub mod balancer;
pub mod body;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod discovery;
pub mod headers;
pub mod health;
pub mod histogram;
pub mod history;
pub mod members;
pub mod pool;
pub mod proxy;
pub mod replay;
pub mod resolve;
pub mod seed;
pub mod serve;
pub mod services;
pub mod sniff;
pub mod stats;
pub mod tls;
pub mod upstream;

use std::future::Future;
use std::sync::Arc;

/// Runs a balancer until `shutdown` resolves, and then until it is drained.
///
/// # Errors
/// If a listener cannot be bound; the error names its flag.
pub async fn run(args: cli::Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let config = args.into_config()?;
    let balancer = balancer::Balancer::start(config, Arc::new(resolve::SystemResolver)).await?;
    shutdown.await;
    tracing::info!("draining");
    balancer.shutdown().await;
    Ok(())
}

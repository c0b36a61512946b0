//! Client library of Quorate, and its command line.
//!
//! [`Client`] speaks the etcd v3 API, so it works against Quorate and against etcd. It promises:
//!
//! - one long-lived HTTP/2 connection per endpoint, opened when first needed and reopened by itself;
//! - an endpoint that failed is not tried first again for a while ([`PENALTY`]);
//! - every call ends within [`Config::request_timeout`];
//! - a read is tried on other endpoints until one answers or the time is up;
//! - a write is sent again only where it certainly was not executed. Once it may have been, the
//!   answer is [`Error::OutcomeUnknown`], and the decision is the caller's;
//! - a [`Watch`] gives every event once and in order, on another endpoint where its own is lost;
//! - a [`Lease`] is renewed in the background, and says when it is lost.
//!
//! ```no_run
//! # async fn example() -> Result<(), kv_client::Error> {
//! use kv_client::{Client, Config};
//! use kv_proto::etcdserverpb::{PutRequest, RangeRequest};
//!
//! let client = Client::new(Config::new(["127.0.0.1:12379", "127.0.0.1:22379"]))?;
//! client.put(PutRequest { key: "motto".into(), value: "festina lente".into(), ..Default::default() }).await?;
//! let found = client.range(RangeRequest { key: "motto".into(), ..Default::default() }).await?;
//! assert_eq!(found.count, 1);
//! # Ok(())
//! # }
//! ```

mod accounts;
mod auth;
mod autopilot;
pub mod bench;
mod classify;
pub mod cli;
mod client;
mod cluster;
mod config;
mod connection;
mod cursor;
mod election;
mod endpoint;
mod error;
mod failover;
mod key_range;
mod lease;
mod line;
mod lock;
mod pool;
mod watch;

pub use auth::Credentials;
pub use autopilot::{Autopilot, AutopilotDecision, AutopilotMember, AutopilotNext};
pub use client::Client;
pub use cluster::Snapshot;
pub use config::{Config, Tls};
pub use election::{Leadership, Observe};
pub use error::Error;
pub use key_range::prefix_end;
pub use lease::{Lease, LeaseLoss};
pub use lock::Lock;
pub use pool::PENALTY;
pub use watch::{Watch, WatchItem};

//! Client library of Quorate, and its command line.
//!
//! [`Client`] speaks the etcd v3 API, so it works against Quorate and against etcd. It promises:
//!
//! - one long-lived HTTP/2 connection per endpoint, opened when first needed and reopened by itself;
//! - an endpoint that failed is not tried first again for a while ([`PENALTY`]);
//! - every call ends within [`Config::request_timeout`];
//! - a read is tried on other endpoints until one answers or the time is up;
//! - a write is sent again only where it certainly was not executed. Once it may have been, the
//!   answer is [`Error::OutcomeUnknown`], and the decision is the caller's.
//!
//! It leaves to its caller: TLS, authentication, watches and leases.
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

pub mod bench;
mod classify;
pub mod cli;
mod client;
mod config;
mod connection;
mod endpoint;
mod error;
mod failover;
mod pool;

pub use client::Client;
pub use config::Config;
pub use error::Error;
pub use pool::PENALTY;

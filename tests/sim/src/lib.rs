//! Deterministic simulation: the whole cluster on one thread, with time, network, disks and chance drawn from a seed.
//!
//! What runs is the product: nodes from bootstrap to shutdown, their consensus, log, store, watches, leases and
//! APIs. What is replaced is what it stands on, through [`kv_node::node::Env`]:
//!
//! | instead of | stands |
//! | --- | --- |
//! | sockets | [`net`]: gRPC and control calls carried between services, frame by frame, without HTTP/2 |
//! | the log's disk and thread | `kv_wal::sim` with [`kv_wal::Drive::Caller`], after the time that a sync takes |
//! | sled and the store's thread | `kv_store::sim` with [`kv_store::Drive::Caller`] |
//! | the clock | tokio's, paused: it moves on when nobody has anything left to do |
//! | chance | [`entropy`] for what the product draws, [`random`] for what happens to it |
//!
//! A run is a process: what other libraries count in static variables would make a second one different.
//! A [`plan::Plan`] is all that is known beforehand; [`run::Run`] plays it; [`shrink`] makes the faults of one that fails fewer.

pub mod check;
pub mod cli;
pub mod clients;
pub mod entropy;
pub mod host;
pub mod invariants;
pub mod net;
pub mod plan;
#[cfg(feature = "planted")]
pub mod planted;
pub mod process;
pub mod promise;
pub mod random;
pub mod run;
pub mod shrink;
pub mod tenants;
pub mod trace;
pub mod verdict;
pub mod watchers;
pub mod wire;

//! A storage node: consensus glue over the log and the store, and every API it serves.
//!
//! The way of a write: [`api`] decodes and checks a request, [`raft::propose`] puts it into the log or
//! forwards it to the leader, [`raft::log_store`] makes it durable while [`raft::network`] sends it to
//! the followers, [`raft::state_machine`] applies it, and its outcome goes back to the client.
//! [`running`] puts these together into a [`node::Node`]; [`bootstrap`] gets a node into its cluster.

mod alarms;
pub mod api;
pub mod auth;
pub mod backup;
pub mod blocking;
pub mod bootstrap;
pub mod cli;
pub mod codec;
pub mod compaction;
pub mod corruption;
pub mod etcd_flags;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod gather;
pub mod identity;
pub mod lease;
pub mod membership;
pub mod node;
pub mod raft;
pub mod recover;
pub mod running;
pub mod server;
pub mod space;
pub mod storage;
pub mod switch;
pub mod tls;
mod upkeep;
pub mod urls;
pub mod usage;
pub mod watch;

/// How many threads a node's runtime should have: half of the cores. The log, the store and the disk
/// have threads of their own, and each further one makes a request wake more of them. Measured with three
/// nodes on two cores: one thread each serves a third more than two.
pub fn worker_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).max(1)
}

/// Runs a node until `shutdown` resolves, then stops it cleanly: leadership is handed over first.
///
/// # Errors
/// [`usage::Usage`] when the arguments make no node, another when it cannot start, or must stop because its log or
/// store failed.
pub async fn run(args: cli::Args, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let config = args.config().map_err(usage::Usage)?;
    running::run(config, node::Env::real(), shutdown).await
}

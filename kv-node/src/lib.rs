//! A storage node: consensus glue over the log and the store, and every API it serves.
//!
//! The way of a write: [`api`] decodes and checks a request, [`raft::propose`] puts it into the log or
//! forwards it to the leader, [`raft::log_store`] makes it durable while [`raft::network`] sends it to
//! the followers, [`raft::state_machine`] applies it, and its outcome goes back to the client.
//! [`node::Node`] puts these together; [`bootstrap`] gets a node into its cluster.

pub mod api;
pub mod bootstrap;
pub mod cli;
pub mod codec;
pub mod identity;
pub mod membership;
pub mod node;
pub mod raft;
pub mod server;
pub mod space;
pub mod storage;
pub mod switch;

/// Runs a node until `shutdown` resolves, then stops it cleanly: leadership is handed over first.
///
/// # Errors
/// When the node cannot start, or must stop because its log or store failed.
pub async fn run(args: cli::Args, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let config = args.config()?;
    node::run(config, node::Env::real(), shutdown).await
}

//! The `kv-node` binary: one storage node.

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use kv_node::usage::{self, Usage};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A storage node of Quorate
#[derive(Debug, Parser)]
#[command(name = "kv-node", version, args_conflicts_with_subcommands = true)]
struct Line {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: kv_node::cli::Args,
}

/// What a node does besides running.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new cluster of what is left of one that lost its quorum for good
    Recover(kv_node::recover::Args),
}

fn main() -> ExitCode {
    let Line { command, args } =
        Line::try_parse().unwrap_or_else(|error| usage::exit(&Line::command(), &error));
    if let Some(Command::Recover(args)) = command {
        return ended(kv_node::recover::run(&args));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(kv_node::worker_threads())
        .enable_all()
        .build()
        .context("cannot start the runtime");
    ended(runtime.and_then(|runtime| runtime.block_on(run(args))))
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => usage::report(&Line::command(), &error),
    }
}

async fn run(args: kv_node::cli::Args) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(args.log_filter()).context("--log-level");
    tracing_subscriber::fmt()
        .with_env_filter(filter.map_err(Usage)?)
        .with_writer(std::io::stderr)
        .init();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    kv_node::run(args, shutdown).await
}

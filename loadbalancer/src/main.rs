//! The balancer as a binary of its own.

use std::io::IsTerminal;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "loadbalancer", version, about, long_about = None)]
struct Cli {
    #[command(flatten)]
    args: loadbalancer::cli::Args,
    /// What is logged: error, warn, info, debug, or a filter such as loadbalancer=debug.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "QUORATE_LOG_LEVEL"
    )]
    log_level: tracing_subscriber::EnvFilter,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(cli.log_level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    loadbalancer::run(cli.args, shutdown).await
}

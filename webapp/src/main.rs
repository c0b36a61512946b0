//! The `webapp` binary: arguments, logging, signals.

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use webapp::cli::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Register names, each exactly once, and see them all on a web page
#[derive(Parser)]
#[command(name = "webapp", version)]
struct Command {
    #[command(flatten)]
    args: Args,

    /// What to log, to stderr: error, warn, info, debug, trace, or a filter such as webapp=debug,info
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    log_level: EnvFilter,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command { args, log_level } = Command::parse();
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(log_level)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("webapp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until SIGTERM or SIGINT.
async fn run(args: Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    webapp::cli::run(args, shutdown).await
}

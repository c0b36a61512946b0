//! The `quorate` binary: a node, the balancer, a web app, the client's commands, a demo of it all, and faults to try it
//! with, in one.
//!
//! It mounts what the crates offer and decides nothing itself, apart from when a server is to stop.

mod cli;
mod demo;
mod health;
mod lifeline;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context;
use clap_complete::generate;
use kv_node::usage::{self, Usage};
use tracing_subscriber::EnvFilter;

use cli::{Invocation, OwnCommand, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let invocation = cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Invocation::Own(command) = &invocation
        && matches!(**command, OwnCommand::Node(_))
    {
        runtime.worker_threads(kv_node::worker_threads());
    }
    let outcome = match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(execute(invocation)),
        Err(error) => Err(anyhow::Error::from(error).context("cannot start the runtime")),
    };
    outcome.unwrap_or_else(|error| usage::report(&cli::command(), &error))
}

async fn execute(invocation: Invocation) -> anyhow::Result<ExitCode> {
    match invocation {
        Invocation::Client(args) => {
            log(EnvFilter::from_default_env());
            Ok(kv_client::cli::run(*args).await)
        }
        Invocation::Own(command) => Box::pin(run(*command)).await,
    }
}

async fn run(command: OwnCommand) -> anyhow::Result<ExitCode> {
    // Taken before anything else happens, so that no signal is lost on the way.
    let shutdown = lifeline::shutdown()?;
    match command {
        OwnCommand::Demo(args) => return demo::run(args, shutdown).await,
        OwnCommand::Node(args) => {
            let filter = args.log_filter().parse().context("--log-level");
            log(filter.map_err(Usage)?);
            kv_node::run(args, shutdown).await?;
        }
        OwnCommand::Recover(args) => kv_node::recover::run(&args)?,
        OwnCommand::Balancer(Server { args, log_level }) => {
            log(log_level);
            loadbalancer::run(args, shutdown).await?;
        }
        OwnCommand::Web(Server { args, log_level }) => {
            log(log_level);
            webapp::cli::run(args, shutdown).await?;
        }
        OwnCommand::Chaos(args) => return Ok(Box::pin(quorate_chaos::cli::run(args, shutdown)).await),
        OwnCommand::Health(args) => return Ok(health::run(args).await),
        OwnCommand::Completion { shell } => {
            generate(shell, &mut cli::whole(), "quorate", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Logs to standard error, which is a file for the demo's children and the container's log in a container.
fn log(filter: EnvFilter) {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
}

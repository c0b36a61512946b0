//! The `quorate` binary: a node, the balancer, a web app, the client's commands, and a demo of it all, in one.
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
use tracing_subscriber::EnvFilter;

use cli::{Invocation, OwnCommand, Server};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match cli::parse() {
        Invocation::Client(args) => {
            log(EnvFilter::from_default_env());
            return kv_client::cli::run(args).await;
        }
        Invocation::Own(command) => run(*command).await,
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(command: OwnCommand) -> anyhow::Result<ExitCode> {
    // Taken before anything else happens, so that no signal is lost on the way.
    let shutdown = lifeline::shutdown()?;
    match command {
        OwnCommand::Demo(args) => return demo::run(args, shutdown).await,
        OwnCommand::Node(args) => {
            log(args.log_filter().parse().context("--log-level")?);
            kv_node::run(args, shutdown).await?;
        }
        OwnCommand::Balancer(Server { args, log_level }) => {
            log(log_level);
            loadbalancer::run(args, shutdown).await?;
        }
        OwnCommand::Web(Server { args, log_level }) => {
            log(log_level);
            webapp::cli::run(args, shutdown).await?;
        }
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

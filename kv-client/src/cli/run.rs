//! From arguments to an exit code.

use std::process::ExitCode;

use super::args::{Args, Command, MemberCommand};
use super::commands::Session;
use super::exit::Exit;
use super::{help, output};
use crate::bench;

/// Runs a command: its answer to standard output, what went wrong to standard error.
///
/// Needs a tokio runtime with I/O and time; `bench` uses all of its threads.
pub async fn run(args: Args) -> ExitCode {
    match dispatch(&args).await {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprintln!("error: {}", failure.what);
            eprintln!("hint: {}", failure.hint);
            failure.exit.into()
        }
    }
}

/// Prints the completion script of a command line, which need not be this one.
pub fn print_completion(shell: clap_complete::Shell, mut command: clap::Command) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // As with any output, a reader that closes early is no failure.
    let _ = output::print(script);
}

async fn dispatch(args: &Args) -> super::commands::Outcome {
    match &args.command {
        Command::Completion { shell } => {
            print_completion(*shell, help::command(help::OWN_NAME));
            return Ok(Exit::Ok);
        }
        Command::Bench(command) => return bench::run(&args.global, command).await,
        _ => {}
    }
    let session = Session::new(&args.global)?;
    match &args.command {
        Command::Get(args) => session.get(args).await,
        Command::Put(args) => session.put(args).await,
        Command::Del(args) => session.del(args).await,
        Command::Txn(args) => session.txn(*args).await,
        Command::Compact(args) => session.compact(*args).await,
        Command::Status => session.status().await,
        Command::Member(MemberCommand::List) => session.member_list().await,
        Command::Completion { .. } | Command::Bench(_) => Ok(Exit::Ok),
    }
}

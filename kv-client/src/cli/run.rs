//! From arguments to an exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use super::args::{Args, Command, GlobalArgs, WriteOut};
use super::commands::{Outcome, Session};
use super::exit::{Exit, Failure};
use super::{check, forms, help, output, recover, repl, snapshot};
use crate::bench;

/// Runs a command: its answer to standard output, what went wrong to standard error.
///
/// Needs a tokio runtime of several threads with I/O and time; `bench` uses all of its threads.
pub async fn run(args: Args) -> ExitCode {
    report(args).await.into()
}

/// Prints the completion script of a command line, which need not be this one.
pub fn print_completion(shell: clap_complete::Shell, mut command: clap::Command) {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    // As with any output, a reader that closes early is no failure.
    let _ = output::print(script);
}

/// Runs a command, and says what went wrong.
pub(super) async fn report(mut args: Args) -> Exit {
    let outcome = match args.global.ask_password() {
        Ok(()) => dispatch(&args.global, args.command.as_ref()).await,
        Err(failure) => Err(failure),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("error: {}", failure.what);
        eprintln!("hint: {}", failure.hint);
        failure.exit
    })
}

async fn dispatch(global: &GlobalArgs, command: Option<&Command>) -> Outcome {
    if let Some(command) = command {
        forms::check(global.write_out, command)?;
    }
    match command {
        None if std::io::stdin().is_terminal() => Box::pin(repl::run(global)).await,
        None => Err(Failure::usage(
            "no command is given",
            "name one: --help lists them, and repl reads them from standard input",
        )),
        Some(Command::Repl) => Box::pin(repl::run(global)).await,
        Some(Command::Completion { shell }) => {
            print_completion(*shell, help::command(help::OWN_NAME));
            Ok(Exit::Ok)
        }
        Some(Command::Recover(args)) => recover::run(args).await,
        Some(Command::Bench(command)) => bench::run(global, command).await,
        Some(Command::Check(command)) => check::run(global, command).await,
        Some(Command::Snapshot(command)) => snapshot::run(global, command).await,
        Some(command) => in_session(&Session::new(global)?, command).await,
    }
}

/// The commands that are a few calls.
async fn in_session(session: &Session, command: &Command) -> Outcome {
    match command {
        Command::Get(args) => session.get(args).await,
        Command::Put(args) => session.put(args).await,
        Command::Del(args) => session.del(args).await,
        Command::Txn(args) => session.txn(*args).await,
        Command::Compact(args) => session.compact(*args).await,
        Command::Status(args) => session.status(*args, WriteOut::Table).await,
        Command::Endpoint(command) => session.endpoint(*command).await,
        Command::Watch(args) => session.watch(args).await,
        Command::Lease(command) => session.lease(*command).await,
        Command::Lock(args) => Box::pin(session.lock(args)).await,
        Command::Elect(args) => Box::pin(session.elect(args)).await,
        Command::Member(command) => session.member(command).await,
        Command::Cluster(command) => session.cluster(*command).await,
        Command::MoveLeader { id } => session.move_leader(*id).await,
        Command::Defrag(args) => session.defrag(*args).await,
        Command::Alarm(command) => session.alarm(*command).await,
        Command::User(command) => session.user(command).await,
        Command::Role(command) => session.role(command).await,
        Command::Auth(command) => session.auth(*command).await,
        Command::Completion { .. }
        | Command::Recover(_)
        | Command::Bench(_)
        | Command::Check(_)
        | Command::Snapshot(_)
        | Command::Repl => Ok(Exit::Ok),
    }
}

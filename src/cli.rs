//! The command line of `quorate`: its own subcommands, and every command of the client beside them.
//!
//! The client's commands keep their own parser with its own global options: `quorate get k` is `kv-client get k`.
//! Which parser a command line goes to is decided by its first word.

use std::ffi::OsString;

use clap::{Command, CommandFactory, Parser, Subcommand};
use kv_node::usage;
use tracing_subscriber::EnvFilter;

use crate::{demo, health};

/// What the help calls this program.
const PROGRAM: &str = "quorate";

/// Place in the list of commands from which the client's stand, after all of ours.
const CLIENT_COMMANDS_FROM: usize = 100;

/// Replicated, strongly consistent key-value store that any etcd v3 client can use.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, arg_required_else_help = true)]
struct Own {
    #[command(subcommand)]
    command: OwnCommand,
}

/// What is not a command of the client.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // One value, made once and taken apart at once: its size does not matter.
pub(crate) enum OwnCommand {
    /// Start nodes, a balancer and two web apps on this machine
    Demo(demo::Args),
    /// Run a storage node
    Node(kv_node::cli::Args),
    /// Make a new cluster of what is left of one that lost its quorum for good
    Recover(kv_node::recover::Args),
    /// Run the load balancer
    Balancer(Server<loadbalancer::cli::Args>),
    /// Run the web app
    Web(Server<webapp::cli::Args>),
    /// Break a cluster of its own under load, and check that it keeps its promises
    Chaos(quorate_chaos::cli::Args),
    /// Ask a server whether it is healthy
    Health(health::Args),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The arguments of a server that leaves logging to its binary, with the flag for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Server<A: clap::Args> {
    /// The server's own.
    #[command(flatten)]
    pub(crate) args: A,
    /// What to log, to stderr: error, warn, info, debug, trace, or a filter such as webapp=debug,info
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: EnvFilter,
}

/// A command line that was understood.
pub(crate) enum Invocation {
    /// One of our own.
    Own(Box<OwnCommand>),
    /// One of the client's.
    Client(Box<kv_client::cli::Args>),
}

/// Parses this process's arguments; help and errors are printed here and end the process.
pub(crate) fn parse() -> Invocation {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if is_own(arguments.get(1)) {
        return Invocation::Own(Box::new(parse_own(&arguments)));
    }
    let parsed = kv_client::cli::command(PROGRAM)
        .try_get_matches_from(&arguments)
        .and_then(|matches| <kv_client::cli::Args as clap::FromArgMatches>::from_arg_matches(&matches));
    match parsed {
        Ok(args) => Invocation::Client(Box::new(args)),
        // A word that nobody knows is looked for in both lists, so that the hint names the nearest of all.
        Err(error) if error.kind() == clap::error::ErrorKind::InvalidSubcommand => {
            match whole().try_get_matches_from(&arguments) {
                Ok(_) => error.exit(),
                Err(better) => better.exit(),
            }
        }
        Err(error) => error.exit(),
    }
}

/// Whether a command line that starts with this word is ours: a subcommand, or a question about the whole.
fn is_own(word: Option<&OsString>) -> bool {
    let Some(word) = word.and_then(|word| word.to_str()) else {
        return true;
    };
    matches!(word, "help" | "--help" | "-h" | "--version" | "-V")
        || Own::command().find_subcommand(word).is_some()
}

fn parse_own(arguments: &[OsString]) -> OwnCommand {
    // The whole command answers help, so that the client's commands are in it; parsing takes only ours.
    let matches = match whole().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => usage::exit(&command(), &error),
    };
    match <Own as clap::FromArgMatches>::from_arg_matches(&matches) {
        Ok(own) => own.command,
        Err(error) => usage::exit(&command(), &error),
    }
}

/// The subcommand that this process was asked for; without one of ours, the whole.
pub(crate) fn command() -> Command {
    let own = Own::command();
    let word = std::env::args().nth(1).unwrap_or_default();
    own.find_subcommand(word).cloned().unwrap_or(own)
}

/// Our command with the client's commands in it, each with the client's global options as its own.
pub(crate) fn whole() -> Command {
    let client = kv_client::cli::command(PROGRAM);
    let own = Own::command();
    let names: Vec<&str> = client
        .get_subcommands()
        .map(Command::get_name)
        .filter(|name| *name != "help" && own.find_subcommand(name).is_none())
        .collect();
    let about_client = |text: &str| format!("The client's commands ({}):\n\n{text}", names.join(", "));
    let mut whole = own
        .clone()
        .after_help(about_client(kv_client::cli::after_help()))
        .after_long_help(about_client(&kv_client::cli::after_long_help(PROGRAM)));
    for command in client.get_subcommands() {
        if whole.find_subcommand(command.get_name()).is_none() && command.get_name() != "help" {
            let globals = client
                .get_arguments()
                .filter(|argument| argument.is_global_set())
                .cloned();
            whole = whole.subcommand(command.clone().args(globals).display_order(CLIENT_COMMANDS_FROM));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_command_is_well_formed() {
        whole().debug_assert();
    }

    #[test]
    fn the_help_has_the_exit_codes_of_the_clients_commands() {
        let help = whole().render_long_help().to_string();
        assert!(
            help.contains("\n  7  ") && help.contains("  quorate put greeting hello"),
            "{help}"
        );
        assert!(!help.contains("kv-client"), "{help}");
        assert!(whole().render_help().to_string().contains("7 outcome unknown"));
    }

    #[test]
    fn the_first_word_decides_whose_command_line_it_is() {
        let own = |word: &str| is_own(Some(&OsString::from(word)));
        assert!(own("demo") && own("node") && own("--help") && own("completion"));
        assert!(!own("get") && !own("--endpoints") && !own("nonsense"));
        assert!(is_own(None), "no word at all: help");
    }
}

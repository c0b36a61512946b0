//! `recover`: done by the program of a node, because it reads a node's log and store, of which a client knows nothing.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use super::commands::Outcome;
use super::exit::{Exit, Failure};
use super::program::Program;

/// Programs that have the command, the first that is found runs.
const PROGRAMS: [&str; 2] = ["kv-node", "quorate"];

/// Arguments of `recover`.
#[derive(Clone, Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub struct RecoverArgs {
    /// What a node's own recover takes, which answers --help, too
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Runs it, and ends as it does.
pub(super) async fn run(RecoverArgs { args }: &RecoverArgs) -> Outcome {
    let own = find().ok_or_else(|| {
        Failure::new(
            Exit::Other,
            format!("{} is not installed here", PROGRAMS.join(" or ")),
            "recover reads data directories as a node does: put the program of a node beside this one or in PATH",
        )
    })?;
    let args = [&[OsString::from("recover")], &args[..]].concat();
    Ok(Exit::Program(Program::new(own, &args).run([]).await?))
}

/// Beside this program, or else in PATH.
fn find() -> Option<PathBuf> {
    let beside = env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(env::split_paths(&path))
        .flat_map(|dir| PROGRAMS.map(|name| dir.join(name)))
        .find(|program| program.is_file())
}

//! What to say, and how to end, when a command line makes no server.

use std::process::ExitCode;

use clap::Command;

/// How a program ends whose command line is wrong, as clap does.
const EXIT_CODE: u8 = 2;

/// A command line, or a variable of the environment in the place of a flag, that makes no node. Nothing has been
/// done yet.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Usage(pub anyhow::Error);

/// Ends the process when the command line is not understood, or was a question for help.
pub fn exit(command: &Command, error: &clap::Error) -> ! {
    // Whoever cannot be told is not there.
    let _ = error.print();
    if error.use_stderr() {
        eprint!("{}", origins(command, &error.to_string()));
    }
    std::process::exit(error.exit_code())
}

/// Says why a server ended, and how its process is to end.
pub fn report(command: &Command, error: &anyhow::Error) -> ExitCode {
    let text = format!("{error:#}");
    eprint!("error: {text}\n{}", origins(command, &text));
    if error.is::<Usage>() {
        ExitCode::from(EXIT_CODE)
    } else {
        ExitCode::FAILURE
    }
}

/// A line for each flag that the text speaks of and whose value came from the environment.
fn origins(command: &Command, text: &str) -> String {
    let given: Vec<String> = std::env::args().collect();
    lines(command, text, &given, |variable| {
        std::env::var_os(variable).is_some()
    })
}

fn lines(command: &Command, text: &str, given: &[String], is_set: impl Fn(&str) -> bool) -> String {
    let flags = command.get_arguments().filter_map(|arg| {
        let (long, variable) = (arg.get_long()?, arg.get_env()?.to_str()?);
        let flag = format!("--{long}");
        let is_given = given
            .iter()
            .any(|word| word.split_once('=').map_or(word.as_str(), |(flag, _)| flag) == flag);
        (speaks_of(text, &flag) && !is_given && is_set(variable))
            .then(|| format!("note: {flag} comes from the environment variable {variable}\n"))
    });
    flags.collect()
}

/// Whether the flag is in the text, and not only as the beginning of another.
fn speaks_of(text: &str, flag: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.match_indices(flag)
        .any(|(at, _)| !text[at + flag.len()..].starts_with(goes_on))
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    #[test]
    fn the_variable_is_named_that_a_flag_came_from() {
        let command = crate::cli::Args::augment_args(Command::new("kv-node"));
        let text = "--election-timeout 20 is too short for --heartbeat-interval 50";
        let timeout =
            "note: --election-timeout comes from the environment variable QUORATE_ELECTION_TIMEOUT\n";
        let set = |variable: &str| variable == "QUORATE_ELECTION_TIMEOUT";
        assert_eq!(lines(&command, text, &[], set), timeout);
        for given in ["--election-timeout", "--election-timeout=20"] {
            assert_eq!(lines(&command, text, &[given.to_owned()], set), "");
        }
        assert_eq!(lines(&command, "--election-timeouts", &[], set), "");
        assert_eq!(lines(&command, text, &[], |_| false), "");
    }
}

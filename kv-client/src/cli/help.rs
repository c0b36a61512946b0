//! What stands at the end of every help: exit codes, the forms of output, and examples.
//!
//! The texts name the program that is run, because the commands are also those of the `quorate` binary.

use clap::{Arg, Command, CommandFactory};

use super::args::Args;

/// The name that stands in the texts of this crate, and is replaced by that of the program.
pub(super) const OWN_NAME: &str = "kv-client";

/// The exit codes in short.
const EXIT_CODES_SHORT: &str = "\
Exit codes: 0 done, 1 refused or other, 2 usage, 3 not found,
4 compare failed, 5 no quorum, 6 timeout, 7 outcome unknown.
More about them and the output with --help.";

/// The exit codes.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the server refused the request, or anything else
  2  the command line or the text of a transaction is wrong; nothing was sent
  3  get: the key does not exist; lease: the lease does not exist
  4  txn: a compare did not hold, the failure requests were run
  5  no endpoint reachable or no leader; nothing was executed
  6  a read got no answer in time; nothing was changed
  7  a write got no answer: it may or may not have been executed.
     Read before you write again";

/// The forms of output.
const OUTPUT: &str = r#"Output:
  simple    Keys and values as text. What is not text is printed as base64 after
            "base64:", that is what is not UTF-8 or has control characters
            (newlines and tabs are allowed in values, not in keys).
  json      One line in etcdctl's form: keys and values are base64, IDs are decimal
            numbers, and fields that are zero are left out. Durations and errors of
            endpoints are text.
  fields    etcdctl's form with a line for each field.
  protobuf  The message itself, as etcdctl prints it: of answers about leases the
            header alone. Both are refused where etcdctl has none."#;

const EXAMPLES: &str = "\
Examples:
  kv-client put greeting hello
  kv-client get greeting --print-value-only
  kv-client get app/ --prefix --keys-only -w json
  kv-client watch app/ --prefix
  kv-client lock backup -- ./backup.sh
  kv-client status --endpoints 127.0.0.1:12379,127.0.0.1:22379";

/// The end of a program's `-h`.
#[must_use]
pub fn after_help() -> &'static str {
    EXIT_CODES_SHORT
}

/// The end of a program's `--help`: exit codes, output, and examples that call it by its name.
#[must_use]
pub fn after_long_help(program: &str) -> String {
    format!("{EXIT_CODES}\n\n{OUTPUT}\n\n{EXAMPLES}").replace(OWN_NAME, program)
}

/// The parser of [`Args`] under a program's name, with the whole help at every command. As with etcdctl, an environment
/// variable that is empty is like one that is not there.
#[must_use]
pub fn command(program: &str) -> Command {
    without_empty_variables(Args::command())
        .name(program.to_owned())
        .bin_name(program.to_owned())
        .after_help(after_help())
        .after_long_help(after_long_help(program))
        .mut_subcommands(|command| with_help(command, program))
}

fn without_empty_variables(command: Command) -> Command {
    let forget = |argument: Arg| match argument.get_env().map(std::env::var_os) {
        Some(Some(value)) if value.is_empty() => argument.env(None::<&'static str>),
        _ => argument,
    };
    command.mut_args(forget).mut_subcommands(without_empty_variables)
}

/// A command and all below it, with exit codes and output after its own help.
fn with_help(command: Command, program: &str) -> Command {
    // It only prints a script: it has no answer and no output forms.
    if command.get_name() == "completion" {
        return command;
    }
    let own = command
        .get_after_help()
        .map(|text| format!("{text}\n\n").replace(OWN_NAME, program))
        .unwrap_or_default();
    command
        .after_help(format!("{own}{EXIT_CODES_SHORT}"))
        .after_long_help(format!("{own}{EXIT_CODES}\n\n{OUTPUT}"))
        .mut_subcommands(|command| with_help(command, program))
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::command;

    fn check(command: &mut Command) {
        let name = command.get_name().to_owned();
        if name == "help" {
            return; // clap's own
        }
        let (short, long) = (
            command.render_help().to_string(),
            command.render_long_help().to_string(),
        );
        for help in [&short, &long] {
            assert!(!help.contains("kv-client"), "{name}: {help}");
        }
        if name != "completion" {
            assert!(short.contains("Exit codes: 0 done"), "{name}: {short}");
            assert!(
                long.contains("\n  7  ") && long.contains("\n  json "),
                "{name}: {long}"
            );
        }
        command.get_subcommands_mut().for_each(check);
    }

    #[test]
    fn every_help_has_the_exit_codes_and_the_programs_own_name() {
        let mut whole = command("quorate");
        whole.build();
        whole.clone().debug_assert();
        check(&mut whole);
        let put = whole.find_subcommand_mut("put").unwrap();
        let help = put.render_long_help().to_string();
        assert!(help.contains("Usage: quorate put "), "{help}");
        assert!(help.contains("quorate put KEY < FILE"), "{help}");
    }
}

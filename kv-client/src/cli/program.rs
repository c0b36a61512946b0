//! Commands of the user that a command of ours runs.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;

use tokio::process::Command;

use super::exit::Failure;

/// A command and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Program {
    words: Vec<OsString>,
}

impl Program {
    /// A program with its arguments.
    pub(super) fn new(name: impl Into<OsString>, args: &[OsString]) -> Program {
        let words = [&[name.into()], args].concat();
        Program { words }
    }

    /// The command that these words are; none if there are none.
    pub(super) fn of_words(words: &[OsString]) -> Option<Program> {
        let (name, args) = words.split_first()?;
        Some(Program::new(name, args))
    }

    /// A line for the shell.
    pub(super) fn of_shell(line: &OsString) -> Program {
        Program {
            words: vec!["/bin/sh".into(), "-c".into(), line.clone()],
        }
    }

    /// Runs it with more environment, and gives its exit code: for one that a signal ended, what a shell says. It is
    /// killed if the future is dropped.
    pub(super) async fn run<const N: usize>(
        &self,
        variables: [(&'static str, OsString); N],
    ) -> Result<u8, Failure> {
        let name = &self.words[0];
        let status = Command::new(name)
            .args(&self.words[1..])
            .envs(variables)
            .kill_on_drop(true)
            .status()
            .await
            .map_err(|error| {
                Failure::usage(
                    format!("{} could not be run: {error}", name.to_string_lossy()),
                    "name a command that exists, and write its arguments as words of their own",
                )
            })?;
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
    }
}

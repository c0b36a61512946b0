//! Passwords: from a terminal without showing them, or from a line of standard input.

use std::io::{BufRead, IsTerminal};

use super::exit::Failure;

/// The longest line that is read as a password, in bytes.
const PASSWORD_BYTES_MAX: usize = 4096;

/// Asks the person at the terminal.
pub(super) fn ask(question: &str) -> Result<String, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask for a password",
            "give it with --user NAME:PASSWORD, --password, or ETCDCTL_PASSWORD",
        ));
    }
    rpassword::prompt_password(question).map_err(unreadable)
}

/// Asks for a new password twice.
pub(super) fn ask_new(user: &str) -> Result<String, Failure> {
    let first = ask(&format!("New password of {user}: "))?;
    if ask("The same again: ")? == first {
        Ok(first)
    } else {
        Err(Failure::usage("the two passwords differ", "try again"))
    }
}

/// Reads a line of standard input.
pub(super) fn read_line() -> Result<String, Failure> {
    let mut line = Vec::new();
    std::io::Read::take(std::io::stdin().lock(), PASSWORD_BYTES_MAX as u64)
        .read_until(b'\n', &mut line)
        .map_err(unreadable)?;
    let line = String::from_utf8(line)
        .map_err(|_| Failure::usage("the password is not UTF-8", "use another one"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::usage(format!("the password could not be read: {error}"), "try again")
}

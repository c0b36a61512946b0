//! A prompt for one command after the other, with history and completion.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{ArgMatches, FromArgMatches};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Config, Context, Editor, Helper};

use super::args::{Args, Command, GlobalArgs};
use super::commands::Outcome;
use super::exit::{Exit, Failure};
use super::help;
use super::run::report;

pub(super) const REPL_HELP: &str = "\
A line is a command without the program's name, its words quoted as in a shell. Flags given to repl hold for every
line. Tab completes, the arrow keys go through the history, Ctrl-C ends the command that runs, and Ctrl-D, exit or
quit leave. Lines with passwords, and those that begin with a blank, are not kept in the history
($XDG_STATE_HOME/quorate/history). Without a terminal, the lines of standard input are run; the exit code is that of
the last one that failed.";

/// How many lines of history are kept.
const HISTORY_LINES_MAX: usize = 1_000;
/// What is not to be kept: lines with one of these may hold a password.
const SECRETS: [&str; 3] = ["passw", "--user", "user add"];

/// Reads and runs commands until the end of the input.
pub(super) async fn run(global: &GlobalArgs) -> Outcome {
    let commands = Commands::new(own_flags(std::env::args_os().skip(1)));
    let is_terminal = std::io::stdin().is_terminal();
    let config = Config::builder()
        .max_history_size(HISTORY_LINES_MAX)
        .and_then(|builder| builder.history_ignore_dups(true))
        .map_err(unusable)?
        .history_ignore_space(true)
        .completion_type(rustyline::CompletionType::List)
        .build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config).map_err(unusable)?;
    editor.set_helper(Some(Words(commands.parser.clone())));
    let history = is_terminal.then(history_file).flatten();
    if let Some(file) = &history {
        // There is none at the first time.
        let _ = editor.load_history(file);
    }
    let mut exit = Exit::Ok;
    loop {
        match tokio::task::block_in_place(|| editor.readline("kv> ")) {
            Ok(line) => {
                if is_terminal && !SECRETS.iter().any(|secret| line.contains(secret)) {
                    let _ = editor.add_history_entry(&line);
                }
                match commands.run(&line, global).await {
                    Step::Left => break,
                    Step::Ran(Exit::Ok) => {}
                    Step::Ran(failed) => exit = failed,
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(unusable(error)),
        }
    }
    if let Some(file) = &history
        && let Err(error) = editor.save_history(file)
    {
        tracing::debug!(%error, "history not kept");
    }
    // At a terminal everything was said already.
    Ok(if is_terminal { Exit::Ok } else { exit })
}

/// What came of a line.
enum Step {
    Ran(Exit),
    Left,
}

/// The commands of the prompt.
pub(crate) struct Commands {
    parser: clap::Command,
    /// The flags of this program's own command line, which hold for every line.
    flags: Vec<OsString>,
}

/// What a line says.
pub(crate) enum Line {
    /// Nothing.
    Empty,
    /// That this is the end.
    Leave,
    /// A command.
    Command(Box<Args>),
    /// What no command is, and why.
    Wrong(&'static str),
    /// What clap says to it: an error, or the help that was asked for.
    Told(clap::Error),
}

impl Commands {
    /// The commands, each with these flags.
    pub(crate) fn new(flags: Vec<OsString>) -> Commands {
        Commands {
            parser: help::command(help::OWN_NAME).no_binary_name(true),
            flags,
        }
    }

    pub(crate) fn read(&self, line: &str) -> Line {
        let Some(words) = shlex::split(line) else {
            return Line::Wrong("a quote or a backslash at the end has no partner");
        };
        match words.first().map(String::as_str) {
            None => return Line::Empty,
            Some("exit" | "quit") => return Line::Leave,
            Some("repl") => return Line::Wrong("this is it already"),
            Some(_) => {}
        }
        let words = words.into_iter().map(OsString::from);
        let parsed = self
            .parser
            .clone()
            .try_get_matches_from(self.flags.iter().cloned().chain(words))
            .and_then(|matches: ArgMatches| Args::from_arg_matches(&matches));
        match parsed {
            Ok(args) => Line::Command(Box::new(args)),
            Err(error) => Line::Told(error),
        }
    }

    async fn run(&self, line: &str, global: &GlobalArgs) -> Step {
        match self.read(line) {
            Line::Empty => Step::Ran(Exit::Ok),
            Line::Leave => Step::Left,
            Line::Command(args) => Step::Ran(one(*args, global).await),
            Line::Wrong(why) => {
                eprintln!("error: {why}");
                Step::Ran(Exit::Usage)
            }
            Line::Told(error) => {
                let _ = error.print();
                Step::Ran(if error.use_stderr() { Exit::Usage } else { Exit::Ok })
            }
        }
    }
}

/// Runs one command; an interrupt ends it, unless it has something to put back and listens for interrupts itself.
async fn one(mut args: Args, global: &GlobalArgs) -> Exit {
    if args.global.password.is_none() && args.global.user == global.user {
        args.global.password.clone_from(&global.password);
    }
    let listens_itself = matches!(args.command, Some(Command::Lock(_) | Command::Elect(_)));
    let command = Box::pin(report(args));
    if listens_itself {
        return command.await;
    }
    tokio::select! {
        exit = command => exit,
        Ok(()) = tokio::signal::ctrl_c() => {
            eprintln!("interrupted");
            Exit::Other
        }
    }
}

/// The words of a command line without the name of this command.
fn own_flags(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.collect();
    if let Some(place) = words.iter().position(|word| word == "repl") {
        words.remove(place);
    }
    words
}

/// Where the history is kept, after making its directory; nowhere if there is no place for it.
fn history_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    let directory = state.join("quorate");
    std::fs::create_dir_all(&directory).ok()?;
    Some(directory.join("history"))
}

fn unusable(error: ReadlineError) -> Failure {
    Failure::new(
        Exit::Other,
        format!("the terminal cannot be used: {error}"),
        "run the commands one by one",
    )
}

/// Completes the names of commands and flags.
pub(crate) struct Words(pub(crate) clap::Command);

impl Words {
    /// What the last word of a line may become.
    pub(crate) fn candidates(&self, line: &str) -> Vec<String> {
        let mut command = &self.0;
        let (before, last) = line.rsplit_once(char::is_whitespace).unwrap_or(("", line));
        for word in before.split_whitespace() {
            if let Some(found) = command.find_subcommand(word) {
                command = found;
            }
        }
        let names = command
            .get_subcommands()
            .map(|command| command.get_name().to_owned());
        let flags = command
            .get_arguments()
            .chain(self.0.get_arguments().filter(|argument| argument.is_global_set()))
            .filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
        let mut found: Vec<String> = if last.starts_with('-') {
            flags.filter(|name| name.starts_with(last)).collect()
        } else {
            names.filter(|name| name.starts_with(last)).collect()
        };
        found.sort();
        found.dedup();
        found
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, end: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = &line[..end];
        let start = line.rfind(char::is_whitespace).map_or(0, |place| place + 1);
        let pair = |name: String| Pair {
            display: name.clone(),
            replacement: name + " ",
        };
        Ok((start, self.candidates(line).into_iter().map(pair).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Borrowed(line)
    }
}

impl Validator for Words {}

impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::{Words, own_flags};
    use crate::cli::help;

    #[test]
    fn completes_commands_and_flags() {
        let words = Words(help::command("kv-client"));
        assert_eq!(words.candidates("ge"), ["get"]);
        assert_eq!(words.candidates("lease gr"), ["grant"]);
        assert_eq!(words.candidates("get k --pre"), ["--prefix"]);
        assert_eq!(words.candidates("lease list --endp"), ["--endpoints"]);
        assert!(words.candidates("").contains(&"watch".to_owned()));
        assert!(words.candidates("get k ").is_empty());
    }

    #[test]
    fn keeps_its_flags() {
        let words = ["--endpoints", "a:1", "repl", "-w", "json"].map(Into::into);
        assert_eq!(own_flags(words.into_iter()), ["--endpoints", "a:1", "-w", "json"]);
    }
}

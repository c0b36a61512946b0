//! What a fuzzer or its twin asks of whatever reads what a person types.

use super::{
    args::Args,
    help,
    repl::{Commands, Line, Words},
    script,
};
use clap::Parser;

/// Reads these bytes as a line of the prompt, as one that is completed, as the program's own arguments, and as the
/// text of a transaction.
///
/// # Panics
/// Where a refusal does not say why.
pub fn line(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let said = |error: &clap::Error| assert!(!error.render().to_string().is_empty());
    match Commands::new(vec!["--endpoints".into(), "a:1".into()]).read(&text) {
        Line::Told(error) => said(&error),
        Line::Wrong(why) => assert!(!why.is_empty()),
        Line::Command(_) | Line::Empty | Line::Leave => {}
    }
    for candidate in Words(help::command(help::OWN_NAME)).candidates(&text) {
        let last = text.rsplit(char::is_whitespace).next().unwrap_or_default();
        assert!(candidate.starts_with(last), "{candidate} for {last}");
    }
    let words = text.split_whitespace();
    if let Err(error) = Args::try_parse_from(["kv-client"].into_iter().chain(words)) {
        said(&error);
    }
    match script::read(input, None) {
        Ok(script) => {
            assert_eq!(script.success_views.len(), script.request.success.len());
            assert_eq!(script.failure_views.len(), script.request.failure.len());
        }
        Err(why) => assert!(why.starts_with("line "), "{why}"),
    }
}

/// Commands with flags of every kind, and transactions.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "get k --prefix --limit 3 --rev 7 --order DESCEND --sort-by MODIFY --consistency s -w json",
        "put 'a key' \"a \\\"value\\\"\" --lease 694d77aa9e38260f --prev-kv",
        "del a z --prev-kv",
        "compact 5 --physical",
        "watch k --rev 3 --prefix --prev-kv",
        "lease grant 60",
        "lease keep-alive 1f --once",
        "lock name -- sleep 1",
        "elect name value",
        "member add n4 --peer-urls http://d:2380 --learner",
        "user add alice:secret",
        "role grant-permission r readwrite k --prefix",
        "bench put --clients 4 --total 10 --value-bytes 1k",
        "--command-timeout 1m30.5s --dial-timeout 500ms status",
        "snapshot save f",
        "help txn",
        "exit",
        "mod(\"a\") > \"0\"\nvalue('b') = \"x\\n\\x41\"\n\nput a \"new value\"\nget b --prefix\n\ndel a\nput b -- -1\n",
        "lease(k) != 1f\ncreate(k)=\"0\"\n\n\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

#[cfg(test)]
mod tests {
    #[test]
    fn twin() {
        quorate_fuzzing::twin("command-line", super::seeds(), super::line);
    }
}

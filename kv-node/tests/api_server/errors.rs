//! Each text of the table of errors is told to a client by a test, or stands here with the reason why none is.

use std::{fs, path::Path};

/// The table. Of its lines, attributes have words for the log.
const ROWS: [&str; 2] = [
    include_str!("../../src/api/errors.rs"),
    include_str!("../../src/api/errors/cluster.rs"),
];
/// The answers of watches have texts of their own, in attributes.
const WATCHES: &str = include_str!("../../src/api/watch/stream.rs");

/// What no request can bring about here.
const NOT_TOLD: [(&str, &str); 7] = [
    (
        "etcdserver: member ID already exist",
        "ids are random: it takes the same 64 bits twice",
    ),
    (
        "fewer voters than --min-voters would be left, and no learner can take this one's place",
        "told to a node that wants to leave, for its log",
    ),
    (
        "quorate: transactions are nested too deep",
        "no message holds so many: whatever decodes it refuses it first",
    ),
    (
        "quorate: compactions overtook the read, try again",
        "it takes a compaction between each of several attempts",
    ),
    (
        "quorate: the store of this node cannot be read, see its log",
        "it takes a disk that fails",
    ),
    (
        "quorate: this node cannot hash passwords now",
        "it takes a system that is out of threads",
    ),
    (
        "quorate: the answer does not fit the request, are all nodes of one version?",
        "it takes a node of another version",
    ),
];

/// The texts as they are written there: string literals with a space in them.
fn texts() -> Vec<&'static str> {
    let rows = ROWS.into_iter().flat_map(|source| {
        let lines = own_lines(source);
        lines.filter(|line| {
            !["#[", "//", "tracing::"]
                .iter()
                .any(|other| line.starts_with(other))
        })
    });
    let watches = own_lines(WATCHES).filter(|line| line.starts_with("#[error("));
    let mut texts: Vec<&str> = rows.chain(watches).flat_map(literals).collect();
    texts.retain(|text| text.contains(' '));
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// The lines above a source's own tests.
fn own_lines(source: &str) -> impl Iterator<Item = &str> {
    let above = source.split("#[cfg(test)]").next().unwrap_or_default();
    above.lines().map(str::trim)
}

/// The string literals in a line, with their escapes.
fn literals(line: &str) -> Vec<&str> {
    let mut ends = Vec::new();
    let mut is_escaped = false;
    for (at, c) in line.char_indices() {
        if c == '"' && !is_escaped {
            ends.push(at);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    ends.chunks_exact(2)
        .map(|pair| &line[pair[0] + 1..pair[1]])
        .collect()
}

/// The sources of all tests below, but for this one, and for the one that puts a text of etcd's in another's place.
fn sources(dir: &Path) -> String {
    let mut found = String::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found += &sources(&path);
        } else if !path.ends_with("api_server/errors.rs") && !path.ends_with("differential/side.rs") {
            found += &fs::read_to_string(&path).unwrap();
        }
    }
    found
}

#[test]
fn each_is_told_to_a_client_by_a_test() {
    let tests = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"));
    let texts = texts();
    assert!(texts.len() > 60, "{texts:?}");
    for text in &texts {
        // Some tests leave out what they all begin with, some have a transcript.
        let forms = [
            format!("\"{text}\""),
            format!("\"{}\"", text.trim_start_matches("etcdserver: ")),
            format!("({text})"),
        ];
        let is_told = forms.iter().any(|form| tests.contains(form));
        let reason = NOT_TOLD.iter().find(|(not_told, _)| not_told == text);
        match reason {
            None => assert!(is_told, "no test is told {text:?}"),
            Some((_, reason)) => assert!(!is_told, "{text:?} is told all the same: {reason}"),
        }
    }
    for (text, _) in NOT_TOLD {
        assert!(texts.contains(&text), "{text:?} is not in the table");
    }
}

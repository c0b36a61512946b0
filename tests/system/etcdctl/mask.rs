//! What two systems may print differently.

use std::sync::LazyLock;

use regex::Regex;

/// Pattern, and what is printed in its place.
const MASKS: [(&str, &str); 26] = [
    // The client's own log lines: their times, and addresses of its memory.
    (r#"(?m)^\{"level".*\n"#, ""),
    (r"(?m)^20[0-9-]+T[0-9:]+Z\t.*\n", ""),
    // What etcd forgets to translate on its way out, and a node does not.
    (
        r"rpc error: code = Unknown desc = auth: permission denied",
        "etcdserver: permission denied",
    ),
    (
        r"rpc error: code = Unknown desc = auth: authentication failed, password was given for no password user",
        "etcdserver: authentication failed, invalid user ID or password",
    ),
    // Members in the order of their ids.
    (r"(?m)^ETCD_INITIAL_CLUSTER=.*$", "ETCD_INITIAL_CLUSTER=<members>"),
    // Ids in JSON and in `-w fields`, ids in hexadecimal.
    (
        r#"("(?:cluster_id|member_id|lease|ID|header_id|leader|ClusterID|MemberID|Lease)" ?: ?)[0-9]{6,}"#,
        "$1<id>",
    ),
    (r#""(?:\\x[0-9a-f]{2}|\\u[0-9a-f]{4})+""#, "<bytes>"),
    (r"\b[0-9a-f]{14,16}\b", "<id>"),
    (r"\b[0-9]{16,20}\b", "<id>"),
    (
        r#"("raft_term" ?: ?|"RaftTerm" ?: ?|raftTerm" ?: ?)[0-9]+"#,
        "$1<term>",
    ),
    (
        r#"("raftIndex" ?: ?|"raftAppliedIndex" ?: ?|"RaftIndex" ?: ?|"RaftAppliedIndex" ?: ?)[0-9]+"#,
        "$1<index>",
    ),
    (
        r#"("dbSize" ?: ?|"dbSizeInUse" ?: ?|"DBSize" ?: ?)[0-9]+"#,
        "$1<size>",
    ),
    (r#"("hash" ?: ?|"Hash" ?: ?)[0-9]+"#, "$1<hash>"),
    (r"(?m)^(<url>), [0-9]+$", "$1, <hash>"),
    (r#"("version" ?: ?"|, )3\.[0-9]+\.[0-9]+"#, "$1<version>"),
    (r"\b[0-9]+(?:\.[0-9]+)? (?:B|kB|MB)\b", "<size>"),
    (r"took = [0-9.]+(?:µs|ms|s)", "took = <time>"),
    (r#""took":"[^"]*""#, r#""took":"<time>""#),
    (r"remaining\([0-9]+s\)", "remaining(<time>)"),
    (r"http://(?:127\.0\.0\.1|localhost):[0-9]{2,5}\b", "<url>"),
    // Keys of locks and elections end in the lease.
    (r"(mine|shared|post)/[0-9a-f]+", "$1/<id>"),
    // Status lines: "..., true, false, 2, 14, 14, " are leader, learner, term and indexes.
    (
        r", (true|false), (true|false), [0-9]+, [0-9]+, [0-9]+,",
        ", $1, $2, <term>, <index>, <index>,",
    ),
    // Columns of a table are as wide as what was masked in them.
    (r"-{3,}", "---"),
    (r" {2,}", " "),
    (
        r"\| (true|false) \| (true|false) \| [0-9]+ \| [0-9]+ \| [0-9]+ \|",
        "| $1 | $2 | <term> | <index> | <index> |",
    ),
    (r"\| 3\.[0-9]+\.[0-9]+ \|", "| <version> |"),
];

static COMPILED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    MASKS
        .iter()
        .map(|(pattern, with)| (Regex::new(pattern).unwrap(), *with))
        .collect()
});

/// Hides what may differ. `endpoint` is where the system is, `work` the script's own directory.
pub(crate) fn mask(printed: &str, endpoint: &str, work: &str) -> String {
    let address = endpoint.trim_start_matches("http://");
    let mut text = printed
        .replace(endpoint, "<url>")
        .replace(address, "<url>")
        .replace(work, "<work>");
    for (pattern, with) in COMPILED.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text
}

//! Good histories pass, whatever the seed.

use proptest::prelude::*;
use quorate_checkers::{Report, Settings, Verdict, check, history};

use crate::simulated::{Plan, run};

fn passes(plan: &Plan) -> Result<Report, TestCaseError> {
    let report = check(&run(plan).history, &Settings::default());
    prop_assert!(report.passed(), "seed {}:\n{}", plan.seed, report);
    Ok(report)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do(seed: u64) {
        let report = passes(&Plan::new(seed))?;
        prop_assert!(report.checks.len() >= 12, "{}", report);
    }

    #[test]
    fn with_many_unknown_outcomes_and_few_keys(seed: u64) {
        passes(&Plan { operations: 2500, unknown_per_mille: 200, failed_per_mille: 100, keys: 2, clients: 10, ..Plan::new(seed) })?;
    }

    /// Nobody tells then who made a revision: it has to be found out.
    #[test]
    fn without_a_watch_over_everything(seed: u64) {
        passes(&Plan { watched: false, everything: false, ..Plan::new(seed) })?;
    }
}

#[test]
fn the_report_tells_what_was_checked() {
    let report = check(&run(&Plan::new(1)).history, &Settings::default());
    let text = report.to_string();
    for line in [
        "transactions are strictly serializable: ",
        "watches are atomic",
        "leases never end early: ",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.ends_with("\nPASSED"), "{text}");
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

fn all_is_well(lines: &[&str]) {
    let history = history::read(lines.join("\n").as_bytes()).expect("it is a history");
    for check in check(&history, &Settings::default()).checks {
        let trivial = check.checker.contains("trivial");
        assert!(trivial || check.verdict == Verdict::Ok, "{check:?}");
    }
}

/// Nothing is seen of revision 4, the end of one of two leases with a key each, and only one of them could end by then.
/// (A run of the simulation took the other one for ended, and said that it ended early.)
#[test]
fn a_revision_that_a_lease_made_is_of_one_that_could_end() {
    let record = |start_s: u64, request: &str, revision: u64, reply: &str| {
        format!(
            r#"{{"client":1,"endpoint":"n0","start_ns":{start_s}000000000,"end_ns":{start_s}500000000,"request":{request},"outcome":{{"ok":{{"revision":{revision},"reply":{reply}}}}}}}"#
        )
    };
    let grant = |lease: i64, ttl_s: u64| {
        let request = format!(r#"{{"lease_grant":{{"lease":{lease},"ttl_s":{ttl_s}}}}}"#);
        record(1, &request, 1, &format!(r#"{{"lease":{{"ttl_s":{ttl_s}}}}}"#))
    };
    let put = |start_s: u64, key: &str, lease: &str, revision: u64| {
        let request = format!(r#"{{"put":{{"key":"{key}","value":"{key}","lease":{lease}}}}}"#);
        record(start_s, &request, revision, r#""put""#)
    };
    for (short, long) in [(7, 8), (8, 7)] {
        all_is_well(&[
            &grant(short, 5),
            &grant(long, 50),
            &put(2, "r/0", &short.to_string(), 2),
            &put(3, "r/1", &long.to_string(), 3),
            &put(10, "r/2", "null", 5),
        ]);
    }
}

/// A write whose answer was lost came before everything that was answered; only what it left tells of it. (The run of
/// this seed was called a violation.)
#[test]
fn the_first_write_of_all_may_be_one_that_nobody_heard_of() {
    let report = check(
        &run(&Plan {
            watched: false,
            everything: false,
            ..Plan::new(858471028353788709)
        })
        .history,
        &Settings::default(),
    );
    assert!(report.passed(), "{report}");
    let lost = r#"{"client":1,"endpoint":"n0","start_ns":10,"end_ns":90,"request":{"put":{"key":"r/0","value":"1"}},"outcome":{"unknown":"lost"}}"#;
    let put = r#"{"client":2,"endpoint":"n0","start_ns":20,"end_ns":30,"request":{"put":{"key":"r/0","value":"2"}},"outcome":{"ok":{"revision":3,"reply":"put"}}}"#;
    let read = r#"{"client":2,"endpoint":"n0","start_ns":40,"end_ns":50,"request":{"read":{"keys":{"key":"r/0"}}},"outcome":{"ok":{"revision":3,"reply":{"read":[{"key":"r/0","value":"2","create_revision":2,"mod_revision":3,"version":2}]}}}}"#;
    let delete = r#"{"client":2,"endpoint":"n0","start_ns":20,"end_ns":30,"request":{"delete":{"keys":{"key":"r/0"}}},"outcome":{"ok":{"revision":3,"reply":{"delete":{"deleted":1}}}}}"#;
    all_is_well(&[lost, put, read]);
    all_is_well(&[lost, delete]);
    let grant = r#"{"client":2,"endpoint":"n0","start_ns":1,"end_ns":5,"request":{"lease_grant":{"lease":7,"ttl_s":50}},"outcome":{"ok":{"revision":1,"reply":{"lease":{"ttl_s":50}}}}}"#;
    all_is_well(&[grant, lost, put, read]);
}

/// Nothing is seen of revision 3, which either of two unknown writes may have made, or of what it did; but a watch tells
/// what was deleted after it. (A run of the simulation ended undecided: compaction had hidden the revision.)
#[test]
fn what_a_watch_tells_of_the_past_decides_who_made_a_revision() {
    let put = |client: u32, key: &str, outcome: &str| {
        format!(
            r#"{{"client":{client},"endpoint":"n0","start_ns":{client}0,"end_ns":{client}5,"request":{{"put":{{"key":"{key}","value":"{client}"}}}},"outcome":{outcome}}}"#
        )
    };
    let done = |revision: u64| format!(r#"{{"ok":{{"revision":{revision},"reply":"put"}}}}"#);
    let first = put(1, "r/0", &done(2));
    let unknown = [
        put(2, "r/0", r#"{"unknown":"lost"}"#),
        put(3, "r/1", r#"{"unknown":"lost"}"#),
        r#"{"client":4,"endpoint":"n0","start_ns":40,"end_ns":45,"request":{"delete":{"keys":{"key":"r/0"}}},"outcome":{"unknown":"lost"}}"#.to_owned(),
    ];
    let last = put(5, "r/2", &done(5));
    let watch = r#"{"client":6,"endpoint":"n0","start_ns":60,"end_ns":90,"request":{"watch":{"watch":6,"keys":{"prefix":""},"start_revision":4,"prev_kv":true}},"outcome":{"ok":{"revision":5,"reply":{"watch":{"responses":[{"at_ns":70,"revision":5,"events":[{"delete":{"key":"r/0","revision":4,"prev":{"key":"r/0","value":"1","create_revision":2,"mod_revision":2,"version":1}}},{"put":{"kv":{"key":"r/2","value":"5","create_revision":5,"mod_revision":5,"version":1}}}]}],"end":"closed"}}}}}"#;
    for order in [[0, 1, 2], [1, 0, 2]] {
        let [one, other, delete] = order.map(|index| unknown[index].clone());
        all_is_well(&[&first, &one, &other, &delete, &last, watch]);
    }
}

/// Nothing is seen of revision 3, which either of two unknown writes may have made; but a watch over the keys of one of them
/// was told all up to revision 4, and nothing of it. (A run of the simulation ended undecided: it took that one.)
#[test]
fn what_a_watch_does_not_tell_did_not_happen() {
    let put = |client: u32, key: &str, outcome: &str| {
        format!(
            r#"{{"client":{client},"endpoint":"n0","start_ns":{client}0,"end_ns":{client}5,"request":{{"put":{{"key":"{key}","value":"{client}"}}}},"outcome":{outcome}}}"#
        )
    };
    let done = |revision: u64| format!(r#"{{"ok":{{"revision":{revision},"reply":"put"}}}}"#);
    let (first, last) = (put(1, "r/0", &done(2)), put(4, "r/0", &done(4)));
    let unknown = ["r/1", "s/1"].map(|key| put(2, key, r#"{"unknown":"lost"}"#));
    let kv = |value: u32, revision: u64, version: u64| {
        format!(
            r#"{{"put":{{"kv":{{"key":"r/0","value":"{value}","create_revision":2,"mod_revision":{revision},"version":{version}}}}}}}"#
        )
    };
    let watch = format!(
        r#"{{"client":6,"endpoint":"n0","start_ns":60,"end_ns":90,"request":{{"watch":{{"watch":6,"keys":{{"prefix":"r/"}},"start_revision":2}}}},"outcome":{{"ok":{{"revision":4,"reply":{{"watch":{{"responses":[{{"at_ns":70,"revision":4,"events":[{},{}]}}],"end":"closed"}}}}}}}}}}"#,
        kv(1, 2, 1),
        kv(4, 4, 2)
    );
    for order in [[0, 1], [1, 0]] {
        let [one, other] = order.map(|index| unknown[index].clone());
        all_is_well(&[&first, &one, &other, &last, &watch]);
    }
}

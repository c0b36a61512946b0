//! `quorate chaos`: the short form of the proof, on real processes. The long form is the same command with more rounds.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// What a run left and said.
struct Run {
    code: Option<i32>,
    said: String,
    verdict: Value,
    faults: Vec<Value>,
    history: Vec<Value>,
    report: String,
}

/// Runs `quorate chaos ARGS`; a run that must have a verdict leaves all of its files.
fn chaos(dir: &Path, args: &[&str]) -> Run {
    let out = dir.join(args.join("-"));
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("chaos")
        .args(args)
        .args(["--seed", "7", "--allow-ram", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    println!("{said}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let lines = |name: &str| -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap();
        read(name).lines().map(parse).collect()
    };
    assert!(!out.join("data").exists(), "the nodes' data goes with the run");
    Run {
        code: status.code(),
        verdict: serde_json::from_str(&read("verdict.json")).unwrap(),
        faults: lines("faults.jsonl"),
        history: lines("history.jsonl"),
        report: read("report.html"),
        said,
    }
}

fn passes(dir: &Path, args: &[&str], faults: usize) -> Run {
    let run = chaos(dir, args);
    assert_eq!(run.code, Some(0), "{}", run.said);
    assert_eq!(run.verdict["conclusion"], "passed");
    assert_eq!(run.faults.len(), faults);
    assert!(run.said.contains("\nPASSED: "), "{}", run.said);
    assert!(run.report.contains("<svg ") && run.report.ends_with("</html>\n"));
    assert!(
        end_of(&run.history, true) >= end_of(&run.history, false),
        "something was asked that no watch saw to its end"
    );
    run
}

/// When the last watch, or the last of all else, was over.
fn end_of(history: &[Value], watches: bool) -> Option<u64> {
    let is_wanted = |record: &&Value| record["request"].get("watch").is_some() == watches;
    history
        .iter()
        .filter(is_wanted)
        .filter_map(|record| record["end_ns"].as_u64())
        .max()
}

#[test]
fn nothing_is_lost_when_the_leader_is_killed_and_another_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let run = passes(dir.path(), &["kill-leader", "--rounds", "3"], 3);
    assert!(
        run.faults
            .iter()
            .all(|fault| fault["fault"]["kind"] == "kill" && fault["fault"]["leads"] == true)
    );
    let gaps = run.verdict["summary"]["gaps_ms"].as_array().unwrap();
    assert!(
        gaps.len() == 3 && gaps.iter().all(|gap| gap.as_f64().unwrap() > 100.0),
        "no fault without a gap: {gaps:?}"
    );
    passes(dir.path(), &["pause", "--rounds", "1"], 1);
    a_history_without_operations_shows_nothing(&dir.path().join("pause---rounds-1"));
}

/// The same run, had its clients asked nothing.
fn a_history_without_operations_shows_nothing(run: &Path) {
    std::fs::write(run.join("history.jsonl"), "").unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["chaos", "--again"])
        .arg(run)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert_eq!(again.status.code(), Some(2), "{said}");
    assert!(said.contains("only 0 operations were answered"), "{said}");
}

#[test]
fn nothing_is_lost_when_the_leader_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let unshare = Command::new("unshare")
        .args(["--net", "--mount", "--", "nft", "--version"])
        .output();
    if !unshare.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no namespaces or no nft here, so nothing can be cut off");
        return;
    }
    passes(
        dir.path(),
        &["partition", "--rounds", "2", "--shape", "symmetric"],
        2,
    );
}

#[test]
fn a_node_whose_disk_was_full_goes_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let loop_device = Command::new("losetup").arg("--find").output();
    let is_root = rustix::process::geteuid().is_root();
    if !is_root || !loop_device.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no root or no loop device here, so no disk can be made and filled");
        return;
    }
    passes(dir.path(), &["full-disk", "--rounds", "2"], 2);
}

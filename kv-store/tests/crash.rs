//! A process that applies and syncs is killed; what the store then opens with is a whole past state,
//! not older than what was made durable.

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use common::{Numbers, all, apply_log, facts, options};
use kv_store::Store;

const CHILD_DIR: &str = "KV_STORE_CRASH_TEST_DIR";
const ROUNDS: u64 = 12;
/// The log ends here, far beyond what the rounds reach.
const LOG_END: u64 = 1 << 40;
/// How far the child applies beyond what is durable.
const AHEAD_MAX: u64 = 1_000;

/// The process that is killed: applies until then, and says what is durable.
#[test]
#[ignore = "started by the test below"]
fn child() {
    let dir = std::env::var(CHILD_DIR).expect("the parent says where");
    let store = Store::open(Path::new(&dir), options()).expect("opens");
    let applier = store.clone();
    thread::spawn(move || {
        for batch in (1..40).cycle() {
            let next = applier.applied().map_or(1, |point| point.index + 1);
            apply_log(&applier, LOG_END.min(next + batch - 1), batch);
            // Not far ahead of what is durable, so that many syncs meet few entries.
            while next > applier.durable_index() + AHEAD_MAX {
                thread::yield_now();
            }
        }
    });
    let sweeper = store.clone();
    thread::spawn(move || {
        loop {
            if !sweeper.sweep_step().expect("sweeps") {
                thread::yield_now();
            }
        }
    });
    let mut said = 0;
    loop {
        let durable = store.sync().expect("syncs");
        if durable > said {
            said = durable;
            println!("durable {durable}");
            std::io::stdout().flush().expect("the parent listens");
        }
    }
}

/// Runs a child until it has said `lines` times what is durable, and kills it. Returns the last word.
fn run_and_kill(dir: &Path, lines: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = output.lines().map_while(Result::ok).filter_map(|line| {
        line.strip_prefix("durable ")
            .map(|index| index.parse::<u64>().expect("a number"))
    });
    let mut last = 0;
    for _ in 0..lines {
        last = said.next().expect("the child runs until it is killed");
    }
    child.kill().expect("kills");
    // What it could still say before the signal came counts too.
    last = said.last().unwrap_or(last);
    child.wait().expect("is gone");
    last
}

#[test]
fn a_killed_store_opens_at_or_above_the_durable_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("store");
    let mut numbers = Numbers::new(std::process::id().into());
    let twin = Store::in_memory(options()).expect("opens");
    let mut previous = 0;
    for round in 0..ROUNDS {
        let durable = run_and_kill(&dir, 1 + numbers.below(25));
        let store = Store::open(&dir, options()).expect("opens after a kill");
        let applied = store.applied().map_or(0, |point| point.index);
        println!(
            "round {round}: durable {durable}, applied {applied}, keys {}",
            store.keys()
        );
        assert!(
            applied >= durable && store.durable_index() >= durable,
            "{applied} is below {durable}"
        );
        assert!(
            applied >= previous,
            "the store went back from {previous} to {applied}"
        );
        apply_log(&twin, applied, 64);
        assert_eq!(store.revision(), twin.revision());
        assert_eq!(
            store.range(&all()).expect("reads"),
            twin.range(&all()).expect("reads")
        );
        assert_eq!(
            store.hash_kv(0).expect("hashes"),
            twin.hash_kv(0).expect("hashes")
        );
        assert_eq!(facts(&store), facts(&twin));
        previous = applied;
    }
    assert!(facts(&twin).len() > 2, "there is a clock, and there are leases");
    assert!(previous > 100, "the rounds get somewhere");
}

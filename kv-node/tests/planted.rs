//! The property test of watches finds the known mistakes with watches (tests/planted), which a process of its own makes.

// A test ends at the first thing that is not as it should be, in its helpers too.
#![allow(clippy::unwrap_used)]

#[path = "watch/property.rs"]
mod property;

use std::{env, process::Command};

use proptest::prelude::ProptestConfig;
use quorate_planted::{MISTAKES, plant};

/// The environment variable that names the mistake to be made.
const MISTAKE: &str = "QUORATE_TEST_MISTAKE";

/// Checks the property with a mistake, and says what came of it.
#[test]
#[ignore = "makes a mistake that stays with the process"]
fn make_a_mistake() {
    let name = env::var(MISTAKE).unwrap();
    plant(*MISTAKES.iter().find(|mistake| mistake.name == name).unwrap());
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        // The first failure is enough.
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    match property::check(config) {
        Ok(()) => println!("kept"),
        Err(broken) => println!("broken: {broken}"),
    }
}

fn is_found(mistake: &str) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "make_a_mistake", "--ignored", "--nocapture"])
        .env(MISTAKE, mistake)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(printed.contains("broken: "), "{printed}");
}

#[test]
fn watch_skips_at_sync() {
    is_found("watch-skips-at-sync");
}

#[test]
fn watch_hides_compaction() {
    is_found("watch-hides-compaction");
}

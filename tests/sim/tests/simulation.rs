//! Short runs of the simulation, as a user would start them.

use std::process::Command;

use quorate_sim::run::Outcome;

fn run(seed: u64, seconds: u64) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args([
            "run",
            &seed.to_string(),
            "--seconds",
            &seconds.to_string(),
            "--json",
        ])
        .output()
        .expect("the simulation starts");
    serde_json::from_slice(&output.stdout).expect("it says what came of it")
}

/// The first thing to hold: without it no failure could be had again.
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [2, 8] {
        let (first, second) = (run(seed, 20), run(seed, 20));
        assert!(first.notes > 1000, "{first:?}");
        assert_eq!(
            (first.trace, first.notes),
            (second.trace, second.notes),
            "seed {seed}"
        );
    }
    assert_ne!(run(1, 5).trace, run(2, 5).trace);
}

#[test]
fn seeds_hold() {
    for seed in 20..30 {
        let outcome = run(seed, 20);
        assert_eq!(outcome.violations, [""; 0], "seed {seed}: {outcome:?}");
    }
}

#[test]
fn what_once_failed_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let output = Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(["replay", folder])
        .output()
        .expect("the simulation starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(!said.starts_with("0 plans"), "{said}");
}

//! How long a long history takes. The test that is ignored is run by hand when a checker changes, for its time and
//! memory: `cargo test --release -p quorate-checkers --test it -- --ignored --nocapture large`.

use std::time::Instant;

use quorate_checkers::{Settings, check};

use crate::simulated::{Plan, run};

fn measure(operations: usize) {
    let plan = Plan {
        operations,
        clients: 32,
        keys: 64,
        sets: operations as u64 / 2_000,
        failed_per_mille: 5,
        unknown_per_mille: 5,
        everything: false,
        ..Plan::new(7)
    };
    let started = Instant::now();
    let history = run(&plan).history;
    let made = started.elapsed();
    let started = Instant::now();
    let report = check(&history, &Settings::default());
    println!(
        "{operations} operations made in {made:.1?}, checked in {:.1?}\n{report}",
        started.elapsed()
    );
    assert!(report.passed(), "{report}");
}

#[test]
fn a_hundred_thousand_operations() {
    measure(100_000);
}

#[test]
#[ignore = "takes minutes without --release"]
fn two_million_operations() {
    measure(2_000_000);
}

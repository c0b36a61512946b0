//! Good histories pass, whatever the seed.

use proptest::prelude::*;
use quorate_checkers::{Report, Settings, check};

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

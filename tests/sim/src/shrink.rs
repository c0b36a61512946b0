//! The shortest schedule that still fails: faults are left out, many at a time and then few, as long as it does.

use std::{fs, path::Path};

use anyhow::ensure;

use crate::{plan::Plan, process::Process};

/// Leaves out faults of a plan that fails, and writes what is left to `out`.
///
/// # Errors
/// When the plan does not fail, or no run can be made.
pub fn shrink(mut plan: Plan, out: &Path) -> anyhow::Result<Plan> {
    ensure!(fails(&plan, out)?, "seed {} does not fail", plan.seed);
    let mut piece = plan.faults.len().div_ceil(2);
    while piece > 0 {
        let mut from = 0;
        while from < plan.faults.len() {
            let mut shorter = plan.clone();
            let to = (from + piece).min(shorter.faults.len());
            shorter.faults.drain(from..to);
            shorter.end_after_the_last();
            if fails(&shorter, out)? {
                plan = shorter;
            } else {
                from += piece;
            }
        }
        piece /= 2;
    }
    fs::write(out, serde_json::to_string_pretty(&plan)?)?;
    Ok(plan)
}

fn fails(plan: &Plan, path: &Path) -> anyhow::Result<bool> {
    fs::write(path, serde_json::to_string(plan)?)?;
    Ok(!Process::of_plan(path)?.outcome()?.violations.is_empty())
}

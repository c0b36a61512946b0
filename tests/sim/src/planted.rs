//! Whether the simulation finds known mistakes, and how soon: the table of docs/verification.md.

use std::{process::ExitCode, time::Instant};

use anyhow::Context;
use quorate_planted::{MISTAKES, Mistake};

use crate::process::Process;

/// Makes a mistake in this process from now on.
///
/// # Errors
/// When there is none of that name.
pub fn plant(name: &str) -> anyhow::Result<()> {
    let known = MISTAKES.iter().find(|mistake| mistake.name == name);
    quorate_planted::plant(*known.with_context(|| format!("there is no mistake {name}"))?);
    Ok(())
}

/// Runs seeds with each mistake until one fails that does not fail without, and prints the table; fails where there
/// is none.
///
/// # Errors
/// When a run cannot be made.
pub fn find(names: &[String], from: u64, seeds: u64, seconds: u64) -> anyhow::Result<ExitCode> {
    println!("| mistake | what is done wrong | like | found by | runs | seconds | seed |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut missed = 0;
    let asked = |mistake: &&Mistake| names.is_empty() || names.iter().any(|name| name == mistake.name);
    for Mistake { name, what, like } in MISTAKES.iter().filter(asked) {
        let began = Instant::now();
        let found = (from..from + seeds).find_map(|seed| violation(seed, seconds, name).transpose());
        let took_s = began.elapsed().as_secs_f64();
        match found.transpose()? {
            Some((seed, by)) => {
                let runs = seed - from + 1;
                let by = short(&by);
                println!("| `{name}` | {what} | {like} | {by} | {runs} | {took_s:.1} | {seed} |");
            }
            None => {
                missed += 1;
                println!("| `{name}` | {what} | {like} | **nothing** | {seeds} | {took_s:.1} | |");
            }
        }
    }
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a run with a mistake finds, if the same run without it finds nothing.
fn violation(seed: u64, seconds: u64, mistake: &str) -> anyhow::Result<Option<(u64, String)>> {
    let outcome = Process::planted(seed, seconds, mistake)?.outcome()?;
    let Some(first) = outcome.violations.into_iter().next() else {
        return Ok(None);
    };
    let without = Process::of_seed(seed, seconds)?.outcome()?;
    Ok(without.violations.is_empty().then_some((seed, first)))
}

/// The first line, as long as a table bears.
fn short(violation: &str) -> String {
    let line = violation.lines().next().unwrap_or_default().replace('|', "/");
    match line.char_indices().nth(90) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

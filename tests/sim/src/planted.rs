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

/// Runs seeds with each mistake until one fails, and prints the table; fails where none does.
///
/// # Errors
/// When a run cannot be made.
pub fn find(names: &[String], seeds: u64, seconds: u64) -> anyhow::Result<ExitCode> {
    println!("| mistake | what is done wrong | found by | seeds | seconds |");
    println!("| --- | --- | --- | --- | --- |");
    let mut missed = 0;
    let asked = |mistake: &&Mistake| names.is_empty() || names.iter().any(|name| name == mistake.name);
    for Mistake { name, what } in MISTAKES.iter().filter(asked) {
        let began = Instant::now();
        let mut found = None;
        for seed in 0..seeds {
            let outcome = Process::planted(seed, seconds, name)?.outcome()?;
            if let Some(first) = outcome.violations.into_iter().next() {
                found = Some((seed + 1, first));
                break;
            }
        }
        let took_s = began.elapsed().as_secs_f64();
        match found {
            Some((tried, by)) => {
                println!("| `{name}` | {what} | {} | {tried} | {took_s:.1} |", short(&by))
            }
            None => {
                missed += 1;
                println!("| `{name}` | {what} | **nothing** | {seeds} | {took_s:.1} |");
            }
        }
    }
    Ok(if missed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The first line, as long as a table bears.
fn short(violation: &str) -> String {
    let line = violation.lines().next().unwrap_or_default().replace('|', "/");
    match line.char_indices().nth(90) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

//! Running the system's own tools.

use std::process::Command;

use anyhow::{Context, ensure};

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started or fails; with its words.
pub(crate) fn run(line: &[&str]) -> anyhow::Result<String> {
    let (program, arguments) = line.split_first().context("an empty command")?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    ensure!(
        output.status.success(),
        "`{}` ended with {}: {}",
        line.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The same for a line whose words have no spaces in them.
pub(crate) fn run_line(line: &str) -> anyhow::Result<String> {
    run(&line.split(' ').collect::<Vec<_>>())
}

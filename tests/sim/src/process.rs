//! Runs in processes of their own.

use std::{
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::run::Outcome;

/// A run that was started.
pub struct Process(Child);

impl Process {
    /// Runs a seed.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn of_seed(seed: u64, seconds: u64) -> anyhow::Result<Process> {
        Process::start(&[&seed.to_string(), "--seconds", &seconds.to_string()])
    }

    /// Runs a seed with a known mistake.
    ///
    /// # Errors
    /// When no process can be started.
    #[cfg(feature = "planted")]
    pub fn planted(seed: u64, seconds: u64, mistake: &str) -> anyhow::Result<Process> {
        let (seed, seconds) = (seed.to_string(), seconds.to_string());
        Process::start(&[&seed, "--seconds", &seconds, "--plant", mistake])
    }

    /// Runs a plan from a file.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn of_plan(path: &Path) -> anyhow::Result<Process> {
        let path = path.to_str().context("the path is no text")?;
        Process::start(&["0", "--plan", path])
    }

    fn start(args: &[&str]) -> anyhow::Result<Process> {
        let program = std::env::current_exe().context("this program has no name")?;
        let mut command = Command::new(program);
        command.arg("run").args(args).arg("--json");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Ok(Process(child.context("a run does not start")?))
    }

    /// What came of it.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub fn outcome(mut self) -> anyhow::Result<Outcome> {
        let mut text = String::new();
        let mut output = self.0.stdout.take().context("its output is read")?;
        output.read_to_string(&mut text)?;
        let status = self.0.wait()?;
        let Ok(outcome) = serde_json::from_str::<Outcome>(&text) else {
            return Ok(Outcome::died(&status.to_string()));
        };
        ensure!(
            outcome.violations.is_empty() == status.success(),
            "a run contradicts itself"
        );
        Ok(outcome)
    }
}

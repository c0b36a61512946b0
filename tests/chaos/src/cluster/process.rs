//! One node as a process of this machine, with the faults that a signal can cause.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

/// Set for a child that is to stop when its standard input ends, which it does however this process ends.
const EXIT_WITH_PARENT: &str = "QUORATE_EXIT_WITH_PARENT";

/// What is started, and started again after a fault.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Environment beside this process's own.
    pub(crate) environment: Vec<(String, String)>,
    /// Where its output goes, appended.
    pub(crate) log: PathBuf,
}

/// A process that can be killed, paused and started again. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    pid: Pid,
    _lifeline: Option<ChildStdin>,
}

impl Process {
    /// Not started yet.
    pub(crate) fn new(program: Program) -> Process {
        Process {
            program,
            running: None,
        }
    }

    /// Where its output goes.
    pub(crate) fn log(&self) -> &std::path::Path {
        &self.program.log
    }

    /// What `start` is to start from now on.
    pub(crate) fn set_command(&mut self, command: Vec<String>) {
        self.program.command = command;
    }

    /// Starts it; it must not run.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        assert!(self.running.is_none(), "a process is started once at a time");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.program.log)
            .with_context(|| format!("cannot open {}", self.program.log.display()))?;
        let (program, arguments) = self
            .program
            .command
            .split_first()
            .context("a command without a program")?;
        let mut command = Command::new(program);
        // Settings of the user's own shell would change single nodes of a cluster that must fit together.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(&name);
            }
        }
        let mut child = command
            .args(arguments)
            .envs(self.program.environment.iter().cloned())
            .env(EXIT_WITH_PARENT, "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        // Taken out, because waiting for a process closes a pipe that is still in it.
        let lifeline = child.stdin.take();
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .context("the process has no id")?;
        self.running = Some(Running {
            child,
            pid,
            _lifeline: lifeline,
        });
        Ok(())
    }

    /// Whether it was started and has not been ended by us.
    pub(crate) fn is_started(&self) -> bool {
        self.running.is_some()
    }

    /// Its end, if it ended without being asked to. It counts as not started then.
    pub(crate) fn ended_by_itself(&mut self) -> Option<ExitStatus> {
        let running = self.running.as_mut()?;
        let status = running.child.try_wait().ok().flatten()?;
        self.running = None;
        Some(status)
    }

    /// SIGKILL, and waits until it is gone. Nothing if it does not run.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut running) = self.running.take() {
            running.child.kill().await.context("cannot kill a node")?;
        }
        Ok(())
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Errors
    /// If it does not stop in time (it is killed then), or ends with a failure.
    pub(crate) async fn terminate(&mut self, within: Duration) -> anyhow::Result<()> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        kill_process(running.pid, Signal::TERM).context("cannot signal a node")?;
        match tokio::time::timeout(within, running.child.wait()).await {
            Ok(status) => {
                let status = status.context("cannot wait for a node")?;
                anyhow::ensure!(status.success(), "it was asked to stop, and ended with {status}");
                Ok(())
            }
            Err(_) => {
                running.child.kill().await.context("cannot kill a node")?;
                bail!("it did not stop within {} s when asked", within.as_secs())
            }
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let running = self.running.as_mut().context("it does not run")?;
        let ended = tokio::time::timeout(within, running.child.wait()).await;
        let status = ended
            .ok()
            .with_context(|| format!("it still runs after {} s", within.as_secs()))?
            .context("cannot wait for a node")?;
        self.running = None;
        Ok(status)
    }

    /// Stops it where it is (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn set_paused(&self, paused: bool) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("it does not run")?;
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        kill_process(running.pid, signal).context("cannot signal a node")
    }
}

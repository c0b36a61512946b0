//! One child of the demo: started, probed until ready, watched, started again when it dies, stopped at the end.
//!
//! A child runs in a process group of its own, so that Ctrl-C in the terminal reaches the demo alone, which then
//! stops its children in order. Its standard input is a pipe of which the demo holds the other end (see
//! [`crate::lifeline`]), so that no child outlives the demo.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use super::data::DataDir;
use super::plan::ChildSpec;
use crate::lifeline::EXIT_WITH_PARENT;

/// Pause between two questions to a child whether it is ready.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);
/// A probe that hangs longer counts as "not ready".
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause before a dead child is started again: doubles from the first to the second with each death.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A child that lived this long before it died starts again with the shortest pause.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// What happens to a child.
#[derive(Debug)]
pub(crate) enum What {
    /// The process exists.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It serves, for the first time since it was started.
    Ready {
        /// Time since it was started.
        after: Duration,
    },
    /// It ended although nobody asked it to.
    Died {
        /// How.
        death: Death,
        /// Pause until it is started again.
        again_in: Duration,
    },
    /// It could not be started at all.
    NotStarted {
        /// Why not.
        error: anyhow::Error,
        /// Pause until the next attempt.
        again_in: Duration,
    },
    /// It had to be killed because it did not stop when asked.
    Killed,
}

/// The end of a child that nobody asked to end.
#[derive(Debug)]
pub(crate) struct Death {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Whether it had been ready before.
    pub(crate) was_ready: bool,
    /// Bytes of its log that are older than this process.
    pub(crate) log_from: u64,
}

/// One report from one child.
#[derive(Debug)]
pub(crate) struct Event {
    /// Index of the child in the demo's plan.
    pub(crate) child: usize,
    /// What happened to it.
    pub(crate) what: What,
}

/// How urgently the children are to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Keep running.
    No,
    /// SIGTERM, and SIGKILL after the grace.
    Politely,
    /// SIGKILL.
    Now,
}

/// Supervises one child until it is told to stop.
pub(crate) struct Supervisor {
    /// Index of the child in the demo's plan.
    pub(crate) index: usize,
    /// What to start.
    pub(crate) spec: ChildSpec,
    /// The binary to start it from.
    pub(crate) binary: PathBuf,
    /// Where its log goes.
    pub(crate) data: Arc<DataDir>,
    /// Asks the child whether it is ready.
    pub(crate) http: reqwest::Client,
    /// Where its events go. Bounded: a supervisor waits for the demo to print.
    pub(crate) events: mpsc::Sender<Event>,
    /// Says when to stop.
    pub(crate) stop: watch::Receiver<Stop>,
    /// Time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

struct Running {
    process: Child,
    pid: u32,
    log_from: u64,
    /// Closed when this is dropped, which tells the child to stop.
    _lifeline: Option<ChildStdin>,
}

impl Supervisor {
    /// Runs until told to stop, and returns when the child is gone.
    pub(crate) async fn run(mut self) {
        let mut pause = BACKOFF_MIN;
        while *self.stop.borrow() == Stop::No {
            let started = Instant::now();
            let died = match self.start() {
                Ok(running) => match self.watch(running, started).await {
                    Some(end) => end,
                    None => return,
                },
                Err(error) => End::NotStarted(error),
            };
            if started.elapsed() >= HEALTHY_AFTER {
                pause = BACKOFF_MIN;
            }
            self.report(died.into_event(pause)).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping(&mut self.stop, Stop::Politely) => return,
            }
            pause = (pause * 2).min(BACKOFF_MAX);
        }
    }

    fn start(&self) -> anyhow::Result<Running> {
        let log = self.data.open_log(&self.spec.name)?;
        let log_from = log.metadata()?.len();
        let mut command = Command::new(&self.binary);
        // Settings of the user's own shell would change single children of a cluster that must fit together.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("QUORATE_") && text != "QUORATE_LOG_LEVEL" {
                command.env_remove(&name);
            }
        }
        let mut process = command
            .args(&self.spec.args)
            .env(EXIT_WITH_PARENT, "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {}", self.binary.display()))?;
        // Taken out, because waiting for a process closes a pipe that is still in it.
        let lifeline = process.stdin.take();
        let pid = process.id().context("the process has no id")?;
        Ok(Running {
            process,
            pid,
            log_from,
            _lifeline: lifeline,
        })
    }

    /// Follows a running child; `None` once it was stopped on request.
    async fn watch(&mut self, mut running: Running, started: Instant) -> Option<End> {
        self.report(What::Started { pid: running.pid }).await;
        let mut was_ready = false;
        loop {
            tokio::select! {
                status = running.process.wait() => {
                    return Some(match status {
                        Ok(status) => End::Died(Death { status, was_ready, log_from: running.log_from }),
                        Err(error) => End::NotStarted(error.into()),
                    });
                }
                () = stopping(&mut self.stop, Stop::Politely) => break,
                () = ready(&self.http, &self.spec.ready_url), if !was_ready => {
                    was_ready = true;
                    self.report(What::Ready { after: started.elapsed() }).await;
                }
            }
        }
        self.end(running).await;
        None
    }

    async fn end(&mut self, mut running: Running) {
        signal(running.pid, rustix::process::Signal::TERM);
        let too_long = tokio::time::sleep(self.grace);
        tokio::select! {
            _ = running.process.wait() => return,
            () = too_long => {}
            () = stopping(&mut self.stop, Stop::Now) => {}
        }
        self.report(What::Killed).await;
        // Fails only if the process is gone already, which is what it is for.
        let _ = running.process.kill().await;
    }

    async fn report(&self, what: What) {
        // Nobody listens any more once the demo itself is ending.
        let _ = self
            .events
            .send(Event {
                child: self.index,
                what,
            })
            .await;
    }
}

enum End {
    Died(Death),
    NotStarted(anyhow::Error),
}

impl End {
    fn into_event(self, again_in: Duration) -> What {
        match self {
            End::Died(death) => What::Died { death, again_in },
            End::NotStarted(error) => What::NotStarted { error, again_in },
        }
    }
}

/// Completes when this child is to stop at least so urgently, or when nobody is left to say so.
async fn stopping(stop: &mut watch::Receiver<Stop>, least: Stop) {
    // An error says that the demo has dropped its end: then it is over as well.
    let _ = stop.wait_for(|stop| *stop >= least).await;
}

/// Completes when the URL has answered 2xx.
async fn ready(http: &reqwest::Client, url: &str) {
    loop {
        let answer = http.get(url).timeout(PROBE_TIMEOUT).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // Fails only if the process is gone already; it is not reaped yet, so the id cannot be another's.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

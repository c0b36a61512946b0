//! One server process of the system under test, with its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Bytes of a log that are shown when a test fails.
const TAIL_BYTES: usize = 4096;

/// A process, of the `quorate` binary unless said otherwise. Killed when dropped, and by the kernel's help when the test itself is killed:
/// it stops when its standard input ends.
pub(crate) struct Process {
    /// Its name in messages.
    pub(crate) name: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts `quorate ARGS`; its output goes to `DIR/NAME.log`.
    pub(crate) fn start(name: &str, dir: &Path, args: Vec<String>) -> Process {
        Process::start_program(Path::new(env!("CARGO_BIN_EXE_quorate")), name, dir, args)
    }

    /// Starts another program in the same way.
    pub(crate) fn start_program(program: &Path, name: &str, dir: &Path, args: Vec<String>) -> Process {
        let mut process = Process::prepared_program(program, name, dir, args);
        process.start_again();
        process
    }

    /// `quorate ARGS`, not started yet.
    pub(crate) fn prepared(name: &str, dir: &Path, args: Vec<String>) -> Process {
        Process::prepared_program(Path::new(env!("CARGO_BIN_EXE_quorate")), name, dir, args)
    }

    fn prepared_program(program: &Path, name: &str, dir: &Path, args: Vec<String>) -> Process {
        Process {
            name: name.to_owned(),
            program: program.to_owned(),
            args,
            log: dir.join(format!("{name}.log")),
            child: None,
        }
    }

    /// Starts a process that has ended, with the arguments which it had.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} still runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.args).env("QUORATE_EXIT_WITH_PARENT", "1");
        command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// The process id while it runs.
    pub(crate) fn pid(&self) -> u32 {
        self.child
            .as_ref()
            .unwrap_or_else(|| panic!("{} does not run", self.name))
            .id()
    }

    /// Whether it was started and has not been ended by this test; panics if it ended by itself.
    pub(crate) fn check(&mut self) -> bool {
        let Some(child) = self.child.as_mut() else {
            return false;
        };
        if let Some(status) = child.try_wait().unwrap() {
            panic!("{} ended by itself: {status}\n{}", self.name, self.log_tail());
        }
        true
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let mut child = self
            .child
            .take()
            .unwrap_or_else(|| panic!("{} does not run", self.name));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and waits until it is gone; panics if that takes longer.
    pub(crate) async fn terminate(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ends_by_itself(within).await
    }

    /// Waits until it has ended; panics if that takes longer.
    pub(crate) async fn ends_by_itself(&mut self, within: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            let child = self
                .child
                .as_mut()
                .unwrap_or_else(|| panic!("{} does not run", self.name));
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(
                started.elapsed() < within,
                "{} did not stop:\n{}",
                self.name,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it has printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The end of what it has printed.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let mut from = log.len().saturating_sub(TAIL_BYTES);
        while !log.is_char_boundary(from) {
            from += 1;
        }
        format!("--- {} ---\n{}", self.name, &log[from..])
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if let Some(mut child) = self.child.take() {
            // A test that fails must not hide its reason behind another panic.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

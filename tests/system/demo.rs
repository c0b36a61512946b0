//! `quorate demo`: it becomes ready, names and restarts a child that dies, and leaves nothing behind.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{Browser, Load, Outcome, eventually, free_ports};

/// Ports above the base that a demo of three nodes uses.
const PORTS: u16 = 32;
/// Longest wait for a line of the demo's output: it is compiled without optimisation, and its machine is busy.
const LINE_WITHIN: Duration = Duration::from_secs(60);
/// Longest that the demo may take to stop with all its children.
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// Clients that write while nodes are restarted, and the fewest writes that they must have got through to tell.
const CLIENTS: usize = 4;
const WRITES_MIN: usize = 200;

struct Demo {
    child: Child,
    output: Lines<BufReader<ChildStdout>>,
    seen: Vec<String>,
    base_port: u16,
}

impl Demo {
    /// Starts a demo; its files go below `dir`, its temporary ones too.
    fn start(dir: &Path, base_port: u16, args: &[&str]) -> Demo {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["demo", "--base-port", &base_port.to_string()])
            .args(args)
            .current_dir(dir)
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Demo {
            child,
            output,
            seen: Vec::new(),
            base_port,
        }
    }

    /// The next line that contains every one of these.
    async fn line(&mut self, parts: &[&str]) -> String {
        loop {
            let line = match tokio::time::timeout(LINE_WITHIN, self.output.next_line()).await {
                Ok(Ok(Some(line))) => line,
                end => panic!(
                    "no line with {parts:?} ({end:?}) after:\n{}",
                    self.seen.join("\n")
                ),
            };
            self.seen.push(line.clone());
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    /// Waits until it says that all is ready and has printed its last line of advice.
    async fn ready(&mut self) {
        self.line(&["Ready after"]).await;
        self.line(&["Ctrl-C"]).await;
    }

    /// The name and process id of the node that it says leads.
    fn leader(&self) -> (String, u32) {
        let line = self.seen.iter().find(|line| line.contains(", leader)"));
        let line = line.unwrap_or_else(|| panic!("no leader in:\n{}", self.seen.join("\n")));
        let name = line.split_whitespace().next().unwrap().to_owned();
        (name, process_in(line))
    }

    fn signal(&self, signal: Signal) {
        kill(self.child.id().expect("the demo runs"), signal);
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .expect("the demo ends")
            .unwrap()
    }

    fn browser(&self) -> Browser {
        Browser::new(format!("http://127.0.0.1:{}", self.base_port + 1))
    }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// The number behind "process" in a line.
fn process_in(line: &str) -> u32 {
    let rest = line
        .split("process ")
        .nth(1)
        .unwrap_or_else(|| panic!("no process in {line:?}"));
    rest.split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// The processes whose arguments name this directory or one of these ports, which only the demo's children do.
fn children_of(dir: &Path, base_port: u16) -> Vec<u32> {
    let marks = [dir.display().to_string(), format!("127.0.0.1:{base_port}")];
    let processes = std::fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        arguments.contains("quorate") && marks.iter().any(|mark| arguments.contains(mark.as_str()))
    })
    .collect()
}

async fn all_gone(dir: &Path, base_port: u16) {
    eventually("all children gone", STOP_WITHIN, || async {
        match children_of(dir, base_port).as_slice() {
            [] => Ok(()),
            left => Err(format!("processes {left:?} are left")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_dies_is_named_and_restarted_and_nothing_is_left_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), free_ports(PORTS), &["--ephemeral"]);
    demo.ready().await;
    assert_eq!(
        children_of(dir.path(), demo.base_port).len(),
        6,
        "three nodes, a balancer, two web apps"
    );
    assert_eq!(demo.browser().register("Ada").await, Outcome::Registered);

    let (name, pid) = demo.leader();
    kill(pid, Signal::KILL);
    demo.line(&[&name, &format!("process {pid}"), "died", "signal: 9"])
        .await;
    let again = demo.line(&[&name, "started again"]).await;
    assert_ne!(process_in(&again), pid);
    demo.line(&[&name, "ready again"]).await;
    let browser = demo.browser();
    let names = eventually("the names", LINE_WITHIN, || browser.names()).await;
    assert_eq!(names, ["Ada"]);

    demo.signal(Signal::TERM);
    demo.line(&["data is removed"]).await;
    assert!(demo.ended().await.success());
    all_gone(dir.path(), demo.base_port).await;
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_data_is_there_at_the_second_start_even_after_the_demo_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let base_port = free_ports(PORTS);
    let mut demo = Demo::start(dir.path(), base_port, &[]);
    demo.ready().await;
    assert_eq!(demo.browser().register("Ada").await, Outcome::Registered);
    demo.signal(Signal::KILL);
    demo.ended().await;
    all_gone(dir.path(), base_port).await;

    let refused = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["demo", "--nodes", "5", "--base-port", &base_port.to_string()])
        .current_dir(dir.path())
        .output()
        .await
        .unwrap();
    let reason = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && reason.contains("say --nodes 3"),
        "{reason}"
    );

    let mut demo = Demo::start(dir.path(), base_port, &[]);
    demo.ready().await;
    assert_eq!(demo.browser().names().await.unwrap(), ["Ada"]);
    demo.signal(Signal::INT);
    demo.line(&["data is kept"]).await;
    assert!(demo.ended().await.success());
    all_gone(dir.path(), base_port).await;
}

/// The demo starts again what chaos kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_demo_can_be_broken() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), free_ports(PORTS), &[]);
    demo.ready().await;
    let chaos = |arguments: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("chaos").args(arguments.split(' '));
        command.args(["--demo", "--seed", "7"]).current_dir(dir.path());
        command
    };
    for faults in ["kill-leader --rounds 2", "pause --rounds 1"] {
        let output = chaos(faults).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("\nPASSED: "),
            "{output:?}"
        );
    }
    let refused = chaos("add-node").output().await.unwrap();
    let reason = String::from_utf8_lossy(&refused.stderr);
    assert!(
        reason.starts_with("error: add-node is not possible with a demo: leave --demo out\n"),
        "{reason}"
    );
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(demo.browser().register("Ada").await, Outcome::Registered);
    demo.signal(Signal::INT);
    assert!(demo.ended().await.success());
}

#[tokio::test]
async fn taken_ports_are_reported_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let base_port = free_ports(PORTS);
    let taken: Vec<TcpListener> = [base_port + 1, base_port + 21]
        .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap())
        .into();
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["demo", "--base-port", &base_port.to_string()])
        .current_dir(dir.path())
        .output()
        .await
        .unwrap();
    drop(taken);
    let expected = format!(
        "error: port {} is taken (wanted by n2 for its peers)\n\
         port {} is taken (wanted by balancer for browsers)\n\
         nothing was started; use other ports with --base-port PORT\n",
        base_port + 21,
        base_port + 1,
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert!(!output.status.success());
    assert!(!dir.path().join("quorate-data").exists(), "nothing was touched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_write_through_the_balancer() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(dir.path(), free_ports(PORTS), &["--ephemeral"]);
    demo.ready().await;
    let load = Load::start(&format!("127.0.0.1:{}", demo.base_port), CLIENTS);
    let restarted = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rolling-restart"))
        .args(["--demo", "--base-port", &demo.base_port.to_string()])
        .output()
        .await
        .unwrap();
    let written = load.stop().await;
    assert!(restarted.status.success(), "{restarted:?}");
    let said = String::from_utf8_lossy(&restarted.stdout);
    assert!(said.ends_with("restarted 3 nodes\n"), "{said}");
    assert!(written.failures.is_empty(), "{:?}", written.failures);
    assert!(
        written.acknowledged.len() >= WRITES_MIN,
        "only {} writes",
        written.acknowledged.len()
    );
    demo.signal(Signal::INT);
    assert!(demo.ended().await.success());
}

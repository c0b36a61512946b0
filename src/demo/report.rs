//! What the demo prints: progress, addresses, what to try, and what happens to its children.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ChildState;
use super::child::What;
use super::data::DataDir;
use super::plan::Ports;

/// Bytes of a log that are looked at for its last lines.
const TAIL_BYTES_MAX: u64 = 8 * 1024;
/// Last lines of a dead child's log that are shown.
const TAIL_LINES_MAX: usize = 8;

/// Says what is being started.
pub(crate) fn starting(children: &[ChildState], data: &DataDir) {
    let names: Vec<&str> = children.iter().map(|child| child.spec.name.as_str()).collect();
    println!(
        "Starting {} (logs in {}).",
        names.join(", "),
        short(&data.path().join("logs"))
    );
}

/// Prints one event of one child; what is only progress is left out once the demo has been announced as ready,
/// except for a child that comes back.
pub(crate) fn event(name: &str, pid: Option<u32>, what: &What, announced: bool) {
    let process = pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
    match what {
        What::Started { pid } if announced => println!("{name} is started again as process {pid}."),
        What::Started { .. } => {}
        What::Ready { after } if announced => {
            println!("{name}{process} is ready again after {}.", seconds(*after))
        }
        What::Ready { after } => println!("  {name:<10} ready after {}", seconds(*after)),
        What::Died { death, again_in } => {
            println!(
                "{name}{process} died: {}; starting it again in {}.",
                death.status,
                seconds(*again_in)
            );
        }
        What::NotStarted { error, again_in } => {
            println!(
                "{name} could not be started: {error:#}; trying again in {}.",
                seconds(*again_in)
            );
        }
        What::Killed => println!("{name}{process} did not stop when asked, and was killed."),
    }
}

/// Prints the addresses and a few commands to try.
pub(crate) async fn ready(ports: &Ports, pids: &[Option<u32>], data: &DataDir, after: Duration) {
    let program = program();
    let kept = if data.is_ephemeral() {
        "removed at the end"
    } else {
        "kept for the next start"
    };
    println!("\nReady after {}.\n", seconds(after));
    println!("  register a name   http://127.0.0.1:{}", ports.http);
    println!("  balancer's stats  http://127.0.0.1:{}", ports.stats);
    println!(
        "  key-value API     127.0.0.1:{} (etcd v3 over gRPC; /v1/kv/KEY over HTTP)",
        ports.kv
    );
    let leader = leader(ports).await;
    for (index, node) in ports.nodes.iter().enumerate() {
        let pid = pids
            .get(index)
            .copied()
            .flatten()
            .map_or_else(String::new, |pid| format!("process {pid}"));
        let role = if leader == Some(index) { ", leader" } else { "" };
        println!(
            "  n{:<16} http://127.0.0.1:{} ({pid}{role})",
            index + 1,
            node.client
        );
    }
    println!("  data              {} ({kept})", short(data.path()));
    let endpoint = match ports.kv {
        2379 => String::new(),
        port => format!(" --endpoints 127.0.0.1:{port}"),
    };
    println!("\nTry this in another terminal:\n");
    println!("  {program} put{endpoint} greeting hello");
    println!("  {program} get{endpoint} greeting");
    if let Some(pid) = leader.and_then(|index| pids.get(index).copied().flatten()) {
        println!("  kill -9 {pid}    # {}", after_a_kill(ports.nodes.len()));
    }
    println!("\nCtrl-C stops everything.");
}

/// What happens when the leader of so many nodes is killed.
fn after_a_kill(nodes: usize) -> &'static str {
    match nodes {
        1 => "the only node: it comes back with everything",
        // Neither of two is a majority: nobody leads until the other is back.
        2 => "the leader: both are needed, so nothing is served until it comes back with everything",
        _ => "the leader: another takes over, nothing is lost, and it comes back",
    }
}

/// Index of the node that leads, if one says so.
async fn leader(ports: &Ports) -> Option<usize> {
    let endpoints: Vec<String> = ports
        .nodes
        .iter()
        .map(|node| format!("http://127.0.0.1:{}", node.client))
        .collect();
    let client = kv_client::Client::new(kv_client::Config::new(endpoints.clone())).ok()?;
    for (index, endpoint) in endpoints.iter().enumerate() {
        if let Ok(status) = client.status(endpoint).await
            && status
                .header
                .is_some_and(|header| header.member_id == status.leader)
        {
            return Some(index);
        }
    }
    None
}

/// Prints the last lines of a log, from an offset on, to standard error.
pub(crate) fn log_tail(path: &Path, from: u64) {
    for line in last_lines(path, from).unwrap_or_default() {
        eprintln!("    {line}");
    }
}

fn last_lines(path: &Path, from: u64) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES_MAX))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES_MAX);
    Ok(lines[from..].iter().map(|line| (*line).to_owned()).collect())
}

/// A path as a person would type it from here.
pub(crate) fn short(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(&here) {
        Ok(below) if !below.as_os_str().is_empty() => format!("./{}", below.display()),
        _ => path.display().to_string(),
    }
}

/// How to call this program again.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if called.components().count() <= 1 {
        return "quorate".to_owned();
    }
    std::env::current_exe().map_or_else(|_| "quorate".to_owned(), |binary| short(&binary))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_node_takes_over_only_where_the_rest_is_a_majority() {
        for nodes in 1..=6_usize {
            let rest_is_majority = nodes - 1 > nodes / 2;
            assert_eq!(
                after_a_kill(nodes).contains("takes over"),
                rest_is_majority,
                "{nodes}"
            );
        }
    }

    #[test]
    fn only_the_end_of_a_long_log_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n1.log");
        let text: String = (0..10_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let lines = last_lines(&path, 0).unwrap();
        assert_eq!(lines.len(), TAIL_LINES_MAX);
        assert_eq!(lines.last().map(String::as_str), Some("line 9999"));
        let length = std::fs::metadata(&path).unwrap().len();
        assert_eq!(
            last_lines(&path, length - 10).unwrap(),
            ["line 9999"],
            "nothing before the offset"
        );
    }
}

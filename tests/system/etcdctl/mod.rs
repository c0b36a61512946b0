//! etcdctl 3.5.1 against a node and against the balancer: every subcommand prints what it prints against etcd.
//!
//! Each script beside this file runs three times, against a fresh etcd, a fresh node (or three), and the same behind
//! a balancer. The transcripts must be the same but for what [`mask`] hides: ids, times, sizes and hashes.

mod mask;
mod oracle;
mod target;

use std::{path::Path, process::Command};

use target::Target;

/// Where the scripts are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/etcdctl");

/// Runs a script and returns what it printed, masked.
fn transcript(script: &str, target: &Target) -> String {
    let work = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", oracle::dir().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .arg(format!("{script}.sh"))
        .current_dir(SCRIPTS)
        .env("PATH", path)
        .env("WORK", work.path())
        .env("QUORATE", env!("CARGO_BIN_EXE_quorate"))
        .env("ETCDCTL_API", "3")
        .env("ETCDCTL_ENDPOINTS", target.endpoint())
        .output()
        .unwrap();
    let printed =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    mask::mask(&printed, &target.endpoint(), &work.path().display().to_string())
}

/// The lines in which two transcripts differ; `None` where they are the same.
fn difference(dir: &Path, expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    std::fs::write(dir.join("etcd"), expected).unwrap();
    std::fs::write(dir.join("quorate"), found).unwrap();
    let diff = Command::new("diff")
        .args(["-U3", "etcd", "quorate"])
        .current_dir(dir)
        .output()
        .unwrap();
    Some(String::from_utf8_lossy(&diff.stdout).into_owned())
}

async fn same_as_etcd(script: &'static str, members: u16) {
    if !oracle::is_here() {
        return;
    }
    let targets = [
        ("etcd", Target::etcd(members).await),
        ("a node", Target::nodes(members).await),
        ("the balancer", Target::balanced(members).await),
    ];
    let runs = targets.map(|(name, target)| {
        let run = tokio::task::spawn_blocking(move || {
            let text = transcript(script, &target);
            (text, target)
        });
        (name, run)
    });
    let mut transcripts = Vec::new();
    for (name, run) in runs {
        let (text, _target) = run.await.unwrap();
        transcripts.push((name, text));
    }
    let (_, expected) = &transcripts[0];
    assert!(expected.contains("$ etcdctl"), "the script ran:\n{expected}");
    let waited_in_vain = |line: &&str| line.contains("never printed") || line.contains("fewer than");
    let in_vain: Vec<&str> = expected.lines().filter(waited_in_vain).collect();
    assert!(in_vain.is_empty(), "{in_vain:?} in\n{expected}");
    let dir = tempfile::tempdir().unwrap();
    let differences: Vec<String> = transcripts[1..]
        .iter()
        .filter_map(|(name, found)| {
            difference(dir.path(), expected, found).map(|diff| format!("{script}.sh against {name}:\n{diff}"))
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A backup is in a format of our own: etcdctl saves it, says so when it is asked to read it, and `quorate` reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_saved_and_not_read() {
    if !oracle::is_here() {
        return;
    }
    let target = Target::nodes(1).await;
    let text = tokio::task::spawn_blocking(move || transcript("backup", &target))
        .await
        .unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let after = |command: &str| {
        let at = lines.iter().position(|line| line.starts_with(command));
        let at = at.unwrap_or_else(|| panic!("{command} in\n{text}"));
        let next = lines[at + 1..].iter().position(|line| line.starts_with("$ "));
        lines[at + 1..next.map_or(lines.len(), |next| at + 1 + next)].join("\n")
    };
    assert_eq!(
        after("$ etcdctl snapshot save"),
        "Snapshot saved at <work>/backup.db"
    );
    let read = after("$ etcdctl snapshot status");
    assert!(
        read.contains("Error: invalid database") && read.ends_with("exit code 1"),
        "{read}"
    );
    let restored = after("$ etcdctl snapshot restore");
    assert!(
        restored.contains("failed to open database") && restored.ends_with("exit code 2"),
        "{restored}"
    );
    let ours = after("$ quorate snapshot status");
    assert!(ours.contains(", 2, 1, ") && !ours.contains("exit code"), "{ours}");
}

/// One test for each script, with the number of members.
macro_rules! scripts {
    ($($script:ident: $members:literal),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $script() {
            same_as_etcd(stringify!($script), $members).await;
        }
    )*};
}

scripts!(kv: 1, watch: 1, lease: 1, concurrency: 1, cluster: 1, auth: 1, check: 1, members: 3);

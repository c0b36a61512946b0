//! etcdctl 3.5.1 against a node and against the balancer: every subcommand prints what it prints against etcd.
//!
//! Each script beside this file runs three times, against a fresh etcd, a fresh node, and a fresh node behind a
//! balancer. The transcripts must be the same but for what [`mask`] hides: ids, times, sizes and hashes.

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

async fn same_as_etcd(script: &'static str) {
    if !oracle::is_here() {
        return;
    }
    let targets = [
        ("etcd", Target::etcd().await),
        ("a node", Target::node().await),
        ("the balancer", Target::balanced().await),
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
    let dir = tempfile::tempdir().unwrap();
    let differences: Vec<String> = transcripts[1..]
        .iter()
        .filter_map(|(name, found)| {
            difference(dir.path(), expected, found).map(|diff| format!("{script}.sh against {name}:\n{diff}"))
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// One test for each script.
macro_rules! scripts {
    ($($script:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $script() {
            same_as_etcd(stringify!($script)).await;
        }
    )*};
}

scripts!(kv, watch, lease, concurrency, cluster, auth);

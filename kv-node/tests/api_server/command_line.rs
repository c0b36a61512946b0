//! The command line of the program: what is wrong with it is said before anything is done.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Starts a node that must not get far.
fn ended(data_dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv-node"))
        .arg("--data-dir")
        .arg(data_dir)
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[test]
fn wrong_flags_end_with_2_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let variable = [("QUORATE_HEARTBEAT_INTERVAL", "5000")];
    for (args, variables, expected) in [
        (&["--frobnicate"][..], &[][..], "--frobnicate"),
        (&["--election-timeout=soon"], &[], "--election-timeout"),
        (
            &["--election-timeout=90"],
            &[],
            "is too short for --heartbeat-interval 50",
        ),
        (&["--listen-client-urls=nonsense"], &[], "--listen-client-urls"),
        (&["--initial-cluster=other=http://localhost:2380"], &[], "other"),
        (&["--force-new-cluster"], &[], "kv-node recover"),
        (
            &[],
            &variable,
            "note: --heartbeat-interval comes from the environment variable QUORATE_HEARTBEAT_INTERVAL",
        ),
    ] {
        let output = ended(&data, args, variables);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
        assert!(!data.exists(), "{args:?}");
    }
}

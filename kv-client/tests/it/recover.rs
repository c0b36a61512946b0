//! `kv-client recover` is done by the program of a node, which a build of the whole workspace puts beside it.

use std::fs;

use crate::process::{kv_client, output};

#[tokio::test]
async fn a_nodes_own_program_does_it() {
    let help = output(&mut kv_client("127.0.0.1:1", &["recover", "--help"]), "").await;
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success(), "{text}");
    assert!(
        text.contains("kv-node recover") && text.contains("--into"),
        "{text}"
    );
    let missing = output(
        &mut kv_client("127.0.0.1:1", &["recover", "/no/such/data", "--lost", "n2,n3"]),
        "",
    )
    .await;
    let text = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(1), "{text}");
    assert!(text.contains("/no/such/data"), "{text}");
}

#[tokio::test]
async fn without_it_somebody_is_told_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let alone = dir.path().join("kv-client");
    fs::copy(env!("CARGO_BIN_EXE_kv-client"), &alone).unwrap();
    let mut command = tokio::process::Command::new(alone);
    command.args(["recover", "data/n1"]).env("PATH", dir.path());
    let output = output(&mut command, "").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: kv-node or quorate is not installed here\n\
         hint: recover reads data directories as a node does: put the program of a node beside this one or in PATH\n"
    );
}

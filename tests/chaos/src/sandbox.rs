//! Namespaces for network and mounts that belong to a run alone, so that nothing of it is seen outside and all of it
//! ends with its last process, however that ends.
//!
//! A process with threads cannot enter them, so it becomes itself anew through `unshare`. That needs no root where the
//! system lets users have namespaces of their own; mounting a disk does.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::cluster::{clock_library, run_line};
use crate::kind::{Abilities, Cutting};

/// Set in the environment of a process that is inside: by whom it was started.
const INSIDE: &str = "QUORATE_CHAOS_SANDBOX";

/// What can be done here with processes of our own, and why the rest cannot.
pub(crate) fn abilities() -> (Abilities, Vec<String>) {
    let found = [network(), disks(), clock_library().map(drop)];
    let abilities = Abilities {
        cutting: if found[0].is_ok() {
            Cutting::Packets
        } else {
            Cutting::Nothing
        },
        disks: found[1].is_ok(),
        clocks: found[2].is_ok(),
        files: true,
        members: true,
    };
    let refusals = found
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"));
    (abilities, refusals.collect())
}

fn network() -> anyhow::Result<()> {
    let what =
        "cutting connections needs namespaces, and Debian's packages iproute2, nftables and util-linux";
    if !is_inside() {
        let mut unshare = unshare();
        let status = unshare.arg("true").stderr(Stdio::null()).status().context(what)?;
        ensure!(status.success(), "{what}: `unshare` is not permitted");
    }
    for tool in ["ip -V", "nft --version", "nsenter --version"] {
        run_line(tool).context(what)?;
    }
    Ok(())
}

fn disks() -> anyhow::Result<()> {
    ensure!(is_root(), "filling and holding disks needs root");
    for tool in ["ip -V", "mkfs.ext4 -V", "fsfreeze --version"] {
        run_line(tool).context(
            "filling and holding disks needs Debian's packages e2fsprogs, iproute2 and util-linux",
        )?;
    }
    Ok(())
}

/// Enters namespaces of its own. The first time it does not return: the process starts anew inside them.
///
/// # Errors
/// If `unshare` is not installed.
pub(crate) fn enter() -> anyhow::Result<()> {
    if is_inside() {
        run_line("ip link set lo up")?;
        // Names of network namespaces are kept here; the host's are not ours to touch.
        run_line("mount -t tmpfs quorate-chaos /run")?;
        return Ok(());
    }
    let error = unshare()
        .arg(std::env::current_exe().context("cannot find this program's own file")?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, if is_root() { "root" } else { "user" })
        .exec();
    Err(error).context("cannot run unshare")
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--");
    command
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether this is root, and not only in a namespace of a user's own.
fn is_root() -> bool {
    std::env::var(INSIDE).map_or_else(|_| rustix::process::geteuid().is_root(), |who| who == "root")
}

//! What is to be true of a cluster once all is quiet: the members are those of before, and all hold the same.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kv_proto::etcdserverpb::Member;
use quorate_checkers::Check;

use crate::cluster::Cluster;
use crate::run::check as finding;

/// Longest that nodes may take to reach one revision when nobody writes.
const AGREE_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// Names of the voters, and of the learners with a mark; of containers, whose names change, only how many there are.
pub(crate) async fn members(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let members = cluster.members().await.context("cannot list the members")?;
    let words = |member: Member| {
        let name = if cluster.is_own() {
            member.name
        } else {
            "a node".to_owned()
        };
        if member.is_learner {
            format!("{name} (learner)")
        } else {
            name
        }
    };
    let mut members: Vec<String> = members.into_iter().map(words).collect();
    members.sort();
    Ok(members)
}

/// Checks the members and the hashes.
pub(crate) async fn check(cluster: &Cluster, before: &[String]) -> [Check; 2] {
    let members = members_are(cluster, before).await;
    let hashes = hashes_agree(cluster).await;
    [
        finding(
            "the members are those of before",
            before.len(),
            "members",
            members,
        ),
        finding(
            "all nodes hold the same (HashKV)",
            cluster.nodes().len(),
            "nodes",
            hashes,
        ),
    ]
}

async fn members_are(cluster: &Cluster, before: &[String]) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let now = members(cluster).await;
        match now {
            Ok(now) if now == before => return Ok(()),
            Ok(now) => ensure!(
                started.elapsed() < AGREE_WITHIN,
                "they were {before:?} and are {now:?}"
            ),
            Err(error) => ensure!(started.elapsed() < AGREE_WITHIN, "{error:#}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The hashes of all nodes at the first revision at which all of them are.
async fn hashes_agree(cluster: &Cluster) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let hashes = hashes(cluster).await;
        match hashes {
            Ok(hashes) if hashes.windows(2).all(|pair| pair[0].1 == pair[1].1) => {
                ensure!(
                    hashes.windows(2).all(|pair| pair[0].2 == pair[1].2),
                    "they differ at one revision: {}",
                    words(&hashes)
                );
                return Ok(());
            }
            Ok(hashes) if started.elapsed() > AGREE_WITHIN => {
                bail!("they are not at one revision: {}", words(&hashes))
            }
            Err(error) if started.elapsed() > AGREE_WITHIN => return Err(error),
            Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn hashes(cluster: &Cluster) -> anyhow::Result<Vec<(String, i64, u32)>> {
    let mut hashes = Vec::new();
    for node in cluster.nodes() {
        let answer = node.client.hash_kv(&node.client_url, 0).await;
        let answer = answer.with_context(|| format!("no hash from {}", node.name))?;
        let revision = answer.header.context("an answer without a header")?.revision;
        hashes.push((node.name.clone(), revision, answer.hash));
    }
    Ok(hashes)
}

fn words(hashes: &[(String, i64, u32)]) -> String {
    let each = hashes
        .iter()
        .map(|(name, revision, hash)| format!("{name} {hash:08x} at revision {revision}"));
    each.collect::<Vec<_>>().join(", ")
}

//! What is to be true of a cluster once all is quiet: the members are those of before, and all hold the same.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kv_proto::etcdserverpb::{Member, RangeRequest};
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
        match hashes(cluster, 0).await {
            Ok(hashes) if agree(&hashes, |hash| hash.1) => {
                if agree(&hashes, |hash| hash.2) {
                    return Ok(());
                }
                let place = match first_difference(cluster, hashes[0].1).await {
                    Ok(place) => place,
                    Err(error) => format!("where they begin to is not known: {error:#}"),
                };
                bail!("they differ at one revision: {}; {place}", words(&hashes))
            }
            Ok(hashes) if started.elapsed() > AGREE_WITHIN => {
                bail!("they are not at one revision: {}", words(&hashes))
            }
            Err(error) if started.elapsed() > AGREE_WITHIN => return Err(error),
            Ok(_) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Name, revision and hash of a node.
type Hash = (String, i64, u32);

fn agree<T: PartialEq>(hashes: &[Hash], of: impl Fn(&Hash) -> T) -> bool {
    hashes.windows(2).all(|pair| of(&pair[0]) == of(&pair[1]))
}

/// The hashes of all nodes up to a revision; 0 for all that each has. With the revision that was hashed, not that of the
/// header, which may be newer: leases still end.
async fn hashes(cluster: &Cluster, revision: i64) -> anyhow::Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    for node in cluster.nodes() {
        let answer = node.client.hash_kv(&node.client_url, revision).await;
        let answer = answer.with_context(|| format!("no hash from {}", node.name))?;
        hashes.push((node.name.clone(), answer.hash_revision, answer.hash));
    }
    Ok(hashes)
}

/// The first revision up to which nodes that differ at `last` do, and what each of them has there.
async fn first_difference(cluster: &Cluster, last: i64) -> anyhow::Result<String> {
    let (mut equal, mut differs) = (0, last);
    while differs - equal > 1 {
        let middle = equal + (differs - equal) / 2;
        // What is compacted cannot be asked for, and the nodes may have come to agree on it.
        match hashes(cluster, middle).await {
            Ok(hashes) if !agree(&hashes, |hash| hash.2) => differs = middle,
            Ok(_) | Err(_) => equal = middle,
        }
    }
    let mut there = format!("the first difference is at revision {differs}");
    for node in cluster.nodes() {
        let range = RangeRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            revision: differs,
            min_mod_revision: differs,
            serializable: true,
            ..RangeRequest::default()
        };
        let found = node.client.range(range).await?.kvs;
        there += &format!("; {} has {found:?}", node.name);
    }
    Ok(there)
}

fn words(hashes: &[Hash]) -> String {
    let each = hashes
        .iter()
        .map(|(name, revision, hash)| format!("{name} {hash:08x} at revision {revision}"));
    each.collect::<Vec<_>>().join(", ")
}

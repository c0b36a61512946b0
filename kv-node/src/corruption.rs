//! Finds members whose keys differ from the others': the thing that must never be, and that goes unseen for months
//! where nobody looks.
//!
//! A hash over all that is kept up to a revision is compared with the other members' at the same revision: by each
//! node once after it started, and by the leader from time to time. Who differs from the majority gets the alarm
//! CORRUPT, upon which the cluster refuses every change until an administrator disarms it. Hashes are comparable
//! where the same history is kept, so a compaction between two of them makes the comparison begin anew.
//!
//! Leaves to others: the hash ([`kv_store::Store::hash_kv`]), and what the alarm does (`kv_core::alarm`).

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, routing::post};
use futures::{StreamExt, stream::FuturesUnordered};
use http::Method;
use kv_core::{Alarm, AlarmChange, AlarmKind, Command};
use kv_store::{ReadError, Store};
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    blocking::elsewhere,
    bootstrap::control::{ControlClient, ControlError},
    node::{Ids, MemberInfo, Node},
    raft::leader::Leader,
};

/// Where peers ask for a hash.
const PATH: &str = "/quorate/hash";
/// Every record is read: with many, that takes its time.
const HASH_TIMEOUT: Duration = Duration::from_secs(120);
/// Comparisons that a compaction, or members that are behind, may spoil before it is left for the next time.
const TRIES: usize = 5;
/// Pause before the next of them.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Members asked at a time: each reads its whole store.
const ASKED_AT_A_TIME: usize = 2;

/// When members are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// By each node, once it has started and caught up.
    pub at_start: bool,
    /// By the leader, so often; `None`: never.
    pub interval: Option<Duration>,
}

impl Checks {
    /// Never.
    pub const OFF: Checks = Checks {
        at_start: false,
        interval: None,
    };
}

/// What a member is asked.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct HashRequest {
    /// The cluster meant.
    cluster_id: u64,
    /// Up to where.
    revision: i64,
}

/// A hash, and the compacted revision that it depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hash {
    hash: u32,
    compacted: i64,
}

/// What a member answers: none where it cannot say now.
type HashAnswer = Option<Hash>;

/// What answers peers.
struct Hashes {
    cluster_id: u64,
    store: Store,
    one: Semaphore,
}

/// The route of the peer port.
pub(crate) fn router(cluster_id: u64, store: Store) -> Router {
    let hashes = Hashes {
        cluster_id,
        store,
        one: Semaphore::new(1),
    };
    Router::new()
        .route(PATH, post(answer))
        .with_state(Arc::new(hashes))
}

async fn answer(State(hashes): State<Arc<Hashes>>, Json(request): Json<HashRequest>) -> Json<HashAnswer> {
    if request.cluster_id != hashes.cluster_id {
        return Json(None);
    }
    let Ok(_one) = hashes.one.try_acquire() else {
        return Json(None);
    };
    Json(hash(&hashes.store, request.revision).await)
}

/// None where the revision is compacted, or not here yet, or the store cannot be read: then it says so itself.
async fn hash(store: &Store, revision: i64) -> Option<Hash> {
    let store = store.clone();
    let hashed = elsewhere(move || store.hash_kv(revision)).await;
    match hashed {
        Ok(Ok(hashed)) => Some(Hash {
            hash: hashed.hash,
            compacted: hashed.compacted,
        }),
        Ok(Err(ReadError::Refused(_) | ReadError::Overtaken { .. })) | Err(_) => None,
        Ok(Err(error)) => {
            tracing::error!(%error, "the store cannot be read through");
            None
        }
    }
}

/// Compares when it is time, until it is dropped.
pub(crate) async fn run(node: Node, client: ControlClient, checks: Checks) {
    if checks.at_start {
        caught_up(&node).await;
        check(&node, &client).await;
    }
    let Some(interval) = checks.interval else { return };
    loop {
        tokio::time::sleep(interval).await;
        if node.inner.leadership.current() == Leader::Here {
            check(&node, &client).await;
        }
    }
}

async fn caught_up(node: &Node) {
    while node
        .read_barrier(Instant::now() + node.limits().request_timeout)
        .await
        .is_err()
    {
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Compares this node with the members that answer, and raises the alarm for those that differ.
async fn check(node: &Node, client: &ControlClient) {
    for _ in 0..TRIES {
        let Ids {
            cluster_id,
            member_id: own,
        } = node.identity();
        let mut others = node.members();
        others.retain(|member| member.id != own);
        let is_alone = others.is_empty();
        let revision = node.store().revision();
        let Some(hash) = hash(node.store(), revision).await else {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        let hashes = ask_all(client, others, HashRequest { cluster_id, revision }).await;
        let comparable = hashes
            .iter()
            .filter(|(_, other)| other.compacted == hash.compacted);
        let mut hashes: Vec<(u64, u32)> = comparable.map(|(id, other)| (*id, other.hash)).collect();
        if hashes.is_empty() && !is_alone {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        }
        hashes.insert(0, (own, hash.hash));
        let differing = differing(&hashes);
        if differing.is_empty() {
            tracing::debug!(revision, members = hashes.len(), "the members hold the same");
        }
        for member_id in differing {
            raise(node, member_id, revision, &hashes).await;
        }
        return;
    }
    tracing::debug!("no member could be compared with this one");
}

/// What the members answer; those that do not are left out.
async fn ask_all(client: &ControlClient, members: Vec<MemberInfo>, request: HashRequest) -> Vec<(u64, Hash)> {
    let mut left = members.into_iter();
    let mut asked: FuturesUnordered<_> = (&mut left)
        .take(ASKED_AT_A_TIME)
        .map(|member| ask(client, member, request))
        .collect();
    let mut answers = Vec::new();
    while let Some(answer) = asked.next().await {
        answers.extend(answer);
        asked.extend(left.next().map(|member| ask(client, member, request)));
    }
    answers
}

async fn ask(client: &ControlClient, member: MemberInfo, request: HashRequest) -> Option<(u64, Hash)> {
    for url in &member.peer_urls {
        let answer: Result<HashAnswer, ControlError> = client
            .call(Method::POST, url, PATH, Some(request), HASH_TIMEOUT)
            .await;
        match answer {
            Ok(hash) => return Some((member.id, hash?)),
            Err(error) => tracing::debug!(%error, "a member is not compared"),
        }
    }
    None
}

/// Who differs from the majority of those compared; without a majority, from the first.
fn differing(hashes: &[(u64, u32)]) -> Vec<u64> {
    let held = |hash: u32| hashes.iter().filter(|(_, other)| *other == hash).count();
    let by_most = hashes.iter().find(|(_, hash)| held(*hash) * 2 > hashes.len());
    let Some((_, right)) = by_most.or(hashes.first()) else {
        return Vec::new();
    };
    let wrong = hashes.iter().filter(|(_, hash)| hash != right);
    wrong.map(|(id, _)| *id).collect()
}

async fn raise(node: &Node, member_id: u64, revision: i64, hashes: &[(u64, u32)]) {
    let found: Vec<String> = hashes
        .iter()
        .map(|(id, hash)| format!("{id:x}: {hash:08x}"))
        .collect();
    tracing::error!(
        member = format!("{member_id:x}"),
        revision,
        hashes = found.join(", "),
        "CORRUPT: this member's keys differ from the others'; the cluster takes no changes until the alarm is disarmed. \
         Remove the member, empty its data directory, and add it again"
    );
    let kind = AlarmKind::Corrupt;
    let is_raised = |alarm: &Alarm| alarm.member_id == member_id && alarm.kind == kind;
    if node.alarms().iter().any(is_raised) {
        return;
    }
    let alarm = Alarm {
        member_id,
        kind,
        // It waits for an administrator.
        by_itself: false,
    };
    let change = Command::Alarm(AlarmChange { alarm, raise: true });
    let deadline = Instant::now() + node.limits().request_timeout;
    if let Err(error) = node.propose(change, deadline).await {
        tracing::error!(%error, "the alarm CORRUPT is not raised yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_is_right() {
        for (hashes, expected) in [
            (&[(1, 7)][..], &[][..]),
            (&[(1, 7), (2, 7)], &[]),
            (&[(1, 7), (2, 8), (3, 7)], &[2]),
            (&[(1, 8), (2, 7), (3, 7)], &[1]),
            (&[(1, 8), (2, 9), (3, 7), (4, 7), (5, 7)], &[1, 2]),
            // Nobody knows: the others are named.
            (&[(1, 8), (2, 7)], &[2]),
            (&[(1, 8), (2, 9), (3, 7)], &[2, 3]),
            (&[], &[]),
        ] {
            assert_eq!(differing(hashes), expected, "{hashes:?}");
        }
    }
}

//! Proposals on their way from a follower to the leader: many in one call.
//!
//! Each leader that is forwarded to has a task of its own. While calls are under way, new proposals
//! gather and go out together with the next one, so that a busy follower needs few calls.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use kv_proto::peer::{ProposeRequest, ProposeResponse};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use tonic::Status;

use super::{
    network::{Client, Network, never_sent},
    propose::{Attempt, PENDING_MAX, ProposeError},
    types::Member,
};
use crate::{codec, gather::settle};

/// Proposals in one call, at most.
const BATCH_MAX: usize = 256;
/// Bytes in one call, at most (one proposal may be larger and then goes alone).
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Calls under way to one leader.
const CALLS_MAX: usize = 2;

/// One proposal waiting to be sent.
struct Waiting {
    encoded: Bytes,
    answer: oneshot::Sender<Attempt>,
}

/// The way to one leader: the address its task was made for, and its queue.
type Lane = (Member, mpsc::Sender<Waiting>);

/// Forwards proposals. Clones share the tasks.
#[derive(Clone)]
pub struct Forwarder {
    network: Network,
    call_timeout: Duration,
    /// By leader.
    lanes: Arc<Mutex<BTreeMap<u64, Lane>>>,
}

impl Forwarder {
    /// Over a node's network; a call that takes longer than `call_timeout` has an unknown outcome.
    pub fn new(network: Network, call_timeout: Duration) -> Forwarder {
        Forwarder {
            network,
            call_timeout,
            lanes: Arc::default(),
        }
    }

    /// Sends one proposal to `leader` and waits for what became of it.
    pub async fn forward(&self, leader: u64, member: &Member, encoded: Bytes, deadline: Instant) -> Attempt {
        let lane = match self.lane(leader, member) {
            Ok(lane) => lane,
            Err(status) => {
                tracing::debug!(%status, "cannot reach the leader");
                return Attempt::NotLeader;
            }
        };
        let (answer, waiting) = oneshot::channel();
        if lane.try_send(Waiting { encoded, answer }).is_err() {
            return Attempt::Failed(ProposeError::TooManyRequests);
        }
        match tokio::time::timeout_at(deadline, waiting).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(_)) => Attempt::Failed(ProposeError::ConnectionLost),
            Err(_) => Attempt::Failed(ProposeError::TimedOut),
        }
    }

    fn lane(&self, leader: u64, member: &Member) -> Result<mpsc::Sender<Waiting>, Status> {
        let mut lanes = self.lanes.lock();
        if let Some((_, lane)) = lanes
            .get(&leader)
            .filter(|(known, _)| known.peer_urls == member.peer_urls)
        {
            return Ok(lane.clone());
        }
        let client = self.network.forwarding(leader, member)?;
        // A proposal holds a permit of `PENDING_MAX`, so the queue can take all there are.
        let (lane, queue) = mpsc::channel(PENDING_MAX);
        tokio::spawn(run_lane(client, self.call_timeout, queue));
        lanes.insert(leader, (member.clone(), lane.clone()));
        Ok(lane)
    }
}

async fn run_lane(client: Client, timeout: Duration, mut queue: mpsc::Receiver<Waiting>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let mut held = None;
    while let Some(first) = next(&mut held, &mut queue).await {
        let Ok(permit) = calls.clone().acquire_owned().await else {
            return;
        };
        settle().await;
        let batch = take_batch(first, &mut held, &mut queue);
        let client = client.clone();
        tokio::spawn(async move {
            send(client, timeout, batch).await;
            drop(permit);
        });
    }
}

async fn next(held: &mut Option<Waiting>, queue: &mut mpsc::Receiver<Waiting>) -> Option<Waiting> {
    match held.take() {
        Some(waiting) => Some(waiting),
        None => queue.recv().await,
    }
}

/// What is there already, within the bounds of a call; the one too many is `held` for the next.
fn take_batch(
    first: Waiting,
    held: &mut Option<Waiting>,
    queue: &mut mpsc::Receiver<Waiting>,
) -> Vec<Waiting> {
    let mut bytes = first.encoded.len();
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX {
        let Ok(waiting) = queue.try_recv() else { break };
        bytes += waiting.encoded.len();
        if bytes > BATCH_BYTES_MAX {
            *held = Some(waiting);
            break;
        }
        batch.push(waiting);
    }
    batch
}

async fn send(mut client: Client, timeout: Duration, batch: Vec<Waiting>) {
    // Whoever stopped waiting before it was sent need not be sent.
    let batch: Vec<Waiting> = batch
        .into_iter()
        .filter(|waiting| !waiting.answer.is_closed())
        .collect();
    if batch.is_empty() {
        return;
    }
    let commands = batch.iter().map(|waiting| waiting.encoded.clone()).collect();
    let call = client.propose(ProposeRequest { commands });
    match tokio::time::timeout(timeout, call).await {
        Ok(Ok(response)) => answer(batch, response.into_inner()),
        Ok(Err(status)) => answer_all(batch, || on_failure(&status)),
        Err(_) => answer_all(batch, || Attempt::Failed(ProposeError::TimedOut)),
    }
}

/// Only a call that was never sent, or that the other side turned away at its gate, is certain not
/// to have been executed.
fn on_failure(status: &Status) -> Attempt {
    #[cfg(feature = "planted")]
    if quorate_planted::is("retry-of-unknown") {
        return Attempt::NotLeader;
    }
    if never_sent(status) || status.code() == tonic::Code::FailedPrecondition {
        Attempt::NotLeader
    } else {
        tracing::debug!(%status, "a forwarded call failed");
        Attempt::Failed(ProposeError::ConnectionLost)
    }
}

fn answer(batch: Vec<Waiting>, response: ProposeResponse) {
    let mut outcomes = response.outcomes.into_iter();
    answer_all(batch, || {
        match outcomes.next().map(|frame| codec::decode(&frame)) {
            Some(Ok(attempt)) => attempt,
            Some(Err(error)) => {
                tracing::error!(%error, "the leader's answer cannot be read");
                Attempt::Failed(ProposeError::ConnectionLost)
            }
            None => Attempt::Failed(ProposeError::ConnectionLost),
        }
    });
}

fn answer_all(batch: Vec<Waiting>, mut attempt: impl FnMut() -> Attempt) {
    for waiting in batch {
        // Whoever no longer waits has had its time-out.
        let _ = waiting.answer.send(attempt());
    }
}

//! Proposals on their way into this node's own Raft: many in one message.
//!
//! A proposal costs openraft, the log's sync, each follower and the state machine about the same whether
//! it comes alone or with others. So while some are under way, new ones gather and go in together with
//! the next batch; a proposal that comes alone goes in at once.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use openraft::{
    errors::{ClientWriteError, Fatal},
    impls::ProgressResponder,
    raft::WriteResult,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{
    propose::PENDING_MAX,
    types::{Applied, Proposal, Raft, TypeConfig},
};
use crate::gather::gather;

/// Proposals in one batch, at most.
const BATCH_MAX: usize = 512;
/// Batches under way: one is being made durable while the next one is on its way.
const BATCHES_MAX: usize = 2;
/// A batch that takes longer no longer holds up the next: without a quorum none would ever end, and the
/// proposals behind it are to be refused, not kept.
const HOLD_MAX: Duration = Duration::from_millis(50);

/// Why Raft gave no result.
#[derive(Debug)]
pub enum SubmitError {
    /// This node does not lead, or has no quorum: nothing was appended.
    NotLeader,
    /// This node is stopping: nothing was appended.
    Stopped,
    /// The entry was appended, and what becomes of it is not known.
    Lost,
}

struct Waiting {
    proposal: Proposal,
    answer: oneshot::Sender<Result<Applied, SubmitError>>,
}

/// The way in. Clones share it.
#[derive(Clone)]
pub struct Submitter {
    raft: Raft,
    queue: mpsc::Sender<Waiting>,
}

impl Submitter {
    /// Starts the task that makes the batches. Must be called inside a tokio runtime.
    pub fn start(raft: Raft) -> Submitter {
        // Each holds a permit of `PENDING_MAX`, so the queue can take all there are.
        let (queue, waiting) = mpsc::channel(PENDING_MAX);
        tokio::spawn(run(raft.clone(), waiting));
        Submitter { raft, queue }
    }

    /// Puts a proposal into the log and waits until it is applied. Whoever stops waiting leaves it
    /// open whether it is.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit(&self, proposal: Proposal) -> Result<Applied, SubmitError> {
        let (answer, result) = oneshot::channel();
        self.queue
            .send(Waiting { proposal, answer })
            .await
            .map_err(|_| SubmitError::Stopped)?;
        result.await.unwrap_or(Err(SubmitError::Lost))
    }

    /// The same, but into the log of one term or not at all. It goes in by itself.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub async fn submit_in_term(&self, proposal: Proposal, term: u64) -> Result<Applied, SubmitError> {
        let (responder, result) = ProgressResponder::complete_only();
        let written = self
            .raft
            .write(proposal)
            .with_leader(term)
            .responder(responder)
            .await;
        written.map_err(|_| SubmitError::Stopped)?;
        match result.await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(error)) => Err(refusal(&error)),
            Err(_) => Err(SubmitError::Lost),
        }
    }
}

async fn run(raft: Raft, mut queue: mpsc::Receiver<Waiting>) {
    let window = Arc::new(Semaphore::new(BATCHES_MAX));
    let mut batch = Vec::new();
    loop {
        let Ok(permit) = window.clone().acquire_owned().await else {
            return;
        };
        if !gather(&mut queue, &mut batch, BATCH_MAX).await {
            return;
        }
        // Whoever stopped waiting before it was submitted need not be.
        batch.retain(|waiting| !waiting.answer.is_closed());
        tokio::spawn(submit(raft.clone(), std::mem::take(&mut batch), permit));
    }
}

async fn submit(raft: Raft, batch: Vec<Waiting>, permit: OwnedSemaphorePermit) {
    let (proposals, answers): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|waiting| (waiting.proposal, waiting.answer))
        .unzip();
    let Ok(results) = raft.client_write_many(proposals).await else {
        for answer in answers {
            // Whoever no longer waits has had its time-out.
            let _ = answer.send(Err(SubmitError::Stopped));
        }
        return;
    };
    let deliver = deliver(results, answers);
    tokio::pin!(deliver);
    if tokio::time::timeout(HOLD_MAX, &mut deliver).await.is_err() {
        drop(permit);
        deliver.await;
    }
}

/// Tells each its result. A Raft that stops ends the results early: all that wait for more are lost.
async fn deliver<S>(results: S, answers: Vec<oneshot::Sender<Result<Applied, SubmitError>>>)
where
    S: Stream<Item = Result<WriteResult<TypeConfig>, Fatal<TypeConfig>>>,
{
    let results = results.fuse();
    tokio::pin!(results);
    for answer in answers {
        let result = match results.next().await {
            Some(Ok(result)) => outcome(result),
            Some(Err(_)) | None => Err(SubmitError::Lost),
        };
        // Whoever no longer waits has had its time-out.
        let _ = answer.send(result);
    }
}

fn outcome(result: WriteResult<TypeConfig>) -> Result<Applied, SubmitError> {
    match result {
        Ok(response) => Ok(response.response),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &ClientWriteError<TypeConfig>) -> SubmitError {
    match error {
        ClientWriteError::ForwardToLeader(_) => SubmitError::NotLeader,
        _ => SubmitError::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_wait_for_more_than_a_stopped_raft_answers_are_lost() {
        let ended = futures::stream::unfold((), |()| std::future::ready(None));
        let (answers, results): (Vec<_>, Vec<_>) = (0..2).map(|_| oneshot::channel()).unzip();
        deliver(ended, answers).await;
        for result in results {
            assert!(matches!(result.await, Ok(Err(SubmitError::Lost))));
        }
    }
}

//! Snapshots on their way to others.
//!
//! A transfer that breaks off leaves its view here for a while, and openraft gets that one when it asks for a snapshot
//! again: only so is there anything to go on with. A fresh view would be of another log index, and openraft takes what was
//! sent for the view that it was given. As long as a snapshot is on its way, or may go on, no more of the log is purged:
//! the receiver needs what comes after it, and would otherwise need another snapshot at once.
//!
//! How far the receiver has it, it says itself (`SnapshotProgress`), with the hash of that much; the first chunk that it
//! then gets tells it whether the transfer goes on or begins anew.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt};
use kv_proto::peer::{Frame, SnapshotProgressRequest};
use kv_store::{Fault, Progress, SnapshotView};
use openraft::{
    OptionalSend,
    errors::{ReplicationClosed, StreamingError},
    network::{NetSnapshot, RPCOption},
    raft::SnapshotResponse,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
};
use tonic::{Code, Status};

use super::{
    connection::{Connection, network_error, rpc_error},
    network::Client,
    pace::BYTES_PER_SECOND,
    state_machine::SnapshotData,
    types::{Snapshot, TypeConfig, Vote},
};
use crate::{blocking::is_alone, codec};

/// How long either side keeps what a transfer that broke off needs to go on. The receiver may take
/// [`super::receive::FRAME_TIMEOUT`] of it to see that it broke.
pub const KEPT_FOR: Duration = Duration::from_secs(60);
/// How long the log is not purged for the sake of transfers. It grows meanwhile.
const PURGE_WAIT_MAX: Duration = Duration::from_secs(600);
/// How long the receiver may take to say how far it has a snapshot.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// Size of one chunk, about: small, so that none of them holds up for long what else needs network, disk, and processor.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks waiting between the store's reader and the network.
const QUEUE_CHUNKS: usize = 4;

/// The transfers of one node.
#[derive(Clone)]
pub struct Transfers(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    running: usize,
    /// The view of the last transfer that broke off.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    view: Arc<SnapshotView>,
    until: tokio::time::Instant,
}

impl Default for Transfers {
    fn default() -> Self {
        Transfers(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Transfers {
    /// The view of a transfer that broke off lately.
    pub fn unfinished(&self) -> Option<Arc<SnapshotView>> {
        let state = self.0.borrow();
        state
            .unfinished
            .as_ref()
            .map(|unfinished| unfinished.view.clone())
    }

    /// Waits until no transfer runs or may go on, but no longer than `PURGE_WAIT_MAX`.
    pub async fn all_over(&self) {
        let mut changes = self.0.subscribe();
        let over = changes.wait_for(|state| state.running == 0 && state.unfinished.is_none());
        if tokio::time::timeout(PURGE_WAIT_MAX, over).await.is_err() {
            tracing::warn!("the log is purged although a snapshot is still on its way");
        }
    }

    fn begin(&self, view: Arc<SnapshotView>) -> Transfer {
        self.0.send_modify(|state| state.running += 1);
        Transfer {
            made_before: view.made(),
            view,
            over: false,
            transfers: self.clone(),
            runtime: Handle::current(),
        }
    }

    /// Lets go of the unfinished view, if `which` it is.
    fn forget(&self, which: impl FnOnce(&Unfinished) -> bool) {
        let mut forgotten = None;
        self.0
            .send_modify(|state| forgotten = state.unfinished.take_if(|unfinished| which(unfinished)));
        // Only now, outside of the lock: a store that was replaced meanwhile goes with its last view.
        drop(forgotten);
    }
}

/// A transfer that runs. Dropped before it is over, it has broken off.
struct Transfer {
    view: Arc<SnapshotView>,
    /// How much of the view had been sent, by this one or others before it.
    made_before: u64,
    over: bool,
    transfers: Transfers,
    runtime: Handle,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.over {
            self.transfers
                .forget(|unfinished| Arc::ptr_eq(&unfinished.view, &self.view));
        } else if self.view.made() > self.made_before {
            // Whoever does not get on, because the receiver is gone for good, keeps nothing for longer.
            let until = tokio::time::Instant::now() + KEPT_FOR;
            let view = self.view.clone();
            self.transfers
                .0
                .send_modify(|state| state.unfinished = Some(Unfinished { view, until }));
            let transfers = self.transfers.clone();
            self.runtime.spawn(async move {
                tokio::time::sleep_until(until).await;
                transfers.forget(|unfinished| unfinished.until <= until);
            });
        }
        self.transfers.0.send_modify(|state| state.running -= 1);
    }
}

/// The frames of a snapshot after its first, behind what the receiver has of it: read from the store by a thread of its
/// own, or at once where there is only one.
pub fn chunks(
    view: Arc<SnapshotView>,
    has: Option<Progress>,
) -> impl Stream<Item = Result<Frame, Status>> + Send + 'static {
    if is_alone() {
        let mut frames = Vec::new();
        read(&view, has, |frame| {
            frames.push(frame);
            true
        });
        return futures::stream::iter(frames).left_stream();
    }
    let (sender, receiver) = mpsc::channel(QUEUE_CHUNKS);
    tokio::task::spawn_blocking(move || {
        let (began, mut sent_bytes) = (Instant::now(), 0_u64);
        read(&view, has, |frame| {
            let due = Duration::from_secs_f64(sent_bytes as f64 / BYTES_PER_SECOND);
            thread::sleep(due.saturating_sub(began.elapsed()));
            sent_bytes += frame.as_ref().map_or(0, |frame| frame.payload.len() as u64);
            // The receiver is gone when the transfer was given up.
            sender.blocking_send(frame).is_ok()
        });
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver).right_stream()
}

/// Gives the chunks that are left to `send` until it wants no more.
fn read(view: &SnapshotView, has: Option<Progress>, mut send: impl FnMut(Result<Frame, Status>) -> bool) {
    let unread = |fault: Fault| Status::data_loss(fault.to_string());
    let rest = has.map_or(Ok(None), |has| view.chunks_after(&has, CHUNK_BYTES));
    match rest {
        Ok(rest) => {
            let mut chunks = rest.unwrap_or_else(|| view.chunks(CHUNK_BYTES));
            while let Some(chunk) = chunks.next()
                && send(chunk.map(|payload| Frame { payload }).map_err(unread))
            {}
        }
        Err(fault) => drop(send(Err(unread(fault)))),
    }
}

/// How much the receiver has of a snapshot that was begun before.
async fn progress(client: &mut Client, view: &SnapshotView) -> Result<Option<Progress>, Status> {
    if view.made() == 0 {
        return Ok(None);
    }
    let header = codec::encode(view.header()).map_err(|error| Status::internal(error.to_string()))?;
    let asked = client.snapshot_progress(SnapshotProgressRequest { header });
    let answer = match tokio::time::timeout(PROGRESS_TIMEOUT, asked).await {
        Ok(Ok(answer)) => answer.into_inner(),
        // A release without this call takes all of it.
        Ok(Err(status)) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => return Ok(None),
        Ok(Err(status)) => return Err(status),
        Err(_) => return Err(Status::unavailable("no answer")),
    };
    let hash = answer.hash.as_ref().try_into();
    Ok(hash.ok().map(|hash| Progress {
        chunks: answer.chunks,
        hash,
    }))
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::View(view) = snapshot.snapshot else {
            unreachable!("a received snapshot is installed, never sent on");
        };
        let header = codec::encode(&(vote, snapshot.meta, view.header())).map_err(|e| network_error(&e))?;
        let head = futures::stream::once(std::future::ready(Frame { payload: header }));
        let mut client = self.client()?;
        let mut transfer = self.transfers().begin(view.clone());
        let sent = async {
            let has = progress(&mut client, &view).await?;
            // A store that cannot be read ends the stream early; the receiver then finds no trailer.
            let chunks = chunks(view, has).scan((), |(), chunk| {
                let chunk = chunk.inspect_err(|error| tracing::error!(%error, "cannot read the snapshot"));
                std::future::ready(chunk.ok())
            });
            client.install_snapshot(head.chain(chunks)).await
        };
        let answer = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = sent => answer,
        };
        // A snapshot that was refused is not tried again.
        transfer.over = answer
            .as_ref()
            .err()
            .is_none_or(|status| status.code() == Code::DataLoss);
        match answer {
            Ok(frame) => Ok(codec::decode(&frame.into_inner().payload).map_err(|e| network_error(&e))?),
            Err(status) => Err(rpc_error(&status).into()),
        }
    }
}

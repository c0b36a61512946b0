//! Receiving a snapshot into the store, from the leader or from any peer.
//!
//! What was taken in before a transfer broke off stays, in a generation of the store of its own, until it goes on, another
//! one begins, or nobody comes for [`KEPT_FOR`]. It is not live, and nothing of it survives the process.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use kv_proto::peer::Frame;
use kv_store::{Install, PreparedSnapshot, SnapshotError, SnapshotHeader, Store};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::transfer::KEPT_FOR;
use crate::blocking::{elsewhere, is_alone};

/// A sender that is silent for longer has gone.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks waiting between the network and the store.
const QUEUE_CHUNKS: usize = 4;

/// Where snapshots of the leader come in, one at a time.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<Option<Parked>>>);

/// What came of a snapshot before its transfer broke off.
struct Parked {
    install: Install,
    until: tokio::time::Instant,
}

impl Arrivals {
    /// The place for one that begins, or goes on.
    ///
    /// # Errors
    /// While another one is coming in.
    pub fn enter(&self) -> Result<Arrival, Status> {
        let busy = |_| Status::unavailable("another snapshot is coming in");
        Ok(Arrival(self.0.clone().try_lock_owned().map_err(busy)?))
    }
}

/// The only one that takes in a snapshot.
pub struct Arrival(OwnedMutexGuard<Option<Parked>>);

impl Arrival {
    /// What has been taken in of a snapshot whose transfer broke off.
    pub fn begun(&self, header: &SnapshotHeader) -> Option<&Install> {
        let parked = self.0.as_ref().map(|parked| &parked.install);
        parked.filter(|install| install.header() == header)
    }

    /// As [`receive`], or goes on with what there is, if the frames begin behind it.
    ///
    /// # Errors
    /// As [`receive`].
    pub async fn receive(
        mut self,
        store: &Store,
        header: SnapshotHeader,
        mut frames: impl Stream<Item = Result<Frame, Status>> + Unpin,
        stop: &CancellationToken,
    ) -> Result<PreparedSnapshot, Status> {
        let first = next(&mut frames).await?.ok_or_else(|| refused("it is empty"))?;
        let number = kv_store::chunk_number(&first.payload).map_err(refused)?;
        let goes_on = |install: &Install| number > 0 && install.progress().chunks == number;
        let install = if self.begun(&header).is_some_and(goes_on)
            && let Some(parked) = self.0.take()
        {
            tracing::info!(chunks = number, "going on with a snapshot");
            parked.install
        } else {
            discard(self.0.take()).await;
            store.begin_install(header).map_err(refused)?
        };
        let frames = futures::stream::iter([Ok(first)]).chain(frames);
        let (install, broken) = take_in(install, frames).await?;
        match broken {
            None => finish(install).await,
            Some(status) => {
                self.park(install, stop.clone());
                Err(status)
            }
        }
    }

    fn park(mut self, install: Install, stop: CancellationToken) {
        let until = tokio::time::Instant::now() + KEPT_FOR;
        *self.0 = Some(Parked { install, until });
        let place = Arc::downgrade(OwnedMutexGuard::mutex(&self.0));
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = stop.cancelled() => {}
            }
            clear(&place, until).await;
        });
    }
}

/// Removes what waits there since before `until`.
async fn clear(place: &Weak<Mutex<Option<Parked>>>, until: tokio::time::Instant) {
    let Some(place) = place.upgrade() else { return };
    let parked = place.lock().await.take_if(|parked| parked.until <= until);
    discard(parked).await;
}

/// Its files go with it, which may take the disk a while.
async fn discard(parked: Option<Parked>) {
    if elsewhere(move || drop(parked)).await.is_err() {
        tracing::error!("half of a snapshot could not be removed");
    }
}

/// Writes the frames after the header into a generation of the store of its own and checks the
/// hash. Nothing of the live state changes before [`Store::install`].
///
/// # Errors
/// When the stream breaks, a piece is damaged or missing, or the disk refuses.
pub async fn receive(
    store: &Store,
    header: SnapshotHeader,
    frames: impl Stream<Item = Result<Frame, Status>> + Unpin,
) -> Result<PreparedSnapshot, Status> {
    let install = store.begin_install(header).map_err(refused)?;
    match take_in(install, frames).await? {
        (install, None) => finish(install).await,
        (_, Some(status)) => Err(status),
    }
}

/// Takes in what comes, until the stream ends or breaks: then it says why.
async fn take_in(
    install: Install,
    mut frames: impl Stream<Item = Result<Frame, Status>> + Unpin,
) -> Result<(Install, Option<Status>), Status> {
    let (sender, chunks) = mpsc::channel(QUEUE_CHUNKS);
    let feed = async move {
        loop {
            let frame = match next(&mut frames).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return None,
                Err(status) => return Some(status),
            };
            // Whoever takes no more says why.
            if sender.send(frame.payload).await.is_err() {
                return None;
            }
        }
    };
    let (broken, taken) = tokio::join!(feed, push_all(install, chunks));
    Ok((taken?, broken))
}

async fn next(
    frames: &mut (impl Stream<Item = Result<Frame, Status>> + Unpin),
) -> Result<Option<Frame>, Status> {
    let silent = |_| Status::deadline_exceeded("the sender of the snapshot is silent");
    let frame = tokio::time::timeout(FRAME_TIMEOUT, frames.next()).await;
    frame.map_err(silent)?.transpose()
}

/// On a thread that may wait for the disk.
async fn push_all(mut install: Install, mut chunks: mpsc::Receiver<Bytes>) -> Result<Install, Status> {
    if is_alone() {
        while let Some(chunk) = chunks.recv().await {
            install.push(&chunk).map_err(refused)?;
        }
        return Ok(install);
    }
    blocking(move || {
        while let Some(chunk) = chunks.blocking_recv() {
            install.push(&chunk)?;
        }
        Ok(install)
    })
    .await
}

async fn finish(install: Install) -> Result<PreparedSnapshot, Status> {
    blocking(move || install.finish()).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, Status> {
    elsewhere(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> Status {
    Status::data_loss(format!("snapshot refused: {error}"))
}

//! Receiving a snapshot into the store, from the leader or from any peer.

use std::time::Duration;

use futures::{Stream, StreamExt};
use kv_proto::peer::Frame;
use kv_store::{PreparedSnapshot, SnapshotHeader, Store};
use tonic::Status;

use crate::blocking::elsewhere;

/// A sender that is silent for longer has gone.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes the frames after the header into a generation of the store of its own and checks the
/// hash. Nothing of the live state changes before [`Store::install`].
///
/// # Errors
/// When the stream breaks, a piece is damaged or missing, or the disk refuses.
pub async fn receive(
    store: &Store,
    header: SnapshotHeader,
    mut frames: impl Stream<Item = Result<Frame, Status>> + Unpin,
) -> Result<PreparedSnapshot, Status> {
    let mut install = store.begin_install(header).map_err(refused)?;
    loop {
        let frame = tokio::time::timeout(FRAME_TIMEOUT, frames.next()).await;
        let frame = frame.map_err(|_| Status::deadline_exceeded("the sender of the snapshot is silent"))?;
        let Some(frame) = frame else { break };
        let payload = frame?.payload;
        install = blocking(move || install.push(&payload).map(|()| install)).await?;
    }
    blocking(move || install.finish()).await
}

/// Runs disk work on a thread that may wait for the disk.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Status>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    elsewhere(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> Status {
    Status::data_loss(format!("snapshot refused: {error}"))
}

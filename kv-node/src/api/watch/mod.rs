//! etcd's Watch service: streams of watches. What a watch is told, and when, is decided in [`crate::watch`].

mod answer;
mod gauges;
mod stream;

use std::pin::Pin;

use futures::Stream;
use kv_proto::etcdserverpb::{WatchRequest, WatchResponse, watch_server};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

use super::{calls::Api, errors::ApiError, session::Session};
use crate::raft::read_index::ReadBarrierError;
pub(super) use gauges::Gauges;
use stream::WatchStream;

/// The service.
pub(super) struct WatchService(pub(super) Api);

/// Answers to a stream of requests.
pub(super) type Answers = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

/// Serves a stream of requests: one for whoever has no gRPC stream of etcd's client too. With `needs_leader` it
/// ends when the leader is lost. It goes on when the requests end, as etcd's does, until it is dropped.
///
/// # Errors
/// Where there are too many streams, or a leader is needed and there is none.
pub(super) fn serve(
    session: Session,
    requests: impl Stream<Item = Result<WatchRequest, Status>> + Send + Unpin + 'static,
    needs_leader: bool,
) -> Result<Answers, ApiError> {
    if needs_leader && session.node().leader().is_none() {
        return Err(ReadBarrierError::NoLeader.into());
    }
    let feed = session.node().hub().feed();
    let feed = feed.ok_or(ReadBarrierError::TooManyRequests)?;
    let served = WatchStream::new(session, requests, feed, needs_leader);
    let answers = futures::stream::unfold(Box::new(served), async |mut served| {
        let answer = served.next().await?;
        Some((answer, served))
    });
    Ok(Box::pin(answers))
}

/// etcd's `WithRequireLeader`.
pub(super) fn needs_leader(metadata: &MetadataMap) -> bool {
    metadata
        .get("hasleader")
        .is_some_and(|value| value.as_bytes() == b"true")
}

#[tonic::async_trait]
impl watch_server::Watch for WatchService {
    type WatchStream = Answers;

    async fn watch(&self, request: Request<Streaming<WatchRequest>>) -> Result<Response<Answers>, Status> {
        let needs_leader = needs_leader(request.metadata());
        let session = self.0.session(&request);
        Ok(Response::new(serve(session, request.into_inner(), needs_leader)?))
    }
}

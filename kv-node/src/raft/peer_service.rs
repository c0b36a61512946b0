//! What peers say to this node: the server side of the peer port.
//!
//! Persist, then answer: openraft answers a vote or an append only after the log says that it is
//! durable. A call for another cluster or another node is refused before anything of it is read.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use kv_proto::peer::{
    FetchSnapshotRequest, Frame, ProposeRequest, ProposeResponse, ReadIndexRequest, ReadIndexResponse,
    SnapshotProgressRequest, SnapshotProgressResponse,
    peer_server::{Peer, PeerServer},
};
use kv_store::{SnapshotHeader, Store};
use openraft::raft::AppendEntriesRequest;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::interceptor::InterceptedService};

use super::{
    leader::Heard,
    network::{CLUSTER_HEADER, TARGET_HEADER},
    propose::Proposer,
    read_index::ReadIndex,
    receive::{Arrival, Arrivals},
    state_machine::SnapshotData,
    transfer,
    types::{Raft, Snapshot, SnapshotMeta, TypeConfig, Vote},
};
use crate::{codec, space::Space};

type FrameStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// The service with its gate.
pub type PeerServerGuarded = InterceptedService<PeerServer<PeerService>, Guard>;

/// The service behind the peer port.
pub struct PeerService {
    raft: Raft,
    store: Store,
    proposer: Proposer,
    read_index: ReadIndex,
    heard: Heard,
    space: Space,
    arrivals: Arrivals,
    /// Ends the streams, which have no end of their own.
    stop: CancellationToken,
}

/// The check of every call before its body is read.
pub type Gate = Arc<dyn Fn(Request<()>) -> Result<Request<()>, Status> + Send + Sync>;

/// The gate as tonic wants it.
#[derive(Clone)]
pub struct Guard(Gate);

impl tonic::service::Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        (self.0)(request)
    }
}

impl PeerService {
    /// The service for a running node.
    pub fn new(
        raft: Raft,
        store: Store,
        proposer: Proposer,
        read_index: ReadIndex,
        heard: Heard,
        space: Space,
        stop: CancellationToken,
    ) -> PeerService {
        PeerService {
            raft,
            store,
            proposer,
            read_index,
            heard,
            space,
            arrivals: Arrivals::default(),
            stop,
        }
    }

    /// As a tonic server that lets in only calls for this cluster and this node.
    pub fn into_server(self, cluster_id: u64, node_id: u64) -> PeerServerGuarded {
        let gate: Gate = Arc::new(move |request| check(request, cluster_id, node_id));
        let server = PeerServer::new(self)
            .max_decoding_message_size(codec::MAX_FRAME_BYTES)
            .max_encoding_message_size(codec::MAX_FRAME_BYTES);
        InterceptedService::new(server, Guard(gate))
    }
}

async fn receive_snapshot(
    raft: Raft,
    store: Store,
    arrival: Arrival,
    mut frames: Streaming<Frame>,
    stop: CancellationToken,
) -> Result<Frame, Status> {
    let first = frames
        .message()
        .await?
        .ok_or_else(|| Status::invalid_argument("empty snapshot"))?;
    let (vote, meta, header): (Vote, SnapshotMeta, SnapshotHeader) = decode(&first)?;
    tracing::info!(%meta, "receiving a snapshot");
    let prepared = arrival.receive(&store, header, frames, &stop).await?;
    let snapshot = Snapshot {
        meta,
        snapshot: SnapshotData::Received(Box::new(prepared)),
    };
    let answer = raft
        .install_full_snapshot(vote, snapshot)
        .await
        .map_err(stopped)?;
    encode(&answer)
}

fn check(request: Request<()>, cluster_id: u64, node_id: u64) -> Result<Request<()>, Status> {
    for (header, ours, what) in [
        (CLUSTER_HEADER, cluster_id, "cluster"),
        (TARGET_HEADER, node_id, "node"),
    ] {
        let theirs = request
            .metadata()
            .get(header)
            .and_then(|value| value.to_str().ok());
        if theirs.and_then(|id| id.parse().ok()) != Some(ours) {
            let theirs = theirs.unwrap_or("none");
            return Err(Status::failed_precondition(format!(
                "this call is for {what} {theirs}, but this is {what} {ours}"
            )));
        }
    }
    Ok(request)
}

fn decode<T: DeserializeOwned>(frame: &Frame) -> Result<T, Status> {
    codec::decode(&frame.payload).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Frame, Status> {
    let payload = codec::encode(value).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Frame { payload })
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("etcdserver: server stopped: {error}"))
}

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = FrameStream;
    type FetchSnapshotStream = FrameStream;

    async fn append(&self, request: Request<Streaming<Frame>>) -> Result<Response<FrameStream>, Status> {
        let (heard, space) = (self.heard.clone(), self.space.clone());
        // A broken stream or frame ends the input; what came before it is still answered.
        let requests = futures::stream::unfold(request.into_inner(), move |mut frames| {
            let (heard, space) = (heard.clone(), space.clone());
            async move {
                // What is not read holds the leader back, until the disk has caught up.
                space.log_has_caught_up().await;
                let frame = frames.message().await.transpose()?;
                heard.note();
                let request = frame.and_then(|frame| decode::<AppendEntriesRequest<TypeConfig>>(&frame));
                let request = request.inspect_err(|error| tracing::debug!(%error, "append stream ended"));
                Some((request.ok()?, frames))
            }
        });
        let answers = self.raft.stream_append(requests).map(|answer| match answer {
            Ok(result) => encode(&result),
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(
            answers.take_until(self.stop.clone().cancelled_owned()),
        )))
    }

    async fn vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let answer = self
            .raft
            .vote(decode(request.get_ref())?)
            .await
            .map_err(stopped)?;
        Ok(Response::new(encode(&answer)?))
    }

    async fn pre_vote(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let answer = self
            .raft
            .pre_vote(decode(request.get_ref())?)
            .await
            .map_err(stopped)?;
        Ok(Response::new(encode(&answer)?))
    }

    async fn transfer_leader(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let answer = self
            .raft
            .handle_transfer_leader(decode(request.get_ref())?)
            .await
            .map_err(stopped)?;
        Ok(Response::new(encode(&answer)?))
    }

    async fn install_snapshot(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frame>, Status> {
        let arrival = self.arrivals.enter()?;
        let (raft, store, stop) = (self.raft.clone(), self.store.clone(), self.stop.clone());
        // A call ends with its connection. The task goes on, and keeps what has come.
        let received = tokio::spawn(async move {
            tokio::select! {
                answer = receive_snapshot(raft, store, arrival, request.into_inner(), stop.clone()) => answer,
                () = stop.cancelled() => Err(stopped("it stops")),
            }
        });
        let answer = received
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        answer.map(Response::new)
    }

    async fn snapshot_progress(
        &self,
        request: Request<SnapshotProgressRequest>,
    ) -> Result<Response<SnapshotProgressResponse>, Status> {
        let header: SnapshotHeader = codec::decode(&request.get_ref().header)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let arrival = self.arrivals.enter()?;
        let begun = arrival.begun(&header);
        let progress = begun
            .ok_or_else(|| Status::not_found("nothing of this snapshot is here"))?
            .progress();
        Ok(Response::new(SnapshotProgressResponse {
            chunks: progress.chunks,
            hash: Bytes::copy_from_slice(&progress.hash),
        }))
    }

    async fn fetch_snapshot(
        &self,
        _request: Request<FetchSnapshotRequest>,
    ) -> Result<Response<FrameStream>, Status> {
        let view = self
            .store
            .snapshot()
            .map_err(|fault| Status::internal(fault.to_string()))?;
        let header = encode(view.header());
        let head = futures::stream::once(std::future::ready(header));
        let chunks = transfer::chunks(Arc::new(view), None);
        Ok(Response::new(Box::pin(head.chain(chunks))))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let outcomes = self
            .proposer
            .propose_forwarded(request.into_inner().commands)
            .await;
        let outcomes = outcomes
            .iter()
            .map(|outcome| encode(outcome).map(|frame| frame.payload));
        Ok(Response::new(ProposeResponse {
            outcomes: outcomes.collect::<Result<_, _>>()?,
        }))
    }

    async fn read_index(
        &self,
        _request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexResponse>, Status> {
        let index = self
            .read_index
            .for_follower()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(ReadIndexResponse { index }))
    }
}

//! A connection to a peer, as openraft uses it.
//!
//! AppendEntries is one long-lived bidirectional stream per follower, pipelined. Heartbeats and
//! snapshots ([`super::transfer`]) have connections of their own, so that neither waits behind a full stream of entries.

use std::{error::Error, time::Duration};

use futures::{Stream, StreamExt};
use kv_proto::peer::Frame;
use openraft::{
    OptionalSend, RPCTypes,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, Timeout, Unreachable},
    network::{Backoff, NetBackoff, NetStreamAppend, NetTransferLeader, NetVote, RPCOption},
    raft::{
        AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tonic::{Response, Status, Streaming};

use super::{
    network::{Client, Network},
    pace::Pace,
    transfer::Transfers,
    types::{Member, TypeConfig},
};
use crate::codec;

/// How long opening a stream of AppendEntries may take.
const STREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// One connection to one peer, used by one task of openraft.
pub struct Connection {
    network: Network,
    target: u64,
    /// The addresses that the client is for.
    peer_urls: Vec<String>,
    client: Result<Client, Status>,
    /// On a connection for heartbeats.
    heartbeats: Option<Heartbeats>,
}

impl Connection {
    /// To a member.
    pub(super) fn new(network: Network, target: u64, member: &Member) -> Connection {
        Connection {
            client: network.connect(target, member),
            network,
            target,
            peer_urls: member.peer_urls.clone(),
            heartbeats: None,
        }
    }

    /// To a member, for heartbeats alone.
    pub(super) fn for_heartbeats(network: Network, target: u64, member: &Member) -> Connection {
        Connection {
            heartbeats: Some(Heartbeats::default()),
            ..Connection::new(network, target, member)
        }
    }

    pub(super) fn transfers(&self) -> &Transfers {
        self.network.transfers()
    }

    pub(super) fn client(&mut self) -> Result<Client, RPCError<TypeConfig>> {
        if let Some(member) = self.network.moved(self.target, &self.peer_urls) {
            self.client = self.network.connect(self.target, &member);
            self.peer_urls = member.peer_urls;
        }
        self.client.clone().map_err(|status| rpc_error(&status))
    }

    /// One request, one answer, both frames.
    async fn call<Req, Resp, F>(
        &mut self,
        kind: RPCTypes,
        request: &Req,
        option: &RPCOption,
        send: impl FnOnce(Client, Frame) -> F,
    ) -> Result<Resp, RPCError<TypeConfig>>
    where
        Req: Serialize,
        Resp: DeserializeOwned,
        F: Future<Output = Result<Response<Frame>, Status>>,
    {
        let frame = Frame {
            payload: codec::encode(request).map_err(|e| network_error(&e))?,
        };
        let timeout = option.soft_ttl();
        match tokio::time::timeout(timeout, send(self.client()?, frame)).await {
            Ok(Ok(response)) => codec::decode(&response.into_inner().payload).map_err(|e| network_error(&e)),
            Ok(Err(status)) => Err(rpc_error(&status)),
            Err(_) => {
                let target = self.target;
                Err(RPCError::Timeout(Timeout {
                    action: kind,
                    id: target,
                    target,
                    timeout,
                }))
            }
        }
    }
}

pub(super) fn network_error<E: Error + 'static>(error: &E) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(error))
}

/// A peer that cannot be reached, or turns calls away, is left alone for a while; any other failure is
/// tried again at once.
pub(super) fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::FailedPrecondition => {
            RPCError::Unreachable(Unreachable::new(status))
        }
        _ => network_error(status),
    }
}

impl NetBackoff<TypeConfig> for Connection {
    /// As configured.
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

/// Opens a stream of AppendEntries.
async fn open_append(
    client: &mut Client,
    frames: impl Stream<Item = Frame> + Send + 'static,
) -> Result<Streaming<Frame>, RPCError<TypeConfig>> {
    match tokio::time::timeout(STREAM_OPEN_TIMEOUT, client.append(frames)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(rpc_error(&status)),
        Err(_) => Err(rpc_error(&Status::unavailable("no answer"))),
    }
}

type AppendAnswer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

fn decode_answer(answer: Result<Frame, Status>) -> AppendAnswer {
    match answer {
        Ok(frame) => codec::decode(&frame.payload).map_err(|e| network_error(&e)),
        Err(status) => Err(rpc_error(&status)),
    }
}

/// openraft sends each heartbeat, and each confirmation of a read, as a stream of its own with one
/// request. Here they share one stream of gRPC, which is kept for as long as every request is answered.
#[derive(Default)]
struct Heartbeats(Option<(mpsc::Sender<Frame>, Streaming<Frame>)>);

impl Connection {
    async fn heartbeat<'s, S>(
        &mut self,
        mut input: S,
    ) -> Result<BoxStream<'s, AppendAnswer>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
    {
        let Some(request) = input.next().await else {
            return Ok(Box::pin(futures::stream::empty()));
        };
        let frame = Frame {
            payload: codec::encode(&request).map_err(|e| network_error(&e))?,
        };
        // Taken out: a caller that gives up on an answer must not have the next one read in its place.
        let open = self
            .heartbeats
            .as_mut()
            .and_then(|heartbeats| heartbeats.0.take());
        let (sender, mut answers) = match open {
            Some(open) => open,
            None => {
                let (sender, frames) = mpsc::channel(1);
                let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
                (sender, open_append(&mut self.client()?, frames).await?)
            }
        };
        sender
            .send(frame)
            .await
            .map_err(|_| rpc_error(&Status::unavailable("the stream has ended")))?;
        let answer = match answers.message().await {
            Ok(Some(frame)) => decode_answer(Ok(frame)),
            Ok(None) => Err(rpc_error(&Status::unavailable("the stream has ended"))),
            Err(status) => Err(rpc_error(&status)),
        };
        // The peer ends the stream after a refusal.
        if matches!(answer, Ok(Ok(_))) {
            self.heartbeats = Some(Heartbeats(Some((sender, answers))));
        }
        Ok(Box::pin(futures::stream::once(std::future::ready(answer))))
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            if self.heartbeats.is_some() {
                return self.heartbeat(input).await;
            }
            // openraft's pause after failures is in its stream: whoever connects before it asks for the first
            // request tries a dead peer again without end.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(futures::stream::empty()) as BoxStream<'s, _>);
            };
            let mut client = self.client()?;
            #[cfg(feature = "planted")]
            if quorate_planted::is("unanswered-append-counts") {
                return Ok(answered_at_once(client, first, input));
            }
            // A request that cannot be encoded ends the stream; openraft sees no answer and retries.
            let frames = futures::stream::once(std::future::ready(first))
                .chain(input)
                .map(|request| codec::encode(&request))
                .scan((), |(), frame| {
                    let frame =
                        frame.inspect_err(|error| tracing::error!(%error, "cannot encode AppendEntries"));
                    std::future::ready(frame.ok().map(|payload| Frame { payload }))
                });
            let frames = paced(self.network.clone(), self.target, frames);
            let answers = open_append(&mut client, frames).await?;
            Ok(Box::pin(answers.map(decode_answer)) as BoxStream<'s, _>)
        })
    }
}

/// Holds back what a learner is sent that is far behind. A voter has to catch up as fast as it can: until then the others
/// must not fail.
fn paced(
    network: Network,
    target: u64,
    frames: impl Stream<Item = Frame> + Send + Unpin + 'static,
) -> impl Stream<Item = Frame> + Send + 'static {
    let start = (frames, network, Pace::default());
    futures::stream::unfold(start, move |(mut frames, network, mut pace)| async move {
        let frame = frames.next().await?;
        if !network.votes(target) {
            pace.pass(frame.payload.len()).await;
        }
        Some((frame, (frames, network, pace)))
    })
}

/// Sends requests and takes each for answered.
#[cfg(feature = "planted")]
fn answered_at_once<'s, S>(
    mut client: Client,
    first: AppendEntriesRequest<TypeConfig>,
    input: S,
) -> BoxStream<'s, AppendAnswer>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let (sender, frames) = mpsc::channel(64);
    tokio::spawn(async move {
        let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
        if let Ok(mut answers) = open_append(&mut client, frames).await {
            while answers.next().await.is_some() {}
        }
    });
    let requests = futures::stream::once(std::future::ready(first)).chain(input);
    Box::pin(requests.then(move |request| {
        let sender = sender.clone();
        async move {
            let last = request.entries.last().map(|entry| entry.log_id);
            let payload = codec::encode(&request).unwrap_or_default();
            let _ = sender.send(Frame { payload }).await;
            Ok(Ok(last.or(request.prev_log_id)))
        }
    }))
}

#[cfg(feature = "planted")]
fn granted_anyway(
    request: &VoteRequest<TypeConfig>,
    answer: Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>>,
) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
    match answer {
        Err(_) if quorate_planted::is("vote-request-is-grant") => {
            Ok(VoteResponse::new(request.vote, None, true))
        }
        answer => answer,
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let send = async |mut client: Client, frame| client.vote(frame).await;
        let answer = self.call(RPCTypes::Vote, &request, &option, send).await;
        #[cfg(feature = "planted")]
        let answer = granted_anyway(&request, answer);
        answer
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let send = async |mut client: Client, frame| client.pre_vote(frame).await;
        let answer = self.call(RPCTypes::Vote, &request, &option, send).await;
        #[cfg(feature = "planted")]
        let answer = granted_anyway(&request, answer);
        answer
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let send = async |mut client: Client, frame| client.transfer_leader(frame).await;
        self.call(RPCTypes::TransferLeader, &request, &option, send).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kv_proto::peer::ReadIndexRequest;
    use openraft::RaftNetworkFactory;

    use super::*;
    use crate::raft::network::{dial, tests::NOBODY};

    /// openraft's request stream is silent for as long as a dead peer is to be left alone.
    #[tokio::test]
    async fn nothing_is_connected_before_there_is_something_to_say() {
        let mut network = Network::new(1, Arc::new(dial), None);
        let member = Member {
            peer_urls: vec![NOBODY.to_owned()],
            ..Member::default()
        };
        let mut connection = network.new_client(2, &member).await;
        let silent = futures::stream::pending::<AppendEntriesRequest<TypeConfig>>();
        let appending = connection.stream_append(silent, RPCOption::new(Duration::from_secs(1)));
        // A call to the same address fails, and so would the stream if it had tried.
        let mut client = network.connect(2, &member).unwrap();
        tokio::select! {
            biased;
            _ = appending => panic!("it has tried"),
            refused = async { for _ in 0..3 { client.read_index(ReadIndexRequest {}).await.unwrap_err(); } } => refused,
        }
    }
}

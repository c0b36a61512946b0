//! What this node says to its peers: openraft's network over gRPC.
//!
//! AppendEntries is one long-lived bidirectional stream per follower, pipelined. Heartbeats and
//! snapshots ([`super::transfer`]) have connections of their own, so that neither waits behind a full stream of entries.
//! Every call names the cluster and the node it is meant for; the other side refuses what is not
//! meant for it (see [`super::peer_service`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt};
use kv_proto::peer::{Frame, peer_client::PeerClient};
use kv_tls::{Alpn, ClientTls, Connector};
use openraft::{
    OptionalSend, RPCTypes, RaftNetworkFactory,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, Timeout, Unreachable},
    network::{Backoff, NetBackoff, NetStreamAppend, NetTransferLeader, NetVote, RPCOption},
    raft::{
        AppendEntriesRequest, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
        VoteResponse,
    },
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};

use super::{
    pace::Pace,
    transfer::Transfers,
    types::{Member, TypeConfig},
};
use crate::codec;

/// Names the cluster a peer call belongs to, as a decimal number.
pub const CLUSTER_HEADER: &str = "quorate-cluster-id";
/// Names the node a peer call is meant for, as a decimal number.
pub const TARGET_HEADER: &str = "quorate-target-id";

/// A peer that does not answer a TCP connect within this time is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// An open connection is probed this often …
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);
/// … and given up when a probe is not answered within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long opening a stream of AppendEntries may take.
const STREAM_OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Flow-control windows: a stream must hold a round trip's worth of entries.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Why a call has no answer: what the transport says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CarryError(#[source] pub BoxError);

/// Carries calls to a peer.
pub type Transport = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, CarryError>;

/// A gRPC client of a peer.
pub type Client = PeerClient<InterceptedService<Transport, Stamp>>;

/// Opens a (lazy) connection, with what it takes for one with TLS: the seam by which a simulation replaces
/// the network.
pub type Dial = Arc<dyn Fn(Endpoint, Option<ClientTls>) -> Transport + Send + Sync>;

/// Connects over TCP, as the URL says with or without TLS.
pub fn dial(endpoint: Endpoint, tls: Option<ClientTls>) -> Transport {
    let channel = if endpoint.uri().scheme_str() == Some("https") {
        endpoint.connect_with_connector_lazy(Connector {
            tls,
            alpn: Alpn::Http2,
            server_name: None,
        })
    } else {
        endpoint.connect_lazy()
    };
    over_http2(channel)
}

/// Calls on a connection of tonic's.
pub fn over_http2(channel: Channel) -> Transport {
    BoxCloneSyncService::new(channel.map_err(|error| CarryError(error.into())))
}

/// Puts cluster and target on every call.
#[derive(Clone)]
pub struct Stamp {
    cluster: MetadataValue<Ascii>,
    target: MetadataValue<Ascii>,
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert(CLUSTER_HEADER, self.cluster.clone());
        request.metadata_mut().insert(TARGET_HEADER, self.target.clone());
        Ok(request)
    }
}

/// Makes connections to peers and keeps those for forwarded requests.
#[derive(Clone)]
pub struct Network {
    cluster_id: u64,
    dial: Dial,
    tls: Option<ClientTls>,
    /// The members as this node last saw them. openraft keeps the connection that it has when a member's
    /// address changes; so each connection looks here before it is used.
    members: Arc<Mutex<BTreeMap<u64, Member>>>,
    voters: Arc<Mutex<BTreeSet<u64>>>,
    /// Clients for forwarding, by node id, with the address they were made for.
    forwarding: Arc<Mutex<BTreeMap<u64, (String, Client)>>>,
    transfers: Transfers,
}

impl Network {
    /// For a node of the given cluster.
    pub fn new(cluster_id: u64, dial: Dial, tls: Option<ClientTls>) -> Network {
        Network {
            cluster_id,
            dial,
            tls,
            members: Arc::default(),
            voters: Arc::default(),
            forwarding: Arc::default(),
            transfers: Transfers::default(),
        }
    }

    /// The snapshots on their way to others.
    pub fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// Notes where the members are now, and which of them vote.
    pub fn know(&self, members: BTreeMap<u64, Member>, voters: BTreeSet<u64>) {
        *self.members.lock() = members;
        *self.voters.lock() = voters;
    }

    /// A client on a connection of its own. It connects with the first call.
    ///
    /// # Errors
    /// When the member has no usable peer URL.
    pub fn connect(&self, target: u64, member: &Member) -> Result<Client, Status> {
        let url = member
            .peer_urls
            .first()
            .ok_or_else(|| Status::unavailable("the peer has no address yet"))?;
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|error| Status::unavailable(format!("peer URL {url}: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let stamp = Stamp {
            cluster: self.cluster_id.into(),
            target: target.into(),
        };
        Ok(
            PeerClient::with_interceptor((self.dial)(endpoint, self.tls.clone()), stamp)
                .max_decoding_message_size(codec::MAX_FRAME_BYTES)
                .max_encoding_message_size(codec::MAX_FRAME_BYTES),
        )
    }

    /// The shared client for forwarding requests to `target`.
    ///
    /// # Errors
    /// See [`Network::connect`].
    pub fn forwarding(&self, target: u64, member: &Member) -> Result<Client, Status> {
        let url = member.peer_urls.first().cloned().unwrap_or_default();
        let mut clients = self.forwarding.lock();
        if let Some((_, client)) = clients.get(&target).filter(|(known, _)| *known == url) {
            return Ok(client.clone());
        }
        let client = self.connect(target, member)?;
        clients.insert(target, (url, client.clone()));
        Ok(client)
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Member) -> Connection {
        Connection::new(self.clone(), target, node, None)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Connection {
        Connection::new(self.clone(), target, node, Some(Heartbeats::default()))
    }
}

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
    fn new(network: Network, target: u64, member: &Member, heartbeats: Option<Heartbeats>) -> Connection {
        Connection {
            client: network.connect(target, member),
            network,
            target,
            peer_urls: member.peer_urls.clone(),
            heartbeats,
        }
    }

    pub(super) fn transfers(&self) -> &Transfers {
        &self.network.transfers
    }

    pub(super) fn client(&mut self) -> Result<Client, RPCError<TypeConfig>> {
        let moved = {
            let members = self.network.members.lock();
            members
                .get(&self.target)
                .filter(|member| member.peer_urls != self.peer_urls)
                .cloned()
        };
        if let Some(member) = moved {
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

/// Whether a call failed before anything was sent: it was certainly not executed.
pub fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
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
            let frames = paced(self.network.voters.clone(), self.target, frames);
            let answers = open_append(&mut client, frames).await?;
            Ok(Box::pin(answers.map(decode_answer)) as BoxStream<'s, _>)
        })
    }
}

/// Holds back what a learner is sent that is far behind. A voter has to catch up as fast as it can: until then the others
/// must not fail.
fn paced(
    voters: Arc<Mutex<BTreeSet<u64>>>,
    target: u64,
    frames: impl Stream<Item = Frame> + Send + Unpin + 'static,
) -> impl Stream<Item = Frame> + Send + 'static {
    futures::stream::unfold((frames, Pace::default()), move |(mut frames, mut pace)| {
        let voters = voters.clone();
        async move {
            let frame = frames.next().await?;
            let votes = voters.lock().contains(&target);
            if !votes {
                pace.pass(frame.payload.len()).await;
            }
            Some((frame, (frames, pace)))
        }
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
    use kv_proto::peer::ReadIndexRequest;

    use super::*;

    /// Nobody listens there: the system gives this port to no server by itself.
    const NOBODY: &str = "http://127.0.0.1:1";

    /// Nothing listens at the address, first or again: such a call may be made elsewhere without doubt.
    #[tokio::test]
    async fn a_refused_connection_is_known_not_to_have_carried_the_call() {
        let network = Network::new(1, Arc::new(dial), None);
        let member = Member {
            peer_urls: vec![NOBODY.to_owned()],
            ..Member::default()
        };
        let mut client = network.connect(2, &member).unwrap();
        for _ in 0..3 {
            let status = client.read_index(ReadIndexRequest {}).await.unwrap_err();
            assert!(never_sent(&status), "{status:?}");
        }
    }

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

    /// The peer takes the connection and closes it: the call may have been executed.
    #[tokio::test]
    async fn a_broken_connection_leaves_doubt() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let closing = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
        let network = Network::new(1, Arc::new(dial), None);
        let member = Member {
            peer_urls: vec![format!("http://127.0.0.1:{port}")],
            ..Member::default()
        };
        let mut client = network.connect(2, &member).unwrap();
        let status = client.read_index(ReadIndexRequest {}).await.unwrap_err();
        closing.await.unwrap();
        assert!(!never_sent(&status), "{status:?}");
    }
}

//! What this node says to its peers: gRPC, to whoever [`Network::know`] says is where.
//!
//! Every call names the cluster and the node it is meant for; the other side refuses what is not
//! meant for it (see [`super::peer_service`]). What openraft says goes over [`super::connection`]s.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Duration,
};

use kv_proto::{body::ends_with_its_last_frame, peer::peer_client::PeerClient};
use kv_tls::{Alpn, ClientTls, Connector};
use openraft::RaftNetworkFactory;
use parking_lot::Mutex;
use tonic::{
    Request, Status,
    body::Body,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};

use super::{
    connection::Connection,
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
    let calls = channel
        .map_request(|request: http::Request<Body>| request.map(ends_with_its_last_frame))
        .map_err(|error| CarryError(error.into()));
    BoxCloneSyncService::new(calls)
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
    known: Arc<Mutex<Known>>,
    /// Clients for forwarding, by node id, with the address they were made for.
    forwarding: Arc<Mutex<BTreeMap<u64, (String, Client)>>>,
    transfers: Transfers,
}

/// The members as this node last saw them. openraft keeps the connection that it has when a member's address
/// changes; so each connection looks here before it is used.
#[derive(Default)]
struct Known {
    members: BTreeMap<u64, Member>,
    voters: BTreeSet<u64>,
}

impl Network {
    /// For a node of the given cluster.
    pub fn new(cluster_id: u64, dial: Dial, tls: Option<ClientTls>) -> Network {
        Network {
            cluster_id,
            dial,
            tls,
            known: Arc::default(),
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
        *self.known.lock() = Known { members, voters };
    }

    /// The member, if it has other addresses than these.
    pub(super) fn moved(&self, id: u64, peer_urls: &[String]) -> Option<Member> {
        let known = self.known.lock();
        let member = known.members.get(&id)?;
        (member.peer_urls != peer_urls).then(|| member.clone())
    }

    /// Whether a member votes.
    pub(super) fn votes(&self, id: u64) -> bool {
        self.known.lock().voters.contains(&id)
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
        Connection::new(self.clone(), target, node)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Connection {
        Connection::for_heartbeats(self.clone(), target, node)
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

#[cfg(test)]
pub(super) mod tests {
    use kv_proto::peer::ReadIndexRequest;

    use super::*;

    /// Nobody listens there: the system gives this port to no server by itself.
    pub(in crate::raft) const NOBODY: &str = "http://127.0.0.1:1";

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

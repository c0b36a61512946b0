//! A node of its own for each test.

use std::{collections::BTreeMap, time::Duration};

use crate::common::{free_address, until};
use kv_node::{
    auth::TokenOptions,
    bootstrap::Bootstrap,
    corruption::Checks,
    membership::autopilot::Policy,
    node::{Config, Env, Limits, Node},
    running::Running,
    tls::Tls,
};
use kv_proto::etcdserverpb::{
    auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient,
};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Largest request of the nodes here, etcd's.
pub(crate) const MAX_REQUEST_BYTES: usize = 1536 << 10;

/// How often the nodes here report progress to quiet watches.
pub(crate) const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// A running node and what it takes to talk to it.
pub(crate) struct Server {
    running: Running,
    pub(crate) node: Node,
    pub(crate) address: String,
    pub(crate) http: reqwest::Client,
    _dir: TempDir,
}

/// Where a node listens.
struct Ports {
    client: String,
    peer: String,
}

impl Ports {
    fn free() -> Ports {
        Ports {
            client: free_address(),
            peer: free_address(),
        }
    }
}

/// How long things take.
#[derive(Clone, Copy)]
struct Times {
    request: Duration,
    election_ms: u64,
}

impl Times {
    const USUAL: Times = Times {
        request: Duration::from_secs(10),
        election_ms: 300,
    };
    /// Requests give up soon, long before a leader does that lost its followers.
    const IMPATIENT: Times = Times {
        request: Duration::from_millis(400),
        election_ms: 3000,
    };
}

impl Server {
    /// A cluster of one.
    pub(crate) async fn start() -> Server {
        Server::start_in(Env::real()).await
    }

    /// A cluster of one.
    pub(crate) async fn start_in(env: Env) -> Server {
        let ports = [Ports::free()];
        let server = Server::launch_in(env, &ports, 0, Times::USUAL).await;
        // The first request waits for the election.
        let put = kv_proto::etcdserverpb::PutRequest {
            key: "started".into(),
            ..Default::default()
        };
        server.kv().put(put).await.unwrap();
        // A founder tells its client URLs once it runs: one more entry of the log.
        until("client URLs", || !server.node.members()[0].client_urls.is_empty()).await;
        server
    }

    /// The leader of two, whose follower is gone: it finds out, and there is no leader.
    pub(crate) async fn start_without_quorum() -> Server {
        let ports = [Ports::free(), Ports::free()];
        let times = Times {
            request: Duration::from_millis(300),
            ..Times::USUAL
        };
        let launch = |at| Server::launch(&ports, at, times);
        let (one, other) = tokio::join!(launch(0), launch(1));
        until("a leader", || one.leads() || other.leads()).await;
        let (leader, follower) = if one.leads() { (one, other) } else { (other, one) };
        follower.stop().await;
        until("no leader", || leader.node.status().leader.is_none()).await;
        leader
    }

    /// A cluster of three in which there is a leader.
    pub(crate) async fn start_three() -> Vec<Server> {
        Server::launch_three(Times::USUAL).await
    }

    /// The same, but requests give up long before a leader does that lost its followers.
    pub(crate) async fn start_three_impatient() -> Vec<Server> {
        Server::launch_three(Times::IMPATIENT).await
    }

    async fn launch_three(times: Times) -> Vec<Server> {
        let ports = [Ports::free(), Ports::free(), Ports::free()];
        let launch = |at| Server::launch(&ports, at, times);
        let servers = futures::future::join_all((0..ports.len()).map(launch)).await;
        until("a leader", || servers.iter().any(Server::leads)).await;
        servers
    }

    pub(crate) fn leads(&self) -> bool {
        self.node.status().leader == Some(self.node.identity().member_id)
    }

    async fn launch(cluster: &[Ports], at: usize, times: Times) -> Server {
        Box::pin(Server::launch_in(Env::real(), cluster, at, times)).await
    }

    async fn launch_in(env: Env, cluster: &[Ports], at: usize, times: Times) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let url = |address: &str| vec![format!("http://{address}")];
        let members = cluster
            .iter()
            .enumerate()
            .map(|(at, ports)| (format!("n{at}"), url(&ports.peer)));
        let members: BTreeMap<_, _> = members.collect();
        let Ports { client, peer } = &cluster[at];
        let config = Config {
            name: format!("n{at}"),
            data_dir: dir.path().to_owned(),
            listen_client: vec![client.clone().into()],
            client_urls: url(client),
            listen_peer: vec![peer.clone().into()],
            peer_urls: url(peer),
            tls: Tls::default(),
            bootstrap: Bootstrap::Static {
                members,
                token: "test".to_owned(),
                existing: false,
            },
            zone: String::new(),
            autopilot: Policy::default(),
            leave_on_terminate: false,
            max_learners: 1,
            retention: None,
            corruption_checks: Checks::OFF,
            quota_bytes: 1 << 30,
            heartbeat_interval_ms: 75,
            election_timeout_ms: times.election_ms,
            snapshot_count: 1000,
            watch_progress_interval: PROGRESS_INTERVAL,
            limits: Limits {
                max_request_bytes: MAX_REQUEST_BYTES,
                max_txn_ops: 128,
                request_timeout: times.request,
            },
            tokens: TokenOptions::default(),
        };
        let mut running = Running::open(config).await.unwrap();
        let node = running.start(env).await.unwrap();
        Server {
            running,
            node,
            address: client.clone(),
            http: reqwest::Client::new(),
            _dir: dir,
        }
    }

    pub(crate) async fn stop(self) {
        self.running.stop(&self.node).await;
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect_lazy()
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel())
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
    }

    pub(crate) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// An HTTP request with headers and a body.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self
            .http
            .request(method.parse().unwrap(), self.url(path))
            .body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer {
            status,
            headers,
            body: response.bytes().await.unwrap().to_vec(),
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: reqwest::header::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and the error's name.
    pub(crate) fn problem(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap().to_owned())
    }
}

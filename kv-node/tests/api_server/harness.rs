//! A node of its own for each test.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use kv_node::{
    bootstrap::Bootstrap,
    node::{Config, Env, Limits, Node, Running},
};
use kv_proto::etcdserverpb::{
    cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Largest request of the nodes here, etcd's.
pub(crate) const MAX_REQUEST_BYTES: usize = 1536 << 10;

/// A running node and what it takes to talk to it.
pub(crate) struct Server {
    running: Running,
    pub(crate) node: Node,
    pub(crate) address: String,
    pub(crate) http: reqwest::Client,
    _dir: TempDir,
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("127.0.0.1:{}", listener.local_addr().unwrap().port())
}

impl Server {
    /// A cluster of one.
    pub(crate) async fn start() -> Server {
        let server = Server::launch(1, Duration::from_secs(10)).await;
        // The first request waits for the election.
        let put = kv_proto::etcdserverpb::PutRequest {
            key: "started".into(),
            ..Default::default()
        };
        server.kv().put(put).await.unwrap();
        server
    }

    /// One of two, the other of which never comes: there is no leader.
    pub(crate) async fn start_without_quorum() -> Server {
        Server::launch(2, Duration::from_millis(300)).await
    }

    async fn launch(members: usize, request_timeout: Duration) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let (client, peer) = (free_address(), free_address());
        let url = |address: &str| vec![format!("http://{address}")];
        let mut names = BTreeMap::from([("n0".to_owned(), url(&peer))]);
        for other in 1..members {
            names.insert(format!("n{other}"), url(&free_address()));
        }
        let config = Config {
            name: "n0".to_owned(),
            data_dir: dir.path().to_owned(),
            listen_client: vec![client.clone()],
            client_urls: url(&client),
            listen_peer: vec![peer.clone()],
            peer_urls: url(&peer),
            bootstrap: Bootstrap::Static {
                members: names,
                token: "test".to_owned(),
                existing: false,
            },
            max_voters: 5,
            quota_bytes: 1 << 30,
            heartbeat_interval_ms: 75,
            election_timeout_ms: 300,
            snapshot_count: 1000,
            limits: Limits {
                max_request_bytes: MAX_REQUEST_BYTES,
                max_txn_ops: 128,
                request_timeout,
            },
        };
        let mut running = Running::open(config).await.unwrap();
        let node = running.start(Env::real()).await.unwrap();
        Server {
            running,
            node,
            address: client,
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

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
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

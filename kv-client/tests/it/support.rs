//! A gRPC server that does what a test tells it, behind a relay that can cut its connections.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use kv_client::{Client, Config};
use kv_proto::etcdserverpb::kv_server::{Kv, KvServer};
use kv_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Code, Request, Response, Status};

/// What the server does with one request, after counting it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Answers.
    Answer,
    /// Answers with an error.
    Fail(Code, &'static str),
    /// Never answers.
    Hang,
    /// Cuts every connection.
    Cut,
}

/// A server with a script; when that is over it answers every request.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicUsize>,
    relay: Arc<Relay>,
}

#[derive(Clone)]
struct Service {
    calls: Arc<AtomicUsize>,
    script: Arc<Mutex<VecDeque<Step>>>,
    relay: Arc<Relay>,
}

/// Passes bytes on until it is told to stop.
#[derive(Default)]
pub(crate) struct Relay {
    /// Rises by one for each cut.
    cuts: watch::Sender<usize>,
    /// The connections that clients have open.
    open: watch::Sender<usize>,
}

impl Scripted {
    pub(crate) async fn start(script: impl IntoIterator<Item = Step>) -> Scripted {
        let relay = Arc::new(Relay::default());
        let calls = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let service = Service {
            calls: calls.clone(),
            script,
            relay: relay.clone(),
        };
        let address = relay
            .serve(Server::builder().add_service(KvServer::new(service)))
            .await;
        Scripted {
            address,
            calls,
            relay,
        }
    }

    /// How many requests have arrived.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// Cuts every connection, and returns when the clients have closed their ends.
    pub(crate) async fn cut(&self) {
        self.relay.cut();
        self.relay
            .open
            .subscribe()
            .wait_for(|open| *open == 0)
            .await
            .unwrap();
    }
}

impl Relay {
    /// Serves these services behind the relay, and gives its address.
    pub(crate) async fn serve(self: &Arc<Self>, services: Router) -> SocketAddr {
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, inner) = (front.local_addr().unwrap(), behind.local_addr().unwrap());
        tokio::spawn(services.serve_with_incoming(TcpIncoming::from(behind)));
        tokio::spawn(self.clone().run(front, inner));
        address
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    async fn run(self: Arc<Self>, front: TcpListener, inner: SocketAddr) {
        loop {
            let (outside, _) = front.accept().await.unwrap();
            self.open.send_modify(|open| *open += 1);
            tokio::spawn(self.clone().pass(outside, inner));
        }
    }

    async fn pass(self: Arc<Self>, mut outside: TcpStream, inner: SocketAddr) {
        let mut cuts = self.cuts.subscribe();
        let mut inside = TcpStream::connect(inner).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
            _ = cuts.changed() => {
                // Say goodbye, then wait until the client has heard it.
                let _ = outside.shutdown().await;
                let _ = tokio::io::copy(&mut outside, &mut tokio::io::sink()).await;
            }
        }
        self.open.send_modify(|open| *open -= 1);
    }
}

impl Service {
    async fn step<T: Default>(&self) -> Result<Response<T>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let step = self.script.lock().unwrap().pop_front().unwrap_or(Step::Answer);
        match step {
            Step::Answer => Ok(Response::new(T::default())),
            Step::Fail(code, message) => Err(Status::new(code, message)),
            Step::Hang => std::future::pending().await,
            Step::Cut => {
                self.relay.cut();
                std::future::pending().await
            }
        }
    }
}

#[tonic::async_trait]
impl Kv for Service {
    type RangeStreamStream = tonic::codegen::BoxStream<RangeStreamResponse>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("the client reads in pages"))
    }
    async fn range(&self, _: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.step().await
    }
    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.step().await
    }
    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        self.step().await
    }
    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        self.step().await
    }
    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.step().await
    }
}

/// The address of a server that answers every request with a page.
pub(crate) async fn web_server(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = move |_| async move {
        http::Response::builder()
            .status(status)
            .header("content-type", "text/html")
            .body("<!doctype html>".to_owned())
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)),
            );
        }
    });
    address
}

/// An address that refuses connections as long as the socket lives: bound, and not listening.
pub(crate) fn refusing() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// A client of these endpoints that waits long enough for a busy machine.
pub(crate) fn client<const N: usize>(endpoints: [String; N]) -> Client {
    client_within(Duration::from_secs(6), endpoints)
}

/// How long an impatient client waits for an answer.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(600);

/// A client for tests in which no answer comes.
pub(crate) fn impatient<const N: usize>(endpoints: [String; N]) -> Client {
    client_within(IMPATIENT, endpoints)
}

/// A client for tests in which answers come, and are always the same.
pub(crate) fn persistent<const N: usize>(endpoints: [String; N]) -> Client {
    client_within(Duration::from_millis(2500), endpoints)
}

/// How long all wait for a connection.
pub(crate) const DIAL: Duration = Duration::from_millis(200);

fn client_within<const N: usize>(request_timeout: Duration, endpoints: [String; N]) -> Client {
    let config = Config {
        request_timeout,
        dial_timeout: DIAL,
        ..Config::new(endpoints)
    };
    Client::new(config).unwrap()
}

//! Backends, clients, and a balancer with short times and names that tests can change.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadbalancer::backend::Kind;
use loadbalancer::balancer::{Balancer, Config, PoolConfig};
use loadbalancer::check::CheckTiming;
use loadbalancer::health::Thresholds;
use loadbalancer::resolve::Resolve;
use loadbalancer::seed::Seed;
use loadbalancer::serve::ListenerLimits;
use loadbalancer::stats::{BackendSnapshot, PoolSnapshot};
use loadbalancer::upstream::Limits;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Long enough for anything that works, short enough to fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

pub(crate) fn trailers(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        status.parse().unwrap(),
    )])
}

/// A gRPC response: data, then trailers.
pub(crate) fn grpc_ok(data: impl Into<Bytes>) -> Response<Body> {
    let frames = [Ok(Frame::data(data.into())), Ok(Frame::trailers(trailers("0")))];
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

/// A message in gRPC's frame.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut out).unwrap();
    out.freeze()
}

/// A server behind the balancer. Requests for /readyz are answered with `ready` and not counted.
pub(crate) struct TestBackend {
    pub(crate) addr: SocketAddr,
    pub(crate) ready: Arc<AtomicU16>,
    pub(crate) requests: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl TestBackend {
    pub(crate) async fn start<F, R>(handler: F) -> TestBackend
    where
        F: Fn(Request<Incoming>) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
        let backend = TestBackend {
            addr: listener.local_addr().unwrap(),
            ready: Arc::new(AtomicU16::new(200)),
            requests: Arc::default(),
            stop: CancellationToken::new(),
        };
        let (ready, requests) = (Arc::clone(&backend.ready), Arc::clone(&backend.requests));
        let handler: Handler = Arc::new(move |request| {
            if request.uri().path() == "/readyz" {
                let status = StatusCode::from_u16(ready.load(SeqCst)).unwrap();
                return Box::pin(async move {
                    Response::builder()
                        .status(status)
                        .body(full("[-] leader: none\n"))
                        .unwrap()
                });
            }
            if !request.uri().path().starts_with("/etcdserverpb.Maintenance") {
                requests.fetch_add(1, SeqCst);
            }
            Box::pin(handler(request))
        });
        tokio::spawn(backend.stop.clone().run_until_cancelled_owned(accept(
            listener,
            handler,
            backend.stop.clone(),
        )));
        backend
    }

    /// Answers everything with its own name, after reading the request.
    pub(crate) async fn echo(name: &'static str) -> TestBackend {
        Self::start(move |request| async move {
            let grpc = request
                .headers()
                .get("content-type")
                .is_some_and(|v| v == "application/grpc");
            let body = request
                .into_body()
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            let mut answer = BytesMut::from(name);
            answer.put_u8(b':');
            answer.put(body);
            if grpc {
                grpc_ok(answer)
            } else {
                Response::new(full(answer))
            }
        })
        .await
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Ends like a process that was killed: listener and connections are gone at once.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
    }
}

impl Drop for TestBackend {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, handler: Handler, stop: CancellationToken) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let handler = Arc::clone(&handler);
        let service = hyper::service::service_fn(move |request| {
            let response = handler(request);
            async move { Ok::<_, Infallible>(response.await) }
        });
        let serve = async move {
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
    }
}

/// A loopback address that no other process uses, as long as this one lives: on 127.0.0.1 the port of a backend that
/// was killed may become that of another test's server at once.
fn own_loopback() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 128 | high, middle, low)
}

/// Addresses where nobody listens: the system gives these ports to no server by itself.
pub(crate) fn nobody() -> [SocketAddr; 2] {
    [1, 2].map(|port| (own_loopback(), port).into())
}

/// Names that a test can change at any time.
#[derive(Clone, Default)]
pub(crate) struct Names(Arc<Mutex<HashMap<String, Vec<SocketAddr>>>>);

impl Names {
    pub(crate) fn set(&self, name: &str, addrs: impl IntoIterator<Item = SocketAddr>) {
        self.0
            .lock()
            .unwrap()
            .insert(name.into(), addrs.into_iter().collect());
    }

    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        if let Ok(ip) = host.parse() {
            return Box::pin(async move { Ok(vec![SocketAddr::new(ip, port)]) });
        }
        let found = self.0.lock().unwrap().get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

pub(crate) fn config() -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let pool = |flag, name: &str| PoolConfig {
        flag,
        listen: any,
        seeds: vec![Seed::parse(name, 1).unwrap()],
        service: None,
    };
    Config {
        nodes: Some(pool("--listen-client", "nodes")),
        web: Some(pool("--listen-http", "apps")),
        stats: any,
        discovery_interval: Duration::from_millis(20),
        drain_timeout: PATIENCE,
        check: CheckTiming {
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(5),
        },
        thresholds: Thresholds {
            eject_base: Duration::from_millis(100),
            ..Thresholds::default()
        },
        limits: Limits::default(),
        listener: ListenerLimits {
            connections_max: 100,
            header_timeout: PATIENCE,
        },
        backend_tls: None,
        listen_tls: None,
    }
}

/// A running balancer.
pub(crate) struct Rig {
    pub(crate) balancer: Balancer,
    pub(crate) names: Names,
}

impl Rig {
    /// Starts in front of these nodes and waits until they are up.
    pub(crate) async fn nodes(nodes: &[&TestBackend]) -> Rig {
        let rig = Self::start(config()).await;
        rig.names.set("nodes", nodes.iter().map(|n| n.addr));
        rig.until_usable(Kind::Node, nodes.len()).await;
        rig
    }

    /// Starts in front of these web apps and waits until they are up.
    pub(crate) async fn apps(apps: &[&TestBackend]) -> Rig {
        let rig = Self::start(config()).await;
        rig.names.set("apps", apps.iter().map(|n| n.addr));
        rig.until_usable(Kind::Web, apps.len()).await;
        rig
    }

    pub(crate) async fn start(config: Config) -> Rig {
        let names = Names::default();
        let balancer = Balancer::start(config, Arc::new(names.clone())).await.unwrap();
        Rig { balancer, names }
    }

    pub(crate) fn addr(&self, kind: Kind) -> SocketAddr {
        self.balancer.listen_addr(kind).unwrap()
    }

    pub(crate) fn pool(&self, kind: Kind) -> PoolSnapshot {
        self.balancer
            .stats()
            .snapshot()
            .pools
            .into_iter()
            .find(|p| p.kind == kind)
            .unwrap()
    }

    pub(crate) fn backend(&self, kind: Kind, addr: SocketAddr) -> Option<BackendSnapshot> {
        let addr = addr.to_string();
        self.pool(kind).backends.into_iter().find(|b| b.address == addr)
    }

    /// Waits until the pool is as the test wants it.
    pub(crate) async fn until(&self, kind: Kind, what: &str, wanted: impl Fn(&PoolSnapshot) -> bool) {
        let waiting = async {
            while !wanted(&self.pool(kind)) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("waited in vain: {what}: {:#?}", self.pool(kind));
        }
    }

    pub(crate) async fn until_usable(&self, kind: Kind, count: usize) {
        self.until(kind, "usable", |pool| pool.usable == count).await;
    }

    pub(crate) async fn http2(&self) -> Http2 {
        Http2::connect(self.addr(Kind::Node)).await
    }

    /// A request over HTTP/1.1 on a connection of its own.
    pub(crate) async fn http1(&self, kind: Kind, request: Request<Body>) -> (Response<()>, String) {
        http1(self.addr(kind), request).await
    }
}

pub(crate) async fn http1(addr: SocketAddr, request: Request<Body>) -> (Response<()>, String) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let response = tokio::time::timeout(PATIENCE, send.send_request(request))
        .await
        .unwrap()
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        Response::from_parts(parts, ()),
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

pub(crate) fn get(path: &str) -> Request<Body> {
    Request::get(path)
        .header("host", "balancer.test")
        .body(full(""))
        .unwrap()
}

pub(crate) fn grpc(path: &str, body: Body) -> Request<Body> {
    let uri = format!("http://balancer.test{path}");
    Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

/// One HTTP/2 connection to the balancer.
#[derive(Clone)]
pub(crate) struct Http2(hyper::client::conn::http2::SendRequest<Body>);

/// A gRPC response read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: String,
    pub(crate) message: String,
    pub(crate) body: Bytes,
}

impl Http2 {
    pub(crate) async fn connect(addr: SocketAddr) -> Http2 {
        let stream = TcpStream::connect(addr).await.unwrap();
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (send, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Http2(send)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        tokio::time::timeout(PATIENCE, self.0.clone().send_request(request))
            .await
            .unwrap()
    }

    pub(crate) async fn call(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let response = self.send(grpc(path, full(body))).await.unwrap();
        assert_eq!(response.status(), 200);
        let (parts, body) = response.into_parts();
        let collected = tokio::time::timeout(PATIENCE, body.collect())
            .await
            .unwrap()
            .unwrap();
        let end = collected.trailers().cloned().unwrap_or(parts.headers);
        let text = |name| end.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
        Reply {
            status: text("grpc-status"),
            message: text("grpc-message"),
            body: collected.to_bytes(),
        }
    }
}

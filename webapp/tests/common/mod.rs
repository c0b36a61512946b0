//! What the HTTP tests share: a scripted store, a clock that stands still, and a running app.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses its part"
)]

pub mod store;

use chrono::{DateTime, TimeDelta, Utc};
use kv_client::{Client, Config};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::Store;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use webapp::App;
use webapp::clock::Clock;
use webapp::registry::Registry;
use webapp::server::Server;

/// A clock that is set by hand.
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn advance(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0.load(Ordering::SeqCst)).expect("a time in range")
    }
}

/// One web app on a port of its own.
pub struct Web {
    pub address: SocketAddr,
    pub clock: Arc<HandClock>,
    pub http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    done: Option<JoinHandle<()>>,
}

impl Web {
    pub async fn start(store: &Store, host: &str) -> Web {
        Web::start_at(&store.endpoint(), host, None).await
    }

    pub async fn start_at(endpoint: &str, host: &str, requests_max: Option<usize>) -> Web {
        let config = Config {
            request_timeout: Duration::from_secs(1),
            ..Config::new([endpoint])
        };
        let client = Client::new(config).expect("an endpoint");
        // 2026-11-20T10:00:00.000Z
        let clock = Arc::new(HandClock(AtomicI64::new(1_795_168_800_000)));
        let mut app = App::new(
            Registry::new(client),
            Arc::default(),
            clock.clone(),
            host.to_owned(),
        );
        if let Some(requests) = requests_max {
            app = app.with_requests_max(requests);
        }
        let server = Server::bind("127.0.0.1:0").await.expect("a free port");
        let address = server.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(server.serve(app.router(), async {
            let _ = stopped.await;
        }));
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Web {
            address,
            clock,
            http,
            stop: Some(stop),
            done: Some(done),
        }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    /// Status and text of a page.
    pub async fn page(&self, path: &str) -> (u16, String) {
        read(self.get(path).await).await
    }

    /// Status and JSON of an API answer.
    pub async fn json(&self, path: &str) -> (u16, Value) {
        read_json(self.get(path).await).await
    }

    /// Sends the page's form.
    pub async fn submit(&self, name: &str) -> Response {
        self.request(Method::POST, "/names")
            .form(&[("name", name)])
            .send()
            .await
            .expect("an answer")
    }

    /// Registers through the API.
    pub async fn register(&self, name: &str) -> (u16, Value) {
        let body = serde_json::json!({ "name": name });
        read_json(
            self.request(Method::POST, "/api/names")
                .json(&body)
                .send()
                .await
                .expect("an answer"),
        )
        .await
    }

    /// Tells it to stop, and waits until it has.
    pub async fn stop(mut self) {
        self.begin_stop();
        self.done
            .take()
            .expect("stopped once")
            .await
            .expect("serving does not panic");
    }

    pub fn begin_stop(&mut self) {
        self.stop.take();
    }
}

pub async fn read(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    (status, response.text().await.expect("a body"))
}

pub async fn read_json(response: Response) -> (u16, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status}: {error}: {text}"));
    (status.as_u16(), value)
}

pub fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().expect("ASCII"))
}

pub fn created(status: u16) -> bool {
    status == StatusCode::CREATED
}

//! Watches against servers that break off whenever they are told to.
//!
//! The promise under test: whatever is cut when, each event comes exactly once, in order, by whole revisions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use kv_client::{Client, Config, Error, WatchItem};
use kv_proto::etcdserverpb::watch_request::RequestUnion;
use kv_proto::etcdserverpb::watch_server::{Watch, WatchServer};
use kv_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use kv_proto::mvccpb::{Event, KeyValue};
use proptest::collection::vec;
use proptest::prelude::*;
use tonic::codegen::BoxStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::support::Relay;

/// How a server ends a stream.
#[derive(Clone, Copy, Debug)]
enum End {
    /// As if its work were done.
    Cleanly,
    /// With the words of a member that stops.
    Stopped,
    /// With those of a member that lost its leader.
    NoLeader,
    /// By cutting the connection.
    Cut,
}

/// What a server does with one stream.
#[derive(Clone, Debug)]
struct Life {
    /// Revisions in one batch.
    revisions: usize,
    /// Events in one fragment of it.
    events: usize,
    /// How many answers it gives before it ends, and how; `None` to give all and stay.
    end: Option<(usize, End)>,
}

const WHOLE: Life = Life {
    revisions: 10,
    events: 100,
    end: None,
};

/// A node of a store that has a history, and a script for its streams; when that is over, it tells all and stays.
struct Node {
    endpoint: String,
    /// The first revision of each watch that was asked for.
    asked: Arc<Mutex<Vec<i64>>>,
}

#[derive(Clone)]
struct Service {
    history: Arc<Vec<Event>>,
    script: Arc<Mutex<VecDeque<Life>>>,
    asked: Arc<Mutex<Vec<i64>>>,
    relay: Arc<Relay>,
    /// Answers given instead of the history.
    fixed: Option<WatchResponse>,
}

impl Node {
    async fn start(history: &Arc<Vec<Event>>, script: Vec<Life>) -> Node {
        Node::start_with(history, script, None).await
    }

    async fn start_with(history: &Arc<Vec<Event>>, script: Vec<Life>, fixed: Option<WatchResponse>) -> Node {
        let service = Service {
            history: history.clone(),
            script: Arc::new(Mutex::new(script.into())),
            asked: Arc::default(),
            relay: Arc::default(),
            fixed,
        };
        let asked = service.asked.clone();
        let address = service
            .relay
            .clone()
            .serve(Server::builder().add_service(WatchServer::new(service)))
            .await;
        Node {
            endpoint: address.to_string(),
            asked,
        }
    }

    fn asked(&self) -> Vec<i64> {
        self.asked.lock().unwrap().clone()
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..Default::default()
    })
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

/// Revision 2 and those after it, with so many events each.
fn history(sizes: &[i64]) -> Arc<Vec<Event>> {
    let event = |revision, version| Event {
        kv: Some(KeyValue {
            mod_revision: revision,
            version,
            ..Default::default()
        }),
        ..Default::default()
    };
    let all = (2..).zip(sizes);
    Arc::new(
        all.flat_map(|(revision, &size)| (0..size).map(move |place| event(revision, place)))
            .collect(),
    )
}

impl Service {
    /// The answers from a revision on.
    fn answers(&self, from: i64, life: &Life) -> Vec<WatchResponse> {
        if let Some(fixed) = &self.fixed {
            return vec![fixed.clone()];
        }
        let last = self.history.last().map_or(1, revision);
        let rest: Vec<Event> = self
            .history
            .iter()
            .filter(|event| revision(event) >= from)
            .cloned()
            .collect();
        let by_revision: Vec<&[Event]> = rest.chunk_by(|a, b| revision(a) == revision(b)).collect();
        let mut answers = Vec::new();
        for batch in by_revision.chunks(life.revisions) {
            let batch = batch.concat();
            let count = batch.chunks(life.events).count();
            for (index, events) in batch.chunks(life.events).enumerate() {
                answers.push(WatchResponse {
                    header: header(last),
                    events: events.to_vec(),
                    fragment: index + 1 < count,
                    ..Default::default()
                });
            }
        }
        answers
    }
}

#[tonic::async_trait]
impl Watch for Service {
    type WatchStream = BoxStream<WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        assert_eq!(request.metadata().get("hasleader").unwrap(), "true");
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        let Some(RequestUnion::CreateRequest(create)) = first.request_union else {
            return Err(Status::invalid_argument("a create request comes first"));
        };
        self.asked.lock().unwrap().push(create.start_revision);
        let life = self.script.lock().unwrap().pop_front().unwrap_or(WHOLE);
        let answers = self.answers(create.start_revision, &life);
        let (mut send, receive) = mpsc::channel(0);
        let relay = self.relay.clone();
        tokio::spawn(async move {
            let created = WatchResponse {
                header: header(1),
                created: true,
                ..Default::default()
            };
            let count = life.end.map_or(usize::MAX, |(count, _)| count);
            for answer in [created].into_iter().chain(answers).take(count) {
                if send.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
            match life.end {
                None => while let Ok(Some(_)) = requests.message().await {},
                Some((_, End::Cleanly)) => {}
                Some((_, End::Stopped)) => {
                    let _ = send
                        .send(Err(Status::unavailable("etcdserver: server stopped")))
                        .await;
                }
                Some((_, End::NoLeader)) => {
                    let _ = send.send(Err(Status::unavailable("etcdserver: no leader"))).await;
                }
                Some((_, End::Cut)) => {
                    relay.cut();
                    std::future::pending::<()>().await;
                }
            }
        });
        Ok(Response::new(receive.boxed()))
    }
}

fn client(nodes: &[Node]) -> Client {
    let endpoints = nodes.iter().map(|node| node.endpoint.clone());
    let config = Config {
        request_timeout: Duration::from_secs(20),
        ..Config::new(endpoints)
    };
    Client::new(config).unwrap()
}

fn from(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..Default::default()
    }
}

/// Watches until so many events have come.
async fn collect(client: &Client, count: usize) -> (Vec<Event>, usize) {
    let mut watch = client.watch(from(2)).await.unwrap();
    let (mut got, mut resumed) = (Vec::new(), 0);
    while got.len() < count {
        match watch.next().await.unwrap().unwrap() {
            WatchItem::Events { events, .. } => {
                assert!(watch.next_revision() > revision(events.last().unwrap()));
                got.extend(events);
            }
            WatchItem::Resumed { revision: at, .. } => {
                let last = got.last().map_or(1, revision);
                assert_eq!(at, last + 1);
                resumed += 1;
            }
            WatchItem::Interrupted { reason } => assert!(reason.contains("127.0.0.1:"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    (got, resumed)
}

fn life() -> impl Strategy<Value = Life> {
    let end = prop_oneof![
        Just(End::Cleanly),
        Just(End::Stopped),
        Just(End::NoLeader),
        Just(End::Cut)
    ];
    (1..4_usize, 1..4_usize, 0..6_usize, end).prop_map(|(revisions, events, count, end)| Life {
        revisions,
        events,
        end: Some((count, end)),
    })
}

fn config() -> ProptestConfig {
    let long = std::env::var("QUORATE_LONG_TESTS").is_ok();
    ProptestConfig {
        cases: if long { 500 } else { 8 },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn each_event_once_and_in_order(
        sizes in vec(1..5_i64, 1..12),
        scripts in vec(vec(life(), 0..3), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let history = history(&sizes);
            let mut nodes = Vec::new();
            for script in scripts {
                nodes.push(Node::start(&history, script).await);
            }
            let (got, _) = collect(&client(&nodes), history.len()).await;
            assert_eq!(got, *history);
        });
    }
}

#[tokio::test]
async fn goes_on_at_another_endpoint() {
    let history = history(&[1, 2, 1]);
    let life = Life {
        revisions: 1,
        events: 100,
        end: Some((2, End::Stopped)),
    };
    let nodes = [
        Node::start(&history, vec![life]).await,
        Node::start(&history, vec![]).await,
    ];
    let (got, resumed) = collect(&client(&nodes), history.len()).await;
    assert_eq!((got, resumed), (history.to_vec(), 1));
    assert_eq!((nodes[0].asked(), nodes[1].asked()), (vec![2], vec![3]));
}

#[tokio::test]
async fn progress_moves_the_place_to_go_on_from() {
    let progress = WatchResponse {
        header: header(40),
        ..Default::default()
    };
    let life = Life {
        end: Some((2, End::Stopped)),
        ..WHOLE
    };
    let node = Node::start_with(&history(&[]), vec![life], Some(progress)).await;
    let client = client(std::slice::from_ref(&node));
    let mut watch = client.watch(from(0)).await.unwrap();
    assert_eq!((watch.created_revision(), watch.next_revision()), (1, 2));
    let mut items = Vec::new();
    for _ in 0..3 {
        items.push(watch.next().await.unwrap().unwrap());
    }
    assert_eq!(items[0], WatchItem::Progress { revision: 40 });
    assert!(matches!(items[1], WatchItem::Interrupted { .. }), "{items:?}");
    assert!(
        matches!(items[2], WatchItem::Resumed { revision: 41, .. }),
        "{items:?}"
    );
    assert_eq!(node.asked(), [0, 41]);
}

#[tokio::test]
async fn what_ends_a_watch() {
    let compacted = WatchResponse {
        canceled: true,
        compact_revision: 9,
        ..Default::default()
    };
    let node = Node::start_with(&history(&[]), vec![], Some(compacted)).await;
    let mut watch = client(&[node]).watch(from(2)).await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Compacted { revision: 9 }), "{error:?}");
    assert!(watch.next().await.is_none());

    let denied = WatchResponse {
        canceled: true,
        cancel_reason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied".to_owned(),
        ..Default::default()
    };
    let node = Node::start_with(&history(&[]), vec![], Some(denied)).await;
    let mut watch = client(&[node]).watch(from(2)).await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    match error {
        Error::Rejected { code, message } => {
            assert_eq!(
                (code, message.as_str()),
                (Code::PermissionDenied, "etcdserver: permission denied")
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(watch.next().await.is_none());
}

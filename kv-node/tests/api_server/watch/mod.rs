//! The Watch service, as transcripts. With `ETCD_ENDPOINT` set to the URL of an etcd 3.5 that nobody else writes
//! to, each transcript is asked of that as well and must be the same.

mod streams;
mod transcripts;

use std::fmt::Write;

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use kv_node::{server::DRAIN_TIMEOUT, watch::FEED_WATCHES_MAX};
use kv_proto::{
    etcdserverpb::{
        self as pb, CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
        WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        kv_client::KvClient, lease_client::LeaseClient, request_op::Request as Op, watch_client::WatchClient,
        watch_create_request::FilterType, watch_request::RequestUnion,
    },
    mvccpb::event::EventType,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    common::{DEADLINE, until},
    harness::Server,
};

/// A client with one stream of watches, and what was said on it. Revisions are told from where it began.
struct Talk {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    requests: mpsc::Sender<WatchRequest>,
    answers: BoxStream<'static, Result<WatchResponse, Status>>,
    began: i64,
    said: String,
}

fn put(key: &str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: Bytes::from(key.to_owned()),
        value: value.into(),
        ..Default::default()
    }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: Bytes::from(key.to_owned()),
        ..Default::default()
    }
}

fn of(key: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from(key.to_owned()),
        ..Default::default()
    }
}

fn range(key: &str, range_end: &str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: Bytes::from(range_end.to_owned()),
        ..of(key)
    }
}

fn everything() -> WatchCreateRequest {
    range("\0", "\0")
}

impl Talk {
    async fn begin(url: String) -> Talk {
        let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
        let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let lease = LeaseClient::new(channel.clone());
        let (requests, queue) = mpsc::channel(16);
        let mut watch = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let everything = DeleteRangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        kv.delete_range(everything).await.unwrap();
        let first = kv.put(put("began", "")).await.unwrap().into_inner();
        // etcd says nothing, headers neither, before the first answer.
        let call = async move {
            watch
                .watch(ReceiverStream::new(queue))
                .await
                .map(Response::into_inner)
        };
        Talk {
            kv,
            lease,
            requests,
            answers: stream::once(call).try_flatten().boxed(),
            began: first.header.unwrap().revision,
            said: String::new(),
        }
    }

    async fn ask(&mut self, request: RequestUnion) {
        let request = WatchRequest {
            request_union: Some(request),
        };
        self.requests.send(request).await.unwrap();
    }

    /// Asks for a watch and notes the answer.
    async fn create(&mut self, request: WatchCreateRequest) {
        let id = match request.watch_id {
            0 => String::new(),
            id => format!(" as {id}"),
        };
        let from = match request.start_revision {
            0 => String::new(),
            revision => format!(" from {revision:+}"),
        };
        let request = WatchCreateRequest {
            start_revision: match request.start_revision {
                0 => 0,
                from => self.began + from,
            },
            ..request
        };
        let (key, end) = (text(&request.key), text(&request.range_end));
        writeln!(self.said, "> watch {key:?} {end:?}{id}{from}").unwrap();
        self.ask(RequestUnion::CreateRequest(request)).await;
        self.hear().await;
    }

    async fn cancel(&mut self, watch_id: i64) {
        writeln!(self.said, "> cancel {watch_id}").unwrap();
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            .await;
    }

    async fn progress(&mut self) {
        writeln!(self.said, "> progress").unwrap();
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            .await;
    }

    async fn put(&mut self, key: &str, value: &str) {
        writeln!(self.said, "> put {key} {value}").unwrap();
        self.kv.put(put(key, value.to_owned())).await.unwrap();
    }

    async fn delete(&mut self, key: &str) {
        writeln!(self.said, "> delete {key}").unwrap();
        self.kv.delete_range(delete(key)).await.unwrap();
    }

    async fn compact(&mut self, revision: i64) {
        writeln!(self.said, "> compact {revision:+}").unwrap();
        let compact = CompactionRequest {
            revision: self.began + revision,
            physical: true,
        };
        self.kv.compact(compact).await.unwrap();
    }

    async fn answer(&mut self) -> WatchResponse {
        let answer = tokio::time::timeout(DEADLINE, self.answers.next()).await;
        answer.expect("in time").expect("not the end").unwrap()
    }

    /// Notes the next answer.
    async fn hear(&mut self) {
        let answer = self.answer().await;
        self.said.push_str(&told(&answer, self.began));
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn told(answer: &WatchResponse, began: i64) -> String {
    let header = answer.header.as_ref().unwrap();
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0);
    let revision = match header.revision {
        0 => "NONE".to_owned(),
        revision => format!("{:+}", revision - began),
    };
    let mut line = format!("{} at {revision}", answer.watch_id);
    for (flag, name) in [
        (answer.created, "created"),
        (answer.canceled, "canceled"),
        (answer.fragment, "fragment"),
    ] {
        if flag {
            write!(line, " {name}").unwrap();
        }
    }
    if answer.compact_revision != 0 {
        write!(line, " compacted {:+}", answer.compact_revision - began).unwrap();
    }
    if !answer.cancel_reason.is_empty() {
        write!(line, " ({})", answer.cancel_reason).unwrap();
    }
    line.push('\n');
    for event in &answer.events {
        let kv = event.kv.as_ref().unwrap();
        let kind = match event.r#type() {
            EventType::Put => "put",
            EventType::Delete => "delete",
        };
        write!(line, "    {kind} {} {:+}", text(&kv.key), kv.mod_revision - began).unwrap();
        if event.r#type() == EventType::Put
            || kv.version != 0
            || kv.create_revision != 0
            || !kv.value.is_empty()
        {
            let created = kv.create_revision - began;
            write!(
                line,
                " = {:?} created {created:+} version {}",
                text(&kv.value),
                kv.version
            )
            .unwrap();
        }
        if let Some(previous) = &event.prev_kv {
            let at = previous.mod_revision - began;
            write!(line, " was {:?} of {at:+}", text(&previous.value)).unwrap();
        }
        line.push('\n');
    }
    line
}

/// Where the same is asked: a node of ours, and etcd if there is one.
async fn compare(talk: impl AsyncFn(Talk) -> String, expected: &str) {
    if let Ok(etcd) = std::env::var("ETCD_ENDPOINT") {
        assert_eq!(talk(Talk::begin(etcd).await).await, expected, "etcd");
    }
    let server = Server::start().await;
    let said = talk(Talk::begin(server.url("")).await).await;
    assert_eq!(said, expected);
    server.stop().await;
}

fn txn(ops: impl IntoIterator<Item = Op>) -> TxnRequest {
    let op = |op| RequestOp { request: Some(op) };
    TxnRequest {
        success: ops.into_iter().map(op).collect(),
        ..Default::default()
    }
}

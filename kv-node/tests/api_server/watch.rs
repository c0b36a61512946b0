//! The Watch service, as transcripts. With `ETCD_ENDPOINT` set to the URL of an etcd 3.5 that nobody else writes
//! to, each transcript is asked of that as well and must be the same.

use std::fmt::Write;

use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use kv_node::server::DRAIN_TIMEOUT;
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

#[tokio::test]
async fn a_key_is_followed_until_it_is_canceled() {
    compare(
        async |mut talk| {
            talk.create(of("a")).await;
            talk.put("a", "1").await;
            talk.hear().await;
            talk.put("b", "1").await;
            talk.put("a", "2").await;
            talk.hear().await;
            talk.delete("a").await;
            talk.hear().await;
            talk.cancel(7).await;
            talk.cancel(0).await;
            talk.hear().await;
            talk.put("a", "3").await;
            talk.create(of("a")).await;
            talk.said
        },
        r#"> watch "a" ""
0 at +0 created
> put a 1
0 at +1
    put a +1 = "1" created +1 version 1
> put b 1
> put a 2
0 at +3
    put a +3 = "2" created +1 version 2
> delete a
0 at +4
    delete a +4
> cancel 7
> cancel 0
0 at +4 canceled
> put a 3
> watch "a" ""
1 at +5 created
"#,
    )
    .await;
}

#[tokio::test]
async fn ids_and_what_is_refused() {
    compare(
        async |mut talk| {
            talk.create(range("b", "a")).await;
            talk.create(range("b", "b")).await;
            talk.create(range("", "")).await;
            talk.create(range("", "\0")).await;
            for watch_id in [9, 9, -4, 3] {
                talk.create(WatchCreateRequest { watch_id, ..of("a") }).await;
            }
            talk.create(of("a")).await;
            talk.create(of("a")).await;
            talk.cancel(9).await;
            talk.hear().await;
            talk.create(WatchCreateRequest {
                watch_id: 9,
                ..of("x")
            })
            .await;
            talk.put("x", "1").await;
            let mut heard = [talk.answer().await, talk.answer().await];
            heard.sort_by_key(|answer| answer.watch_id);
            for answer in heard {
                talk.said.push_str(&told(&answer, talk.began));
            }
            talk.said
        },
        r#"> watch "b" "a"
-1 at +0 created canceled (mvcc: watcher range is empty)
> watch "b" "b"
-1 at +0 created canceled (mvcc: watcher range is empty)
> watch "" ""
0 at +0 created
> watch "" "\0"
1 at +0 created
> watch "a" "" as 9
9 at +0 created
> watch "a" "" as 9
-1 at +0 created canceled (mvcc: duplicate watch ID provided on the WatchStream)
> watch "a" "" as -4
-4 at +0 created
> watch "a" "" as 3
3 at +0 created
> watch "a" ""
2 at +0 created
> watch "a" ""
4 at +0 created
> cancel 9
9 at +0 canceled
> watch "x" "" as 9
9 at +0 created
> put x 1
1 at +1
    put x +1 = "1" created +1 version 1
9 at +1
    put x +1 = "1" created +1 version 1
"#,
    )
    .await;
}

#[tokio::test]
async fn the_past_the_future_and_what_is_compacted() {
    compare(
        async |mut talk| {
            for value in ["1", "2"] {
                talk.put("a", value).await;
            }
            talk.delete("a").await;
            talk.put("b", "1").await;
            let from = |start_revision| WatchCreateRequest {
                start_revision,
                ..of("a")
            };
            talk.create(from(1)).await;
            talk.hear().await;
            talk.create(from(6)).await;
            for value in ["3", "4"] {
                talk.put("a", value).await;
                talk.hear().await;
            }
            talk.hear().await;
            talk.compact(2).await;
            talk.create(from(1)).await;
            talk.hear().await;
            talk.create(from(2)).await;
            talk.hear().await;
            talk.create(from(-1_000_000)).await;
            talk.hear().await;
            talk.said
        },
        r#"> put a 1
> put a 2
> delete a
> put b 1
> watch "a" "" from +1
0 at +4 created
0 at +4
    put a +1 = "1" created +1 version 1
    put a +2 = "2" created +1 version 2
    delete a +3
> watch "a" "" from +6
1 at +4 created
> put a 3
0 at +5
    put a +5 = "3" created +5 version 1
> put a 4
0 at +6
    put a +6 = "4" created +5 version 2
1 at +6
    put a +6 = "4" created +5 version 2
> compact +2
> watch "a" "" from +1
2 at +6 created
2 at NONE canceled compacted +2
> watch "a" "" from +2
3 at +6 created
3 at +6
    put a +2 = "2" created +1 version 2
    delete a +3
    put a +5 = "3" created +5 version 1
    put a +6 = "4" created +5 version 2
> watch "a" "" from -1000000
4 at +6 created
4 at NONE canceled compacted +2
"#,
    )
    .await;
}

#[tokio::test]
async fn previous_values_and_filters() {
    compare(
        async |mut talk| {
            talk.put("a", "1").await;
            talk.put("a", "2").await;
            talk.compact(2).await;
            talk.create(WatchCreateRequest {
                prev_kv: true,
                start_revision: 2,
                ..everything()
            })
            .await;
            talk.hear().await;
            talk.create(WatchCreateRequest {
                filters: vec![FilterType::Noput.into()],
                ..everything()
            })
            .await;
            talk.cancel(0).await;
            talk.hear().await;
            talk.put("a", "3").await;
            talk.delete("a").await;
            talk.hear().await;
            talk.create(WatchCreateRequest {
                prev_kv: true,
                start_revision: 3,
                filters: vec![FilterType::Nodelete.into()],
                ..everything()
            })
            .await;
            talk.hear().await;
            talk.put("a", "4").await;
            talk.hear().await;
            let filters = vec![FilterType::Noput.into(), FilterType::Nodelete.into()];
            talk.create(WatchCreateRequest {
                filters,
                ..everything()
            })
            .await;
            talk.put("a", "5").await;
            talk.hear().await;
            talk.progress().await;
            talk.hear().await;
            talk.said
        },
        r#"> put a 1
> put a 2
> compact +2
> watch "\0" "\0" from +2
0 at +2 created
0 at +2
    put a +2 = "2" created +1 version 2
> watch "\0" "\0"
1 at +2 created
> cancel 0
0 at +2 canceled
> put a 3
> delete a
1 at +4
    delete a +4
> watch "\0" "\0" from +3
2 at +4 created
2 at +4
    put a +3 = "3" created +1 version 3 was "2" of +2
> put a 4
2 at +5
    put a +5 = "4" created +5 version 1
> watch "\0" "\0"
3 at +5 created
> put a 5
2 at +6
    put a +6 = "5" created +5 version 2 was "4" of +5
> progress
-1 at +6
"#,
    )
    .await;
}

#[tokio::test]
async fn the_end_of_a_lease_is_told_like_any_other() {
    compare(
        async |mut talk| {
            let lease = pb::LeaseGrantRequest { id: 0, ttl: 60 };
            let lease = talk.lease.lease_grant(lease).await.unwrap().into_inner().id;
            for key in ["b", "a"] {
                let put = PutRequest {
                    lease,
                    ..put(key, "1")
                };
                talk.kv.put(put).await.unwrap();
            }
            talk.create(WatchCreateRequest {
                prev_kv: true,
                ..everything()
            })
            .await;
            talk.lease
                .lease_revoke(pb::LeaseRevokeRequest { id: lease })
                .await
                .unwrap();
            talk.hear().await;
            talk.said
        },
        r#"> watch "\0" "\0"
0 at +2 created
0 at +3
    delete a +3 was "1" of +2
    delete b +3 was "1" of +1
"#,
    )
    .await;
}

#[tokio::test]
async fn keys_that_may_not_be_read_may_not_be_watched() {
    let server = Server::start().await;
    let mut auth = server.auth();
    for name in ["root", "somebody"] {
        let user = pb::AuthUserAddRequest {
            name: name.into(),
            password: "secret".into(),
            ..Default::default()
        };
        auth.user_add(user).await.unwrap();
    }
    let root = || "root".to_owned();
    auth.role_add(pb::AuthRoleAddRequest { name: root() })
        .await
        .unwrap();
    let grant = pb::AuthUserGrantRoleRequest {
        user: root(),
        role: root(),
    };
    auth.user_grant_role(grant).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let mut answers = Vec::new();
    for name in ["root", "somebody"] {
        let who = pb::AuthenticateRequest {
            name: name.into(),
            password: "secret".into(),
        };
        let token = auth.authenticate(who).await.unwrap().into_inner().token;
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(of("a"))),
        };
        let mut request = Request::new(stream::iter([create]));
        request.metadata_mut().insert("token", token.parse().unwrap());
        let mut stream = server.watch().watch(request).await.unwrap().into_inner();
        answers.push(stream.message().await.unwrap().unwrap());
    }
    let revision = answers[0].header.as_ref().unwrap().revision;
    let answers: Vec<_> = answers.iter().map(|answer| told(answer, revision)).collect();
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(
        answers,
        [
            "0 at +0 created\n".to_owned(),
            format!("-1 at +0 created canceled ({denied})\n")
        ]
    );
    server.stop().await;
}

fn txn(ops: impl IntoIterator<Item = Op>) -> TxnRequest {
    let op = |op| RequestOp { request: Some(op) };
    TxnRequest {
        success: ops.into_iter().map(op).collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_transaction_is_told_as_a_whole() {
    compare(
        async |mut talk| {
            talk.put("c", "1").await;
            talk.create(everything()).await;
            let ops = [
                Op::RequestPut(put("b", "1")),
                Op::RequestDeleteRange(delete("c")),
                Op::RequestPut(put("a", "1")),
            ];
            talk.kv.txn(txn(ops)).await.unwrap();
            talk.hear().await;
            talk.create(WatchCreateRequest {
                start_revision: 1,
                prev_kv: true,
                ..range("b", "d")
            })
            .await;
            talk.hear().await;
            talk.said
        },
        r#"> put c 1
> watch "\0" "\0"
0 at +1 created
0 at +2
    put b +2 = "1" created +2 version 1
    delete c +2
    put a +2 = "1" created +2 version 1
> watch "b" "d" from +1
1 at +2 created
1 at +2
    put c +1 = "1" created +1 version 1
    put b +2 = "1" created +2 version 1
    delete c +2 was "1" of +1
"#,
    )
    .await;
}

#[tokio::test]
async fn what_is_too_large_for_a_message_comes_in_fragments() {
    let talk = async |mut talk: Talk| {
        talk.create(WatchCreateRequest {
            fragment: true,
            ..everything()
        })
        .await;
        // Previous values make an answer larger than any request may be.
        talk.create(WatchCreateRequest {
            prev_kv: true,
            fragment: true,
            ..everything()
        })
        .await;
        for letter in ["1", "2"] {
            let puts = ["a", "b", "c", "d", "e"].map(|key| put(key, letter.repeat(300_000)));
            talk.kv.txn(txn(puts.map(Op::RequestPut))).await.unwrap();
        }
        let (mut told, mut heard) = (String::new(), 0);
        while heard < 20 {
            let answer = talk.answer().await;
            heard += answer.events.len();
            let keys: Vec<_> = answer
                .events
                .iter()
                .map(|event| text(&event.kv.as_ref().unwrap().key))
                .collect();
            let revision = answer.header.unwrap().revision - talk.began;
            if answer.watch_id == 1 {
                writeln!(told, "{revision:+} {} {}", keys.concat(), answer.fragment).unwrap();
            }
        }
        told
    };
    compare(talk, "+1 abcde false\n+2 abc true\n+2 de false\n").await;
}

#[tokio::test]
async fn quiet_watches_are_told_how_far_they_are() {
    compare(
        async |mut talk| {
            talk.create(WatchCreateRequest {
                progress_notify: true,
                ..of("a")
            })
            .await;
            talk.create(of("b")).await;
            talk.put("c", "1").await;
            // One may have been on its way before the put.
            let mut report = talk.answer().await;
            while report.header.as_ref().unwrap().revision == talk.began {
                report = talk.answer().await;
            }
            talk.said.push_str(&told(&report, talk.began));
            talk.said
        },
        r#"> watch "a" ""
0 at +0 created
> watch "b" ""
1 at +0 created
> put c 1
0 at +1
"#,
    )
    .await;
}

#[tokio::test]
async fn a_stream_outlives_its_requests_and_ends_with_the_node() {
    let server = Server::start().await;
    let mut talk = Talk::begin(server.url("")).await;
    talk.create(of("a")).await;
    let (requests, _) = mpsc::channel(1);
    talk.requests = requests;
    talk.put("a", "1").await;
    talk.hear().await;
    let mut answers = talk.answers;
    let began = Instant::now();
    let end = tokio::spawn(async move { answers.next().await.unwrap().unwrap_err() });
    server.stop().await;
    let end = end.await.unwrap();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    assert!(began.elapsed() < DRAIN_TIMEOUT, "stopping waited for a watch");
}

#[tokio::test]
async fn whoever_needs_a_leader_is_told_when_there_is_none() {
    let server = Server::start_without_quorum().await;
    let watch = |needs_leader: bool| {
        let (requests, queue) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(queue));
        if needs_leader {
            request
                .metadata_mut()
                .insert("hasleader", "true".parse().unwrap());
        }
        let mut client = server.watch();
        async move { (client.watch(request).await, requests) }
    };
    let (refused, _) = watch(true).await;
    let refused = refused.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    let (answers, requests) = watch(false).await;
    let create = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(of("a"))),
    };
    requests.send(create).await.unwrap();
    let created = answers.unwrap().into_inner().message().await.unwrap().unwrap();
    assert!(created.created && !created.canceled);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_nobody_up() {
    let server = Server::start().await;
    let mut talk = Talk::begin(server.url("")).await;
    talk.create(everything()).await;
    let mut reader = Talk::begin(server.url("")).await;
    reader.create(everything()).await;
    // More than the windows and buffers between here and there hold.
    let writes = 12 * 8;
    for n in 0..writes {
        let value = vec![b'0' + (n % 10) as u8; 256 << 10];
        reader.kv.put(put("a", value)).await.unwrap();
        let answer = reader.answer().await;
        assert_eq!(answer.events.len(), 1);
    }
    let stats = server.node.hub().stats();
    assert!(
        stats.fell_behind > 0 && stats.waiting_bytes < 2 << 20,
        "{stats:?}"
    );
    // What it did not read is all still there.
    let mut heard = 0;
    while heard < writes {
        let answer = talk.answer().await;
        for event in answer
            .events
            .iter()
            .filter(|event| event.kv.as_ref().unwrap().key == "a")
        {
            assert_eq!(event.kv.as_ref().unwrap().value[0], b'0' + (heard % 10) as u8);
            heard += 1;
        }
    }
    until("all is caught up", || server.node.hub().stats().behind == 0).await;
    drop((talk, reader));
    until("nothing is left", || server.node.hub().stats().watches == 0).await;
    server.stop().await;
}

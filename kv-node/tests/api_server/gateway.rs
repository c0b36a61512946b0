//! etcd's JSON gateway: what clients send and get, and that it is what gRPC gives.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http_body::Frame;
use http_body_util::StreamBody;
use kv_proto::etcdserverpb as pb;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::harness::{Answer, MAX_REQUEST_BYTES, Server};

/// The JSON of an answer, without what depends on the node.
fn masked(answer: &Answer) -> (u16, Value) {
    let mut json = answer.json();
    mask(&mut json);
    (answer.status, json)
}

fn mask(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for name in ["cluster_id", "member_id", "raft_term"] {
                if let Some(value) = fields.get_mut(name) {
                    assert!(value.as_str().unwrap().parse::<u64>().unwrap() > 0);
                    *value = "_".into();
                }
            }
            fields.values_mut().for_each(mask);
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn header(revision: &str) -> Value {
    json!({"cluster_id": "_", "member_id": "_", "raft_term": "_", "revision": revision})
}

/// A failure that says `message`.
fn refused(status: u16, code: Code, message: &str) -> (u16, Value) {
    let json = json!({"error": message, "code": code as i32, "message": message});
    (status, json)
}

impl Server {
    pub(crate) async fn post(&self, path: &str, json: impl Into<reqwest::Body>) -> Answer {
        self.ask("POST", path, &[], json).await
    }
}

// The exchanges that etcd 3.5.1 was asked for, with its answers.
#[tokio::test]
async fn key_values() {
    let server = Server::start().await;
    let put = server
        .post("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#)
        .await;
    assert_eq!(masked(&put), (200, json!({"header": header("3")})));
    let kv =
        json!({"key": "Zm9v", "create_revision": "3", "mod_revision": "3", "version": "1", "value": "YmFy"});
    let found = (200, json!({"header": header("3"), "kvs": [kv], "count": "1"}));
    for path in ["/v3/kv/range", "/v3beta/kv/range"] {
        let range = server
            .post(path, r#"{"key":"Zm9v","sortOrder":"DESCEND","sort_target":2}"#)
            .await;
        assert_eq!(masked(&range), found, "{path}");
    }
    let txn = server
        .post(
            "/v3/kv/txn",
            r#"{"compare":[{"key":"Zm9v","target":"MOD","mod_revision":"3","result":0}],
                "success":[{"request_put":{"key":"Zm9v"}},{"requestRange":{"key":"Zm9v"}},{"request_txn":{}},
                           {"request_delete_range":{"key":"YQ=="}}]}"#,
        )
        .await;
    let kv = json!({"key": "Zm9v", "create_revision": "3", "mod_revision": "4", "version": "2"});
    let own = json!({"revision": "4"});
    let responses = json!([
        {"response_put": {"header": own}},
        {"response_range": {"header": own, "kvs": [kv], "count": "1"}},
        {"response_txn": {"header": {}, "succeeded": true}},
        {"response_delete_range": {"header": own}},
    ]);
    let expected = json!({"header": header("4"), "succeeded": true, "responses": responses});
    assert_eq!(masked(&txn), (200, expected));
    let delete = server
        .post(
            "/v3/kv/deleterange",
            r#"{"key":"AA==","range_end":"AA==","prev_kv":true}"#,
        )
        .await;
    assert_eq!((delete.status, &delete.json()["deleted"]), (200, &json!("2")));
    let compaction = server.post("/v3/kv/compaction", r#"{"revision":4}"#).await;
    assert_eq!(masked(&compaction), (200, json!({"header": header("5")})));
    let past = server
        .post("/v3/kv/range", r#"{"key":"Zm9v","revision":3}"#)
        .await;
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(masked(&past), refused(400, Code::OutOfRange, compacted));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_said_in_the_gateways_form() {
    let server = Server::start().await;
    let no_key = refused(400, Code::InvalidArgument, "etcdserver: key is not provided");
    for nothing in ["", "{}", "null", r#"{"keyy":"Zm9v"}"#] {
        assert_eq!(
            masked(&server.post("/v3/kv/range", nothing).await),
            no_key,
            "{nothing}"
        );
    }
    for (method, path, status, code) in [
        ("GET", "/v3/kv/range", 405, Code::Unimplemented),
        ("PUT", "/v3/watch", 405, Code::Unimplemented),
        ("POST", "/v3/kv/nosuch", 404, Code::NotFound),
        ("POST", "/v3/kv/range/", 404, Code::NotFound),
    ] {
        let answer = server.ask(method, path, &[], "{}").await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &json!(code as i32)),
            "{path}"
        );
    }
    for (json, reason) in [
        ("{", "EOF"),
        (r#"{"key":"!!"}"#, "base64"),
        (r#"{"sort_order":"UP"}"#, "UP"),
    ] {
        let answer = server.post("/v3/kv/range", json).await;
        let (status, answer) = masked(&answer);
        assert_eq!(
            (status, &answer["code"]),
            (400, &json!(Code::InvalidArgument as i32))
        );
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
        assert_eq!(answer["error"], answer["message"]);
    }
    let value_of = |bytes: usize| format!(r#"{{"key":"Zm9v","value":"{}"}}"#, "AAAA".repeat(bytes / 3));
    let large = server
        .post("/v3/kv/put", value_of(MAX_REQUEST_BYTES + 1000))
        .await;
    let too_large = refused(400, Code::InvalidArgument, "etcdserver: request is too large");
    assert_eq!(masked(&large), too_large);
    let larger_than_a_message = [2 * MAX_REQUEST_BYTES, 20 * MAX_REQUEST_BYTES];
    for bytes in larger_than_a_message {
        let answer = server.post("/v3/kv/put", value_of(bytes)).await;
        let expected = refused(
            429,
            Code::ResourceExhausted,
            "grpc: received message larger than max",
        );
        assert_eq!(masked(&answer), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_quorum_the_code_tells_to_go_elsewhere() {
    let server = Server::start_without_quorum().await;
    let answer = server.post("/v3/kv/put", r#"{"key":"Zm9v"}"#).await;
    let (status, answer) = masked(&answer);
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!(Code::Unavailable as i32)),
        "{answer}"
    );
    server.stop().await;
}

#[tokio::test]
async fn streams_of_requests() {
    let server = Server::start().await;
    let grant = server.post("/v3/lease/grant", r#"{"TTL":60,"ID":"77"}"#).await;
    assert_eq!(grant.status, 200);
    // One answer for each request, and the end after the last.
    let alive = server
        .post("/v3/lease/keepalive", r#"{"ID":77}{"ID":"99"}"#)
        .await;
    let answers: Vec<Value> = alive
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let results: Vec<_> = answers
        .iter()
        .map(|answer| (&answer["result"]["ID"], &answer["result"]["TTL"]))
        .collect();
    assert_eq!(
        results,
        [(&json!("77"), &json!("60")), (&json!("99"), &Value::Null)]
    );
    // What cannot be understood has a status of its own where nothing was answered before.
    let bad = server
        .post("/v3/watch", r#"{"create_request":{"key":"!!"}}"#)
        .await;
    assert_eq!(
        (bad.status, &bad.json()["code"]),
        (400, &json!(Code::InvalidArgument as i32))
    );
    let url = server.url("/v3/watch");
    let (more, rest) = tokio::sync::mpsc::channel::<&'static str>(1);
    more.send(r#"{"create_request":{"key":"YQ=="}}"#).await.unwrap();
    let frames = ReceiverStream::new(rest).map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
    let body = reqwest::Body::wrap(StreamBody::new(frames));
    let mut stream = server.http.post(url).body(body).send().await.unwrap();
    let created: Value = serde_json::from_slice(&stream.chunk().await.unwrap().unwrap()).unwrap();
    assert_eq!(created["result"]["created"], true);
    more.send(r#"{"create_request":{"key":"!!"}}"#).await.unwrap();
    let error: Value = serde_json::from_slice(&stream.chunk().await.unwrap().unwrap()).unwrap();
    let error = &error["error"];
    assert_eq!(
        (&error["grpc_code"], &error["http_code"]),
        (&json!(3), &json!(400))
    );
    assert_eq!(error["http_status"], "Bad Request");
    assert_eq!(stream.chunk().await.unwrap(), None);
    server.stop().await;
}

const CASES: usize = 200;

/// Requests that change nothing: reads, and transactions that read or are refused.
fn requests() -> impl Strategy<Value = pb::TxnRequest> {
    let key = || prop_oneof![Just(""), Just("a"), Just("b"), Just("c"), Just("\0")];
    let range = (key(), key(), any::<bool>(), 0i64..8, 0i64..3, -1i32..6, -1i32..6).prop_map(
        |(key, end, serializable, revision, limit, order, target)| pb::RangeRequest {
            key: key.into(),
            range_end: end.into(),
            serializable,
            revision,
            limit,
            sort_order: order,
            sort_target: target,
            ..Default::default()
        },
    );
    let compare =
        (key(), -1i32..5, -1i32..6, 0i64..6).prop_map(|(key, result, target, operand)| pb::Compare {
            key: key.into(),
            result,
            target,
            target_union: Some(pb::compare::TargetUnion::ModRevision(operand)),
            ..Default::default()
        });
    let op = prop_oneof![
        9 => range.prop_map(pb::request_op::Request::RequestRange).prop_map(Some),
        1 => Just(None),
    ];
    let ops = || {
        let op = op.clone().prop_map(|request| pb::RequestOp { request });
        proptest::collection::vec(op, 0..3)
    };
    (proptest::collection::vec(compare, 0..2), ops(), ops()).prop_map(|(compare, success, failure)| {
        pb::TxnRequest {
            compare,
            success,
            failure,
        }
    })
}

fn json_of(pool: &DescriptorPool, name: &str, message: &impl Message) -> Value {
    let desc = pool.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap();
    let mut dynamic = DynamicMessage::new(desc);
    dynamic.transcode_from(message).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap()
}

/// What gRPC answers, as the gateway should put it.
fn expected(answer: Result<Value, tonic::Status>) -> (bool, Value) {
    match answer {
        Ok(json) => (true, json),
        Err(status) => (false, refused(0, status.code(), status.message()).1),
    }
}

#[tokio::test]
async fn json_and_grpc_give_the_same_answers() {
    let server = Server::start().await;
    for key in ["a", "b", "a", "c"] {
        let request = json!({"key": key.replace('a', "YQ==").replace('b', "Yg==").replace('c', "Yw==")});
        assert_eq!(server.post("/v3/kv/put", request.to_string()).await.status, 200);
    }
    let pool = DescriptorPool::decode(kv_proto::FILE_DESCRIPTOR_SET).unwrap();
    let (mut runner, requests, mut kv) = (TestRunner::deterministic(), requests(), server.kv());
    let mut refusals = 0;
    for _ in 0..CASES {
        let txn = requests.new_tree(&mut runner).unwrap().current();
        let text = json_of(&pool, "TxnRequest", &txn).to_string();
        let json = server.post("/v3/kv/txn", text).await;
        let grpc = kv
            .txn(txn.clone())
            .await
            .map(|answer| json_of(&pool, "TxnResponse", answer.get_ref()));
        refusals += usize::from(grpc.is_err());
        assert_eq!((json.status == 200, json.json()), expected(grpc), "{txn:?}");
        let ranges = txn.success.iter().filter_map(|op| op.request.clone());
        for op in ranges {
            let pb::request_op::Request::RequestRange(range) = op else {
                continue;
            };
            let text = json_of(&pool, "RangeRequest", &range).to_string();
            let json = server.post("/v3/kv/range", text).await;
            let grpc = kv.range(range.clone()).await;
            let grpc = grpc.map(|answer| json_of(&pool, "RangeResponse", answer.get_ref()));
            assert_eq!((json.status == 200, json.json()), expected(grpc), "{range:?}");
        }
    }
    assert!((20..CASES - 20).contains(&refusals), "{refusals}");
    server.stop().await;
}

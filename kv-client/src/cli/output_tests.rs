//! What people and programs see of an answer.

use kv_proto::etcdserverpb::response_op::Response;
use kv_proto::etcdserverpb::{
    PutResponse, RangeResponse, ResponseHeader, ResponseOp, StatusResponse, TxnResponse,
};
use kv_proto::mvccpb::KeyValue;

use super::{RangeView, kv_table, range, status_lines, status_table, txn};
use crate::cli::json;

fn kv(key: &'static [u8], value: &'static [u8], lease: i64) -> KeyValue {
    let (key, value) = (key.into(), value.into());
    KeyValue {
        key,
        value,
        create_revision: 2,
        mod_revision: 7,
        version: 3,
        lease,
    }
}

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: u64::MAX,
        member_id: 0x1a,
        revision: 7,
        raft_term: 2,
    })
}

fn some_keys() -> RangeResponse {
    let kvs = vec![
        kv("grüße".as_bytes(), b"two\nlines", 0),
        kv(b"\xff", b"\x00\x01", 0x1234_abcd),
    ];
    RangeResponse {
        header: header(),
        kvs,
        more: true,
        count: 9,
    }
}

#[test]
fn a_range() {
    let answer = some_keys();
    let show = |view| range(&answer, view);
    assert_eq!(
        show(RangeView::default()),
        "grüße\ntwo\nlines\nbase64:/w==\nbase64:AAE=\n"
    );
    assert_eq!(
        show(RangeView {
            keys_only: true,
            count_only: false
        }),
        "grüße\nbase64:/w==\n"
    );
    assert_eq!(
        show(RangeView {
            keys_only: false,
            count_only: true
        }),
        "9\n"
    );
    insta::assert_snapshot!(kv_table(&answer.kvs), @r###"
    +-------------+-------------+---------+------------+-------------+----------+
    | KEY         | VALUE       | VERSION | CREATED AT | MODIFIED AT | LEASE    |
    +===========================================================================+
    | grüße       | two         | 3       | 2          | 7           |          |
    |             | lines       |         |            |             |          |
    | base64:/w== | base64:AAE= | 3       | 2          | 7           | 1234abcd |
    +-------------+-------------+---------+------------+-------------+----------+
    "###);
    insta::assert_snapshot!(json::line(&json::range(&answer)), @r###"{"header":{"cluster_id":18446744073709551615,"member_id":26,"revision":7,"raft_term":2},"kvs":[{"key":"Z3LDvMOfZQ==","create_revision":2,"mod_revision":7,"version":3,"value":"dHdvCmxpbmVz"},{"key":"/w==","create_revision":2,"mod_revision":7,"version":3,"value":"AAE=","lease":305441741}],"more":true,"count":9}"###);
}

#[test]
fn a_txn() {
    let op = |response| ResponseOp {
        response: Some(response),
    };
    let responses = vec![
        op(Response::ResponsePut(PutResponse::default())),
        op(Response::ResponseRange(some_keys())),
    ];
    let answer = TxnResponse {
        header: header(),
        succeeded: true,
        responses,
    };
    let views = [
        RangeView::default(),
        RangeView {
            keys_only: true,
            count_only: false,
        },
    ];
    assert_eq!(txn(&answer, &views), "SUCCESS\n\nOK\n\ngrüße\nbase64:/w==\n");
    let responses = vec![op(Response::ResponsePut(PutResponse {
        header: Some(ResponseHeader::default()),
        prev_kv: None,
    }))];
    let answer = TxnResponse {
        header: header(),
        succeeded: false,
        responses,
    };
    insta::assert_snapshot!(json::line(&json::txn(&answer)), @r###"{"header":{"cluster_id":18446744073709551615,"member_id":26,"revision":7,"raft_term":2},"responses":[{"Response":{"response_put":{"header":{}}}}]}"###);
}

#[test]
fn a_status_with_a_node_down() {
    let up = StatusResponse {
        header: header(),
        version: "3.5.13".to_owned(),
        db_size: 20_480,
        leader: 0x1a,
        raft_index: 12,
        raft_term: 2,
        raft_applied_index: 11,
        ..Default::default()
    };
    let all = [
        ("127.0.0.1:1", Ok(&up)),
        ("127.0.0.1:2", Err("connection refused".to_owned())),
    ];
    insta::assert_snapshot!(status_table(&all), @r###"
    +-------------+----+---------+---------+--------+---------+------+-------+---------+--------------------+
    | ENDPOINT    | ID | VERSION | DB SIZE | LEADER | LEARNER | TERM | INDEX | APPLIED | ERRORS             |
    +=======================================================================================================+
    | 127.0.0.1:1 | 1a | 3.5.13  | 20 kB   | true   | false   | 2    | 12    | 11      |                    |
    | 127.0.0.1:2 |    |         |         |        |         |      |       |         | connection refused |
    +-------------+----+---------+---------+--------+---------+------+-------+---------+--------------------+
    "###);
    insta::assert_snapshot!(status_lines(&all), @r###"
    127.0.0.1:1, 1a, 3.5.13, 20 kB, true, false, 2, 12, 11, 
    127.0.0.1:2, , , , , , , , , connection refused
    "###);
    let [first, second] = all;
    let both = [first, second]
        .iter()
        .map(|(endpoint, answer)| json::status(endpoint, answer))
        .collect();
    insta::assert_snapshot!(json::line(&both), @r###"[{"Endpoint":"127.0.0.1:1","Status":{"header":{"cluster_id":18446744073709551615,"member_id":26,"revision":7,"raft_term":2},"version":"3.5.13","dbSize":20480,"leader":26,"raftIndex":12,"raftTerm":2,"raftAppliedIndex":11}},{"Endpoint":"127.0.0.1:2","Error":"connection refused"}]"###);
}

//! The JSON form of answers. Text is text; bytes that are not UTF-8 stand as base64 under another name.

use kv_proto::etcdserverpb::response_op::Response as Op;
use kv_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, Member, MemberListResponse, PutResponse, RangeResponse,
    ResponseHeader, StatusResponse, TxnResponse,
};
use kv_proto::mvccpb;
use serde::Serialize;

use super::text::{base64, hex};

#[derive(Serialize)]
struct Header {
    cluster_id: String,
    member_id: String,
    revision: i64,
    raft_term: u64,
}

#[derive(Serialize)]
struct KeyValue<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Range<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    kvs: Vec<KeyValue<'a>>,
    more: bool,
    count: i64,
}

#[derive(Serialize)]
pub(super) struct Put<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_kv: Option<KeyValue<'a>>,
}

#[derive(Serialize)]
pub(super) struct Del<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    deleted: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prev_kvs: Vec<KeyValue<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response<'a> {
    Get(Range<'a>),
    Put(Put<'a>),
    Del(Del<'a>),
    Txn(Txn<'a>),
}

#[derive(Serialize)]
pub(super) struct Txn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<Header>,
    succeeded: bool,
    responses: Vec<Response<'a>>,
}

#[derive(Serialize)]
pub(super) struct Compact {
    header: Option<Header>,
    revision: i64,
}

#[derive(Serialize)]
pub(super) struct Status<'a> {
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    answer: Option<StatusAnswer<'a>>,
}

#[derive(Serialize)]
struct StatusAnswer<'a> {
    header: Option<Header>,
    id: String,
    version: &'a str,
    db_size: i64,
    db_size_in_use: i64,
    leader: String,
    is_leader: bool,
    is_learner: bool,
    raft_term: u64,
    raft_index: u64,
    raft_applied_index: u64,
    errors: &'a [String],
}

#[derive(Serialize)]
pub(super) struct Members<'a> {
    header: Option<Header>,
    members: Vec<MemberForm<'a>>,
}

#[derive(Serialize)]
struct MemberForm<'a> {
    id: String,
    name: &'a str,
    peer_urls: &'a [String],
    client_urls: &'a [String],
    is_learner: bool,
}

/// One line of JSON.
pub(super) fn line(form: &impl Serialize) -> String {
    // Fails only on a map with keys that are not strings, and there is none here.
    let mut line = serde_json::to_string(form).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    line.push('\n');
    line
}

/// None for the headers inside a transaction, which name no member: the transaction's own says it all.
fn header(header: Option<&ResponseHeader>) -> Option<Header> {
    header
        .filter(|header| header.member_id != 0)
        .map(|header| Header {
            cluster_id: hex(header.cluster_id),
            member_id: hex(header.member_id),
            revision: header.revision,
            raft_term: header.raft_term,
        })
}

/// The text, or else the base64.
fn either(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(base64(bytes))),
    }
}

fn key_value(kv: &mvccpb::KeyValue) -> KeyValue<'_> {
    let ((key, key_base64), (value, value_base64)) = (either(&kv.key), either(&kv.value));
    KeyValue {
        key,
        key_base64,
        value,
        value_base64,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: (kv.lease != 0).then(|| hex(kv.lease.cast_unsigned())),
    }
}

pub(super) fn range(answer: &RangeResponse) -> Range<'_> {
    Range {
        header: header(answer.header.as_ref()),
        kvs: answer.kvs.iter().map(key_value).collect(),
        more: answer.more,
        count: answer.count,
    }
}

pub(super) fn put(answer: &PutResponse) -> Put<'_> {
    Put {
        header: header(answer.header.as_ref()),
        prev_kv: answer.prev_kv.as_ref().map(key_value),
    }
}

pub(super) fn del(answer: &DeleteRangeResponse) -> Del<'_> {
    Del {
        header: header(answer.header.as_ref()),
        deleted: answer.deleted,
        prev_kvs: answer.prev_kvs.iter().map(key_value).collect(),
    }
}

pub(super) fn txn(answer: &TxnResponse) -> Txn<'_> {
    Txn {
        header: header(answer.header.as_ref()),
        succeeded: answer.succeeded,
        responses: answer
            .responses
            .iter()
            .filter_map(|op| op.response.as_ref().map(response))
            .collect(),
    }
}

fn response(op: &Op) -> Response<'_> {
    match op {
        Op::ResponseRange(answer) => Response::Get(range(answer)),
        Op::ResponsePut(answer) => Response::Put(put(answer)),
        Op::ResponseDeleteRange(answer) => Response::Del(del(answer)),
        Op::ResponseTxn(answer) => Response::Txn(txn(answer)),
    }
}

pub(super) fn compact(answer: &CompactionResponse, revision: i64) -> Compact {
    Compact {
        header: header(answer.header.as_ref()),
        revision,
    }
}

pub(super) fn status<'a>(endpoint: &'a str, answer: Result<&'a StatusResponse, String>) -> Status<'a> {
    match answer {
        Ok(answer) => Status {
            endpoint,
            error: None,
            answer: Some(status_answer(answer)),
        },
        Err(error) => Status {
            endpoint,
            error: Some(error),
            answer: None,
        },
    }
}

fn status_answer(answer: &StatusResponse) -> StatusAnswer<'_> {
    let id = answer.header.as_ref().map_or(0, |header| header.member_id);
    StatusAnswer {
        header: header(answer.header.as_ref()),
        id: hex(id),
        version: &answer.version,
        db_size: answer.db_size,
        db_size_in_use: answer.db_size_in_use,
        leader: hex(answer.leader),
        is_leader: answer.leader == id && id != 0,
        is_learner: answer.is_learner,
        raft_term: answer.raft_term,
        raft_index: answer.raft_index,
        raft_applied_index: answer.raft_applied_index,
        errors: &answer.errors,
    }
}

pub(super) fn members(answer: &MemberListResponse) -> Members<'_> {
    Members {
        header: header(answer.header.as_ref()),
        members: answer.members.iter().map(member_form).collect(),
    }
}

fn member_form(member: &Member) -> MemberForm<'_> {
    MemberForm {
        id: hex(member.id),
        name: &member.name,
        peer_urls: &member.peer_ur_ls,
        client_urls: &member.client_ur_ls,
        is_learner: member.is_learner,
    }
}

//! The JSON form of answers: etcdctl's, field by field, so that what reads one reads the other. Keys, values and other
//! bytes are base64, IDs are decimal numbers, and most fields that are zero are left out.

use kv_proto::etcdserverpb::response_op::Response as Op;
use kv_proto::etcdserverpb::{
    DeleteRangeResponse, Member, PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse,
    WatchResponse,
};
use kv_proto::mvccpb::event::EventType;
use kv_proto::mvccpb::{Event, KeyValue};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::text::base64;

/// A value of JSON whose fields keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// Whether etcdctl leaves a field with this value out.
    fn is_zero(&self) -> bool {
        match self {
            Json::Null => true,
            Json::Bool(value) => !value,
            Json::Int(value) => *value == 0,
            Json::Uint(value) => *value == 0,
            Json::Text(value) => value.is_empty(),
            Json::List(value) => value.is_empty(),
            Json::Object(_) => false,
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Int(value) => serializer.serialize_i64(*value),
            Json::Uint(value) => serializer.serialize_u64(*value),
            Json::Text(value) => serializer.serialize_str(value),
            Json::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                values
                    .iter()
                    .try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
            Json::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields
                    .iter()
                    .try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Json {
        Json::Int(value)
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Json {
        Json::Uint(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Json {
        Json::Text(value.to_owned())
    }
}

impl From<&[String]> for Json {
    fn from(values: &[String]) -> Json {
        values.iter().map(|value| Json::from(value.as_str())).collect()
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl FromIterator<Json> for Json {
    fn from_iter<I: IntoIterator<Item = Json>>(values: I) -> Json {
        Json::List(values.into_iter().collect())
    }
}

/// Bytes as base64.
pub(super) fn bytes(bytes: &[u8]) -> Json {
    Json::Text(base64(bytes))
}

/// An object without the fields that are zero.
pub(super) fn lean(fields: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(fields.into_iter().filter(|(_, value)| !value.is_zero()).collect())
}

/// An object with all fields.
pub(super) fn whole(fields: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(fields.into_iter().collect())
}

/// One line of JSON.
pub(super) fn line(json: &Json) -> String {
    // Fails only on a map with keys that are not strings, and there is none here.
    let mut line = serde_json::to_string(json).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    line.push('\n');
    line
}

/// The fields of a header.
pub(super) fn header_fields(header: Option<&ResponseHeader>) -> Vec<(&'static str, Json)> {
    let header = header.copied().unwrap_or_default();
    let fields = [
        ("cluster_id", header.cluster_id.into()),
        ("member_id", header.member_id.into()),
        ("revision", header.revision.into()),
        ("raft_term", header.raft_term.into()),
    ];
    fields
        .into_iter()
        .filter(|(_, value)| !Json::is_zero(value))
        .collect()
}

pub(super) fn header(header: Option<&ResponseHeader>) -> Json {
    header.map_or(Json::Null, |found| Json::Object(header_fields(Some(found))))
}

/// An answer that says nothing but that it is one.
pub(super) fn bare(answer: Option<&ResponseHeader>) -> Json {
    lean([("header", header(answer))])
}

pub(super) fn key_value(kv: &KeyValue) -> Json {
    lean([
        ("key", bytes(&kv.key)),
        ("create_revision", kv.create_revision.into()),
        ("mod_revision", kv.mod_revision.into()),
        ("version", kv.version.into()),
        ("value", bytes(&kv.value)),
        ("lease", kv.lease.into()),
    ])
}

pub(super) fn range(answer: &RangeResponse) -> Json {
    lean([
        ("header", header(answer.header.as_ref())),
        ("kvs", answer.kvs.iter().map(key_value).collect()),
        ("more", answer.more.into()),
        ("count", answer.count.into()),
    ])
}

pub(super) fn put(answer: &PutResponse) -> Json {
    lean([
        ("header", header(answer.header.as_ref())),
        ("prev_kv", answer.prev_kv.as_ref().map(key_value).into()),
    ])
}

pub(super) fn del(answer: &DeleteRangeResponse) -> Json {
    lean([
        ("header", header(answer.header.as_ref())),
        ("deleted", answer.deleted.into()),
        ("prev_kvs", answer.prev_kvs.iter().map(key_value).collect()),
    ])
}

pub(super) fn txn(answer: &TxnResponse) -> Json {
    let responses = answer.responses.iter().filter_map(|op| op.response.as_ref());
    lean([
        ("header", header(answer.header.as_ref())),
        ("succeeded", answer.succeeded.into()),
        (
            "responses",
            responses.map(|op| whole([("Response", response(op))])).collect(),
        ),
    ])
}

fn response(op: &Op) -> Json {
    whole([match op {
        Op::ResponseRange(answer) => ("response_range", range(answer)),
        Op::ResponsePut(answer) => ("response_put", put(answer)),
        Op::ResponseDeleteRange(answer) => ("response_delete_range", del(answer)),
        Op::ResponseTxn(answer) => ("response_txn", txn(answer)),
    }])
}

/// One endpoint's answer, or why there is none. (etcdctl leaves the endpoint out then.)
pub(super) fn status(endpoint: &str, answer: &Result<&StatusResponse, String>) -> Json {
    whole([
        ("Endpoint", endpoint.into()),
        match answer {
            Ok(answer) => ("Status", status_answer(answer)),
            Err(error) => ("Error", error.as_str().into()),
        },
    ])
}

fn status_answer(answer: &StatusResponse) -> Json {
    lean([
        ("header", header(answer.header.as_ref())),
        ("version", answer.version.as_str().into()),
        ("dbSize", answer.db_size.into()),
        ("leader", answer.leader.into()),
        ("raftIndex", answer.raft_index.into()),
        ("raftTerm", answer.raft_term.into()),
        ("raftAppliedIndex", answer.raft_applied_index.into()),
        ("errors", answer.errors.as_slice().into()),
        ("dbSizeInUse", answer.db_size_in_use.into()),
        ("isLearner", answer.is_learner.into()),
    ])
}

pub(super) fn member(member: &Member) -> Json {
    lean([
        ("ID", member.id.into()),
        ("name", member.name.as_str().into()),
        ("peerURLs", member.peer_ur_ls.as_slice().into()),
        ("clientURLs", member.client_ur_ls.as_slice().into()),
        ("isLearner", member.is_learner.into()),
    ])
}

pub(super) fn members(answer: Option<&ResponseHeader>, members: &[Member]) -> Json {
    lean([
        ("header", header(answer)),
        ("members", members.iter().map(member).collect()),
    ])
}

/// Some events of a watch, or none and the reason why there will be no more.
pub(super) fn watch(answer: &WatchResponse) -> Json {
    whole([
        ("Header", header(answer.header.as_ref())),
        ("Events", answer.events.iter().map(event).collect()),
        ("CompactRevision", answer.compact_revision.into()),
        ("Canceled", answer.canceled.into()),
        ("Created", answer.created.into()),
    ])
}

fn event(event: &Event) -> Json {
    let is_delete = event.r#type() == EventType::Delete;
    lean([
        ("type", i64::from(is_delete).into()),
        ("kv", event.kv.as_ref().map(key_value).into()),
        ("prev_kv", event.prev_kv.as_ref().map(key_value).into()),
    ])
}

//! `-w fields`: etcdctl's form with one line for each field, its names and its order, and no fields but its own.

use std::fmt::{Display, Write};

use kv_proto::authpb::Permission;
use kv_proto::etcdserverpb::response_op::Response as Op;
use kv_proto::etcdserverpb::{
    AlarmResponse, AlarmType, DeleteRangeResponse, HashKvResponse, Member, PutResponse, RangeResponse,
    ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use kv_proto::mvccpb::KeyValue;

use super::text::quoted;

/// Lines of the form `"Name" : value`.
#[derive(Debug, Default)]
pub(super) struct Fields(String);

impl Fields {
    /// The fields of a header, with which most answers begin.
    pub(super) fn of(header: Option<&ResponseHeader>) -> Fields {
        Fields::default().header(header)
    }

    fn header(self, header: Option<&ResponseHeader>) -> Fields {
        let header = header.copied().unwrap_or_default();
        self.plain("ClusterID", header.cluster_id)
            .plain("MemberID", header.member_id)
            .plain("Revision", header.revision)
            .plain("RaftTerm", header.raft_term)
    }

    /// A number or a word.
    pub(super) fn plain(mut self, name: &str, value: impl Display) -> Fields {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "\"{name}\" : {value}");
        self
    }

    /// A text or bytes, in quotes.
    pub(super) fn quoted(self, name: &str, bytes: &[u8]) -> Fields {
        self.plain(name, quoted(bytes))
    }

    /// Several of a kind, each with its own fields.
    pub(super) fn each<T>(
        self,
        items: impl IntoIterator<Item = T>,
        add: impl FnMut(Fields, T) -> Fields,
    ) -> Fields {
        items.into_iter().fold(self, add)
    }

    /// The empty line after one of several.
    pub(super) fn end(mut self) -> Fields {
        self.0.push('\n');
        self
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// A key and what is stored under it; `prefix` stands before each name.
    fn key_value(self, prefix: &str, kv: &KeyValue) -> Fields {
        let name = |field: &str| format!("{prefix}{field}");
        self.quoted(&name("Key"), &kv.key)
            .plain(&name("CreateRevision"), kv.create_revision)
            .plain(&name("ModRevision"), kv.mod_revision)
            .plain(&name("Version"), kv.version)
            .quoted(&name("Value"), &kv.value)
            .plain(&name("Lease"), kv.lease)
    }

    fn previous<'a>(self, kvs: impl IntoIterator<Item = &'a KeyValue>) -> Fields {
        self.each(kvs, |fields, kv| fields.key_value("Prev", kv))
    }

    fn range(self, answer: &RangeResponse) -> Fields {
        self.header(answer.header.as_ref())
            .each(&answer.kvs, |fields, kv| fields.key_value("", kv))
            .plain("More", answer.more)
            .plain("Count", answer.count)
    }

    fn put(self, answer: &PutResponse) -> Fields {
        self.header(answer.header.as_ref()).previous(&answer.prev_kv)
    }

    fn del(self, answer: &DeleteRangeResponse) -> Fields {
        self.header(answer.header.as_ref())
            .plain("Deleted", answer.deleted)
            .previous(&answer.prev_kvs)
    }

    /// One endpoint's status.
    pub(super) fn status(self, endpoint: &str, answer: &StatusResponse) -> Fields {
        self.header(answer.header.as_ref())
            .quoted("Version", answer.version.as_bytes())
            .plain("DBSize", answer.db_size)
            .plain("Leader", answer.leader)
            .plain("IsLearner", answer.is_learner)
            .plain("RaftIndex", answer.raft_index)
            .plain("RaftTerm", answer.raft_term)
            .plain("RaftAppliedIndex", answer.raft_applied_index)
            .plain("Errors", format_args!("[{}]", answer.errors.join(" ")))
            .quoted("Endpoint", endpoint.as_bytes())
            .end()
    }

    /// One endpoint's health; how long it took, or the error.
    pub(super) fn health(self, endpoint: &str, is_healthy: bool, took: &str, error: &str) -> Fields {
        self.quoted("Endpoint", endpoint.as_bytes())
            .plain("Health", is_healthy)
            .plain("Took", took)
            .plain("Error", error)
            .end()
    }

    /// One endpoint's hash.
    pub(super) fn hash_kv(self, endpoint: &str, answer: &HashKvResponse) -> Fields {
        self.header(answer.header.as_ref())
            .quoted("Endpoint", endpoint.as_bytes())
            .plain("Hash", answer.hash)
            .end()
    }

    fn txn(self, answer: &TxnResponse) -> Fields {
        let operations = answer.responses.iter().filter_map(|op| op.response.as_ref());
        self.header(answer.header.as_ref())
            .plain("Succeeded", answer.succeeded)
            .each(operations, |fields, op| match op {
                Op::ResponseRange(answer) => fields.range(answer),
                Op::ResponsePut(answer) => fields.put(answer),
                Op::ResponseDeleteRange(answer) => fields.del(answer),
                Op::ResponseTxn(answer) => fields.txn(answer),
            })
    }
}

pub(super) fn range(answer: &RangeResponse) -> Fields {
    Fields::default().range(answer)
}

pub(super) fn put(answer: &PutResponse) -> Fields {
    Fields::default().put(answer)
}

pub(super) fn del(answer: &DeleteRangeResponse) -> Fields {
    Fields::default().del(answer)
}

pub(super) fn txn(answer: &TxnResponse) -> Fields {
    Fields::default().txn(answer)
}

pub(super) fn watch(answer: &WatchResponse) -> Fields {
    Fields::of(answer.header.as_ref()).each(&answer.events, |fields, event| {
        fields
            .plain("Type", event.r#type().as_str_name())
            .previous(&event.prev_kv)
            .each(&event.kv, |fields, kv| fields.key_value("", kv))
    })
}

pub(super) fn members(header: Option<&ResponseHeader>, members: &[Member]) -> Fields {
    Fields::of(header).each(members, |fields, member| {
        fields
            .plain("ID", member.id)
            .quoted("Name", member.name.as_bytes())
            .each(&member.peer_ur_ls, |fields, url| {
                fields.quoted("PeerURL", url.as_bytes())
            })
            .each(&member.client_ur_ls, |fields, url| {
                fields.quoted("ClientURL", url.as_bytes())
            })
            .plain("IsLearner", member.is_learner)
            .end()
    })
}

pub(super) fn alarms(answer: &AlarmResponse) -> Fields {
    Fields::of(answer.header.as_ref()).each(&answer.alarms, |fields, alarm| {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        fields
            .plain("MemberID", alarm.member_id)
            .plain("AlarmType", kind)
            .end()
    })
}

pub(super) fn role(header: Option<&ResponseHeader>, permissions: &[Permission]) -> Fields {
    Fields::of(header).each(permissions, |fields, permission| {
        fields
            // With two spaces, as etcdctl has it.
            .plain(
                "PermType",
                format_args!(" {}", permission.perm_type().as_str_name()),
            )
            .quoted("Key", &permission.key)
            .quoted("RangeEnd", &permission.range_end)
    })
}

pub(super) fn roles(header: Option<&ResponseHeader>, names: &[String]) -> Fields {
    let mut fields = Fields::of(header);
    fields.0.push_str("\"Roles\" :");
    for name in names {
        fields.0.push(' ');
        fields.0.push_str(&quoted(name.as_bytes()));
    }
    fields.end()
}

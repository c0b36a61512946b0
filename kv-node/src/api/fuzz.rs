//! What a fuzzer or its twin asks of the messages of every service.

use kv_core::{Command, KeyRange, LeaseGrant, LeaseRevoke, State};
use kv_proto::{authpb, etcdserverpb as pb, peer, v3electionpb as election, v3lockpb as lock};
use prost::Message;
use tonic::Status;

use super::{auth, convert, errors::ApiError};
use crate::fuzz::{commands, propose};

pub use super::{
    gateway::fuzz::{json, json_seeds},
    rest::fuzz::{rest, rest_seeds},
};

/// The name of a message, and what is done with its bytes; `false` where they are none.
type Request = (&'static str, fn(&[u8]) -> bool);

macro_rules! requests {
    ($($name:literal $message:ty, $take:expr;)*) => {
        &[$(($name, |bytes| with::<$message>(bytes, $take))),*]
    };
}

/// The requests of all services, and what else is decoded as a message.
const REQUESTS: &[Request] = requests! {
    "etcdserverpb.RangeRequest" pb::RangeRequest, range;
    "etcdserverpb.PutRequest" pb::PutRequest, |put| propose(&Command::Put(convert::put(put)));
    "etcdserverpb.DeleteRangeRequest" pb::DeleteRangeRequest,
        |delete| propose(&Command::DeleteRange(convert::delete_range(delete)));
    "etcdserverpb.TxnRequest" pb::TxnRequest, txn;
    "etcdserverpb.CompactionRequest" pb::CompactionRequest, |request| propose(&convert::compact(request));
    "etcdserverpb.WatchRequest" pb::WatchRequest, watch;
    "etcdserverpb.LeaseGrantRequest" pb::LeaseGrantRequest, |request| {
        propose(&Command::LeaseGrant(LeaseGrant { id: request.id, ttl_s: request.ttl, now_ms: 9 }));
    };
    "etcdserverpb.LeaseRevokeRequest" pb::LeaseRevokeRequest,
        |request| propose(&Command::LeaseRevoke(LeaseRevoke { id: request.id }));
    "etcdserverpb.LeaseKeepAliveRequest" pb::LeaseKeepAliveRequest, drop;
    "etcdserverpb.LeaseTimeToLiveRequest" pb::LeaseTimeToLiveRequest, drop;
    "etcdserverpb.LeaseLeasesRequest" pb::LeaseLeasesRequest, drop;
    "etcdserverpb.MemberAddRequest" pb::MemberAddRequest, drop;
    "etcdserverpb.MemberRemoveRequest" pb::MemberRemoveRequest, drop;
    "etcdserverpb.MemberUpdateRequest" pb::MemberUpdateRequest, drop;
    "etcdserverpb.MemberListRequest" pb::MemberListRequest, drop;
    "etcdserverpb.MemberPromoteRequest" pb::MemberPromoteRequest, drop;
    "etcdserverpb.AlarmRequest" pb::AlarmRequest, drop;
    "etcdserverpb.StatusRequest" pb::StatusRequest, drop;
    "etcdserverpb.DefragmentRequest" pb::DefragmentRequest, drop;
    "etcdserverpb.HashRequest" pb::HashRequest, drop;
    "etcdserverpb.HashKVRequest" pb::HashKvRequest, drop;
    "etcdserverpb.SnapshotRequest" pb::SnapshotRequest, drop;
    "etcdserverpb.MoveLeaderRequest" pb::MoveLeaderRequest, drop;
    "etcdserverpb.DowngradeRequest" pb::DowngradeRequest, drop;
    "etcdserverpb.AuthEnableRequest" pb::AuthEnableRequest, drop;
    "etcdserverpb.AuthDisableRequest" pb::AuthDisableRequest, drop;
    "etcdserverpb.AuthStatusRequest" pb::AuthStatusRequest, drop;
    "etcdserverpb.AuthenticateRequest" pb::AuthenticateRequest, drop;
    "etcdserverpb.AuthUserAddRequest" pb::AuthUserAddRequest, drop;
    "etcdserverpb.AuthUserGetRequest" pb::AuthUserGetRequest, drop;
    "etcdserverpb.AuthUserListRequest" pb::AuthUserListRequest, drop;
    "etcdserverpb.AuthUserDeleteRequest" pb::AuthUserDeleteRequest, drop;
    "etcdserverpb.AuthUserChangePasswordRequest" pb::AuthUserChangePasswordRequest, drop;
    "etcdserverpb.AuthUserGrantRoleRequest" pb::AuthUserGrantRoleRequest, drop;
    "etcdserverpb.AuthUserRevokeRoleRequest" pb::AuthUserRevokeRoleRequest, drop;
    "etcdserverpb.AuthRoleAddRequest" pb::AuthRoleAddRequest, drop;
    "etcdserverpb.AuthRoleGetRequest" pb::AuthRoleGetRequest, drop;
    "etcdserverpb.AuthRoleListRequest" pb::AuthRoleListRequest, drop;
    "etcdserverpb.AuthRoleDeleteRequest" pb::AuthRoleDeleteRequest, drop;
    "etcdserverpb.AuthRoleGrantPermissionRequest" pb::AuthRoleGrantPermissionRequest, grant;
    "etcdserverpb.AuthRoleRevokePermissionRequest" pb::AuthRoleRevokePermissionRequest, drop;
    "v3lockpb.LockRequest" lock::LockRequest, drop;
    "v3lockpb.UnlockRequest" lock::UnlockRequest, drop;
    "v3electionpb.CampaignRequest" election::CampaignRequest, drop;
    "v3electionpb.ProclaimRequest" election::ProclaimRequest, drop;
    "v3electionpb.LeaderRequest" election::LeaderRequest, drop;
    "v3electionpb.ResignRequest" election::ResignRequest, drop;
    "quorate.peer.v1.Frame" peer::Frame, drop;
    "quorate.peer.v1.FetchSnapshotRequest" peer::FetchSnapshotRequest, drop;
    "quorate.peer.v1.ProposeRequest" peer::ProposeRequest, drop;
    "quorate.peer.v1.ProposeResponse" peer::ProposeResponse, drop;
    "quorate.peer.v1.ReadIndexRequest" peer::ReadIndexRequest, drop;
    "quorate.peer.v1.ReadIndexResponse" peer::ReadIndexResponse, drop;
};

/// Reads these bytes, but the first, as the message of which the first one is the number.
///
/// # Panics
/// Where a message is no longer the same when it is written and read again, or a command comes of it that the log or
/// the state does not take.
pub fn request(input: &[u8]) {
    let Some((number, bytes)) = input.split_first() else {
        return;
    };
    let (_, take) = REQUESTS[usize::from(*number) % REQUESTS.len()];
    take(bytes);
}

/// Messages of the services that carry keys, values and whatever else nests.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let put = pb::PutRequest {
        key: "a".into(),
        value: "1".into(),
        prev_kv: true,
        ..Default::default()
    };
    let range = pb::RangeRequest {
        key: "a".into(),
        range_end: "\0".into(),
        limit: 3,
        sort_order: 2,
        sort_target: 4,
        max_mod_revision: 9,
        ..Default::default()
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    use pb::request_op::Request as Op;
    let inner = pb::TxnRequest {
        compare: vec![pb::Compare {
            result: 1,
            target: 3,
            key: "b".into(),
            range_end: "c".into(),
            target_union: Some(pb::compare::TargetUnion::Value("0".into())),
        }],
        success: vec![
            op(Op::RequestPut(put.clone())),
            op(Op::RequestRange(range.clone())),
        ],
        failure: vec![op(Op::RequestDeleteRange(pb::DeleteRangeRequest {
            key: "b".into(),
            ..Default::default()
        }))],
    };
    let outer = pb::TxnRequest {
        success: vec![op(Op::RequestTxn(inner.clone()))],
        failure: vec![
            op(Op::RequestTxn(inner.clone())),
            op(Op::RequestRange(range.clone())),
        ],
        ..Default::default()
    };
    let watch = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: "a".into(),
                range_end: "b".into(),
                start_revision: 2,
                filters: vec![1],
                ..Default::default()
            },
        )),
    };
    let permission = authpb::Permission {
        perm_type: 2,
        key: "a".into(),
        range_end: "b".into(),
    };
    let grant = pb::AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: Some(permission),
    };
    let proposals = commands()
        .into_iter()
        .filter_map(|command| crate::codec::encode(&command).ok());
    let forwarded = peer::ProposeRequest {
        commands: proposals.collect(),
    };
    vec![
        seed("etcdserverpb.RangeRequest", &range),
        seed("etcdserverpb.PutRequest", &put),
        seed("etcdserverpb.TxnRequest", &outer),
        seed("etcdserverpb.TxnRequest", &inner),
        seed(
            "etcdserverpb.CompactionRequest",
            &pb::CompactionRequest {
                revision: 2,
                physical: true,
            },
        ),
        seed("etcdserverpb.WatchRequest", &watch),
        seed(
            "etcdserverpb.LeaseGrantRequest",
            &pb::LeaseGrantRequest { ttl: 60, id: 8 },
        ),
        seed(
            "etcdserverpb.LeaseRevokeRequest",
            &pb::LeaseRevokeRequest { id: 7 },
        ),
        seed("etcdserverpb.AuthRoleGrantPermissionRequest", &grant),
        seed("quorate.peer.v1.ProposeRequest", &forwarded),
    ]
}

fn seed(name: &str, message: &impl Message) -> Vec<u8> {
    let number = REQUESTS.iter().position(|(known, _)| *known == name);
    let number = number.and_then(|number| u8::try_from(number).ok());
    [
        &[number.expect("the message is in the table")],
        &message.encode_to_vec()[..],
    ]
    .concat()
}

/// Takes the bytes of a message that the gateway has made.
pub(super) fn known(name: &str, bytes: &[u8]) {
    let request = REQUESTS.iter().find(|(known, _)| *known == name);
    let (_, take) = request.unwrap_or_else(|| panic!("{name} is not in the table"));
    assert!(take(bytes), "{name} cannot be read");
}

fn with<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8], take: fn(M)) -> bool {
    let message = match M::decode(bytes) {
        Ok(message) => message,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    assert_eq!(
        M::decode(message.encode_to_vec().as_slice()).as_ref(),
        Ok(&message)
    );
    take(message);
    true
}

/// A refusal has a code and a text.
fn refused(error: ApiError) {
    assert!(!Status::from(error).message().is_empty());
}

fn range(request: pb::RangeRequest) {
    match convert::range(request) {
        Ok(range) => super::fuzz::read(&range),
        Err(error) => refused(error),
    }
}

/// Plans a read in an empty store.
pub(super) fn read(range: &kv_core::Range) {
    if range.validate().is_ok() {
        // Whatever comes of it, a client is told.
        let _ = State::new().plan(range);
    }
}

fn txn(request: pb::TxnRequest) {
    convert::is_serializable(&request);
    match convert::txn(request) {
        Ok(txn) => propose(&Command::Txn(txn)),
        Err(error) => refused(error),
    }
}

fn watch(request: pb::WatchRequest) {
    if let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = request.request_union {
        KeyRange::new(&create.key, &create.range_end).contains(b"a");
    }
}

fn grant(request: pb::AuthRoleGrantPermissionRequest) {
    match request.perm.map(auth::granted).transpose() {
        Ok(permission) => propose(&Command::Auth(kv_core::AuthCommand::RoleGrant {
            role: request.name,
            permission,
        })),
        Err(error) => refused(error),
    }
}

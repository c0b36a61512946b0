//! Calls, counted by method and code as etcd's are.

use futures::{Stream, StreamExt};
use metrics::{Counter, counter};
use tonic::{Code, Status};

use crate::api::{calls::Api, errors::ApiError};

/// The gRPC methods that are served and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Method {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compact,
    RangeStream,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    Status,
    Alarm,
    Defragment,
    Hash,
    Snapshot,
    MoveLeader,
    Downgrade,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseLeases,
    LeaseKeepAlive,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
    HashKv,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    Watch,
}

impl Method {
    /// Service and method, in the order of the variants.
    const NAMES: [(&'static str, &'static str); 49] = [
        ("etcdserverpb.KV", "Range"),
        ("etcdserverpb.KV", "Put"),
        ("etcdserverpb.KV", "DeleteRange"),
        ("etcdserverpb.KV", "Txn"),
        ("etcdserverpb.KV", "Compact"),
        ("etcdserverpb.KV", "RangeStream"),
        ("etcdserverpb.Cluster", "MemberList"),
        ("etcdserverpb.Cluster", "MemberAdd"),
        ("etcdserverpb.Cluster", "MemberRemove"),
        ("etcdserverpb.Cluster", "MemberUpdate"),
        ("etcdserverpb.Cluster", "MemberPromote"),
        ("etcdserverpb.Maintenance", "Status"),
        ("etcdserverpb.Maintenance", "Alarm"),
        ("etcdserverpb.Maintenance", "Defragment"),
        ("etcdserverpb.Maintenance", "Hash"),
        ("etcdserverpb.Maintenance", "Snapshot"),
        ("etcdserverpb.Maintenance", "MoveLeader"),
        ("etcdserverpb.Maintenance", "Downgrade"),
        ("etcdserverpb.Lease", "LeaseGrant"),
        ("etcdserverpb.Lease", "LeaseRevoke"),
        ("etcdserverpb.Lease", "LeaseTimeToLive"),
        ("etcdserverpb.Lease", "LeaseLeases"),
        ("etcdserverpb.Lease", "LeaseKeepAlive"),
        ("v3lockpb.Lock", "Lock"),
        ("v3lockpb.Lock", "Unlock"),
        ("v3electionpb.Election", "Campaign"),
        ("v3electionpb.Election", "Proclaim"),
        ("v3electionpb.Election", "Leader"),
        ("v3electionpb.Election", "Observe"),
        ("v3electionpb.Election", "Resign"),
        ("etcdserverpb.Maintenance", "HashKV"),
        ("etcdserverpb.Auth", "AuthEnable"),
        ("etcdserverpb.Auth", "AuthDisable"),
        ("etcdserverpb.Auth", "AuthStatus"),
        ("etcdserverpb.Auth", "Authenticate"),
        ("etcdserverpb.Auth", "UserAdd"),
        ("etcdserverpb.Auth", "UserGet"),
        ("etcdserverpb.Auth", "UserList"),
        ("etcdserverpb.Auth", "UserDelete"),
        ("etcdserverpb.Auth", "UserChangePassword"),
        ("etcdserverpb.Auth", "UserGrantRole"),
        ("etcdserverpb.Auth", "UserRevokeRole"),
        ("etcdserverpb.Auth", "RoleAdd"),
        ("etcdserverpb.Auth", "RoleGet"),
        ("etcdserverpb.Auth", "RoleList"),
        ("etcdserverpb.Auth", "RoleDelete"),
        ("etcdserverpb.Auth", "RoleGrantPermission"),
        ("etcdserverpb.Auth", "RoleRevokePermission"),
        ("etcdserverpb.Watch", "Watch"),
    ];
}

/// gRPC's codes as its Go implementation spells them, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// As gRPC's Go implementation names a code.
pub(in crate::api) fn code_name(code: Code) -> &'static str {
    CODES[code as usize]
}

/// The counters of all methods.
pub(super) struct Methods([MethodCounters; Method::NAMES.len()]);

impl Methods {
    /// Registers them at zero.
    pub(super) fn new() -> Methods {
        Methods(Method::NAMES.map(|(service, method)| MethodCounters::new(service, method)))
    }

    /// Counts a call as started. It ends as cancelled unless [`Call::end`] says otherwise, as the future of
    /// a request whose client went away is dropped.
    pub(super) fn start(&self, method: Method) -> Call<'_> {
        let method = self.of(method);
        method.started.increment(1);
        Call {
            method,
            code: Code::Cancelled,
        }
    }

    fn of(&self, method: Method) -> &MethodCounters {
        &self.0[method as usize]
    }
}

struct MethodCounters {
    started: Counter,
    handled: [Counter; CODES.len()],
}

impl MethodCounters {
    fn new(service: &'static str, method: &'static str) -> MethodCounters {
        let kind = match method {
            "Watch" | "LeaseKeepAlive" => "bidi_stream",
            "Observe" => "server_stream",
            _ => "unary",
        };
        let started = counter!(
            "grpc_server_started_total",
            "grpc_method" => method, "grpc_service" => service, "grpc_type" => kind
        );
        let handled = CODES.map(|code| {
            counter!(
                "grpc_server_handled_total",
                "grpc_code" => code,
                "grpc_method" => method, "grpc_service" => service, "grpc_type" => kind
            )
        });
        MethodCounters { started, handled }
    }
}

/// A gRPC call under way.
pub(in crate::api) struct Call<'a> {
    method: &'a MethodCounters,
    code: Code,
}

impl Call<'_> {
    /// Turns the result into the answer and remembers its code.
    pub(in crate::api) fn end<T>(
        mut self,
        result: Result<T, ApiError>,
    ) -> Result<tonic::Response<T>, Status> {
        let answer = result.map(tonic::Response::new).map_err(Status::from);
        self.code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        answer
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.method.handled[self.code as usize].increment(1);
    }
}

/// A stream under way.
pub(in crate::api) struct StreamCall {
    api: Api,
    method: Method,
}

impl StreamCall {
    /// Counts it as started.
    pub(in crate::api) fn new(api: &Api, method: Method) -> StreamCall {
        api.metrics().methods.of(method).started.increment(1);
        StreamCall {
            api: api.clone(),
            method,
        }
    }

    /// Counts it as ended; to be called once.
    pub(in crate::api) fn end(&self, code: Code) {
        self.api.metrics().methods.of(self.method).handled[code as usize].increment(1);
    }
}

/// Counts a stream that ends as its last answer does.
pub(in crate::api) fn counted<T, S: Stream<Item = Result<T, Status>>>(
    api: &Api,
    method: Method,
    answers: S,
) -> impl Stream<Item = Result<T, Status>> + use<T, S> {
    let mut ending = Ending(StreamCall::new(api, method), Code::Ok);
    answers.inspect(move |answer| ending.last(answer.as_ref().err().map_or(Code::Ok, Status::code)))
}

/// Counts a stream as ended when it is dropped.
struct Ending(StreamCall, Code);

impl Ending {
    fn last(&mut self, code: Code) {
        self.1 = code;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_at_their_numbers() {
        assert_eq!(CODES[Code::Cancelled as usize], "Canceled");
        assert_eq!(CODES[Code::OutOfRange as usize], "OutOfRange");
        assert_eq!(CODES[Code::Unavailable as usize], "Unavailable");
        assert_eq!(Code::Unauthenticated as usize, CODES.len() - 1);
    }

    #[test]
    fn methods_stand_at_their_names() {
        assert_eq!(Method::NAMES[Method::Put as usize].1, "Put");
        assert_eq!(Method::NAMES[Method::HashKv as usize].1, "HashKV");
        assert_eq!(Method::Watch as usize, Method::NAMES.len() - 1);
    }
}

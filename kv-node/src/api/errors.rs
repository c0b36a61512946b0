//! The one table of errors: gRPC code, etcd's text, HTTP status, and whether the request may have been executed.
//!
//! Promises: etcd's texts byte for byte, as clients compare them (the source is `rpctypes/error.go` of etcd
//! 3.5), and an unknown outcome is never given as one that is safe to retry. What is ours alone and has no
//! text in etcd's table begins with `quorate:`.

use http::StatusCode;
use kv_core::AuthError;
use kv_store::{Fault, ReadError};
use tonic::{Code, Status};

use crate::{
    auth::{LoginError, PasswordError, VerifyOnly},
    node::ChangeError,
    raft::{propose::ProposeError, read_index::ReadBarrierError},
};

mod cluster;

pub use cluster::UpkeepError;

/// Why a call of the API was not answered with a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The data model refused it: the same on every node.
    #[error(transparent)]
    Refused(#[from] kv_core::Error),
    /// A write was not committed, or it is not known whether it was.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// A linearizable read could not be confirmed by a quorum.
    #[error(transparent)]
    Read(#[from] ReadBarrierError),
    /// A change of the membership.
    #[error(transparent)]
    Members(#[from] ChangeError),
    /// A call of upkeep.
    #[error(transparent)]
    Upkeep(#[from] UpkeepError),
    /// A write is larger than the node takes.
    #[error("request too large")]
    RequestTooLarge,
    /// A compare of a transaction names a comparison or a target that does not exist.
    #[error("unknown compare")]
    UnknownCompare,
    /// This node's store could not be read.
    #[error("store: {0}")]
    Store(String),
    /// Compactions overtook a long read again and again.
    #[error("compactions overtook the read")]
    Overtaken,
    /// A password was not looked at.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The password is right, and this node cannot make a token.
    #[error(transparent)]
    VerifyOnly(#[from] VerifyOnly),
    /// The same as `Refused`, in the Lock or Election service.
    #[error(transparent)]
    RefusedInService(kv_core::Error),
    /// The place of who waits for a lock or an election is gone, with its lease.
    #[error("session expired")]
    SessionExpired,
    /// A leader of an election is to do something, and the request does not say who.
    #[error("leader key missing")]
    NoLeaderKey,
    /// Who calls itself leader of an election is not.
    #[error("not elected")]
    NotElected,
    /// An election has no leader.
    #[error("nobody elected")]
    NobodyElected,
    /// The cluster answered a command with an answer to another kind of command.
    #[error("answer of another kind")]
    WrongAnswer,
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> ApiError {
        match error {
            ReadError::Refused(error) => ApiError::Refused(error),
            ReadError::Overtaken { .. } => ApiError::Overtaken,
            ReadError::Fault(fault) => fault.into(),
        }
    }
}

impl From<LoginError> for ApiError {
    fn from(error: LoginError) -> ApiError {
        match error {
            LoginError::Refused(error) => error.into(),
            LoginError::Password(error) => error.into(),
            LoginError::VerifyOnly(error) => error.into(),
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> ApiError {
        ApiError::Refused(error.into())
    }
}

impl From<Fault> for ApiError {
    /// Said in the log here, once for a request: the client is only told that there is something to see.
    fn from(fault: Fault) -> ApiError {
        tracing::error!(%fault, "a request failed in the store");
        ApiError::Store(fault.to_string())
    }
}

/// Whether a request that failed may have been executed all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// Certainly not: it may be sent again.
    No,
    /// It may have been, or may still be: look before sending it again.
    Unknown,
}

impl Executed {
    /// The word used in REST's `outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Executed::No => "not executed",
            Executed::Unknown => "unknown",
        }
    }
}

/// How an error is told to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// gRPC status code.
    pub code: Code,
    /// HTTP status of REST.
    pub http: StatusCode,
    /// REST's machine-readable name.
    pub name: &'static str,
    /// The text: etcd's where etcd has one.
    pub message: &'static str,
    /// Whether it may have been executed.
    pub executed: Executed,
}

const fn row(code: Code, http: StatusCode, name: &'static str, message: &'static str) -> Row {
    Row {
        code,
        http,
        name,
        message,
        executed: Executed::No,
    }
}

const fn unknown(name: &'static str, message: &'static str) -> Row {
    let (code, http) = (Code::Unavailable, StatusCode::GATEWAY_TIMEOUT);
    Row {
        code,
        http,
        name,
        message,
        executed: Executed::Unknown,
    }
}

impl ApiError {
    /// The error's row of the table.
    pub fn row(&self) -> Row {
        use StatusCode as Http;
        match self {
            ApiError::Refused(error) => refused(*error),
            ApiError::Propose(error) => proposed(*error),
            ApiError::Read(error) => read(*error),
            ApiError::Members(error) => cluster::change(error),
            ApiError::Upkeep(error) => cluster::upkeep(*error),
            ApiError::RequestTooLarge => REQUEST_TOO_LARGE,
            ApiError::UnknownCompare => row(
                Code::InvalidArgument,
                Http::BAD_REQUEST,
                "unknown_compare",
                "quorate: compare with an unknown result or target",
            ),
            ApiError::Store(_) => row(
                Code::Internal,
                Http::INTERNAL_SERVER_ERROR,
                "store_failed",
                "quorate: the store of this node cannot be read, see its log",
            ),
            ApiError::Overtaken => row(
                Code::Unavailable,
                Http::SERVICE_UNAVAILABLE,
                "overtaken",
                "quorate: compactions overtook the read, try again",
            ),
            ApiError::Password(PasswordError::TooMany) => TOO_MANY_REQUESTS,
            ApiError::Password(PasswordError::Unavailable) => row(
                Code::Internal,
                Http::INTERNAL_SERVER_ERROR,
                "password_unavailable",
                "quorate: this node cannot hash passwords now",
            ),
            ApiError::VerifyOnly(_) => row(
                Code::FailedPrecondition,
                Http::CONFLICT,
                "verify_only",
                "quorate: this node verifies tokens but makes none: its --auth-token has no priv-key",
            ),
            // etcd's own services are clients of it, and what goes through a client loses its code.
            ApiError::RefusedInService(error) => Row {
                code: Code::Unknown,
                ..refused(*error)
            },
            ApiError::SessionExpired => row(
                Code::Unknown,
                Http::CONFLICT,
                "session_expired",
                "mutex: session is expired",
            ),
            ApiError::NoLeaderKey => row(
                Code::Unknown,
                Http::BAD_REQUEST,
                "leader_missing",
                "\"leader\" field must be provided",
            ),
            ApiError::NotElected => row(
                Code::Unknown,
                Http::CONFLICT,
                "not_elected",
                "election: not leader",
            ),
            ApiError::NobodyElected => row(
                Code::Unknown,
                Http::NOT_FOUND,
                "nobody_elected",
                "election: no leader",
            ),
            ApiError::WrongAnswer => Row {
                code: Code::Internal,
                http: Http::INTERNAL_SERVER_ERROR,
                name: "wrong_answer",
                message: "quorate: the answer does not fit the request, are all nodes of one version?",
                executed: Executed::Unknown,
            },
        }
    }
}

fn refused(error: kv_core::Error) -> Row {
    use StatusCode as Http;
    use kv_core::Error;
    let invalid = |name, message| row(Code::InvalidArgument, Http::BAD_REQUEST, name, message);
    match error {
        Error::EmptyKey => invalid("empty_key", "etcdserver: key is not provided"),
        Error::ValueProvided => invalid("value_provided", "etcdserver: value is provided"),
        Error::LeaseProvided => invalid("lease_provided", "etcdserver: lease is provided"),
        Error::TooManyOps => invalid(
            "too_many_operations",
            "etcdserver: too many operations in txn request",
        ),
        Error::DuplicateKey => invalid("duplicate_key", "etcdserver: duplicate key given in txn request"),
        Error::InvalidSortOption => invalid("invalid_sort_option", "etcdserver: invalid sort option"),
        Error::KeyNotFound => row(
            Code::InvalidArgument,
            Http::NOT_FOUND,
            "key_not_found",
            "etcdserver: key not found",
        ),
        Error::LeaseNotFound => row(
            Code::NotFound,
            Http::NOT_FOUND,
            "lease_not_found",
            "etcdserver: requested lease not found",
        ),
        Error::LeaseExists => row(
            Code::FailedPrecondition,
            Http::CONFLICT,
            "lease_exists",
            "etcdserver: lease already exists",
        ),
        Error::NoSpace => NO_SPACE,
        Error::Corrupt => row(
            Code::DataLoss,
            Http::INTERNAL_SERVER_ERROR,
            "corrupt",
            "etcdserver: corrupt cluster",
        ),
        Error::TooManyAlarms => row(
            Code::ResourceExhausted,
            Http::TOO_MANY_REQUESTS,
            "too_many_alarms",
            "quorate: too many alarms",
        ),
        Error::NestedTooDeep => invalid("nested_too_deep", "quorate: transactions are nested too deep"),
        Error::LeaseTtlTooLarge => row(
            Code::OutOfRange,
            Http::BAD_REQUEST,
            "lease_ttl_too_large",
            "etcdserver: too large lease TTL",
        ),
        Error::Compacted => row(
            Code::OutOfRange,
            Http::GONE,
            "compacted",
            "etcdserver: mvcc: required revision has been compacted",
        ),
        Error::FutureRevision => row(
            Code::OutOfRange,
            Http::BAD_REQUEST,
            "future_revision",
            "etcdserver: mvcc: required revision is a future revision",
        ),
        Error::Auth(error) => auth(error),
    }
}

fn auth(error: AuthError) -> Row {
    use StatusCode as Http;
    let invalid = |name, message| row(Code::InvalidArgument, Http::BAD_REQUEST, name, message);
    let conflict = |name, message| row(Code::FailedPrecondition, Http::CONFLICT, name, message);
    let unauthorized = |code, name, message| row(code, Http::UNAUTHORIZED, name, message);
    match error {
        AuthError::RootUserMissing => conflict("root_user_not_exist", "etcdserver: root user does not exist"),
        AuthError::RootRoleMissing => conflict(
            "root_role_not_exist",
            "etcdserver: root user does not have root role",
        ),
        AuthError::InvalidManagement => {
            invalid("invalid_auth_management", "etcdserver: invalid auth management")
        }
        AuthError::UserEmpty => unauthorized(
            Code::InvalidArgument,
            "user_empty",
            "etcdserver: user name is empty",
        ),
        AuthError::UserExists => conflict("user_exists", "etcdserver: user name already exists"),
        AuthError::UserNotFound => conflict("user_not_found", "etcdserver: user name not found"),
        AuthError::RoleEmpty => invalid("role_empty", "etcdserver: role name is empty"),
        AuthError::RoleExists => conflict("role_exists", "etcdserver: role name already exists"),
        AuthError::RoleNotFound => conflict("role_not_found", "etcdserver: role name not found"),
        AuthError::RoleNotGranted => {
            conflict("role_not_granted", "etcdserver: role is not granted to the user")
        }
        AuthError::PermissionNotGiven => invalid("permission_not_given", "etcdserver: permission not given"),
        AuthError::PermissionNotGranted => conflict(
            "permission_not_granted",
            "etcdserver: permission is not granted to the role",
        ),
        AuthError::PermissionDenied => row(
            Code::PermissionDenied,
            Http::FORBIDDEN,
            "permission_denied",
            "etcdserver: permission denied",
        ),
        AuthError::OldRevision => unauthorized(
            Code::InvalidArgument,
            "old_auth_revision",
            "etcdserver: revision of auth store is old",
        ),
        AuthError::NotEnabled => conflict("auth_not_enabled", "etcdserver: authentication is not enabled"),
        AuthError::Failed => unauthorized(
            Code::InvalidArgument,
            "authentication_failed",
            "etcdserver: authentication failed, invalid user ID or password",
        ),
        AuthError::InvalidToken => unauthorized(
            Code::Unauthenticated,
            "invalid_auth_token",
            "etcdserver: invalid auth token",
        ),
    }
}

fn proposed(error: ProposeError) -> Row {
    match error {
        ProposeError::NoLeader => NO_LEADER,
        ProposeError::TooManyRequests => TOO_MANY_REQUESTS,
        ProposeError::Stopped => STOPPED,
        ProposeError::TooLarge => REQUEST_TOO_LARGE,
        ProposeError::NoSpace => NO_SPACE,
        ProposeError::TimedOut => unknown("timed_out", "etcdserver: request timed out"),
        ProposeError::LeaderLost => unknown(
            "leader_lost",
            "etcdserver: request timed out, possibly due to previous leader failure",
        ),
        ProposeError::ConnectionLost => unknown(
            "connection_lost",
            "etcdserver: request timed out, possibly due to connection lost",
        ),
    }
}

fn read(error: ReadBarrierError) -> Row {
    match error {
        ReadBarrierError::NoLeader => NO_LEADER,
        ReadBarrierError::TooManyRequests => TOO_MANY_REQUESTS,
        ReadBarrierError::Stopped => STOPPED,
        // A read that ran out of time changed nothing: unlike a write, it may be sent again.
        ReadBarrierError::TimedOut => row(
            Code::Unavailable,
            StatusCode::GATEWAY_TIMEOUT,
            "timed_out",
            "etcdserver: request timed out",
        ),
    }
}

const REQUEST_TOO_LARGE: Row = row(
    Code::InvalidArgument,
    StatusCode::PAYLOAD_TOO_LARGE,
    "request_too_large",
    "etcdserver: request is too large",
);
const NO_SPACE: Row = row(
    Code::ResourceExhausted,
    StatusCode::INSUFFICIENT_STORAGE,
    "no_space",
    "etcdserver: mvcc: database space exceeded",
);
const NO_LEADER: Row = row(
    Code::Unavailable,
    StatusCode::SERVICE_UNAVAILABLE,
    "no_leader",
    "etcdserver: no leader",
);
const STOPPED: Row = row(
    Code::Unavailable,
    StatusCode::SERVICE_UNAVAILABLE,
    "stopped",
    "etcdserver: server stopped",
);
const TOO_MANY_REQUESTS: Row = row(
    Code::ResourceExhausted,
    StatusCode::TOO_MANY_REQUESTS,
    "too_many_requests",
    "etcdserver: too many requests",
);

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Status {
        let row = error.row();
        Status::new(row.code, row.message)
    }
}

#[cfg(test)]
mod tests {
    use kv_core::Error;

    use super::*;

    const REFUSALS: [Error; 15] = [
        Error::NoSpace,
        Error::Corrupt,
        Error::TooManyAlarms,
        Error::EmptyKey,
        Error::KeyNotFound,
        Error::ValueProvided,
        Error::LeaseProvided,
        Error::TooManyOps,
        Error::DuplicateKey,
        Error::InvalidSortOption,
        Error::Compacted,
        Error::FutureRevision,
        Error::LeaseNotFound,
        Error::LeaseExists,
        Error::LeaseTtlTooLarge,
    ];

    fn all() -> Vec<ApiError> {
        use ProposeError as P;
        use ReadBarrierError as R;
        let proposals = [
            P::NoLeader,
            P::TooManyRequests,
            P::NoSpace,
            P::Stopped,
            P::TooLarge,
            P::TimedOut,
            P::LeaderLost,
            P::ConnectionLost,
        ];
        let reads = [R::NoLeader, R::TooManyRequests, R::TimedOut, R::Stopped];
        let mut all = vec![
            ApiError::RequestTooLarge,
            ApiError::UnknownCompare,
            ApiError::Store("disk".into()),
            ApiError::Overtaken,
            ApiError::WrongAnswer,
            ApiError::RefusedInService(Error::LeaseNotFound),
            ApiError::SessionExpired,
            ApiError::NoLeaderKey,
            ApiError::NotElected,
            ApiError::NobodyElected,
        ];
        all.extend(REFUSALS.map(ApiError::from));
        all.extend(cluster::all());
        all.extend(proposals.map(ApiError::from));
        all.extend(reads.map(ApiError::from));
        all
    }

    #[test]
    fn texts_of_the_data_model_are_the_same_here_and_there() {
        for error in REFUSALS {
            assert_eq!(refused(error).message, error.to_string());
        }
    }

    #[test]
    fn etcds_codes() {
        let table: Vec<(Code, &str)> = all()
            .iter()
            .map(|error| error.row())
            .map(|row| (row.code, row.message))
            .collect();
        for expected in [
            (Code::InvalidArgument, "etcdserver: key is not provided"),
            (Code::InvalidArgument, "etcdserver: key not found"),
            (Code::InvalidArgument, "etcdserver: value is provided"),
            (Code::InvalidArgument, "etcdserver: lease is provided"),
            (
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            (Code::InvalidArgument, "etcdserver: invalid sort option"),
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            (Code::DataLoss, "etcdserver: corrupt cluster"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (Code::NotFound, "etcdserver: requested lease not found"),
            (Code::FailedPrecondition, "etcdserver: lease already exists"),
            (Code::OutOfRange, "etcdserver: too large lease TTL"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
        ] {
            assert!(table.contains(&expected), "{expected:?}");
        }
    }

    #[test]
    fn unknown_outcomes_are_told_apart() {
        for error in all() {
            let row = error.row();
            let may_have_been_executed = matches!(
                error,
                ApiError::WrongAnswer
                    | ApiError::Members(ChangeError::Unknown)
                    | ApiError::Propose(
                        ProposeError::TimedOut | ProposeError::LeaderLost | ProposeError::ConnectionLost
                    )
            );
            assert_eq!(
                row.executed == Executed::Unknown,
                may_have_been_executed,
                "{error:?}"
            );
            let retried_by_proxies = row.http == StatusCode::SERVICE_UNAVAILABLE;
            assert!(!(retried_by_proxies && may_have_been_executed), "{error:?}");
        }
    }
}

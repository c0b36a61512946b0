//! What a failed attempt says about the request: the one table that decides what may be sent again.
//!
//! The rule: a write may be sent again only where the server's own words, or the fact that nothing was
//! sent, exclude that it was executed. Whatever is not in the table counts as possibly executed.

use http::StatusCode;
use tonic::{Code, Status};

use crate::connection::{DialError, SendError};

/// What is known of a request after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was not sent: no connection. Another endpoint may be reachable.
    Unreachable,
    /// Refused for want of a leader, not executed. Another endpoint or a little later may do.
    NoLeader,
    /// Refused for want of room in a queue, not executed. A little later may do.
    Busy,
    /// Refused for what it asks, not executed. It will be refused again.
    Rejected,
    /// Who answered is no store, so nothing was executed. Another endpoint may be one.
    Foreign,
    /// It may have been executed; no answer came, or the server says that it does not know.
    Lost,
    /// The server failed in a way that says nothing about execution.
    Faulty,
}

impl Kind {
    /// Whether the request certainly changed nothing, so that a write may be sent again.
    pub(crate) fn is_certainly_not_executed(self) -> bool {
        match self {
            Kind::Unreachable | Kind::NoLeader | Kind::Busy | Kind::Rejected | Kind::Foreign => true,
            Kind::Lost | Kind::Faulty => false,
        }
    }
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) code: Code,
    /// The server's words, or ours where no server spoke.
    pub(crate) message: String,
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Failure {
        Failure {
            kind: Kind::Unreachable,
            code: Code::Unavailable,
            message: error.to_string(),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        let source = std::error::Error::source(&status);
        let kind = match source.map(|source| source.downcast_ref::<SendError>()) {
            Some(Some(SendError::NotSent(..))) => Kind::Unreachable,
            Some(Some(SendError::NotGrpc(http))) => {
                return Failure {
                    kind: of_http(*http),
                    code: Code::Unimplemented,
                    message: status.message().to_owned(),
                };
            }
            // Any other local error comes after the request was sent: the response broke off.
            Some(_) => Kind::Lost,
            None => of_answer(status.code(), status.message()),
        };
        Failure {
            kind,
            code: status.code(),
            message: status.message().to_owned(),
        }
    }
}

/// etcd's strings that exclude execution although their code alone does not, or that another endpoint may answer
/// differently (api/v3/rpctypes/error.go). `etcdserver: leader changed` and `etcdserver: server stopped` are
/// absent: they can come after the proposal. Below them the balancer's own words for what it passed on to nobody
/// (`loadbalancer::answer`); for an outcome that it does not know it uses etcd's, which are not in this table.
const NOT_EXECUTED: [(&str, Kind); 9] = [
    ("etcdserver: no leader", Kind::NoLeader),
    ("etcdserver: not leader", Kind::NoLeader),
    ("etcdserver: rpc not supported for learner", Kind::NoLeader),
    ("etcdserver: too many requests", Kind::Busy),
    ("etcdserver: unhealthy cluster", Kind::Rejected),
    ("etcdserver: not capable", Kind::Rejected),
    (
        "no storage node could take the request: it was not executed",
        Kind::NoLeader,
    ),
    (
        "no web app could take the request: nothing was changed",
        Kind::Foreign,
    ),
    ("gRPC needs HTTP/2", Kind::Rejected),
];

/// A server can execute a request and then find that its answer is too large: grpc-go says so with a code that
/// otherwise means refusal.
const ANSWER_TOO_LARGE: &str = "trying to send message larger than max";

/// The verdict on an answer that is not gRPC, by its HTTP status. A proxy answers so for a server behind it that
/// may have got the request, but not with a status that blames the request.
fn of_http(status: StatusCode) -> Kind {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Kind::Lost,
        StatusCode::REQUEST_TIMEOUT => Kind::Lost,
        _ if status.is_client_error() => Kind::Foreign,
        _ => Kind::Faulty,
    }
}

/// The verdict on an error that the server itself sent.
fn of_answer(code: Code, message: &str) -> Kind {
    if let Some((_, kind)) = NOT_EXECUTED.iter().find(|(text, _)| *text == message) {
        return *kind;
    }
    if message.contains(ANSWER_TOO_LARGE) {
        return Kind::Faulty;
    }
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => Kind::Rejected,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Kind::Lost,
        Code::Ok | Code::Unknown | Code::Aborted | Code::Internal | Code::DataLoss => Kind::Faulty,
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};

    use super::{Failure, Kind};
    use crate::connection::SendError;

    #[test]
    fn what_a_server_answers() {
        use Kind::{Busy, Faulty, Foreign, Lost, NoLeader, Rejected};
        let lost = "etcdserver: request timed out, possibly due to";
        for (code, message, expected) in [
            (Code::Unavailable, "etcdserver: no leader", NoLeader),
            (Code::FailedPrecondition, "etcdserver: not leader", NoLeader),
            (
                Code::Unavailable,
                "etcdserver: rpc not supported for learner",
                NoLeader,
            ),
            (Code::ResourceExhausted, "etcdserver: too many requests", Busy),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Rejected,
            ),
            (Code::InvalidArgument, "etcdserver: key is not provided", Rejected),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Rejected,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Rejected,
            ),
            (Code::NotFound, "etcdserver: requested lease not found", Rejected),
            (Code::Unimplemented, "", Rejected),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (9 vs. 8)",
                Rejected,
            ),
            (
                Code::ResourceExhausted,
                "grpc: trying to send message larger than max (9 vs. 8)",
                Faulty,
            ),
            (Code::Unavailable, "etcdserver: request timed out", Lost),
            (
                Code::Unavailable,
                &format!("{lost} previous leader failure"),
                Lost,
            ),
            (Code::Unavailable, &format!("{lost} connection lost"), Lost),
            (Code::Unavailable, "etcdserver: leader changed", Lost),
            (Code::Unavailable, "etcdserver: server stopped", Lost),
            (Code::Unavailable, "etcdserver: no leader, or so it seems", Lost),
            (Code::Unavailable, "upstream connect error", Lost),
            (Code::DeadlineExceeded, "context deadline exceeded", Lost),
            (
                Code::Unavailable,
                "no storage node could take the request: it was not executed",
                NoLeader,
            ),
            (
                Code::Unavailable,
                "no web app could take the request: nothing was changed",
                Foreign,
            ),
            (
                Code::Unavailable,
                "the web app did not answer in time: the request may have been executed",
                Lost,
            ),
            (
                Code::Unimplemented,
                "the balancer passes on HTTP only: no protocol upgrade, no CONNECT",
                Rejected,
            ),
            (Code::Internal, "gRPC needs HTTP/2", Rejected),
            (Code::Internal, "oops", Faulty),
            (Code::Unknown, "etcdserver: no", Faulty),
        ] {
            let failure = Failure::from(Status::new(code, message));
            assert_eq!(failure.kind, expected, "{code:?} {message:?}");
            let executed_maybe = matches!(expected, Lost | Faulty);
            assert_eq!(
                failure.kind.is_certainly_not_executed(),
                !executed_maybe,
                "{message:?}"
            );
        }
    }

    #[test]
    fn what_is_not_grpc() {
        for (http, expected) in [
            (404, Kind::Foreign),
            (405, Kind::Foreign),
            (415, Kind::Foreign),
            (408, Kind::Lost),
            (502, Kind::Lost),
            (503, Kind::Lost),
            (504, Kind::Lost),
            (200, Kind::Faulty),
            (500, Kind::Faulty),
        ] {
            let http = http::StatusCode::from_u16(http).unwrap();
            let failure = Failure::from(Status::from_error(Box::new(SendError::NotGrpc(http))));
            assert_eq!(failure.kind, expected, "{http}");
            assert!(failure.message.contains("not a store"), "{}", failure.message);
        }
    }

    #[test]
    fn a_response_that_broke_off_is_lost() {
        let status = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert_eq!(Failure::from(status).kind, Kind::Lost);
    }
}

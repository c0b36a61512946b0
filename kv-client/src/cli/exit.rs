//! Exit codes, and the two lines that explain a failure: what happened, and what to do.

use std::process::ExitCode;

use tonic::Code;

use crate::Error;

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: the server refused, or anything else.
    Other,
    /// 2: the command line, or the text of a transaction, is wrong. Nothing was sent.
    Usage,
    /// 3: the key of `get`, or the lease, does not exist.
    NotFound,
    /// 4: a compare of `txn` did not hold, so the failure requests were run.
    CompareFailed,
    /// 5: no endpoint reachable, or no leader. Nothing was executed.
    NoQuorum,
    /// 6: a read got no answer in time. Nothing was changed.
    Timeout,
    /// 7: a write got no answer. It may or may not have been executed.
    OutcomeUnknown,
    /// The exit code of the command that `lock` ran.
    Program(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::CompareFailed => 4,
            Exit::NoQuorum => 5,
            Exit::Timeout => 6,
            Exit::OutcomeUnknown => 7,
            Exit::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// A command that failed: the exit code and what is said on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One line: what happened.
    pub(crate) what: String,
    /// One line: what to do.
    pub(crate) hint: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure {
            exit,
            what: what.into(),
            hint: hint.into(),
        }
    }

    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, what, hint)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let what = error.to_string();
        match error {
            Error::InvalidEndpoint { .. } => Failure::usage(
                what,
                "name the servers with --endpoints host:port,... or ETCDCTL_ENDPOINTS",
            ),
            Error::Tls { .. } => Failure::usage(
                what,
                "name PEM files with --cacert, --cert and --key, or ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY",
            ),
            Error::Rejected { code, message } => Failure::new(
                Exit::Other,
                format!("refused: {what}"),
                rejection_hint(code, &message),
            ),
            Error::NoQuorum { .. } => Failure::new(
                Exit::NoQuorum,
                what,
                "nothing was executed; a majority of the nodes must run, see which do with the command status",
            ),
            Error::Timeout { .. } => Failure::new(
                Exit::Timeout,
                what,
                "nothing was changed; try again, with a longer --command-timeout, or with --consistency s",
            ),
            Error::OutcomeUnknown { .. } => Failure::new(
                Exit::OutcomeUnknown,
                format!("outcome unknown: {what}"),
                "it may or may not have been executed; read the key before you write again",
            ),
            Error::Compacted { .. } => Failure::new(
                Exit::Other,
                format!("refused: {what}"),
                "events before it are lost; read the keys anew, and watch from the revision of that answer",
            ),
            Error::LeaseLost(_) => Failure::new(
                Exit::Other,
                what,
                "what was held under it is lost; begin anew with a new lease",
            ),
        }
    }
}

/// What to do about a refusal, by etcd's words.
fn rejection_hint(code: Code, message: &str) -> &'static str {
    const HINTS: [(&str, &str); 13] = [
        ("key is not provided", "give a key that is not empty"),
        (
            "request is too large",
            "keep a request under the server's limit, 1.5 MiB by default",
        ),
        (
            "larger than max",
            "keep a request under the server's limit, 1.5 MiB by default",
        ),
        ("too many operations", "split it into several transactions"),
        (
            "duplicate key",
            "name each key once among the writes of a transaction",
        ),
        (
            "has been compacted",
            "use a newer revision; get without --rev reads the current one",
        ),
        (
            "future revision",
            "use an older revision; get without --rev reads the current one",
        ),
        (
            "lease not found",
            "give the ID of a lease that has not run out, in hexadecimal",
        ),
        (
            "user name is empty",
            "the cluster asks for authentication: say who you are with --user",
        ),
        ("authentication failed", "check --user and its password"),
        (
            "not a store's client port",
            "give the port for key-value clients of a node or balancer, 2379 by default",
        ),
        (
            "no web app could take",
            "this is a balancer's port for browsers; give its port for key-value clients, 2379 by default",
        ),
        (
            "space exceeded",
            "the disk of a node, or its quota, is full: `status` shows NOSPACE at that node; free disk space there, or delete keys and compact",
        ),
    ];
    if let Some((_, hint)) = HINTS.iter().find(|(words, _)| message.contains(words)) {
        return hint;
    }
    match code {
        Code::ResourceExhausted => "nothing was executed; try again a little later",
        Code::Unimplemented => {
            "check that the endpoint is an etcd v3 server; this one does not know the call"
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            "ask whoever is root for a role that permits it, or say who you are with --user"
        }
        Code::Internal | Code::Unknown | Code::DataLoss => "look into the server's log",
        _ => "change the request; the same one will be refused again",
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::{Exit, Failure};
    use crate::Error;
    use crate::cli::help::EXIT_CODES;

    #[test]
    fn a_full_disk_is_not_taken_for_a_small_quota() {
        let failure = Failure::from(Error::Rejected {
            code: Code::ResourceExhausted,
            message: "etcdserver: mvcc: database space exceeded".to_owned(),
        });
        assert!(failure.hint.contains("free disk space"), "{}", failure.hint);
    }

    #[test]
    fn every_error_has_its_code_and_two_lines() {
        let message = || "m".to_owned();
        for (error, exit) in [
            (
                Error::InvalidEndpoint {
                    endpoint: message(),
                    reason: message(),
                },
                Exit::Usage,
            ),
            (Error::Tls { message: message() }, Exit::Usage),
            (
                Error::Rejected {
                    code: Code::InvalidArgument,
                    message: message(),
                },
                Exit::Other,
            ),
            (Error::NoQuorum { message: message() }, Exit::NoQuorum),
            (Error::Timeout { message: message() }, Exit::Timeout),
            (Error::OutcomeUnknown { message: message() }, Exit::OutcomeUnknown),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.exit, exit);
            for line in [failure.what, failure.hint] {
                assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
            }
            assert!(
                EXIT_CODES.contains(&format!("\n  {}  ", exit.code())),
                "{exit:?} is not in --help"
            );
        }
    }
}

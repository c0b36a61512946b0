//! Operations in words, as explanations show them.

use std::fmt;

use super::{Compare, KeyValue, Keys, Op, Outcome, Record, Reply, Request, Test, Txn};

/// How many keys of an answer are shown.
const SHOWN_MAX: usize = 8;

/// `client 3 at n2, 1.200000–1.300000 s: put r/7 = "1-42" → ok at revision 9`
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "client {} at {}, {:.6}–{:.6} s: {} → ",
            self.client,
            self.endpoint,
            self.start_ns as f64 / 1e9,
            self.end_ns as f64 / 1e9,
            self.request
        )?;
        match &self.outcome {
            Outcome::Ok(answer) => write!(f, "{} at revision {}", answer.reply, answer.revision),
            Outcome::Failed(error) => write!(f, "not executed ({error})"),
            Outcome::Unknown(error) => write!(f, "unknown ({error})"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = |serializable: &bool| if *serializable { " serializably" } else { "" };
        match self {
            Request::Read {
                keys,
                serializable,
                revision,
            } => {
                write!(f, "read {keys}{}", how(serializable))?;
                revision.map_or(Ok(()), |revision| write!(f, " as of revision {revision}"))
            }
            Request::Put { key, value, lease } => put(f, key, value, *lease),
            Request::Delete { keys } => write!(f, "delete {keys}"),
            Request::CompareAndSet { key, expected, value } => match expected {
                Some(expected) => write!(f, "set {key} from {expected:?} to {value:?}"),
                None => write!(f, "create {key} = {value:?}"),
            },
            Request::Txn(txn) => txn.fmt(f),
            Request::SetAdd { set, element } => write!(f, "add {element} to {set}"),
            Request::SetRead { set, serializable } => write!(f, "read the set {set}{}", how(serializable)),
            Request::Watch {
                watch,
                keys,
                start_revision,
                ..
            } => {
                write!(f, "watch {watch} of {keys}")?;
                start_revision.map_or(Ok(()), |revision| write!(f, " from revision {revision}"))
            }
            Request::LockAcquire { name, lease } => {
                write!(f, "lock {name}")?;
                lease.map_or(Ok(()), |lease| write!(f, " with lease {lease:x}"))
            }
            Request::LockRelease { key, .. } => write!(f, "unlock {key}"),
            Request::LeaseGrant { lease, ttl_s } => write!(f, "grant lease {lease:x} for {ttl_s} s"),
            Request::LeaseKeepAlive { lease } => write!(f, "renew lease {lease:x}"),
            Request::LeaseTimeToLive { lease } => write!(f, "ask for lease {lease:x}"),
            Request::LeaseRevoke { lease } => write!(f, "revoke lease {lease:x}"),
            Request::Hash {
                revision: Some(revision),
            } => write!(f, "hash up to revision {revision}"),
            Request::Hash { revision: None } => f.write_str("hash"),
            Request::Compact { revision } => write!(f, "compact to revision {revision}"),
        }
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Keys::Key(key) => f.write_str(key),
            Keys::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("if ")?;
        list(f, &self.compares)?;
        f.write_str(" then ")?;
        list(f, &self.then)?;
        f.write_str(" else ")?;
        list(f, &self.otherwise)
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.is {
            Test::Value(value) => write!(f, "{key} = {value:?}"),
            Test::Version(version) => write!(f, "version({key}) = {version}"),
            Test::CreateRevision(revision) => write!(f, "created({key}) = {revision}"),
            Test::ModRevision(revision) => write!(f, "modified({key}) = {revision}"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Read(keys) => write!(f, "read {keys}"),
            Op::Put { key, value, lease } => put(f, key, value, *lease),
            Op::Delete(keys) => write!(f, "delete {keys}"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Read(kvs) => list(f, kvs),
            Reply::Delete { deleted } => write!(f, "{deleted} deleted"),
            Reply::CompareAndSet { succeeded } => {
                f.write_str(if *succeeded { "set" } else { "not as expected" })
            }
            Reply::Txn(reply) => {
                f.write_str(if reply.succeeded { "then" } else { "else" })?;
                for result in &reply.results {
                    match result {
                        super::OpReply::Read(kvs) => {
                            f.write_str(" ")?;
                            list(f, kvs)?;
                        }
                        super::OpReply::Put => f.write_str(" put")?,
                        super::OpReply::Delete(deleted) => write!(f, " {deleted} deleted")?,
                    }
                }
                Ok(())
            }
            Reply::SetRead(elements) => write!(f, "{} elements", elements.len()),
            Reply::Watch { responses, end } => write!(f, "{} responses, then {end:?}", responses.len()),
            Reply::Lock { key, fencing } => write!(f, "held by {key} with fencing number {fencing}"),
            Reply::Lease { ttl_s: 0 } => f.write_str("no such lease"),
            Reply::Lease { ttl_s } => write!(f, "{ttl_s} s to live"),
            Reply::Hash {
                hash,
                revision,
                compact_revision,
            } => {
                write!(f, "{hash:016x} of revisions {compact_revision} to {revision}")
            }
            Reply::Put | Reply::SetAdd | Reply::LockReleased | Reply::LeaseRevoked | Reply::Compacted => {
                f.write_str("ok")
            }
        }
    }
}

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = {:?} (created {}, modified {}, version {})",
            self.key, self.value, self.create_revision, self.mod_revision, self.version
        )
    }
}

fn put(f: &mut fmt::Formatter<'_>, key: &str, value: &str, lease: Option<i64>) -> fmt::Result {
    write!(f, "put {key} = {value:?}")?;
    lease.map_or(Ok(()), |lease| write!(f, " with lease {lease:x}"))
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    f.write_str("[")?;
    for (index, item) in items.iter().take(SHOWN_MAX).enumerate() {
        write!(f, "{}{item}", if index > 0 { ", " } else { "" })?;
    }
    if items.len() > SHOWN_MAX {
        write!(f, ", and {} more", items.len() - SHOWN_MAX)?;
    }
    f.write_str("]")
}

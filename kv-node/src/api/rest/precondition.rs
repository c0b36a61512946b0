//! Conditions on a write, as HTTP says them, and the transaction that keeps them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use kv_core::{Command, Compare, CompareResult, CompareTarget, DeleteRange, Op, Put, Range, Txn};

use crate::api::problem::Problem;

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// `If-Match: *`: the key exists.
    Exists,
    /// `If-None-Match: *`: it does not.
    Absent,
    /// `If-Match: "N"`: its last write was at this revision.
    ModRevision(i64),
}

impl Precondition {
    /// Reads the headers of a write.
    ///
    /// # Errors
    /// 400 for a header that is not one of the three, or for both headers.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Precondition>, Problem> {
        match (
            one(headers, header::IF_MATCH)?,
            one(headers, header::IF_NONE_MATCH)?,
        ) {
            (None, None) => Ok(None),
            (Some("*"), None) => Ok(Some(Precondition::Exists)),
            (Some(etag), None) => match parse_etag(etag) {
                Some(revision) => Ok(Some(Precondition::ModRevision(revision))),
                None => Err(bad(
                    "If-Match must be * or one ETag as GET gives it, such as \"7\"",
                )),
            },
            (None, Some("*")) => Ok(Some(Precondition::Absent)),
            (None, Some(_)) => Err(bad("If-None-Match of a write must be *")),
            (Some(_), Some(_)) => Err(bad("give If-Match or If-None-Match, not both")),
        }
    }

    fn compare(self, key: Bytes) -> Compare {
        let (result, target) = match self {
            Precondition::Exists => (CompareResult::NotEqual, CompareTarget::Version(0)),
            Precondition::Absent => (CompareResult::Equal, CompareTarget::Version(0)),
            Precondition::ModRevision(revision) => (CompareResult::Equal, CompareTarget::Mod(revision)),
        };
        Compare {
            key,
            range_end: Bytes::new(),
            result,
            target,
        }
    }
}

/// What a write does to its one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Sets it.
    Put(Put),
    /// Deletes it.
    Delete(DeleteRange),
}

impl Write {
    /// The command, which with a precondition reads the key where that does not hold.
    pub(super) fn command(self, precondition: Option<Precondition>) -> Command {
        let Some(precondition) = precondition else {
            return match self {
                Write::Put(put) => Command::Put(put),
                Write::Delete(delete) => Command::DeleteRange(delete),
            };
        };
        let (key, op) = match self {
            Write::Put(put) => (put.key.clone(), Op::Put(put)),
            Write::Delete(delete) => (delete.key.clone(), Op::DeleteRange(delete)),
        };
        Command::Txn(Txn {
            compare: vec![precondition.compare(key.clone())],
            success: vec![op],
            failure: vec![Op::Range(Range {
                key,
                keys_only: true,
                ..Range::default()
            })],
        })
    }
}

/// The revision in an ETag; `None` where it is not one of ours.
pub(super) fn parse_etag(etag: &str) -> Option<i64> {
    let revision = etag.strip_prefix('"')?.strip_suffix('"')?;
    // Not what `parse` takes beside digits: "+7" names nothing.
    if !revision.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    revision.parse().ok()
}

/// The one value of a header.
fn one(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| bad("a condition must be text")),
        (Some(_), Some(_)) => Err(bad("give a condition once")),
    }
}

fn bad(message: &str) -> Problem {
    Problem::bad_request("bad_precondition", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Option<Option<Precondition>> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        Precondition::of(&headers).ok()
    }

    #[test]
    fn as_http_says_them() {
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&[("if-match", "*")]), Some(Some(Precondition::Exists)));
        assert_eq!(
            of(&[("if-match", "\"12\"")]),
            Some(Some(Precondition::ModRevision(12)))
        );
        assert_eq!(of(&[("if-none-match", "*")]), Some(Some(Precondition::Absent)));
    }

    #[test]
    fn not_understood() {
        for value in [
            "12",
            "\"12",
            "W/\"12\"",
            "\"x\"",
            "\"+1\"",
            "\"-1\"",
            "\"1\", \"2\"",
            "\"\"",
            "",
        ] {
            assert_eq!(of(&[("if-match", value)]), None, "{value}");
        }
        assert_eq!(of(&[("if-none-match", "\"12\"")]), None);
        assert_eq!(of(&[("if-match", "*"), ("if-none-match", "*")]), None);
        assert_eq!(of(&[("if-match", "*"), ("if-match", "*")]), None);
    }

    #[test]
    fn a_condition_makes_a_transaction() {
        let put = Write::Put(Put {
            key: "k".into(),
            value: "v".into(),
            ..Put::default()
        });
        assert!(matches!(put.clone().command(None), Command::Put(_)));
        let Command::Txn(txn) = put.command(Some(Precondition::ModRevision(7))) else {
            panic!("no txn")
        };
        assert_eq!(
            (txn.compare[0].result, txn.compare[0].target.clone()),
            (CompareResult::Equal, CompareTarget::Mod(7))
        );
        assert!(matches!(&txn.success[..], [Op::Put(put)] if put.value == "v"));
        assert!(matches!(&txn.failure[..], [Op::Range(range)] if range.key == "k" && range.keys_only));
    }
}

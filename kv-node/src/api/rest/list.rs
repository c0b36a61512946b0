//! All keys with a prefix, in pages that show one revision.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, request::Parts};
use kv_core::{KeyValue, Range};
use serde::Serialize;

use super::{cursor::Cursor, query::Query, single::REVISION, text::Item};
use crate::api::{calls::Consistency, problem::Problem, session::Session};

/// A page ends once its values are larger than this, so that it stays small whatever the values are.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Keys read at a time: with the largest values they take some tens of megabytes.
const CHUNK_KEYS: usize = 64;

/// What a listing may be asked for.
pub(super) const PARAMETERS: &[&str] = &["prefix", "limit", "cursor", "rev", "consistency", "keys_only"];

#[derive(Serialize)]
struct Page {
    /// The revision shown.
    revision: i64,
    items: Vec<Item>,
    more: bool,
    /// Keys after this page.
    remaining: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// Lists.
pub(super) async fn get(api: &Session, head: &Parts) -> Result<Response, Problem> {
    let query = Query::parse(&head.uri, PARAMETERS)?;
    let mut consistency = query.consistency(&head.headers)?;
    let from = place(&query)?;
    // What a revision holds never changes: a node that has it needs nobody's confirmation for a further
    // page, and a node that does not must catch up, whatever the request says.
    if query.cursor.is_some() {
        consistency = Consistency::of(api.node().store().revision() >= from.revision);
    }
    let (current, page) = page(api, from, &query, consistency).await?;
    Ok(([(REVISION, HeaderValue::from(current))], Json(page)).into_response())
}

/// Where the page begins. Revision 0 is the current one.
pub(super) fn place(query: &Query) -> Result<Cursor, Problem> {
    let Some(cursor) = &query.cursor else {
        let prefix = query.prefix.clone().unwrap_or_default();
        let start = if prefix.is_empty() {
            Bytes::from_static(&[0])
        } else {
            prefix.clone()
        };
        return Ok(Cursor {
            revision: query.rev.unwrap_or(0),
            prefix,
            start,
        });
    };
    let bad = |message| Err(Problem::bad_request("bad_cursor", message));
    let Some(cursor) = Cursor::decode(cursor) else {
        return bad("the cursor is none that a page gave, or not all of it");
    };
    if query
        .prefix
        .as_ref()
        .is_some_and(|prefix| *prefix != cursor.prefix)
    {
        return bad("the cursor belongs to another prefix");
    }
    if query.rev.is_some_and(|rev| rev != cursor.revision) {
        return bad("the cursor belongs to another revision");
    }
    Ok(cursor)
}

/// Reads a page; answers with the store's revision too.
async fn page(
    api: &Session,
    mut from: Cursor,
    query: &Query,
    mut consistency: Consistency,
) -> Result<(i64, Page), Problem> {
    let range_end = range_end(&from.prefix);
    let (mut items, mut bytes) = (Vec::new(), 0);
    let (current, remaining) = loop {
        let range = Range {
            key: from.start.clone(),
            range_end: range_end.clone(),
            limit: CHUNK_KEYS.min(query.limit() - items.len()) as i64,
            revision: from.revision,
            keys_only: query.keys_only,
            ..Range::default()
        };
        let (current, found) = api.range(&range, consistency).await?;
        let remaining = found.count - found.kvs.len() as i64;
        if from.revision == 0 {
            from.revision = current;
        }
        consistency = Consistency::Serializable;
        if let Some(last) = found.kvs.last() {
            from.start = just_after(&last.key);
        }
        for kv in &found.kvs {
            bytes += kv.key.len() + kv.value.len();
            items.push(item(kv, query.keys_only));
        }
        if !found.more || items.len() >= query.limit() || bytes >= PAGE_BYTES_MAX {
            break (current, remaining);
        }
    };
    let more = remaining > 0;
    let cursor = more.then(|| from.encode());
    Ok((
        current,
        Page {
            revision: from.revision,
            items,
            more,
            remaining,
            cursor,
        },
    ))
}

fn item(kv: &KeyValue, keys_only: bool) -> Item {
    if keys_only {
        Item::without_value(kv)
    } else {
        Item::new(kv)
    }
}

/// The first key after all that have the prefix, as etcd writes a range's end: a zero byte where there is none.
pub(super) fn range_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte < 0xff) {
        None => Bytes::from_static(&[0]),
        Some(last) => {
            let mut end = BytesMut::from(&prefix[..=last]);
            end[last] += 1;
            end.freeze()
        }
    }
}

/// The smallest key greater than `key`.
pub(super) fn just_after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use kv_core::KeyRange;
    use proptest::prelude::*;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/v1/kv/?{text}").parse().unwrap(), PARAMETERS).unwrap()
    }

    #[test]
    fn where_a_listing_begins() {
        let start = |text: &str| place(&query(text)).unwrap();
        let everything = Cursor {
            revision: 0,
            prefix: "".into(),
            start: Bytes::from_static(&[0]),
        };
        assert_eq!(start(""), everything);
        assert_eq!(
            start("prefix=a/&rev=7"),
            Cursor {
                revision: 7,
                prefix: "a/".into(),
                start: "a/".into()
            }
        );
    }

    #[test]
    fn a_cursor_goes_on_where_it_was_made_for() {
        let cursor = Cursor {
            revision: 7,
            prefix: "a".into(),
            start: "ab".into(),
        };
        let text = cursor.encode();
        for with in ["", "&prefix=a", "&rev=7", "&limit=3"] {
            assert_eq!(place(&query(&format!("cursor={text}{with}"))).unwrap(), cursor);
        }
        for with in ["&prefix=b", "&rev=8", "x"] {
            assert!(place(&query(&format!("cursor={text}{with}"))).is_err(), "{with}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_is_a_range(prefix: Vec<u8>, key in prop::collection::vec(any::<u8>(), 1..6), rest: Vec<u8>) {
            let start = if prefix.is_empty() { vec![0] } else { prefix.clone() };
            let end = range_end(&prefix);
            let range = KeyRange::new(&start, &end);
            prop_assert_eq!(range.contains(&key), key.starts_with(&prefix));
            let with_prefix = [prefix.as_slice(), &rest].concat();
            prop_assert!(with_prefix.is_empty() || range.contains(&with_prefix));
        }

        #[test]
        fn nothing_lies_between_a_key_and_the_next(key: Vec<u8>, other: Vec<u8>) {
            let next = just_after(&key);
            prop_assert_eq!(other > key, other.as_slice() >= &next[..]);
        }
    }
}

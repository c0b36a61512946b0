//! One key: read it, write it, delete it.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use kv_core::{DeleteRange, KeyValue, Put, Range, Response as Answer};
use serde_json::json;

use super::{
    precondition::{self, Precondition, Write},
    query::Query,
    text::Item,
};
use crate::api::{
    body::{self, BodyError},
    errors::ApiError,
    problem::Problem,
    session::Session,
};

/// The store's current revision.
pub(super) const REVISION: HeaderName = HeaderName::from_static("quorate-revision");
const MOD_REVISION: HeaderName = HeaderName::from_static("quorate-mod-revision");
const CREATE_REVISION: HeaderName = HeaderName::from_static("quorate-create-revision");
const VERSION: HeaderName = HeaderName::from_static("quorate-version");
const LEASE: HeaderName = HeaderName::from_static("quorate-lease");

/// Reads a key.
pub(super) async fn get(api: &Session, key: Bytes, head: &Parts) -> Result<Response, Problem> {
    let query = Query::parse(&head.uri, &["rev", "consistency"])?;
    let range = Range {
        key,
        revision: query.rev.unwrap_or(0),
        ..Range::default()
    };
    let (revision, found) = api.range(&range, query.consistency(&head.headers)?).await?;
    let Some(kv) = found.kvs.into_iter().next() else {
        return Err(key_not_found(revision));
    };
    let mut headers = facts(revision, &kv);
    if is_known(&head.headers, kv.mod_revision) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    // Whatever the bytes are, a browser must not take them for a page of this origin.
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Ok((headers, Body::from(kv.value)).into_response())
}

/// Writes a key.
pub(super) async fn put(api: &Session, key: Bytes, head: &Parts, body: Body) -> Result<Response, Problem> {
    let query = Query::parse(&head.uri, &["prev"])?;
    let precondition = Precondition::of(&head.headers)?;
    let value = whole(api, body).await?;
    api.check_size(key.len().saturating_add(value.len()))?;
    let put = Put {
        key,
        value,
        prev_kv: query.prev,
        ..Put::default()
    };
    match write(api, Write::Put(put), precondition).await? {
        (revision, Answer::Put { prev_kv }) => {
            let created = precondition == Some(Precondition::Absent);
            let status = if created {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            let mut headers = at(revision);
            headers.insert(MOD_REVISION, HeaderValue::from(revision));
            headers.insert(header::ETAG, etag(revision));
            Ok((
                status,
                headers,
                Json(written(revision, query.prev, prev_kv, None)),
            )
                .into_response())
        }
        _ => Err(ApiError::WrongAnswer.into()),
    }
}

/// Deletes a key.
pub(super) async fn delete(api: &Session, key: Bytes, head: &Parts) -> Result<Response, Problem> {
    let query = Query::parse(&head.uri, &["prev"])?;
    let precondition = Precondition::of(&head.headers)?;
    if precondition == Some(Precondition::Absent) {
        return Err(Problem::bad_request(
            "bad_precondition",
            "a key that does not exist cannot be deleted",
        ));
    }
    let delete = DeleteRange {
        key,
        range_end: Bytes::new(),
        prev_kv: query.prev,
    };
    match write(api, Write::Delete(delete), precondition).await? {
        (revision, Answer::DeleteRange { deleted: 0, .. }) => Err(key_not_found(revision)),
        (revision, Answer::DeleteRange { deleted, prev_kvs }) => {
            let prev = prev_kvs.into_iter().next();
            Ok((
                at(revision),
                Json(written(revision, query.prev, prev, Some(deleted))),
            )
                .into_response())
        }
        _ => Err(ApiError::WrongAnswer.into()),
    }
}

/// Proposes a write; answers with the revision and what the write itself answered.
async fn write(
    api: &Session,
    write: Write,
    precondition: Option<Precondition>,
) -> Result<(i64, Answer), Problem> {
    let (revision, answer) = api.propose(write.command(precondition)).await?;
    if precondition.is_none() {
        return Ok((revision, answer));
    }
    let Answer::Txn { succeeded, responses } = answer else {
        return Err(ApiError::WrongAnswer.into());
    };
    match (succeeded, responses.into_iter().next()) {
        (true, Some((_, answer))) => Ok((revision, answer)),
        (false, Some((_, Answer::Range(found)))) => Err(precondition_failed(revision, found.kvs.first())),
        _ => Err(ApiError::WrongAnswer.into()),
    }
}

/// The body, whole, within the limits of size and time.
async fn whole(api: &Session, body: Body) -> Result<Bytes, Problem> {
    let bytes_max = api.node().limits().max_request_bytes;
    body::whole(body, bytes_max, api.deadline())
        .await
        .map_err(|error| match error {
            BodyError::TooLarge => ApiError::RequestTooLarge.into(),
            BodyError::BrokeOff => Problem::bad_request("bad_body", "the body broke off"),
            BodyError::TimedOut => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body_timed_out",
                "the body did not arrive in time",
            ),
        })
}

fn written(
    revision: i64,
    asked_for_prev: bool,
    prev: Option<KeyValue>,
    deleted: Option<i64>,
) -> serde_json::Value {
    let mut answer = json!({ "revision": revision });
    if let Some(deleted) = deleted {
        answer["deleted"] = deleted.into();
    }
    if asked_for_prev {
        answer["prev"] = json!(prev.as_ref().map(Item::new));
    }
    answer
}

fn at(revision: i64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(REVISION, HeaderValue::from(revision));
    headers
}

/// The headers that describe a key.
fn facts(revision: i64, kv: &KeyValue) -> HeaderMap {
    let mut headers = at(revision);
    headers.insert(MOD_REVISION, HeaderValue::from(kv.mod_revision));
    headers.insert(CREATE_REVISION, HeaderValue::from(kv.create_revision));
    headers.insert(VERSION, HeaderValue::from(kv.version));
    if kv.lease != 0 {
        headers.insert(LEASE, HeaderValue::from(kv.lease));
    }
    headers.insert(header::ETAG, etag(kv.mod_revision));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers
}

fn etag(mod_revision: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{mod_revision}\"")).expect("digits in quotes")
}

/// Whether `If-None-Match` of a read names the revision: then the client has the value already.
pub(super) fn is_known(headers: &HeaderMap, mod_revision: i64) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        // Caches compare weakly here, so a proxy that made the tag weak does no harm.
        .any(|tag| {
            tag == "*"
                || precondition::parse_etag(tag.strip_prefix("W/").unwrap_or(tag)) == Some(mod_revision)
        })
}

fn key_not_found(revision: i64) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "key_not_found", "there is no such key")
        .header(REVISION, HeaderValue::from(revision))
}

fn precondition_failed(revision: i64, current: Option<&KeyValue>) -> Problem {
    let (name, status) = ("precondition_failed", StatusCode::PRECONDITION_FAILED);
    let problem = match current {
        None => Problem::new(status, name, "there is no such key"),
        Some(kv) => {
            let message = format!("the key was last written at revision {}", kv.mod_revision);
            Problem::new(status, name, message)
                .header(header::ETAG, etag(kv.mod_revision))
                .header(MOD_REVISION, HeaderValue::from(kv.mod_revision))
        }
    };
    problem
        .header(REVISION, HeaderValue::from(revision))
        .fact("mod_revision", current.map(|kv| kv.mod_revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cache_holds() {
        let known = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(value));
            is_known(&headers, 7)
        };
        assert!(known("\"7\"") && known("W/\"7\"") && known("\"1\", \"7\"") && known("*"));
        assert!(!known("\"8\"") && !known("7") && !known("") && !known("\"77\""));
        assert!(!is_known(&HeaderMap::new(), 7));
    }

    #[test]
    fn previous_values_only_where_asked_for() {
        let kv = KeyValue {
            key: "k".into(),
            value: "v".into(),
            ..KeyValue::default()
        };
        assert_eq!(written(3, false, Some(kv.clone()), None), json!({"revision": 3}));
        assert_eq!(
            written(3, true, None, Some(1)),
            json!({"revision": 3, "deleted": 1, "prev": null})
        );
        assert_eq!(written(3, true, Some(kv), None)["prev"]["value"], "v");
    }
}

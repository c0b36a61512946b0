//! What a fuzzer or its twin asks of REST, and of the headers of every request over HTTP.

use axum::response::IntoResponse;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use kv_core::{DeleteRange, Put, Range};

use super::{
    key_of,
    list::{self, just_after, place, range_end},
    precondition::{Precondition, Write},
    query::Query,
    single,
};
use crate::{
    api::{fuzz::read, gateway, problem::Problem},
    fuzz::propose,
};

/// Reads these bytes as a request: a line with method and URI, headers, an empty line, the body.
///
/// # Panics
/// Where a refusal is none of the client's, or a request comes of it that the log or the state does not take.
pub fn rest(input: &[u8]) {
    let Some((method, uri, headers, body)) = request(input) else {
        return;
    };
    gateway::metadata(&headers);
    if let Err(problem) = take(&method, &uri, &headers, body) {
        assert!(problem.into_response().status().is_client_error());
    }
}

/// Requests with every parameter and every condition.
pub fn rest_seeds() -> Vec<Vec<u8>> {
    let cursor = super::cursor::Cursor {
        revision: 7,
        prefix: "app/".into(),
        start: "app/b\0".into(),
    }
    .encode();
    [
        "GET /v1/kv/a%2Fb%ff?rev=7&consistency=serializable\nif-none-match: W/\"3\", \"7\"\n\n".to_owned(),
        "GET /v1/kv/?prefix=a%2Fb+%ff&limit=5&keys_only=false\nquorate-consistency: linearizable\n\n"
            .to_owned(),
        format!("GET /v1/kv/?prefix=app/&cursor={cursor}&rev=7\n\n"),
        "PUT /v1/kv/a?prev\nif-match: \"12\"\n\nvalue".to_owned(),
        "PUT /v1/kv/a/b?prev=0\nif-none-match: *\n\n".to_owned(),
        "DELETE /v1/kv/a?prev=true\nif-match: *\nauthorization: t\ngrpc-metadata-hasleader: true\n\n"
            .to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

/// What HTTP takes for a request.
fn request(input: &[u8]) -> Option<(Method, Uri, HeaderMap, &[u8])> {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let first = lines.next()?;
    let mut rest = lines.next().unwrap_or_default();
    let space = first.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&first[..space]).ok()?;
    let uri = Uri::try_from(&first[space + 1..]).ok()?;
    let mut headers = HeaderMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            break;
        };
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        headers.append(
            name,
            HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?,
        );
    }
    Some((method, uri, headers, rest))
}

fn take(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
    let key = key_of(uri.path())?;
    match (method, key.is_empty()) {
        (&Method::GET, true) => {
            let query = Query::parse(uri, list::PARAMETERS)?;
            query.consistency(headers)?;
            let from = place(&query)?;
            assert!(just_after(&from.start) > from.start && query.limit() > 0);
            read(&Range {
                range_end: range_end(&from.prefix),
                key: from.start,
                limit: query.limit() as i64,
                revision: from.revision,
                ..Range::default()
            });
        }
        (&Method::GET, false) => {
            let query = Query::parse(uri, &["rev", "consistency"])?;
            query.consistency(headers)?;
            single::is_known(headers, 7);
            read(&Range {
                key,
                revision: query.rev.unwrap_or(0),
                ..Range::default()
            });
        }
        (&Method::PUT, false) => {
            let put = Put {
                key,
                value: Bytes::copy_from_slice(body),
                prev_kv: Query::parse(uri, &["prev"])?.prev,
                ..Put::default()
            };
            propose(&Write::Put(put).command(Precondition::of(headers)?));
        }
        (&Method::DELETE, false) => {
            let delete = DeleteRange {
                key,
                range_end: Bytes::new(),
                prev_kv: Query::parse(uri, &["prev"])?.prev,
            };
            propose(&Write::Delete(delete).command(Precondition::of(headers)?));
        }
        _ => {}
    }
    Ok(())
}

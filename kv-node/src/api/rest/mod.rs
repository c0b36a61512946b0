//! Plain REST for curl and browsers: raw bytes in, raw bytes out, one key a path.
//!
//! The key is what follows `/v1/kv/`, percent-decoded: it may hold slashes and any bytes. The value is the body.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET` or `HEAD /v1/kv/{key}` | 200 and the value; 404 `key_not_found`; 304 where `If-None-Match` has its ETag |
//! | … `?rev=N` | as it was at revision N; 410 `compacted`, 400 `future_revision` |
//! | … `?consistency=linearizable` or `serializable` | or the header `Quorate-Consistency`; linearizable unless said |
//! | `PUT /v1/kv/{key}` | 200 `{"revision": N}` |
//! | `DELETE /v1/kv/{key}` | 200 `{"revision": N, "deleted": 1}`; 404 `key_not_found` |
//! | … `?prev` | what the key held before, as `"prev"` |
//! | … `If-Match: "N"` | only where N is the key's ETag, else 412 `precondition_failed` |
//! | … `If-Match: *` | only where the key exists |
//! | `PUT`, `If-None-Match: *` | only where the key does not exist; 201 |
//! | `GET` or `HEAD /v1/kv/?prefix=app/` | 200 and the keys with that prefix, see below |
//!
//! Headers of the answers: `Quorate-Revision` is the store's current revision; of the key found,
//! `Quorate-Mod-Revision` (which is its `ETag` too), `Quorate-Create-Revision`, `Quorate-Version`, and
//! `Quorate-Lease` where it has one.
//!
//! A listing is in key order: `{"revision": N, "items": […], "more": true, "remaining": 17, "cursor": "…"}`.
//! An item has `key` and `value` as text, or, where the bytes are not UTF-8, `key_base64` and `value_base64`;
//! `create_revision`, `mod_revision`, `version`, and `lease` where it has one. `?limit=` (1 to 1000, else 100)
//! bounds a page; pages end earlier when their values grow large. `?keys_only` leaves the values out. Pass
//! `cursor` on as `?cursor=` for the next page: all pages show the one revision `rev`, or the one of the
//! first page. 410 `compacted` means that this revision is gone: start again.
//!
//! A failure is `{"error": name, "message": text, "outcome": …}`: `not executed`, or `unknown` where a write
//! may have been executed (status 504). 400 what cannot be understood; 401 `user_empty`, `invalid_auth_token`
//! and 403 `permission_denied` while authentication is on (`Authorization` takes the token); 405 other methods,
//! with `Allow`; 408 a body that does not arrive; 413 a body too large; 429 `too_many_requests`; 503
//! `no_leader`, `stopped`; 507 `no_space`.

mod cursor;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod list;
mod precondition;
mod query;
mod single;
mod text;

use axum::{
    Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use http::{Method, Request};

use super::{calls::Api, errors::ApiError, problem::Problem};

/// Where keys begin in a path.
const PREFIX: &str = "/v1/kv/";

/// The routes.
pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/v1/kv", any(serve))
        .route(PREFIX, any(serve))
        .route("/v1/kv/{*key}", any(serve))
}

async fn serve(State(api): State<Api>, request: Request<Body>) -> Response {
    let response = route(&api, request).await.unwrap_or_else(Problem::into_response);
    api.metrics().rest(response.status());
    response
}

async fn route(api: &Api, request: Request<Body>) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let session = &api.session_of(&head.headers, &head.extensions);
    let key = key_of(head.uri.path())?;
    match (&head.method, key.is_empty()) {
        (&Method::GET | &Method::HEAD, true) => list::get(session, &head).await,
        (&Method::GET | &Method::HEAD, false) => single::get(session, key, &head).await,
        (&Method::PUT | &Method::DELETE, true) => Err(ApiError::from(kv_core::Error::EmptyKey).into()),
        (&Method::PUT, false) => single::put(session, key, &head, body).await,
        (&Method::DELETE, false) => single::delete(session, key, &head).await,
        (method, true) => Err(Problem::method_not_allowed(method, "GET, HEAD")),
        (method, false) => Err(Problem::method_not_allowed(method, "GET, HEAD, PUT, DELETE")),
    }
}

fn key_of(path: &str) -> Result<Bytes, Problem> {
    let encoded = path.strip_prefix(PREFIX).unwrap_or_default();
    let key = text::percent_decode(encoded).ok_or_else(|| {
        Problem::bad_request("bad_key", "a % in the key must be followed by two hex digits")
    })?;
    Ok(key.into())
}

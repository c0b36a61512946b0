//! etcd's services as JSON over HTTP: `POST /v3/…`, as etcd's gRPC gateway has it.
//!
//! Promises: a call reaches the very service that gRPC reaches, in this process, with everything that stands
//! before it, so that both give the same answer. Nothing here knows a method: `routes` is the table, the
//! descriptions of the messages are kv-proto's.
//!
//! | | |
//! | --- | --- |
//! | request | a JSON object, whatever its content type; no body is `{}`. Fields as in the .proto files or in camel case; what is not a field is ignored. Bytes are base64, 64-bit integers strings or numbers, enums names or numbers |
//! | answer | a JSON object with the names of the .proto files; 64-bit integers as strings, enums as names, and zeros left out |
//! | failure | `{"error": text, "code": gRPC code, "message": text}` with the HTTP status of [`answer::http_status`] |
//! | stream of requests | objects one after the other; that the body ends is told to the service, which may go on |
//! | stream of answers | a line `{"result": …}` each; a failure after the first is a last line `{"error": {"grpc_code", "http_code", "message", "http_status"}}` |
//! | `Authorization` | becomes the metadata `token`; `Grpc-Metadata-NAME` becomes `NAME` |
//! | client's certificate | counts as over gRPC |
//!
//! `/v3beta/…` is the same.

mod answer;
mod call;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod json;
mod requests;
mod routes;

use std::sync::Arc;

use axum::{Router, body::Body, extract::State, response::Response, routing::any};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use prost_reflect::MethodDescriptor;
use tonic::{Status, metadata::MetadataMap};

use self::{
    call::{Caller, Services},
    routes::ROUTES,
};
use super::{
    body::{self, BodyError},
    calls::Api,
};

/// Where the paths of the table begin.
const PREFIXES: [&str; 2] = ["/v3/", "/v3beta/"];
/// Requests' headers that are passed on, without this.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// The metadata that authenticates a call.
const TOKEN: HeaderName = HeaderName::from_static("token");

/// What a request of the gateway needs.
struct Gateway {
    api: Api,
    services: Services,
    /// Largest JSON object that is read. Base64 makes three bytes four: what is larger than this is, decoded,
    /// too large for a message.
    json_bytes_max: usize,
}

pub(super) use self::answer::failure;

/// Whether a path is the gateway's.
pub(super) fn is_path(path: &str) -> bool {
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// The gateway before `services`, which take messages of `message_bytes_max`.
pub(super) fn router(api: Api, services: Router, message_bytes_max: usize) -> Router {
    let gateway = Arc::new(Gateway {
        api,
        services: Services::new(services),
        json_bytes_max: message_bytes_max * 2,
    });
    let mut router = Router::new();
    for prefix in PREFIXES {
        router = router.route(&format!("{prefix}{{*path}}"), any(serve));
    }
    router.with_state(gateway)
}

async fn serve(State(gateway): State<Arc<Gateway>>, request: Request<Body>) -> Response {
    let path = request.uri().path();
    let method = PREFIXES
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .and_then(|path| ROUTES.get(path));
    let Some(method) = method else {
        return answer::no_such_path(path);
    };
    if request.method() != Method::POST {
        return answer::method_not_allowed(request.method());
    }
    gateway
        .answer(method, request)
        .await
        .unwrap_or_else(|status| answer::failure(&status))
}

impl Gateway {
    async fn answer(&self, method: &MethodDescriptor, request: Request<Body>) -> Result<Response, Status> {
        let (head, body) = request.into_parts();
        let caller = Caller {
            metadata: metadata(&head.headers),
            certificate: head.extensions.get().cloned(),
        };
        let (requests, trouble) = if method.is_client_streaming() {
            requests::stream(body, method.input(), self.json_bytes_max)
        } else {
            let body = body::whole(body, self.json_bytes_max, self.api.deadline()).await;
            requests::one(json::read(method.input(), &body.map_err(unread)?)?)
        };
        let answers = self.services.call(method, caller, requests, trouble).await?;
        if method.is_server_streaming() {
            answer::stream(answers).await
        } else {
            answer::one(answers).await
        }
    }
}

fn unread(error: BodyError) -> Status {
    match error {
        BodyError::TooLarge => too_large(),
        BodyError::BrokeOff => Status::cancelled("the body broke off"),
        BodyError::TimedOut => Status::cancelled("the body did not arrive in time"),
    }
}

/// The words in which gRPC's services say it.
fn too_large() -> Status {
    Status::resource_exhausted("grpc: received message larger than max")
}

/// The metadata of a call.
pub(super) fn metadata(headers: &HeaderMap) -> MetadataMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        let name = name.as_str().strip_prefix(METADATA_PREFIX);
        if let Some(name) = name.and_then(|name| name.parse::<HeaderName>().ok()) {
            metadata.append(name, value.clone());
        }
    }
    if let Some(token) = headers.get(header::AUTHORIZATION) {
        metadata.insert(TOKEN, HeaderValue::clone(token));
    }
    MetadataMap::from_headers(metadata)
}

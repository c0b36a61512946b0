//! What the balancer answers itself, in the language of who asked: a gRPC status, JSON, or a page.
//!
//! One table: what happened, and what it is called in each. The texts say whether the request can
//! have been executed, because that is what a client must know before it tries again.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};

use crate::backend::Kind;
use crate::body::ProxyBody;
use crate::headers::{accepts_html, is_grpc};

/// etcd's own words for an outcome that nobody knows; its clients look for them.
const UNKNOWN_OUTCOME: &str = "etcdserver: request timed out, possibly due to connection lost";
/// etcd's own words for a full queue.
const TOO_MANY: &str = "etcdserver: too many requests";

/// Why a request was not answered by a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No backend took it: certainly not executed.
    NotExecuted,
    /// The connection broke after it was sent: the outcome is unknown.
    Broken,
    /// It was sent, and no answer came in time: the outcome is unknown.
    Timeout,
    /// Every backend has as many requests as it may: not executed.
    Full,
    /// A protocol upgrade, which the balancer does not pass on.
    Upgrade,
    /// gRPC over HTTP/1.
    GrpcOverHttp1,
}

/// The language of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A gRPC status without a body.
    Grpc,
    /// JSON in the shape of etcd's gateway.
    Json,
    /// A page for a person.
    Html,
}

impl Style {
    /// The language of a request's client.
    #[must_use]
    pub fn of(parts: &Parts) -> Self {
        if is_grpc(&parts.headers) {
            Style::Grpc
        } else if accepts_html(&parts.headers) {
            Style::Html
        } else {
            Style::Json
        }
    }
}

/// One row of the table.
struct Row {
    http: StatusCode,
    grpc: tonic::Code,
    outcome: &'static str,
    text: &'static str,
}

impl Trouble {
    fn row(self, kind: Kind) -> Row {
        use StatusCode as Http;
        use tonic::Code;
        let row = |http, grpc, outcome, text| Row {
            http,
            grpc,
            outcome,
            text,
        };
        match (self, kind) {
            (Trouble::NotExecuted, Kind::Node) => row(
                Http::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "not_executed",
                "no storage node could take the request: it was not executed",
            ),
            (Trouble::NotExecuted, Kind::Web) => row(
                Http::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "not_executed",
                "no web app could take the request: nothing was changed",
            ),
            (Trouble::Broken, Kind::Node) => {
                row(Http::BAD_GATEWAY, Code::Unavailable, "unknown", UNKNOWN_OUTCOME)
            }
            (Trouble::Broken, Kind::Web) => row(
                Http::BAD_GATEWAY,
                Code::Unavailable,
                "unknown",
                "the web app went away before it answered: the request may have been executed",
            ),
            (Trouble::Timeout, Kind::Node) => row(
                Http::GATEWAY_TIMEOUT,
                Code::Unavailable,
                "unknown",
                UNKNOWN_OUTCOME,
            ),
            (Trouble::Timeout, Kind::Web) => row(
                Http::GATEWAY_TIMEOUT,
                Code::Unavailable,
                "unknown",
                "the web app did not answer in time: the request may have been executed",
            ),
            (Trouble::Full, _) => row(
                Http::SERVICE_UNAVAILABLE,
                Code::ResourceExhausted,
                "not_executed",
                TOO_MANY,
            ),
            (Trouble::Upgrade, _) => row(
                Http::NOT_IMPLEMENTED,
                Code::Unimplemented,
                "not_executed",
                "the balancer passes on HTTP only: no protocol upgrade, no CONNECT",
            ),
            (Trouble::GrpcOverHttp1, _) => row(
                Http::HTTP_VERSION_NOT_SUPPORTED,
                Code::Internal,
                "not_executed",
                "gRPC needs HTTP/2",
            ),
        }
    }
}

/// The answer to a request that no backend answered.
#[must_use]
pub fn answer(trouble: Trouble, kind: Kind, style: Style) -> Response<ProxyBody> {
    let row = trouble.row(kind);
    let mut response = match style {
        Style::Grpc => {
            let mut response = Response::new(ProxyBody::own(""));
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            add_status(response.headers_mut(), row.grpc, row.text);
            return response;
        }
        Style::Json => {
            let body = serde_json::json!({
                "error": row.text, "message": row.text, "code": row.grpc as i32, "outcome": row.outcome,
            });
            own(row.http, "application/json", body.to_string())
        }
        Style::Html => own(row.http, "text/html; charset=utf-8", page(&row)),
    };
    if row.http == StatusCode::SERVICE_UNAVAILABLE {
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A response of the balancer's own that nobody keeps and that runs nothing.
#[must_use]
pub fn own(status: StatusCode, content_type: &'static str, body: String) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::own(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'self'"),
    );
    response
}

fn page(row: &Row) -> String {
    let title = match row.http {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => "No answer",
        StatusCode::SERVICE_UNAVAILABLE => "Not available just now",
        _ => "Not supported",
    };
    let advice = if row.outcome == "unknown" {
        "Look whether it took effect before you try again."
    } else {
        "It is safe to try again."
    };
    let (code, text) = (row.http.as_u16(), row.text);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1><p>{code}: {text}.</p><p>{advice}</p></body></html>\n"
    )
}

/// The end of a gRPC response whose node went away in the middle.
#[must_use]
pub fn broken_stream_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    add_status(&mut trailers, tonic::Code::Unavailable, UNKNOWN_OUTCOME);
    trailers
}

fn add_status(headers: &mut HeaderMap, code: tonic::Code, message: &'static str) {
    // A message of printable ASCII without '%' needs no percent-encoding.
    assert!(
        message.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'%'),
        "{message:?}"
    );
    headers.insert("grpc-status", HeaderValue::from(code as i32));
    headers.insert("grpc-message", HeaderValue::from_static(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Trouble; 6] = [
        Trouble::NotExecuted,
        Trouble::Broken,
        Trouble::Timeout,
        Trouble::Full,
        Trouble::Upgrade,
        Trouble::GrpcOverHttp1,
    ];

    #[test]
    fn table() {
        let mut lines = Vec::new();
        for trouble in ALL {
            let grpc = answer(trouble, Kind::Node, Style::Grpc);
            let json = answer(trouble, Kind::Node, Style::Json);
            let status = grpc.headers()["grpc-status"].to_str().unwrap().to_owned();
            lines.push(format!(
                "{trouble:?} grpc={status} http={}",
                json.status().as_u16()
            ));
            assert_eq!(grpc.status(), 200);
            assert_eq!(answer(trouble, Kind::Web, Style::Html).status(), json.status());
        }
        assert_eq!(
            lines,
            [
                "NotExecuted grpc=14 http=503",
                "Broken grpc=14 http=502",
                "Timeout grpc=14 http=504",
                "Full grpc=8 http=503",
                "Upgrade grpc=12 http=501",
                "GrpcOverHttp1 grpc=13 http=505",
            ]
        );
    }
}

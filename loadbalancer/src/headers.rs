//! What changes in the head of a message on its way through: the headers that belong to one connection
//! go, and a backend is told for whom it answers.

use std::net::{IpAddr, SocketAddr};

use crate::serve::CameByTls;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri, Version};

/// Headers that concern one connection only (RFC 9110, 7.6.1), besides those that `Connection` names.
/// `Expect` is met here: hyper answers 100 when the body is first read.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Removes what belongs to the connection that a message came on.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        // A length beside it would be a lie (RFC 9112, 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|t| t.parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Whether the client asks to leave HTTP (WebSocket, CONNECT). An offer of h2c does not count: it may
/// be ignored.
#[must_use]
pub fn wants_upgrade(parts: &Parts) -> bool {
    let upgrade = tokens(&parts.headers, &UPGRADE).any(|token| !token.eq_ignore_ascii_case("h2c"));
    parts.method == Method::CONNECT || upgrade
}

/// Whether this is gRPC proper; gRPC-Web is plain HTTP.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(http::header::CONTENT_TYPE) else {
        return false;
    };
    let Some(rest) = value.as_bytes().strip_prefix(b"application/grpc") else {
        return false;
    };
    matches!(rest.first(), None | Some(b'+' | b';'))
}

/// Whether a browser or a program asks.
#[must_use]
pub fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|v| v.contains("text/html")))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// The head of a gRPC request as it goes to a node.
#[must_use]
pub fn to_http2(parts: &Parts, backend: SocketAddr) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = if parts.uri.scheme().is_some() && parts.uri.authority().is_some() {
        parts.uri.clone()
    } else {
        absolute(parts, backend)
    };
    *request.headers_mut() = parts.headers.clone();
    // HTTP/2 has none of the others (RFC 9113, 8.2.2); hyper has refused them.
    request.headers_mut().remove(HOST);
    request
}

fn absolute(parts: &Parts, backend: SocketAddr) -> Uri {
    let host = parts
        .headers
        .get(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = host.or_else(|| Authority::try_from(backend.to_string()).ok());
    uri.path_and_query = Some(path(&parts.uri));
    Uri::from_parts(uri).unwrap_or_default()
}

fn path(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// The head of any other request as it goes to a backend, over HTTP/1.1.
#[must_use]
pub fn to_http1(parts: &Parts, backend: SocketAddr, client: IpAddr) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = Uri::from(path(&parts.uri));
    let mut headers = parts.headers.clone();
    strip_hop_by_hop(&mut headers);
    headers.remove(TE);
    join_cookies(&mut headers);
    // The host as the client wrote it: apps compare it with Origin.
    let host = match parts.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(HOST).cloned(),
    };
    let host = host.or_else(|| HeaderValue::from_str(&backend.to_string()).ok());
    if let Some(host) = host {
        headers.insert(HOST, host.clone());
        headers.insert(FORWARDED_HOST, host);
    }
    // The balancer is the edge: what a client claims here is not passed on.
    if let Ok(client) = HeaderValue::from_str(&client.to_canonical().to_string()) {
        headers.insert(FORWARDED_FOR, client);
    }
    let scheme = match parts.extensions.get::<CameByTls>() {
        None => "http",
        Some(CameByTls) => "https",
    };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    *request.headers_mut() = headers;
    request
}

/// HTTP/2 may split cookies over several headers; HTTP/1.1 knows one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: http::request::Builder) -> Parts {
        request.body(()).expect("valid").into_parts().0
    }

    const BACKEND: ([u8; 4], u16) = ([10, 0, 0, 7], 3000);
    const CLIENT: [u8; 4] = [10, 0, 0, 9];

    #[test]
    fn http1_request_loses_hop_headers_and_says_who_asked() {
        let parts = parts(
            Request::get("/names?page=2")
                .header("host", "names.example:8080")
                .header("connection", "keep-alive, X-Private")
                .header("x-private", "1")
                .header("te", "trailers")
                .header("expect", "100-continue")
                .header("transfer-encoding", "chunked")
                .header("content-length", "3")
                .header("x-forwarded-for", "1.1.1.1")
                .header("accept", "*/*"),
        );
        let request = to_http1(&parts, BACKEND.into(), CLIENT.into());
        assert_eq!(request.uri(), "/names?page=2");
        let mut headers: Vec<_> = request
            .headers()
            .iter()
            .map(|(k, v)| format!("{k}: {}", v.to_str().unwrap()))
            .collect();
        headers.sort();
        assert_eq!(
            headers,
            [
                "accept: */*",
                "host: names.example:8080",
                "x-forwarded-for: 10.0.0.9",
                "x-forwarded-host: names.example:8080",
                "x-forwarded-proto: http",
            ]
        );
    }

    #[test]
    fn http2_request_to_http1_takes_authority_and_joins_cookies() {
        let parts = parts(
            Request::get("http://a.example/x")
                .header("cookie", "a=1")
                .header("cookie", "b=2"),
        );
        let request = to_http1(&parts, BACKEND.into(), CLIENT.into());
        assert_eq!(
            (request.uri().to_string(), &request.headers()["host"]),
            ("/x".into(), &"a.example".parse().unwrap())
        );
        assert_eq!(request.headers()["cookie"], "a=1; b=2");
    }

    #[test]
    fn grpc_request_keeps_its_uri_or_gets_one() {
        let full = parts(Request::post("http://cluster/etcdserverpb.KV/Put").header("te", "trailers"));
        let request = to_http2(&full, BACKEND.into());
        assert_eq!(request.uri(), "http://cluster/etcdserverpb.KV/Put");
        assert_eq!(request.headers()["te"], "trailers");
        let bare = parts(Request::post("/etcdserverpb.KV/Put"));
        assert_eq!(
            to_http2(&bare, BACKEND.into()).uri(),
            "http://10.0.0.7:3000/etcdserverpb.KV/Put"
        );
    }

    #[test]
    fn grpc_is_told_from_grpc_web() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x=1", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static(value));
            assert_eq!(is_grpc(&headers), expected, "{value}");
        }
    }

    #[test]
    fn upgrades() {
        assert!(wants_upgrade(&parts(
            Request::get("/").header("upgrade", "websocket")
        )));
        assert!(!wants_upgrade(&parts(Request::get("/").header("upgrade", "h2c"))));
        assert!(wants_upgrade(&parts(
            Request::builder().method("CONNECT").uri("a:1")
        )));
    }
}

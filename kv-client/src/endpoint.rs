//! Reading an endpoint: `host:port`, `http://host:port` or `https://host:port`, IPv6 in brackets.

use std::fmt;

use http::Uri;

use crate::Error;

/// An address to connect to.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// `http://host:port` or `https://host:port`, the origin of every request.
    pub(crate) origin: Uri,
    /// Whether TLS is to be spoken, where the text says so.
    https: Option<bool>,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// `host:port` as people write it.
    name: String,
}

impl Endpoint {
    /// Reads one endpoint. Paths are refused, so that nobody believes them to be in effect.
    pub(crate) fn parse(text: &str) -> Result<Endpoint, Error> {
        let invalid = |reason: &str| Error::InvalidEndpoint {
            endpoint: text.to_owned(),
            reason: reason.to_owned(),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("is empty, expected host:port"));
        }
        let bare = |rest: &'_ str| rest.strip_suffix('/').unwrap_or(rest).to_owned();
        let (https, address) = match text.split_once("://") {
            None => (None, text.to_owned()),
            Some(("http", rest)) => (Some(false), bare(rest)),
            Some(("https", rest)) => (Some(true), bare(rest)),
            Some((scheme, _)) => {
                return Err(invalid(&format!(
                    "unknown scheme {scheme:?}, use http://host:port or https://host:port"
                )));
            }
        };
        let origin =
            origin(https == Some(true), &address).ok_or_else(|| invalid("not of the form host:port"))?;
        let authority = origin.authority().ok_or_else(|| invalid("has no host"))?;
        if authority.as_str() != address || address.contains('@') {
            return Err(invalid("only host:port is allowed, no path and no user"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(invalid("has no host"));
        }
        let port = authority.port_u16().filter(|&port| port != 0).ok_or_else(|| {
            invalid("has no port between 1 and 65535, expected host:port such as 127.0.0.1:2379")
        })?;
        Ok(Endpoint {
            origin,
            https,
            host,
            port,
            name: address,
        })
    }

    /// Whether the text asks for TLS.
    pub(crate) fn wants_tls(&self) -> bool {
        self.https == Some(true)
    }

    /// The endpoint where TLS is spoken unless the text says otherwise, or is not.
    pub(crate) fn with_tls_unless_said(mut self, tls: bool) -> Endpoint {
        if let Some(origin) = origin(self.https.unwrap_or(tls), &self.name) {
            self.origin = origin;
        }
        self
    }

    /// Whether TLS is spoken.
    pub(crate) fn is_tls(&self) -> bool {
        self.origin.scheme_str() == Some("https")
    }
}

fn origin(https: bool, address: &str) -> Option<Uri> {
    let scheme = if https { "https" } else { "http" };
    format!("{scheme}://{address}").parse().ok()
}

/// Two endpoints are one if their texts mean the same: the origin depends on the client's other settings too.
impl PartialEq for Endpoint {
    fn eq(&self, other: &Endpoint) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn reads_what_people_write() {
        for (text, host, port, origin) in [
            ("127.0.0.1:2379", "127.0.0.1", 2379, "http://127.0.0.1:2379/"),
            (" kv-node:2379 ", "kv-node", 2379, "http://kv-node:2379/"),
            ("http://kv-node:80/", "kv-node", 80, "http://kv-node:80/"),
            ("[::1]:2379", "::1", 2379, "http://[::1]:2379/"),
            ("https://kv-node:2379/", "kv-node", 2379, "https://kv-node:2379/"),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{text}");
            assert_eq!(endpoint.origin.to_string(), origin);
        }
    }

    #[test]
    fn speaks_tls_where_asked_or_where_nothing_else_is_said() {
        for (text, by_default, expected) in [
            ("a:1", false, false),
            ("a:1", true, true),
            ("http://a:1", true, false),
            ("https://a:1", false, true),
        ] {
            let endpoint = Endpoint::parse(text)
                .expect(text)
                .with_tls_unless_said(by_default);
            assert_eq!(endpoint.is_tls(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("unix:///tmp/x", "unknown scheme"),
            ("localhost", "no port"),
            ("localhost:0", "no port"),
            ("localhost:99999", "host:port"),
            (":2379", "host"),
            ("http://a:1/path", "no path"),
            ("me@a:1", "no user"),
            ("a b:1", "not of the form"),
        ] {
            let error = Endpoint::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}

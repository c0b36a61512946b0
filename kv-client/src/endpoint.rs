//! Reading an endpoint: `host:port` or `http://host:port`, IPv6 in brackets.

use std::fmt;

use http::Uri;

use crate::Error;

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `http://host:port`, the origin of every request.
    pub(crate) origin: Uri,
    /// Host name or address, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// `host:port` as people write it.
    name: String,
}

impl Endpoint {
    /// Reads one endpoint. TLS and paths are refused, so that nobody believes them to be in effect.
    pub(crate) fn parse(text: &str) -> Result<Endpoint, Error> {
        let invalid = |reason: &str| Error::InvalidEndpoint {
            endpoint: text.to_owned(),
            reason: reason.to_owned(),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(invalid("is empty, expected host:port"));
        }
        let address = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some(("https", _)) => return Err(invalid("TLS is not supported, use http://host:port")),
            Some((scheme, _)) => {
                return Err(invalid(&format!(
                    "unknown scheme {scheme:?}, use http://host:port"
                )));
            }
        };
        let origin: Uri = format!("http://{address}")
            .parse()
            .map_err(|_| invalid("not of the form host:port"))?;
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
        let name = address.to_owned();
        Ok(Endpoint {
            origin,
            host,
            port,
            name,
        })
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
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{text}");
            assert_eq!(endpoint.origin.to_string(), origin);
        }
    }

    #[test]
    fn refuses_the_rest_with_a_reason() {
        for (text, reason) in [
            ("", "is empty"),
            ("https://a:1", "TLS is not supported"),
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

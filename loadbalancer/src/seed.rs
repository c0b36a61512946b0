//! `HOST:PORT` as it is given on the command line or found in a member's client URLs.

use std::fmt;

/// A host name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seed {
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

/// Why a text is no seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// No host in it.
    #[error("no host name in {0:?}: give HOST:PORT")]
    NoHost(String),
    /// The part after the last colon is no port.
    #[error("{0:?} is not a port (1 to 65535): give HOST:PORT")]
    Port(String),
}

impl Seed {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]:PORT`, each also as `http://…` or `https://…`.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn parse(text: &str, default_port: u16) -> Result<Seed, SeedError> {
        let text = text.trim();
        let (tls, plain) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        let plain = plain.split('/').next().unwrap_or_default();
        let (host, port) = match plain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None if plain.parse::<std::net::Ipv6Addr>().is_ok() => (plain, None),
            None => plain
                .rsplit_once(':')
                .map_or((plain, None), |(host, port)| (host, Some(port))),
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._:%".contains(c);
        if host.is_empty() || !host.chars().all(valid) {
            return Err(SeedError::NoHost(text.into()));
        }
        let port = match port {
            None => default_port,
            Some(port) => port
                .parse()
                .ok()
                .filter(|p| *p != 0)
                .ok_or_else(|| SeedError::Port(port.into()))?,
        };
        Ok(Seed {
            host: host.into(),
            port,
            tls,
        })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls {
            f.write_str("https://")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let show = |text| Seed::parse(text, 2379).map_or_else(|e| e.to_string(), |seed| seed.to_string());
        for (text, expected) in [
            ("kv-node", "kv-node:2379"),
            ("kv-node:12379", "kv-node:12379"),
            (" 10.0.0.1:1 ", "10.0.0.1:1"),
            ("[::1]:22379", "[::1]:22379"),
            ("[::1]", "[::1]:2379"),
            ("fe80::1", "[fe80::1]:2379"),
            ("http://node-1:2379/", "node-1:2379"),
            ("https://node-1/", "https://node-1:2379"),
            (":2379", "no host name in \":2379\": give HOST:PORT"),
            ("", "no host name in \"\": give HOST:PORT"),
            ("a b:1", "no host name in \"a b:1\": give HOST:PORT"),
            ("a:0", "\"0\" is not a port (1 to 65535): give HOST:PORT"),
            ("a:70000", "\"70000\" is not a port (1 to 65535): give HOST:PORT"),
            ("a:", "\"\" is not a port (1 to 65535): give HOST:PORT"),
        ] {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }
}

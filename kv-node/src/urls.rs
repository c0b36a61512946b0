//! The URLs of etcd's flags: where to listen, and what others are told.

use anyhow::{Context, bail, ensure};

/// An address to listen on, and what is spoken there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// `host:port`.
    pub address: String,
    /// Whether connections without TLS are taken.
    pub http: bool,
    /// Whether connections with TLS are taken. Both may be, on one port, as in etcd.
    pub https: bool,
}

impl From<String> for Listen {
    /// An address without TLS.
    fn from(address: String) -> Listen {
        Listen {
            address,
            http: true,
            https: false,
        }
    }
}

impl Listen {
    fn urls(&self, host: &str) -> impl Iterator<Item = String> {
        let schemes = [("http", self.http), ("https", self.https)];
        let spoken = schemes.into_iter().filter(|(_, spoken)| *spoken);
        spoken.map(move |(scheme, _)| format!("{scheme}://{host}"))
    }
}

/// A URL like `http://host:port` as scheme and `host:port`.
///
/// # Errors
/// When it is not such a URL; the text names the flag.
pub fn parse<'u>(url: &'u str, flag: &str) -> anyhow::Result<(&'static str, &'u str)> {
    let url = url.trim();
    let (scheme, host) = match url.split_once("://") {
        Some(("http", host)) => ("http", host),
        Some(("https", host)) => ("https", host),
        _ => bail!("{flag}: {url:?} is not a URL like http://127.0.0.1:2379"),
    };
    let host = host.trim_end_matches('/');
    let (name, port) = host
        .rsplit_once(':')
        .with_context(|| format!("{flag}: {url:?} has no port"))?;
    let port: Result<u16, _> = port.parse();
    ensure!(port.is_ok(), "{flag}: {url:?} has no valid port");
    ensure!(
        !name.is_empty() && !name.contains('/'),
        "{flag}: {url:?} has no valid host"
    );
    Ok((scheme, host))
}

/// A URL as members know it: without spaces and slashes around it.
///
/// # Errors
/// See [`parse`].
pub fn normal(url: &str, flag: &str) -> anyhow::Result<String> {
    let (scheme, host) = parse(url, flag)?;
    Ok(format!("{scheme}://{host}"))
}

/// Where to listen. An address with both schemes is one socket.
///
/// # Errors
/// See [`parse`].
pub fn listen(urls: &[String], flag: &str) -> anyhow::Result<Vec<Listen>> {
    let mut all: Vec<Listen> = Vec::new();
    for url in urls {
        let (scheme, host) = parse(url, flag)?;
        let at = match all.iter().position(|listen| listen.address == host) {
            Some(at) => at,
            None => {
                all.push(Listen {
                    address: host.to_owned(),
                    http: false,
                    https: false,
                });
                all.len() - 1
            }
        };
        match scheme {
            "https" => all[at].https = true,
            _ => all[at].http = true,
        }
    }
    Ok(all)
}

/// What is advertised: what was given, or else where this node listens, under a name that others can use.
///
/// # Errors
/// See [`parse`].
pub fn advertised(
    given: &[String],
    listen: &[Listen],
    host_name: &str,
    flag: &str,
) -> anyhow::Result<Vec<String>> {
    if !given.is_empty() {
        return given.iter().map(|url| normal(url, flag)).collect();
    }
    let reachable = listen.iter().flat_map(|listen| {
        let host = match listen.address.rsplit_once(':') {
            Some(("0.0.0.0" | "[::]", port)) => format!("{host_name}:{port}"),
            _ => listen.address.clone(),
        };
        listen.urls(&host).collect::<Vec<_>>()
    });
    Ok(reachable.collect())
}

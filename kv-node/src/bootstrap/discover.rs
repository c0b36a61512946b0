//! Finding other nodes: names into addresses, addresses into answers.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{
    BootstrapError,
    control::{ControlClient, Hello, Speaks},
};

/// The peer port where a name has none.
pub const DEFAULT_PEER_PORT: u16 = 2380;
/// Addresses asked in one round, at most.
const ADDRESSES_MAX: usize = 256;

/// Resolves names (`host`, `host:port`, `http://host:port` or `https://host:port`) to the peer URLs of all
/// their addresses: a name may stand for many nodes. With TLS, what certificates are held against stands
/// behind `#`: the name, which they have in common, and not an address. Names that do not resolve come
/// second: their nodes may not have started yet.
pub async fn resolve(names: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut urls, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        let (scheme, host) = name.split_once("://").unwrap_or(("http", name));
        let host = host.trim_end_matches('/');
        let with_port = if host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            host.to_owned()
        } else {
            format!("{host}:{DEFAULT_PEER_PORT}")
        };
        match tokio::net::lookup_host(&with_port).await {
            Ok(addresses) => {
                let name = with_port.rsplit_once(':').map_or(host, |(name, _)| name);
                let suffix = if scheme == "https" {
                    format!("#{name}")
                } else {
                    String::new()
                };
                urls.extend(addresses.map(|address: SocketAddr| format!("{scheme}://{address}{suffix}")));
            }
            Err(error) => {
                tracing::debug!(name, %error, "name does not resolve yet");
                unknown.push(name.clone());
            }
        }
    }
    urls.sort();
    urls.dedup();
    urls.truncate(ADDRESSES_MAX);
    (urls, unknown)
}

/// Who answered, by node id, with the URL at which it did.
pub type Answers = BTreeMap<u64, (String, Hello)>;

/// Asks all addresses at once who is there; `own` is left out.
///
/// # Errors
/// [`BootstrapError::VersionsApart`].
pub async fn ask_all(client: &ControlClient, urls: &[String], own: u64) -> Result<Answers, BootstrapError> {
    let answers = ask_each(client, urls).await?.into_iter();
    let others = answers.filter(|(_, hello)| hello.seen.node_id != own);
    Ok(others
        .map(|(url, hello)| (hello.seen.node_id, (url, hello)))
        .collect())
}

/// The answers of all addresses, this node's own among them.
///
/// # Errors
/// [`BootstrapError::VersionsApart`].
pub async fn ask_each(
    client: &ControlClient,
    urls: &[String],
) -> Result<Vec<(String, Hello)>, BootstrapError> {
    let asked = urls
        .iter()
        .map(|url| async move { (url.clone(), client.hello(url).await) });
    let mut answers = Vec::new();
    for (url, answer) in futures::future::join_all(asked).await {
        match answer {
            Ok(hello) if !hello.speaks.is_understood() => {
                return Err(BootstrapError::VersionsApart {
                    url,
                    theirs: hello.speaks,
                    ours: Speaks::OURS,
                });
            }
            Ok(hello) => answers.push((url, hello)),
            Err(error) => tracing::debug!(url, %error, "no answer"),
        }
    }
    Ok(answers)
}

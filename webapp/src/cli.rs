//! The arguments of the web app, and its run from start to end. Mounted by the `webapp` binary and by `quorate web`.

use crate::announce::Instance;
use crate::app::App;
use crate::clock::SystemClock;
use crate::live::Names;
use crate::registry::{CALL_TIMEOUT, Registry};
use crate::server::Server;
use anyhow::Context;
use kv_client::{Client, Config, Tls};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The value of `--advertise` for what this host calls itself.
const AUTO: &str = "auto";
/// The longest host name, as in DNS.
const HOST_NAME_BYTES_MAX: usize = 253;

/// Arguments of the web app.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to serve the page on
    #[arg(
        long,
        env = "QUORATE_WEB_LISTEN",
        value_name = "HOST:PORT",
        default_value = "0.0.0.0:3000"
    )]
    pub listen: String,

    /// Where the store is: the balancer, or nodes, separated by commas
    #[arg(
        long,
        env = "QUORATE_ENDPOINTS",
        value_name = "URL[,URL...]",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    pub endpoints: Vec<String>,

    /// Name of this host, shown on the page and kept with every name it registers [default: the host's own name]
    #[arg(long, env = "QUORATE_HOST_NAME", value_name = "NAME", value_parser = host_name)]
    pub host_name: Option<String>,

    /// Where others reach this instance, announced in the store for the balancer; "auto": host name and port
    #[arg(long, env = "QUORATE_WEB_ADVERTISE", value_name = "URL", value_parser = advertised)]
    pub advertise: Option<String>,

    /// CAs of the store, for https endpoints [default: those of this system]
    #[arg(long, env = "QUORATE_WEB_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,

    /// Certificate to show to the store
    #[arg(long, env = "QUORATE_WEB_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,

    /// Its key
    #[arg(long, env = "QUORATE_WEB_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Serves until `shutdown` resolves, then drains.
///
/// # Errors
/// A malformed endpoint, or an address that cannot be listened on. A store that does not answer is none: the page
/// says so until it does.
pub async fn run(args: Args, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    let Args {
        listen,
        endpoints,
        host_name,
        advertise,
        cacert,
        cert,
        key,
    } = args;
    let host = host_name.unwrap_or_else(own_host_name);
    let config = Config {
        request_timeout: CALL_TIMEOUT,
        tls: Tls {
            ca: cacert,
            cert,
            key,
            insecure_skip_verify: false,
        },
        ..Config::new(endpoints.iter())
    };
    let client = Client::new(config).context("--endpoints")?;
    let server = Server::bind(&listen).await?;
    let address = server.local_addr()?;
    tracing::info!(%address, host, endpoints = endpoints.join(","), "serving");
    let stop = CancellationToken::new();
    let announced = advertise.map(|url| {
        let address = if url == AUTO {
            format!("http://{}:{}", own_host_name(), address.port())
        } else {
            url
        };
        let instance = Instance {
            address,
            host: host.clone(),
        };
        tokio::spawn(instance.announce(client.clone(), stop.clone().cancelled_owned()))
    });
    let names = Arc::new(Names::default());
    let following = tokio::spawn(
        names
            .clone()
            .follow(client.clone(), stop.clone().cancelled_owned()),
    );
    let app = App::new(Registry::new(client), names, Arc::new(SystemClock), host);
    let stopping = async {
        shutdown.await;
        // First of all nobody is to be sent here any more, and the pages that listen are to go elsewhere.
        stop.cancel();
        if let Some(announced) = announced {
            let _ = announced.await;
        }
    };
    server.serve(app.router(), stopping).await;
    following.await?;
    tracing::info!("stopped");
    Ok(())
}

fn own_host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

fn advertised(text: &str) -> Result<String, String> {
    if text == AUTO {
        return Ok(text.to_owned());
    }
    let url: http::Uri = text.parse().map_err(|_| "it is not a URL".to_owned())?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("give a URL such as http://web-1:3000, or auto".to_owned()),
    }
}

fn host_name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > HOST_NAME_BYTES_MAX {
        return Err(format!("it has more than {HOST_NAME_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("it contains a control character".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_urls() {
        for good in ["auto", "http://web-1:3000", "https://10.0.0.7"] {
            assert_eq!(advertised(good), Ok(good.to_owned()));
        }
        for bad in ["", "web-1:3000", "ftp://web-1", "http://"] {
            assert!(advertised(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_names() {
        assert_eq!(host_name(" web-1 "), Ok("web-1".to_owned()));
        assert!(host_name("").is_err());
        assert!(host_name("a\nb").is_err());
        assert!(host_name(&"a".repeat(254)).is_err());
        assert!(!own_host_name().is_empty());
    }
}

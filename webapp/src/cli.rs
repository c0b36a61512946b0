//! The arguments of the web app, and its run from start to end. Mounted by the `webapp` binary and by `quorate web`.

use crate::app::App;
use crate::clock::SystemClock;
use crate::registry::{CALL_TIMEOUT, Registry};
use crate::server::Server;
use anyhow::Context;
use kv_client::{Client, Config};
use std::future::Future;
use std::sync::Arc;

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
    } = args;
    let host = host_name.unwrap_or_else(own_host_name);
    let config = Config {
        request_timeout: CALL_TIMEOUT,
        ..Config::new(endpoints.iter())
    };
    let client = Client::new(config).context("--endpoints")?;
    let server = Server::bind(&listen).await?;
    let address = server.local_addr()?;
    tracing::info!(%address, host, endpoints = endpoints.join(","), "serving");
    let app = App::new(Registry::new(client), Arc::new(SystemClock), host);
    server.serve(app.router(), shutdown).await;
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
    fn host_names() {
        assert_eq!(host_name(" web-1 "), Ok("web-1".to_owned()));
        assert!(host_name("").is_err());
        assert!(host_name("a\nb").is_err());
        assert!(host_name(&"a".repeat(254)).is_err());
        assert!(!own_host_name().is_empty());
    }
}

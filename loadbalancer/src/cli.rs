//! The balancer's command line, mounted by its own binary and by `quorate balancer`.

use std::net::SocketAddr;
use std::time::Duration;

use kv_client::Client;
use kv_tls::TlsError;

use crate::balancer::{Config, PoolConfig};
use crate::check::CheckTiming;
use crate::health::Thresholds;
use crate::seed::Seed;
use crate::serve::ListenerLimits;
use crate::tls::TlsArgs;
use crate::upstream::Limits;

/// Port of a storage node where a seed names none.
const NODE_PORT: u16 = 2379;
/// Port of a web app where a seed names none.
const WEB_PORT: u16 = 3000;

/// Balance gRPC and HTTP over storage nodes, and HTTP over web apps.
///
/// Finds the nodes by the names in --seed and then by the cluster's own member list, and web apps by the
/// names in --web-seed or by what they announce (--web-service); names are looked up again all the time. A listener
/// without any of these is not opened.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address for clients of the storage nodes (gRPC and HTTP).
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:2379",
        env = "QUORATE_LISTEN_CLIENT"
    )]
    pub listen_client: SocketAddr,
    /// Address for clients of the web apps (HTTP).
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:8080",
        env = "QUORATE_LISTEN_HTTP"
    )]
    pub listen_http: SocketAddr,
    /// Address for the stats page, /stats.json, /metrics, /livez and /readyz.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:8404",
        env = "QUORATE_LISTEN_STATS"
    )]
    pub listen_stats: SocketAddr,
    /// Storage nodes: names or addresses, separated by commas; a name may have many addresses.
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',', env = "QUORATE_SEED",
        value_parser = parse_node_seed, required_unless_present = "web_seed")]
    pub seed: Vec<Seed>,
    /// Web apps, in the same form.
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',', env = "QUORATE_WEB_SEED",
        value_parser = parse_web_seed)]
    pub web_seed: Vec<Seed>,
    /// The service under which web apps announce themselves in the store, as services/NAME/…; needs --seed.
    #[arg(long, value_name = "NAME", env = "QUORATE_WEB_SERVICE", requires = "seed", value_parser = parse_service)]
    pub web_service: Option<String>,
    /// Time from one look at names and member list to the next.
    #[arg(long, value_name = "TIME", default_value = "1s", env = "QUORATE_DISCOVERY_INTERVAL",
        value_parser = parse_time)]
    pub discovery_interval: Duration,
    /// Time from one health check of a backend to the next.
    #[arg(long, value_name = "TIME", default_value = "500ms", env = "QUORATE_CHECK_INTERVAL",
        value_parser = parse_time)]
    pub check_interval: Duration,
    /// A health check that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "500ms", env = "QUORATE_CHECK_TIMEOUT",
        value_parser = parse_time)]
    pub check_timeout: Duration,
    /// Good checks in a row that bring a backend back.
    #[arg(long, value_name = "N", default_value_t = 2, env = "QUORATE_RISE",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rise: u32,
    /// Failed checks in a row that take a backend out.
    #[arg(long, value_name = "N", default_value_t = 2, env = "QUORATE_FALL",
        value_parser = clap::value_parser!(u32).range(1..=100))]
    pub fall: u32,
    /// Failed requests in a row that eject a backend for a while; a refused connection does at once.
    #[arg(long, value_name = "N", default_value_t = 5, env = "QUORATE_EJECT_AFTER",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub eject_after: u32,
    /// Length of a first ejection; it doubles each time, up to 30 s.
    #[arg(long, value_name = "TIME", default_value = "1s", env = "QUORATE_EJECT_TIME",
        value_parser = parse_time)]
    pub eject_time: Duration,
    /// Time to make a connection to a backend.
    #[arg(long, value_name = "TIME", default_value = "1s", env = "QUORATE_CONNECT_TIMEOUT",
        value_parser = parse_time)]
    pub connect_timeout: Duration,
    /// Time in which an HTTP request must begin to be answered (gRPC calls have their own deadlines).
    #[arg(long, value_name = "TIME", default_value = "60s", env = "QUORATE_RESPONSE_TIMEOUT",
        value_parser = parse_time)]
    pub response_timeout: Duration,
    /// Time for a client to send the head of a request; idle HTTP/1.1 connections end after it too.
    #[arg(long, value_name = "TIME", default_value = "30s", env = "QUORATE_HEADER_TIMEOUT",
        value_parser = parse_time)]
    pub header_timeout: Duration,
    /// On SIGTERM, time for requests in flight to finish.
    #[arg(long, value_name = "TIME", default_value = "10s", env = "QUORATE_DRAIN_TIMEOUT",
        value_parser = parse_time)]
    pub drain_timeout: Duration,
    /// Client connections per listener.
    #[arg(long, value_name = "N", default_value_t = 4096, env = "QUORATE_MAX_CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Requests in flight per backend; what is more is answered with 503 or RESOURCE_EXHAUSTED.
    #[arg(long, value_name = "N", default_value_t = 4096, env = "QUORATE_MAX_IN_FLIGHT",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_in_flight: u32,
    /// HTTP/2 connections to each storage node.
    #[arg(long, value_name = "N", default_value_t = 2, env = "QUORATE_NODE_CONNECTIONS",
        value_parser = clap::value_parser!(u32).range(1..=64))]
    pub node_connections: u32,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl Args {
    /// The configuration that these arguments describe.
    ///
    /// # Errors
    /// When certificates cannot be used; the text names flag and file.
    pub fn into_config(self) -> Result<Config, kv_client::Error> {
        let tls_error = |error: TlsError| kv_client::Error::Tls {
            message: error.to_string(),
        };
        let backend_tls = self.tls.backends(&self.seed, &self.web_seed).map_err(tls_error)?;
        let listen_tls = self.tls.listeners().map_err(tls_error)?;
        let service = match &self.web_service {
            None => None,
            Some(service) => Some((service.clone(), self.store()?)),
        };
        let pool = |flag, listen, seeds: Vec<Seed>, service: Option<(String, Client)>| {
            let is_wanted = !seeds.is_empty() || service.is_some();
            is_wanted.then_some(PoolConfig {
                flag,
                listen,
                seeds,
                service,
            })
        };
        Ok(Config {
            nodes: pool("--listen-client", self.listen_client, self.seed, None),
            web: pool("--listen-http", self.listen_http, self.web_seed, service),
            stats: self.listen_stats,
            discovery_interval: self.discovery_interval,
            drain_timeout: self.drain_timeout,
            check: CheckTiming {
                interval: self.check_interval,
                timeout: self.check_timeout,
            },
            thresholds: Thresholds {
                rise: self.rise,
                fall: self.fall,
                eject_after: self.eject_after,
                eject_base: self.eject_time,
                ..Thresholds::default()
            },
            limits: Limits {
                http2_connections: self.node_connections as usize,
                in_flight_max: self.max_in_flight as usize,
                connect_timeout: self.connect_timeout,
                response_timeout: self.response_timeout,
                ..Limits::default()
            },
            listener: ListenerLimits {
                connections_max: self.max_connections as usize,
                header_timeout: self.header_timeout,
            },
            backend_tls,
            listen_tls,
        })
    }

    /// A client of the nodes, for what the balancer itself wants to know from the store.
    fn store(&self) -> Result<Client, kv_client::Error> {
        let scheme = |seed: &Seed| if seed.tls { "" } else { "http://" };
        let mut config =
            kv_client::Config::new(self.seed.iter().map(|seed| format!("{}{seed}", scheme(seed))));
        config.tls = kv_client::Tls {
            ca: self.tls.backend_cacert.clone(),
            cert: self.tls.backend_cert.clone(),
            key: self.tls.backend_key.clone(),
            insecure_skip_verify: false,
        };
        Client::new(config)
    }
}

fn parse_service(text: &str) -> Result<String, String> {
    let valid = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if text.is_empty() || !text.chars().all(valid) {
        return Err("give a name of letters, digits, '-', '.' and '_'".into());
    }
    Ok(text.to_owned())
}

fn parse_node_seed(text: &str) -> Result<Seed, String> {
    Seed::parse(text, NODE_PORT).map_err(|e| e.to_string())
}

fn parse_web_seed(text: &str) -> Result<Seed, String> {
    Seed::parse(text, WEB_PORT).map_err(|e| e.to_string())
}

/// Reads `500ms`, `2s`, `1m`; nothing is not a time, and neither is more than a day.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let ms = digits
        .parse::<u64>()
        .ok()
        .zip(unit_ms)
        .and_then(|(n, unit)| n.checked_mul(unit));
    match ms {
        Some(ms @ 1..=86_400_000) => Ok(Duration::from_millis(ms)),
        _ => Err("give a time such as 500ms, 2s or 1m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(args: &[&str]) -> Result<Args, String> {
        let all = std::iter::once("loadbalancer").chain(args.iter().copied());
        Cli::try_parse_from(all)
            .map(|cli| cli.args)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_and_seeds() {
        let args = parse(&["--seed", "kv-node,10.0.0.2:12379", "--web-seed", "webapp"]).unwrap();
        let shown: Vec<String> = args
            .seed
            .iter()
            .chain(&args.web_seed)
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["kv-node:2379", "10.0.0.2:12379", "webapp:3000"]);
        assert_eq!(args.check_interval, Duration::from_millis(500));
        let config = args.into_config().unwrap();
        assert_eq!(config.nodes.unwrap().listen.port(), 2379);
    }

    #[test]
    fn a_listener_without_seeds_is_not_configured() {
        let config = parse(&["--web-seed", "webapp"]).unwrap().into_config().unwrap();
        assert!(config.nodes.is_none() && config.web.is_some());
    }

    #[test]
    fn a_service_stands_for_seeds() {
        let args = parse(&["--seed", "kv-node", "--web-service", "webapp"]).unwrap();
        let web = args.into_config().unwrap().web.unwrap();
        assert_eq!((web.seeds.len(), web.service.unwrap().0.as_str()), (0, "webapp"));
    }

    #[test]
    fn errors_name_the_flag() {
        for (args, flag) in [
            (&[][..], "--seed"),
            (&["--seed", "a", "--check-interval", "5"], "--check-interval"),
            (&["--seed", "a", "--check-interval", "0s"], "--check-interval"),
            (&["--seed", "a", "--listen-http", "8080"], "--listen-http"),
            (&["--seed", "https://:1"], "--seed"),
            (&["--seed", "a", "--rise", "0"], "--rise"),
            (&["--web-seed", "a", "--web-service", "webapp"], "--seed"),
            (&["--seed", "a", "--web-service", "a/b"], "--web-service"),
            (&["--seed", "a", "--sead", "b"], "--sead"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(flag), "{error}");
        }
    }
}

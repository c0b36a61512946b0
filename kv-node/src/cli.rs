//! The command line of a node. Where etcd has a flag with the same meaning, ours has its name, so that
//! a script that starts etcd starts `kv-node` in its place.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::{
    auth::{TokenKind, TokenOptions},
    bootstrap::Bootstrap,
    compaction::Retention,
    corruption::Checks,
    etcd_flags::EtcdFlags,
    membership::autopilot::Policy,
    node::{Config, Limits},
    tls::TlsArgs,
    urls,
};

/// What a flag without its own says of bytes.
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;
/// The shortest election timeout, in heartbeats: below it one late heartbeat makes an election.
const ELECTION_HEARTBEATS_MIN: u64 = 2;

/// The shortest `--reap-after`: longer than a restart.
const REAP_AFTER_MIN: Duration = Duration::from_secs(5);

/// Arguments of a storage node.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of this member [default: the host name; with --initial-cluster: default]
    #[arg(long, env = "QUORATE_NAME")]
    pub name: Option<String>,
    /// Where this member keeps its data [default: NAME.quorate]
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen for clients
    #[arg(
        long,
        env = "QUORATE_LISTEN_CLIENT_URLS",
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    pub listen_client_urls: Vec<String>,
    /// Where clients reach this member [default: the listen URLs, with the host name for 0.0.0.0]
    #[arg(
        long,
        env = "QUORATE_ADVERTISE_CLIENT_URLS",
        value_name = "URLS",
        value_delimiter = ','
    )]
    pub advertise_client_urls: Vec<String>,
    /// Where to listen for other members
    #[arg(
        long,
        env = "QUORATE_LISTEN_PEER_URLS",
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    pub listen_peer_urls: Vec<String>,
    /// Where other members reach this one [default: the listen URLs, with the host name for 0.0.0.0]
    #[arg(
        long,
        env = "QUORATE_INITIAL_ADVERTISE_PEER_URLS",
        value_name = "URLS",
        value_delimiter = ','
    )]
    pub initial_advertise_peer_urls: Vec<String>,
    /// The founders of the cluster, as name=peer-url pairs
    #[arg(long, env = "QUORATE_INITIAL_CLUSTER", value_name = "NAME=URL,…", value_delimiter = ',', conflicts_with_all = ["join", "bootstrap_expect"])]
    pub initial_cluster: Vec<String>,
    /// Whether --initial-cluster founds a cluster or names one to join
    #[arg(
        long,
        env = "QUORATE_INITIAL_CLUSTER_STATE",
        value_enum,
        default_value = "new"
    )]
    pub initial_cluster_state: ClusterState,
    /// Tells clusters with the same founders apart
    #[arg(
        long,
        env = "QUORATE_INITIAL_CLUSTER_TOKEN",
        value_name = "TOKEN",
        default_value = "etcd-cluster"
    )]
    pub initial_cluster_token: String,
    /// Hosts to find the cluster at; one DNS name may stand for many members
    #[arg(
        long,
        env = "QUORATE_JOIN",
        value_name = "HOST[:PORT],…",
        value_delimiter = ','
    )]
    pub join: Vec<String>,
    /// Found a cluster once so many nodes have found each other; a cluster that exists is joined instead
    #[arg(long, env = "QUORATE_BOOTSTRAP_EXPECT", value_name = "N", requires = "join", value_parser = clap::value_parser!(u16).range(1..=7))]
    pub bootstrap_expect: Option<u16>,
    /// Most voting members; further ones stay learners
    #[arg(long, env = "QUORATE_MAX_VOTERS", value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=7))]
    pub max_voters: u16,
    /// Fewest voters: below, none is removed that nothing replaces, and none leaves
    #[arg(long, env = "QUORATE_MIN_VOTERS", value_name = "N", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=7))]
    pub min_voters: u16,
    /// How long a member must be silent for the leader to replace and remove it; 0 for never
    #[arg(long, env = "QUORATE_REAP_AFTER", value_name = "DURATION", default_value = "10m", value_parser = duration_or_never)]
    pub reap_after: Duration,
    /// What fails together with this member, such as a rack: voters are spread over zones
    #[arg(
        long,
        env = "QUORATE_ZONE",
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    pub zone: String,
    /// Leave the cluster for good when stopped (SIGTERM), unless that costs the quorum or --min-voters
    #[arg(long, env = "QUORATE_LEAVE_ON_TERMINATE")]
    pub leave_on_terminate: bool,
    /// Most learners that clients may add; those that join by themselves do not count
    #[arg(long, env = "QUORATE_MAX_LEARNERS", value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub max_learners: u16,
    /// Bound on the live bytes of keys and values, 0 for 2 GiB
    #[arg(
        long,
        env = "QUORATE_QUOTA_BACKEND_BYTES",
        value_name = "BYTES",
        default_value = "0"
    )]
    pub quota_backend_bytes: u64,
    /// What --auto-compaction-retention counts
    #[arg(
        long,
        env = "QUORATE_AUTO_COMPACTION_MODE",
        value_name = "MODE",
        default_value = "periodic",
        value_parser = ["periodic", "revision"]
    )]
    pub auto_compaction_mode: String,
    /// History to keep: hours or a time like 5m, or a number of revisions; 0 keeps all
    #[arg(
        long,
        env = "QUORATE_AUTO_COMPACTION_RETENTION",
        value_name = "N",
        default_value = "0"
    )]
    pub auto_compaction_retention: String,
    /// Compare this member with the others once it has started
    #[arg(
        long,
        alias = "experimental-initial-corrupt-check",
        env = "QUORATE_INITIAL_CORRUPT_CHECK",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub initial_corrupt_check: bool,
    /// How often the leader compares all members; a member that differs gets the alarm CORRUPT; 0 never
    #[arg(long, alias = "experimental-corrupt-check-time", env = "QUORATE_CORRUPT_CHECK_TIME", value_name = "DURATION", default_value = "1h", value_parser = duration_or_zero)]
    pub corrupt_check_time: Duration,
    /// Largest request
    #[arg(long, env = "QUORATE_MAX_REQUEST_BYTES", value_name = "BYTES", default_value = "1572864", value_parser = clap::value_parser!(u32).range(1024..=(32 << 20)))]
    pub max_request_bytes: u32,
    /// Most operations of a transaction
    #[arg(long, env = "QUORATE_MAX_TXN_OPS", value_name = "N", default_value = "128", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_txn_ops: u16,
    /// Time between heartbeats
    #[arg(long, env = "QUORATE_HEARTBEAT_INTERVAL", value_name = "MS", default_value = "50", value_parser = clap::value_parser!(u64).range(5..=10_000))]
    pub heartbeat_interval: u64,
    /// Time without a sign of the leader after which an election is near; it starts within twice that
    #[arg(long, env = "QUORATE_ELECTION_TIMEOUT", value_name = "MS", default_value = "250", value_parser = clap::value_parser!(u64).range(20..=50_000))]
    pub election_timeout: u64,
    /// Entries between two points at which the log may be purged
    #[arg(long, env = "QUORATE_SNAPSHOT_COUNT", value_name = "N", default_value = "25000", value_parser = clap::value_parser!(u64).range(10..))]
    pub snapshot_count: u64,
    /// Longest time a request may wait
    #[arg(long, env = "QUORATE_REQUEST_TIMEOUT", value_name = "MS", default_value = "5000", value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub request_timeout: u64,
    /// How often a quiet watch is told how far it is, if it wants to know; such as 10m or 5s
    #[arg(long, alias = "experimental-watch-progress-notify-interval", env = "QUORATE_WATCH_PROGRESS_NOTIFY_INTERVAL", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub watch_progress_notify_interval: Duration,
    /// Tokens of users: simple, or jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=5m; the same on all members
    #[arg(
        long,
        env = "QUORATE_AUTH_TOKEN",
        value_name = "KIND",
        default_value = "simple"
    )]
    pub auth_token: String,
    /// Seconds that a simple token lasts
    #[arg(long, env = "QUORATE_AUTH_TOKEN_TTL", value_name = "S", default_value = "300", value_parser = clap::value_parser!(u32).range(1..))]
    pub auth_token_ttl: u32,
    /// debug, info, warn or error; a tracing filter works too
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Flags of etcd that have no meaning here.
    #[command(flatten)]
    pub etcd: EtcdFlags,
}

/// etcd's `--initial-cluster-state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClusterState {
    /// The listed members found a cluster.
    New,
    /// The listed members are a cluster that this one joins.
    Existing,
}

impl Args {
    /// `--log-level` as a filter of tracing. etcd's levels mean what they do there; openraft says a great
    /// deal at `info`, so that level is for everything else.
    pub fn log_filter(&self) -> String {
        match self.log_level.as_str() {
            "info" => "info,openraft=error".to_owned(),
            "dpanic" | "panic" | "fatal" => "error".to_owned(),
            filter => filter.to_owned(),
        }
    }

    /// The configuration these arguments mean.
    ///
    /// # Errors
    /// When they contradict each other or a URL is malformed; the text names the flag.
    pub fn config(self) -> anyhow::Result<Config> {
        self.etcd.check()?;
        ensure!(
            self.election_timeout >= ELECTION_HEARTBEATS_MIN * self.heartbeat_interval,
            "--election-timeout {} is too short for --heartbeat-interval {}: make it at least {ELECTION_HEARTBEATS_MIN} times as long",
            self.election_timeout,
            self.heartbeat_interval
        );
        let retention = Retention::parse(&self.auto_compaction_mode, &self.auto_compaction_retention)
            .map_err(|wrong| {
                anyhow::anyhow!(
                    "--auto-compaction-retention {:?}: {wrong}",
                    self.auto_compaction_retention
                )
            })?;
        let host = host_name();
        let static_start = !self.initial_cluster.is_empty();
        let name = self.name.clone().unwrap_or_else(|| {
            if static_start {
                "default".into()
            } else {
                host.clone()
            }
        });
        let listen_client = urls::listen(&self.listen_client_urls, "--listen-client-urls")?;
        let listen_peer = urls::listen(&self.listen_peer_urls, "--listen-peer-urls")?;
        let client_urls = urls::advertised(
            &self.advertise_client_urls,
            &listen_client,
            &host,
            "--advertise-client-urls",
        )?;
        let peer_urls = urls::advertised(
            &self.initial_advertise_peer_urls,
            &listen_peer,
            &host,
            "--initial-advertise-peer-urls",
        )?;
        let bootstrap = self.bootstrap(&name, &peer_urls)?;
        let tls = self.tls.config(&listen_client, &listen_peer, &bootstrap.urls())?;
        let tokens = TokenOptions {
            kind: TokenKind::parse(&self.auth_token).context("--auth-token")?,
            simple_ttl: Duration::from_secs(self.auth_token_ttl.into()),
            client_certificates: self.tls.client_cert_auth,
        };
        Ok(Config {
            data_dir: self
                .data_dir
                .unwrap_or_else(|| PathBuf::from(format!("{name}.quorate"))),
            name,
            listen_client,
            client_urls,
            listen_peer,
            peer_urls,
            tls,
            bootstrap,
            zone: self.zone,
            autopilot: Policy {
                min_voters: self.min_voters.into(),
                max_voters: self.max_voters.into(),
                reap_after: Some(self.reap_after).filter(|after| !after.is_zero()),
            },
            leave_on_terminate: self.leave_on_terminate,
            max_learners: self.max_learners.into(),
            quota_bytes: if self.quota_backend_bytes == 0 {
                DEFAULT_QUOTA_BYTES
            } else {
                self.quota_backend_bytes
            },
            retention,
            corruption_checks: Checks {
                at_start: self.initial_corrupt_check,
                interval: Some(self.corrupt_check_time).filter(|interval| !interval.is_zero()),
            },
            heartbeat_interval_ms: self.heartbeat_interval,
            election_timeout_ms: self.election_timeout,
            snapshot_count: self.snapshot_count,
            watch_progress_interval: self.watch_progress_notify_interval,
            limits: Limits {
                max_request_bytes: self.max_request_bytes as usize,
                max_txn_ops: self.max_txn_ops.into(),
                request_timeout: Duration::from_millis(self.request_timeout),
            },
            tokens,
        })
    }

    fn bootstrap(&self, name: &str, peer_urls: &[String]) -> anyhow::Result<Bootstrap> {
        if !self.join.is_empty() {
            return Ok(Bootstrap::Dynamic {
                join: self
                    .join
                    .iter()
                    .map(|host| with_scheme(host, peer_urls))
                    .collect(),
                expect: self.bootstrap_expect.map(usize::from),
            });
        }
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in &self.initial_cluster {
            let Some((name, url)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
                bail!("--initial-cluster: {pair:?} is not NAME=URL");
            };
            let url = urls::normal(url, "--initial-cluster")?;
            members.entry(name.to_owned()).or_default().push(url);
        }
        if members.is_empty() {
            // As etcd: without a list, a cluster of this node alone.
            members.insert(name.to_owned(), peer_urls.to_vec());
        }
        Ok(Bootstrap::Static {
            members,
            token: self.initial_cluster_token.clone(),
            existing: self.initial_cluster_state == ClusterState::Existing,
        })
    }
}

/// A duration as etcd's flags have it: numbers with units, such as `1h30m` or `500ms`.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => bail!("{text:?} is not a duration such as 10m, 1h30m or 500ms"),
        };
        let number = number
            .parse()
            .with_context(|| format!("{text:?} is not a duration"))?;
        let part = unit.checked_mul(number).context("too long")?;
        total = total.checked_add(part).context("too long")?;
        rest = after;
    }
    ensure!(!total.is_zero(), "must be longer than nothing");
    Ok(total)
}

/// A duration, or 0.
fn duration_or_never(text: &str) -> anyhow::Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = duration(text)?;
    ensure!(
        duration >= REAP_AFTER_MIN,
        "{text} is too short: a member that is restarted would be taken for dead; at least 5s, or 0 for never"
    );
    Ok(duration)
}

/// The same, and `0`, with or without a unit.
fn duration_or_zero(text: &str) -> anyhow::Result<Duration> {
    match text {
        "0" | "0ms" | "0s" | "0m" | "0h" => Ok(Duration::ZERO),
        text => duration(text),
    }
}

/// This machine's name, as other machines on its network know it.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A host to join, with the scheme of this node's own peer URLs where it has none.
fn with_scheme(host: &str, peer_urls: &[String]) -> String {
    let https = peer_urls.iter().any(|url| url.starts_with("https://"));
    if https && !host.contains("://") {
        format!("https://{host}")
    } else {
        host.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn config(line: &str) -> anyhow::Result<Config> {
        let words = std::iter::once("kv-node").chain(line.split_whitespace());
        Line::try_parse_from(words)?.args.config()
    }

    #[test]
    fn takes_a_start_line_of_etcd() {
        let config = config(
            "--name n1 --data-dir d --listen-client-urls http://127.0.0.1:12379 \
             --advertise-client-urls http://127.0.0.1:12379 --listen-peer-urls http://127.0.0.1:12380 \
             --initial-advertise-peer-urls http://127.0.0.1:12380 --initial-cluster-token t \
             --initial-cluster n1=http://127.0.0.1:12380,n2=http://127.0.0.1:22380 --initial-cluster-state new",
        )
        .unwrap();
        assert_eq!(
            (config.name.as_str(), config.listen_client.as_slice()),
            ("n1", &["127.0.0.1:12379".to_owned().into()][..])
        );
        let Bootstrap::Static {
            members,
            token,
            existing,
        } = config.bootstrap
        else {
            panic!("static")
        };
        assert_eq!((members.len(), token.as_str(), existing), (2, "t", false));
    }

    #[test]
    fn takes_etcds_flags_that_change_nothing() {
        config("--bcrypt-cost 12 --enable-v2=false --pre-vote --strict-reconfig-check=true --logger=zap --log-outputs stdout").unwrap();
        config("--max-wals 3 --cors * --wal-dir= --auto-tls=false --experimental-enable-lease-checkpoint")
            .unwrap();
    }

    #[test]
    fn advertises_the_host_name_for_all_addresses() {
        let config =
            config("--listen-client-urls http://0.0.0.0:2379 --join kv-node --bootstrap-expect 3").unwrap();
        assert_eq!(config.client_urls, [format!("http://{}:2379", host_name())]);
        assert_eq!(
            config.bootstrap,
            Bootstrap::Dynamic {
                join: vec!["kv-node".into()],
                expect: Some(3)
            }
        );
    }

    #[test]
    fn takes_http_and_https() {
        let config = config(
            "--listen-client-urls http://127.0.0.1:1,https://127.0.0.1:1,https://127.0.0.1:2 --cert-file c --key-file k \
             --listen-peer-urls https://0.0.0.0:3 --peer-cert-file pc --peer-key-file pk --peer-trusted-ca-file ca \
             --peer-client-cert-auth --join kv-node",
        )
        .unwrap();
        let client_urls = ["http://127.0.0.1:1", "https://127.0.0.1:1", "https://127.0.0.1:2"];
        assert_eq!(config.client_urls, client_urls);
        assert_eq!(config.listen_client.len(), 2);
        assert_eq!(config.peer_urls, [format!("https://{}:3", host_name())]);
        assert!(config.tls.client.is_some_and(|files| files.trusted_ca.is_none()));
        assert!(
            config
                .tls
                .dial
                .is_some_and(|files| files.ca.is_some() && files.cert.is_some())
        );
        let Bootstrap::Dynamic { join, .. } = config.bootstrap else {
            panic!("dynamic")
        };
        assert_eq!(join, ["https://kv-node"]);
    }

    #[test]
    fn members_are_given_up_after_a_while_or_never() {
        assert_eq!(config("").unwrap().autopilot, Policy::default());
        let never = config("--reap-after 0 --min-voters 1 --max-voters 7")
            .unwrap()
            .autopilot;
        assert_eq!(
            (never.reap_after, never.min_voters, never.max_voters),
            (None, 1, 7)
        );
    }

    #[test]
    fn bad_values_name_the_flag() {
        for (line, expected) in [
            ("--listen-client-urls 127.0.0.1:2379", "--listen-client-urls"),
            ("--listen-peer-urls http://127.0.0.1", "has no port"),
            (
                "--listen-peer-urls https://127.0.0.1:1",
                "https://127.0.0.1:1 needs a certificate: give --peer-cert-file and --peer-key-file",
            ),
            (
                "--listen-client-urls https://127.0.0.1:1 --cert-file c",
                "--cert-file needs --key-file beside it",
            ),
            (
                "--listen-client-urls https://127.0.0.1:1 --cert-file c --key-file k --client-cert-auth",
                "--client-cert-auth needs --trusted-ca-file",
            ),
            ("--initial-cluster nonsense", "is not NAME=URL"),
            (
                "--heartbeat-interval 200 --election-timeout 300",
                "--election-timeout 300 is too short",
            ),
            ("--bootstrap-expect 3", "--join"),
            (
                "--auto-compaction-mode revision --auto-compaction-retention 1h",
                "--auto-compaction-retention \"1h\": a number of revisions is expected",
            ),
            ("--reap-after 1s", "is too short"),
            ("--no-such-flag", "--no-such-flag"),
            ("--force-new-cluster", "kv-node recover"),
            ("--wal-dir w", "mount a disk"),
            ("--enable-v2=true", "there is no v2 API"),
            ("--pre-vote=maybe", "--pre-vote"),
        ] {
            let error = config(line).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}

//! etcd's flags that a node has no use for, so that a script which starts etcd starts a node in its place.
//!
//! A flag that changes nothing a client or an operator relies on is accepted, with a line in the log. One whose
//! promise would be broken in silence is refused, and the reason says what to do instead. The value that says
//! what a node does anyway is always fine.

use anyhow::bail;
use clap::{Arg, ArgMatches, Command, error::Error};

/// What becomes of a flag that has another value than the fine ones.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// It is accepted, and this is why nothing changes.
    NoEffect(&'static str),
    /// It is refused, and this is why, or what to do instead.
    Refused(&'static str),
}

/// A flag of etcd.
#[derive(Debug)]
struct Flag {
    name: &'static str,
    /// Whether it may stand alone, which says `true`.
    is_switch: bool,
    /// What changes nothing.
    fine: &'static [&'static str],
    verdict: Verdict,
}

const fn flag(name: &'static str, fine: &'static [&'static str], verdict: Verdict) -> Flag {
    let is_switch = false;
    Flag {
        name,
        is_switch,
        fine,
        verdict,
    }
}

/// A flag that is on or off; `fine` is what a node does.
const fn switch(name: &'static str, fine: &'static [&'static str], verdict: Verdict) -> Flag {
    let is_switch = true;
    Flag {
        name,
        is_switch,
        fine,
        verdict,
    }
}

const OFF: &[&str] = &["false"];
const ON: &[&str] = &["true"];
const ENGINE: Verdict = Verdict::NoEffect("the store has no such setting");
const KEEPALIVE: Verdict = Verdict::NoEffect("quiet connections are probed every 10 s");
const DISCOVERY: Verdict = Verdict::Refused("give --join NAME and --bootstrap-expect N instead");
const REVOCATION: Verdict = Verdict::Refused("certificates cannot be revoked here: give them short lives");
const WHO_CONNECTS: Verdict =
    Verdict::Refused("who may connect is decided by the CA alone: use a CA of the cluster's own");
const SELF_SIGNED: Verdict = Verdict::Refused("a node makes no certificates: give it some");
const V2: Verdict = Verdict::Refused("there is no v2 API");
const V2_PROXY: Verdict = Verdict::NoEffect("there is no v2 proxy");
const TO_STDERR: Verdict = Verdict::NoEffect("a node logs to standard error");
const TRACING: Verdict = Verdict::NoEffect("there is no distributed tracing");

/// All of etcd 3.5's that are not among [`crate::cli::Args`].
const FLAGS: &[Flag] = &[
    flag(
        "config-file",
        &[],
        Verdict::Refused("give flags or QUORATE_… variables instead"),
    ),
    flag(
        "wal-dir",
        &[""],
        Verdict::Refused("the log is in --data-dir: mount a disk at its wal directory"),
    ),
    switch(
        "initial-election-tick-advance",
        ON,
        Verdict::NoEffect("elections start as soon as they may"),
    ),
    flag("max-snapshots", &[], Verdict::NoEffect("snapshots are not files")),
    flag(
        "max-wals",
        &[],
        Verdict::NoEffect("the log keeps what --snapshot-count says"),
    ),
    flag("backend-bbolt-freelist-type", &[], ENGINE),
    flag("backend-batch-interval", &[], ENGINE),
    flag("backend-batch-limit", &[], ENGINE),
    flag("grpc-keepalive-min-time", &[], KEEPALIVE),
    flag("grpc-keepalive-interval", &[], KEEPALIVE),
    flag("grpc-keepalive-timeout", &[], KEEPALIVE),
    switch(
        "socket-reuse-port",
        OFF,
        Verdict::Refused("a port belongs to one node"),
    ),
    switch("socket-reuse-address", ON, Verdict::NoEffect("it is always so")),
    flag("discovery", &[""], DISCOVERY),
    flag("discovery-fallback", &["proxy", "exit"], DISCOVERY),
    flag("discovery-proxy", &[""], DISCOVERY),
    flag("discovery-srv", &[""], DISCOVERY),
    flag("discovery-srv-name", &[""], DISCOVERY),
    switch(
        "strict-reconfig-check",
        ON,
        Verdict::Refused("changes that would cost the quorum are always refused"),
    ),
    switch(
        "pre-vote",
        ON,
        Verdict::Refused("elections always begin with a pre-vote"),
    ),
    switch("enable-v2", OFF, V2),
    flag("v2-deprecation", &[], Verdict::NoEffect("there is no v2 store")),
    flag("client-crl-file", &[""], REVOCATION),
    flag("peer-crl-file", &[""], REVOCATION),
    flag("client-cert-allowed-hostname", &[""], WHO_CONNECTS),
    flag("peer-cert-allowed-hostname", &[""], WHO_CONNECTS),
    flag("peer-cert-allowed-cn", &[""], WHO_CONNECTS),
    switch("auto-tls", OFF, SELF_SIGNED),
    switch("peer-auto-tls", OFF, SELF_SIGNED),
    flag(
        "self-signed-cert-validity",
        &[],
        Verdict::NoEffect("a node makes no certificates"),
    ),
    flag(
        "cipher-suites",
        &[""],
        Verdict::Refused("rustls offers its safe ones only"),
    ),
    flag(
        "cors",
        &[],
        Verdict::NoEffect("no page of another origin may ask"),
    ),
    flag(
        "host-whitelist",
        &["*", ""],
        Verdict::Refused("put TLS on --listen-client-urls instead"),
    ),
    flag(
        "bcrypt-cost",
        &[],
        Verdict::NoEffect("passwords are hashed with Argon2id"),
    ),
    switch(
        "enable-pprof",
        OFF,
        Verdict::NoEffect("there is no profile to fetch"),
    ),
    flag(
        "metrics",
        &["basic"],
        Verdict::NoEffect("/metrics always shows everything"),
    ),
    flag(
        "listen-metrics-urls",
        &[""],
        Verdict::Refused("/metrics and /health are on --listen-client-urls"),
    ),
    flag("logger", &["zap"], TO_STDERR),
    flag("log-outputs", &["default", "stderr"], TO_STDERR),
    switch("enable-log-rotation", OFF, TO_STDERR),
    flag("log-rotation-config-json", &[], TO_STDERR),
    switch("experimental-enable-distributed-tracing", OFF, TRACING),
    flag("experimental-distributed-tracing-address", &[], TRACING),
    flag("experimental-distributed-tracing-service-name", &[], TRACING),
    flag("experimental-distributed-tracing-instance-id", &[], TRACING),
    flag("proxy", &["off"], V2),
    flag("proxy-failure-wait", &[], V2_PROXY),
    flag("proxy-refresh-interval", &[], V2_PROXY),
    flag("proxy-dial-timeout", &[], V2_PROXY),
    flag("proxy-write-timeout", &[], V2_PROXY),
    flag("proxy-read-timeout", &[], V2_PROXY),
    flag("experimental-enable-v2v3", &[""], V2),
    switch(
        "experimental-enable-lease-checkpoint",
        ON,
        Verdict::NoEffect("what is left of a lease is always kept"),
    ),
    flag("experimental-compaction-batch-limit", &[], ENGINE),
    switch(
        "experimental-peer-skip-client-san-verification",
        ON,
        Verdict::NoEffect("it is always so"),
    ),
    flag(
        "experimental-warning-apply-duration",
        &[],
        Verdict::NoEffect("/metrics tells how long things take"),
    ),
    switch("experimental-txn-mode-write-with-shared-buffer", ON, ENGINE),
    flag(
        "experimental-bootstrap-defrag-threshold-megabytes",
        &[],
        Verdict::NoEffect("space is freed while a node runs"),
    ),
    switch(
        "force-new-cluster",
        OFF,
        Verdict::Refused("stop the node and run: kv-node recover"),
    ),
    switch(
        "unsafe-no-fsync",
        OFF,
        Verdict::Refused("what is acknowledged is on the disk"),
    ),
];

/// What was given of them.
#[derive(Clone, Debug, Default)]
pub struct EtcdFlags(Vec<(&'static str, String)>);

impl EtcdFlags {
    /// Says in the log what has no effect.
    ///
    /// # Errors
    /// When a flag asks for what a node does not do; the text names it and says why.
    pub fn check(&self) -> anyhow::Result<()> {
        for (name, value) in &self.0 {
            let flag = FLAGS.iter().find(|flag| flag.name == *name);
            let Some(flag) = flag.filter(|flag| !flag.fine.contains(&value.as_str())) else {
                continue;
            };
            match flag.verdict {
                Verdict::NoEffect(why) => tracing::warn!("--{name} {value} has no effect: {why}"),
                Verdict::Refused(why) => bail!("--{name} {value:?} is etcd's and not offered here: {why}"),
            }
        }
        Ok(())
    }
}

impl clap::Args for EtcdFlags {
    /// None of them is in the help.
    fn augment_args(command: Command) -> Command {
        command.args(FLAGS.iter().map(|flag| {
            let arg = Arg::new(flag.name).long(flag.name).hide(true);
            if flag.is_switch {
                let values = arg.num_args(0..=1).require_equals(true);
                values
                    .default_missing_value("true")
                    .value_parser(["true", "false"])
            } else {
                arg.num_args(1).allow_hyphen_values(true)
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        EtcdFlags::augment_args(command)
    }
}

impl clap::FromArgMatches for EtcdFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<EtcdFlags, Error> {
        let given = FLAGS
            .iter()
            .filter_map(|flag| Some((flag.name, matches.get_one::<String>(flag.name)?.clone())));
        Ok(EtcdFlags(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = EtcdFlags::from_arg_matches(matches)?;
        Ok(())
    }
}

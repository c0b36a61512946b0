//! The arguments of every command, as clap reads them.

use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, Subcommand, ValueEnum};

use super::accounts::{AuthCommand, RoleCommand, UserCommand};
use super::autopilot::ClusterCommand;
use super::check::CheckCommand;
use super::endpoints::{EndpointArgs, EndpointCommand};
use super::exit::Failure;
use super::lease::LeaseCommand;
use super::lock::{ElectArgs, LOCK_HELP, LockArgs};
use super::members::{AlarmCommand, DEFRAG_HELP, MemberCommand, parse_member};
use super::password;
use super::recover::RecoverArgs;
use super::repl::REPL_HELP;
use super::snapshot::SnapshotCommand;
use super::tls::TlsArgs;
use super::values::{bytes_parser, parse_duration, parse_lease, parse_not_negative, parse_positive};
use super::watch::{WATCH_HELP, WatchArgs};
use crate::bench::BenchCommand;
use crate::{Config, Credentials};

/// Command-line client of Quorate, and of any etcd v3 server.
#[derive(Clone, Debug, Parser)]
#[command(name = "kv-client", version)]
pub struct Args {
    /// Flags of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do; none for a prompt.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Flags of every command, allowed before and after its name.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub struct GlobalArgs {
    /// Servers, each host:port, http://host:port or https://host:port; the first is tried first, the others when it fails
    #[arg(long, global = true, value_delimiter = ',', value_name = "HOST:PORT,...")]
    #[arg(env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379")]
    pub endpoints: Vec<String>,
    /// Longest wait for a connection
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    #[arg(env = "ETCDCTL_DIAL_TIMEOUT", default_value = "2s")]
    pub dial_timeout: Duration,
    /// Longest wait for the answer, all attempts together
    #[arg(long, global = true, value_name = "TIME", value_parser = parse_duration)]
    #[arg(env = "ETCDCTL_COMMAND_TIMEOUT", default_value = "5s")]
    pub command_timeout: Duration,
    /// Who you are, with the password or without: then it is asked for
    #[arg(id = "as_user", long = "user", global = true, value_name = "NAME[:PASSWORD]")]
    #[arg(env = "ETCDCTL_USER", hide_env_values = true)]
    pub user: Option<String>,
    /// The password of --user
    #[arg(id = "as_password", long = "password", global = true, value_name = "PASSWORD")]
    #[arg(env = "ETCDCTL_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// Output format [default: simple; table for status, member list and bench]
    #[arg(
        short = 'w',
        long,
        global = true,
        value_name = "FORMAT",
        env = "ETCDCTL_WRITE_OUT"
    )]
    pub write_out: Option<WriteOut>,
    /// Certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl GlobalArgs {
    /// The configuration of the client that these flags describe.
    pub fn config(&self) -> Config {
        Config {
            endpoints: self.endpoints.clone(),
            dial_timeout: self.dial_timeout,
            request_timeout: self.command_timeout,
            credentials: self.credentials(),
            tls: self.tls.config(),
        }
    }
}

impl GlobalArgs {
    fn credentials(&self) -> Option<Credentials> {
        let user = self.user.as_ref()?;
        let (name, password) = match (&self.password, user.split_once(':')) {
            (Some(password), _) => (user.as_str(), password.as_str()),
            (None, Some(both)) => both,
            (None, None) => (user.as_str(), ""),
        };
        Some(Credentials {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    }

    /// Asks for the password where a user is named without one.
    pub(crate) fn ask_password(&mut self) -> Result<(), Failure> {
        match &self.user {
            Some(user) if self.password.is_none() && !user.contains(':') => {
                self.password = Some(password::ask(&format!("Password of {user}: "))?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    /// Lines, as etcdctl prints them
    Simple,
    /// A table with headings
    Table,
    /// One line of JSON; the end of --help says in which form
    Json,
    /// A line for each field
    Fields,
    /// The message itself, in protobuf's binary form
    Protobuf,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Print a key, or a range of keys
    #[command(after_help = "Exit code 3 if a single KEY does not exist. A range without keys is no error.")]
    Get(GetArgs),
    /// Write a key
    #[command(after_help = PUT_HELP)]
    Put(PutArgs),
    /// Delete a key, or a range of keys, and print how many there were
    Del(DelArgs),
    /// Run a transaction read from standard input
    #[command(after_help = TXN_HELP)]
    Txn(TxnArgs),
    /// Give up the history before a revision
    #[command(visible_alias = "compaction")]
    Compact(CompactArgs),
    /// Ask every endpoint how it is
    #[command(
        after_help = "Endpoints that answer are printed even if others do not; then the exit code is 5 or 6."
    )]
    Status(EndpointArgs),
    /// Ask endpoints how they are, one by one
    #[command(subcommand)]
    Endpoint(EndpointCommand),
    /// Follow the changes of a key, or of a range of keys
    #[command(after_help = WATCH_HELP)]
    Watch(WatchArgs),
    /// Grant leases, keep them alive, and end them
    #[command(subcommand)]
    Lease(LeaseCommand),
    /// Hold a lock, until interrupted or while a command runs
    #[command(after_help = LOCK_HELP)]
    Lock(LockArgs),
    /// Lead an election until interrupted, or observe who leads
    Elect(ElectArgs),
    /// List, add, remove and change members
    #[command(subcommand)]
    Member(MemberCommand),
    /// Show what the cluster does with its members of its own accord
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Let the leader hand over to another member
    #[command(after_help = "The leader is found through the endpoints, one of which must be its own.")]
    MoveLeader {
        /// The member that is to lead (hexadecimal)
        #[arg(value_parser = parse_member)]
        id: u64,
    },
    /// Let members give unused space back
    #[command(after_help = DEFRAG_HELP)]
    Defrag(EndpointArgs),
    /// List and end alarms
    #[command(subcommand)]
    Alarm(AlarmCommand),
    /// Add, change and delete users
    #[command(subcommand)]
    User(UserCommand),
    /// Add, change and delete roles
    #[command(subcommand)]
    Role(RoleCommand),
    /// Ask for users and passwords, or do not
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Check whether the cluster is fast enough
    #[command(subcommand)]
    Check(CheckCommand),
    /// Read commands one after the other from a terminal
    #[command(after_help = REPL_HELP)]
    Repl,
    /// Fetch, check and restore backups
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Make a new cluster of what is left of one that lost its quorum for good
    Recover(RecoverArgs),
    /// Measure throughput and latency
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

const PUT_HELP: &str = "\
A VALUE that begins with '-' goes after '--':   kv-client put KEY -- -1
A file as value:                                kv-client put KEY < FILE";

const TXN_HELP: &str = r#"Three parts, each ended by an empty line (the last ones may be missing):

  mod("key1") > "0"          compares: version, create, mod, value, lease; = != > <

  put key1 "new value"       requests if all compares hold: get, put, del
  get key2 --prefix          with their flags

  put key1 first             requests otherwise

Exit code 4 if a compare did not hold and the last part was run.
Strings may be quoted, with \" \\ \n \t \r \xHH. Leases are hexadecimal."#;

/// Arguments of `get`.
#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    /// Which keys.
    #[command(flatten)]
    pub range: RangeArgs,
    /// Print values only; to a file or pipe their exact bytes, each followed by a newline
    #[arg(long, conflicts_with_all = ["keys_only", "count_only"])]
    pub print_value_only: bool,
}

/// Which keys to read, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct RangeArgs {
    /// The key, or the first key of a range
    #[arg(value_parser = bytes_parser())]
    pub key: Bytes,
    /// The key at which the range ends (not part of it)
    #[arg(value_parser = bytes_parser(), conflicts_with_all = ["prefix", "from_key"])]
    pub range_end: Option<Bytes>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// KEY and all keys after it
    #[arg(long)]
    pub from_key: bool,
    /// At most so many keys; 0 for all
    #[arg(long, default_value_t = 0, value_parser = parse_not_negative, allow_negative_numbers = true)]
    pub limit: i64,
    /// As of this revision; 0 for now
    #[arg(long, default_value_t = 0, value_parser = parse_not_negative, allow_negative_numbers = true)]
    pub rev: i64,
    /// Order of the keys
    #[arg(long, ignore_case = true)]
    pub order: Option<Order>,
    /// What to sort by
    #[arg(long, ignore_case = true)]
    pub sort_by: Option<SortBy>,
    /// Keys without values
    #[arg(long, conflicts_with = "count_only")]
    pub keys_only: bool,
    /// Only how many keys there are
    #[arg(long)]
    pub count_only: bool,
    /// Linearizable: the newest state. Serializable: what one node has, perhaps a little old, and also without a quorum
    #[arg(long, default_value = "l")]
    pub consistency: Consistency,
}

/// Order of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Smallest first
    #[value(name = "ASCEND")]
    Ascend,
    /// Largest first
    #[value(name = "DESCEND")]
    Descend,
}

/// What results are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// Revision of creation
    #[value(name = "CREATE")]
    Create,
    /// The key
    #[value(name = "KEY")]
    Key,
    /// Revision of the last change
    #[value(name = "MODIFY")]
    Modify,
    /// The value
    #[value(name = "VALUE")]
    Value,
    /// Number of changes since creation
    #[value(name = "VERSION")]
    Version,
}

/// What a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// Sees every write that was acknowledged before
    #[value(name = "l", alias = "linearizable")]
    Linearizable,
    /// Sees a past state of one node
    #[value(name = "s", alias = "serializable")]
    Serializable,
}

/// Arguments of `put`.
#[derive(Clone, Debug, clap::Args)]
pub struct PutArgs {
    /// The key
    #[arg(value_parser = bytes_parser())]
    pub key: Bytes,
    /// The value; all of standard input where it is missing
    #[arg(value_parser = bytes_parser(), conflicts_with = "ignore_value", allow_negative_numbers = true)]
    pub value: Option<Bytes>,
    /// Print the value that was there before as well
    #[arg(long)]
    pub prev_kv: bool,
    /// Keep the value that is there (to change the lease)
    #[arg(long)]
    pub ignore_value: bool,
    /// Attach the key to this lease (hexadecimal)
    #[arg(long, default_value = "0", value_name = "ID", value_parser = parse_lease)]
    pub lease: i64,
    /// Keep the lease that the key has
    #[arg(long, conflicts_with = "lease")]
    pub ignore_lease: bool,
}

/// Arguments of `del`.
#[derive(Clone, Debug, clap::Args)]
pub struct DelArgs {
    /// The key, or the first key of a range
    #[arg(value_parser = bytes_parser())]
    pub key: Bytes,
    /// The key at which the range ends (not part of it)
    #[arg(value_parser = bytes_parser(), conflicts_with_all = ["prefix", "from_key"])]
    pub range_end: Option<Bytes>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// KEY and all keys after it
    #[arg(long)]
    pub from_key: bool,
    /// Print what was deleted as well
    #[arg(long)]
    pub prev_kv: bool,
}

/// Arguments of `txn`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct TxnArgs {
    /// Ask for each part, as at a terminal
    #[arg(short, long)]
    pub interactive: bool,
}

/// Arguments of `compact`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CompactArgs {
    /// The oldest revision that can still be read afterwards
    #[arg(value_name = "REV", value_parser = parse_positive, allow_negative_numbers = true)]
    pub revision: i64,
    /// Wait until the space is free
    #[arg(long)]
    pub physical: bool,
}

//! The command line, with the commands of etcdctl and some of our own.
//!
//! [`Args`], its parser [`command`] and [`run()`] are public so that the `quorate` binary mounts the same commands. Flags and environment
//! variables have etcdctl's names; output is meant for people by default, and exit codes tell scripts what
//! happened ([`Exit`]).

mod accounts;
mod args;
mod autopilot;
mod check;
mod commands;
mod endpoints;
mod exit;
mod fields;
mod forms;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod help;
mod interrupts;
mod json;
mod lease;
mod lock;
mod members;
mod output;
mod password;
mod program;
mod ranges;
mod recover;
mod repl;
mod run;
mod script;
mod snapshot;
mod text;
mod tls;
mod values;
mod watch;

pub use accounts::{Access, AuthCommand, KeysArgs, RoleCommand, UserCommand};
pub use args::{
    Args, Command, CompactArgs, Consistency, DelArgs, GetArgs, GlobalArgs, Order, PutArgs, RangeArgs, SortBy,
    TxnArgs, WriteOut,
};
pub use autopilot::ClusterCommand;
pub use check::{CheckCommand, Load, PerfArgs};
pub use endpoints::{EndpointArgs, EndpointCommand};
pub use exit::Exit;
pub(crate) use exit::Failure;
pub use help::{after_help, after_long_help, command};
pub(crate) use interrupts::Interrupts;
pub use lease::LeaseCommand;
pub use lock::{ElectArgs, LockArgs};
pub use members::{AlarmCommand, MemberCommand};
pub(crate) use output::{print, table};
pub use recover::RecoverArgs;
pub use run::{print_completion, run};
pub use snapshot::SnapshotCommand;
pub use tls::TlsArgs;
pub(crate) use values::parse_duration;
pub use watch::WatchArgs;

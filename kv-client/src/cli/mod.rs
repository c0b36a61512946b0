//! The command line: `get put del txn compact status member completion bench`.
//!
//! [`Args`], its parser [`command`] and [`run()`] are public so that the `quorate` binary mounts the same commands. Flags and environment
//! variables have etcdctl's names; output is meant for people by default, and exit codes tell scripts what
//! happened ([`Exit`]).

mod args;
mod commands;
mod exit;
mod help;
mod json;
mod output;
mod ranges;
mod run;
mod script;
mod text;
mod tls;
mod values;

pub use args::{
    Args, Command, CompactArgs, Consistency, DelArgs, GetArgs, GlobalArgs, MemberCommand, Order, PutArgs,
    RangeArgs, SortBy, TxnArgs, WriteOut,
};
pub use exit::Exit;
pub(crate) use exit::Failure;
pub use help::{after_help, after_long_help, command};
pub(crate) use output::{print, table};
pub use run::{print_completion, run};
pub use tls::TlsArgs;
pub(crate) use values::parse_duration;

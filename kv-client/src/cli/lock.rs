//! `lock` and `elect`: holding a name until interrupted, or while a command runs.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use kv_proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::commands::{Outcome, Session};
use super::exit::{Exit, Failure};
use super::forms::Forms;
use super::interrupts::Interrupts;
use super::output::kv_table;
use super::program::Program;
use super::values::{bytes_parser, parse_positive};
use super::{fields, json, output};
use crate::{Error, Lease};

pub(super) const LOCK_HELP: &str = "\
Without COMMAND it prints the key that stands for the lock, and unlocks when it is interrupted.

With COMMAND it runs that while it holds the lock, and ends with its exit code. The command finds the key in
ETCD_LOCK_KEY, and in ETCD_LOCK_REV a number that is larger than that of every holder before (give it to what the
lock protects, so that a holder who was stopped too long can be refused). If the lock is lost, it is killed.";

/// Arguments of `lock`.
#[derive(Clone, Debug, clap::Args)]
pub struct LockArgs {
    /// The name of the lock
    #[arg(value_parser = bytes_parser())]
    pub name: Bytes,
    /// After so many seconds without a sign of life of this program, the next one may have the lock
    #[arg(long, value_name = "TTL", default_value_t = 10, value_parser = parse_positive)]
    pub ttl: i64,
    /// A command to run, with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `elect`.
#[derive(Clone, Debug, clap::Args)]
pub struct ElectArgs {
    /// The name of the election
    #[arg(value_parser = bytes_parser())]
    pub name: Bytes,
    /// What the leader says about itself
    #[arg(value_parser = bytes_parser(), required_unless_present = "listen", conflicts_with = "listen")]
    pub proposal: Option<Bytes>,
    /// Do not take part: print each leader, and each thing that it says
    #[arg(short, long)]
    pub listen: bool,
    /// After so many seconds without a sign of life of this program, the next one may lead
    #[arg(long, value_name = "TTL", default_value_t = 60, value_parser = parse_positive)]
    pub ttl: i64,
}

impl Session {
    pub(super) async fn lock(&self, args: &LockArgs) -> Outcome {
        let mut interrupts = Interrupts::listen()?;
        let lease = self.client.lease(args.ttl).await?;
        let lock = tokio::select! {
            lock = self.client.lock(&lease, &args.name) => lock?,
            () = interrupts.next() => return given_up(lease).await,
        };
        let held = match Program::of_words(&args.command) {
            Some(program) => {
                let variables = [
                    ("ETCD_LOCK_KEY", OsString::from_vec(lock.key().to_vec())),
                    ("ETCD_LOCK_REV", lock.revision().to_string().into()),
                ];
                tokio::select! {
                    code = program.run(variables) => code.map(Exit::Program),
                    loss = lease.lost() => Err(Error::LeaseLost(loss).into()),
                    () = interrupts.terminated() => Ok(Exit::Program(128 + 15)),
                }
            }
            None => {
                self.show_held(lock.key(), false).await?;
                hold(&lease, &mut interrupts).await
            }
        };
        // Even if its outcome is unknown: the lock goes with the lease.
        let unlocked = lease.revoke().await;
        let exit = held?;
        unlocked?;
        Ok(exit)
    }

    pub(super) async fn elect(&self, args: &ElectArgs) -> Outcome {
        let Some(proposal) = &args.proposal else {
            return self.listen(&args.name).await;
        };
        let mut interrupts = Interrupts::listen()?;
        let lease = self.client.lease(args.ttl).await?;
        let leadership = tokio::select! {
            leadership = self.client.campaign(&lease, &args.name, proposal.clone()) => leadership?,
            () = interrupts.next() => return given_up(lease).await,
        };
        self.show_held(leadership.key(), true).await?;
        let held = hold(&lease, &mut interrupts).await;
        let resigned = lease.revoke().await;
        let exit = held?;
        resigned?;
        Ok(exit)
    }

    async fn listen(&self, name: &[u8]) -> Outcome {
        let mut observed = self.client.observe(name);
        loop {
            let leader = observed.next().await?;
            let answer = RangeResponse {
                header: Some(observed.header()),
                kvs: vec![leader],
                ..Default::default()
            };
            self.show_keys(&answer, false)?;
        }
    }

    /// Prints the key that stands for a lock or a leadership, and with `value` what it says.
    async fn show_held(&self, key: &Bytes, value: bool) -> Outcome {
        let request = RangeRequest {
            key: key.clone(),
            ..Default::default()
        };
        let answer = self.client.range(request).await?;
        self.show_keys(&answer, !value)
    }

    fn show_keys(&self, answer: &RangeResponse, keys_only: bool) -> Outcome {
        let view = output::RangeView {
            keys_only,
            ..Default::default()
        };
        self.show(
            Forms::new(|| json::range(answer), || output::range(answer, view))
                .table(|| kv_table(&answer.kvs))
                .fields(|| fields::range(answer))
                .protobuf(answer),
        )
    }
}

/// Waits until somebody interrupts, or the lease is lost.
async fn hold(lease: &Lease, interrupts: &mut Interrupts) -> Outcome {
    tokio::select! {
        () = interrupts.next() => Ok(Exit::Ok),
        loss = lease.lost() => Err(Error::LeaseLost(loss).into()),
    }
}

/// Interrupted while waiting.
async fn given_up(lease: Lease) -> Outcome {
    lease.revoke().await?;
    Err(Failure::new(
        Exit::Other,
        "interrupted while another one held it",
        "nothing is left behind; run it again to wait again",
    ))
}

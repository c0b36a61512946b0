//! What the clients of keys ask: registers, compare-and-set, transactions over two keys, and sets.
//!
//! Keys belong to an epoch of a few seconds, so that no key's history becomes so long, or so full of unknown
//! outcomes, that nobody could check it.

use std::collections::HashMap;
use std::time::Duration;

use quorate_checkers::history::{Compare, Keys, Op, OpReply, Outcome, Reply, Request, Test, Txn, TxnReply};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::{Pace, Recorder, Session};

/// How long the keys of an epoch are used.
const EPOCH: Duration = Duration::from_secs(5);
/// Registers of an epoch.
const REGISTERS: u32 = 12;
/// Keys of an epoch that transactions touch.
const ACCOUNTS: u32 = 8;

/// The set of an epoch.
pub(crate) fn set_name(recorder: &Recorder, epoch: u64) -> String {
    format!("{}set/{epoch}/", recorder.prefix())
}

/// The epoch at a time of the run.
pub(crate) fn epoch_at(ns: u64) -> u64 {
    ns / u64::try_from(EPOCH.as_nanos()).unwrap_or(u64::MAX)
}

/// Asks until told to stop.
pub(super) async fn run(mut session: Session, mut rng: StdRng, interval: Duration) -> anyhow::Result<()> {
    let mut pace = Pace::new(interval);
    let mut seen = HashMap::new();
    let mut epoch = 0;
    // Clients that start at one moment are spread over an interval.
    tokio::time::sleep(interval.mul_f64(rng.random_range(0.0..1.0))).await;
    while !session.is_over() {
        pace.wait().await;
        let now = epoch_at(session.recorder.now_ns());
        if now != epoch {
            (epoch, seen) = (now, HashMap::new());
        }
        one(&mut session, &mut rng, epoch, &mut seen).await?;
    }
    Ok(())
}

/// One operation, or the two of a transaction. `seen` is what this client last saw of each register.
async fn one(
    session: &mut Session,
    rng: &mut StdRng,
    epoch: u64,
    seen: &mut HashMap<String, Option<String>>,
) -> anyhow::Result<()> {
    let prefix = session.recorder.prefix();
    let register = format!("{prefix}register/{epoch}/{}", rng.random_range(0..REGISTERS));
    let value = format!("v{}", session.recorder.unique());
    let request = match rng.random_range(0..100) {
        0..34 => Request::Read {
            keys: Keys::Key(register.clone()),
            serializable: rng.random_range(0..5) == 0,
            revision: None,
        },
        34..54 => Request::Put {
            key: register.clone(),
            value: value.clone(),
            lease: None,
        },
        54..57 => Request::Delete {
            keys: Keys::Key(register.clone()),
        },
        57..69 => Request::CompareAndSet {
            expected: seen.get(&register).cloned().flatten(),
            key: register.clone(),
            value: value.clone(),
        },
        69..81 => return transfer(session, rng, epoch).await,
        81..98 => Request::SetAdd {
            set: set_name(&session.recorder, epoch),
            element: format!("e{}", session.recorder.unique()),
        },
        _ => Request::SetRead {
            set: set_name(&session.recorder, epoch),
            serializable: false,
        },
    };
    let outcome = session.ask(request.clone()).await?;
    note(seen, register, value, &request, &outcome);
    Ok(())
}

/// Remembers what a register holds as far as this client knows; forgets it where it does not.
fn note(
    seen: &mut HashMap<String, Option<String>>,
    register: String,
    value: String,
    request: &Request,
    outcome: &Outcome,
) {
    let Outcome::Ok(answer) = outcome else { return };
    match (&answer.reply, request) {
        (Reply::Read(found), Request::Read { .. }) => {
            seen.insert(register, found.first().map(|kv| kv.value.clone()));
        }
        (Reply::Put | Reply::CompareAndSet { succeeded: true }, _) => {
            seen.insert(register, Some(value));
        }
        (Reply::Delete { .. }, _) => {
            seen.insert(register, None);
        }
        _ => {}
    }
}

/// Reads two keys in one transaction, and writes both in another if nobody wrote either in between.
async fn transfer(session: &mut Session, rng: &mut StdRng, epoch: u64) -> anyhow::Result<()> {
    let first = rng.random_range(0..ACCOUNTS);
    let second = (first + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
    let prefix = session.recorder.prefix();
    let keys = [first, second].map(|account| format!("{prefix}account/{epoch}/{account}"));
    let read: Vec<Op> = keys.iter().map(|key| Op::Read(Keys::Key(key.clone()))).collect();
    let look = Request::Txn(Txn {
        then: read.clone(),
        ..Txn::default()
    });
    let Outcome::Ok(answer) = session.ask(look).await? else {
        return Ok(());
    };
    let Reply::Txn(TxnReply { results, .. }) = answer.reply else {
        return Ok(());
    };
    let compares = keys.iter().zip(&results).map(|(key, result)| {
        let revision = match result {
            OpReply::Read(found) => found.first().map_or(0, |kv| kv.mod_revision),
            OpReply::Put | OpReply::Delete(_) => 0,
        };
        Compare {
            key: key.clone(),
            is: Test::ModRevision(revision),
        }
    });
    let puts = keys.iter().map(|key| Op::Put {
        key: key.clone(),
        value: format!("v{}", session.recorder.unique()),
        lease: None,
    });
    let write = Request::Txn(Txn {
        compares: compares.collect(),
        then: puts.collect(),
        otherwise: read,
    });
    session.ask(write).await?;
    Ok(())
}

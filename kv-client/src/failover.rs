//! Which attempts one call makes, and which error it ends with.
//!
//! A write goes to one endpoint after the other and stops at the first attempt that may have been executed.
//! A read also starts a second attempt elsewhere when the first is slow, and takes the first answer.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status};

use crate::Error;
use crate::classify::{Failure, Kind};
use crate::connection::{Channel, Connection};
use crate::pool::Pool;

/// The pause after the first round over all endpoints; doubles each round.
const BACKOFF_MIN: Duration = Duration::from_millis(25);
/// The longest pause between rounds: well under the time of an election.
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// The part of the request timeout after which a read that has no answer is tried elsewhere as well.
const HEDGE_AFTER_PART: u32 = 4;

/// A call makes no further attempt when less than this is left, or this part of the request timeout: an attempt
/// cut off by the deadline would turn "certainly not executed" into "unknown".
const LAST_ATTEMPT: Duration = Duration::from_millis(500);
const LAST_ATTEMPT_PART: u32 = 5;

/// The time limits of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) dial: Duration,
    pub(crate) request: Duration,
}

/// Runs a write. It is sent again only after failures that exclude its execution.
pub(crate) async fn write<T, Fut>(
    pool: &Pool,
    limits: Limits,
    call: impl Fn(Channel) -> Fut,
) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Status>>,
{
    let mut record = Record::new(limits);
    loop {
        for index in pool.order() {
            match attempt(pool, pool.connection(index), record.deadline, &call).await {
                Ok(answer) => {
                    pool.answered(index);
                    return Ok(answer);
                }
                Err(failure) => {
                    note(pool, index, &failure);
                    if failure.kind == Kind::Rejected {
                        return Err(rejected(failure));
                    }
                    if !failure.kind.is_certainly_not_executed() {
                        return Err(Error::OutcomeUnknown {
                            message: failure.message,
                        });
                    }
                    record.add(index, failure);
                }
            }
        }
        let pause = record.next_round();
        if record.is_hopeless() || record.is_too_late(pause) {
            return Err(record.into_error());
        }
        tokio::time::sleep(pause).await;
    }
}

/// Runs a read: on other endpoints after any failure but a refusal, and beside a slow one.
pub(crate) async fn read<T, Fut>(
    pool: &Pool,
    limits: Limits,
    call: impl Fn(Channel) -> Fut,
) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Status>>,
{
    let mut record = Record::new(limits);
    let mut queue = pool.order();
    queue.reverse(); // taken from the end
    let mut next_launch = Instant::now();
    let mut running = FuturesUnordered::new();
    let mut running_on: Vec<usize> = Vec::new();
    loop {
        tokio::select! {
            biased;
            Some((index, result)) = running.next() => {
                running_on.retain(|&other| other != index);
                let failure: Failure = match result {
                    Ok(answer) => {
                        // Whatever was asked earlier and is still silent would hold up the next read as well.
                        running_on.iter().for_each(|&slow| pool.failed(slow));
                        pool.answered(index);
                        return Ok(answer);
                    }
                    Err(failure) => failure,
                };
                note(pool, index, &failure);
                if failure.kind == Kind::Rejected {
                    return Err(rejected(failure));
                }
                record.add(index, failure);
                next_launch = Instant::now();
                if queue.is_empty() {
                    let pause = record.next_round();
                    next_launch += pause;
                    if running_on.is_empty() && (record.is_hopeless() || record.is_too_late(pause)) {
                        return Err(record.into_error());
                    }
                    queue = pool.order();
                    queue.retain(|index| !running_on.contains(index));
                    queue.reverse();
                }
            }
            () = sleep_until(next_launch), if !queue.is_empty() => {
                if let Some(index) = queue.pop() {
                    let (connection, deadline, call) = (pool.connection(index), record.deadline, &call);
                    running.push(async move { (index, attempt(pool, connection, deadline, call).await) });
                    running_on.push(index);
                    next_launch = Instant::now() + limits.request / HEDGE_AFTER_PART;
                }
            }
            () = sleep_until(record.deadline) => {
                for index in running_on {
                    pool.failed(index);
                    record.add(index, unanswered(pool.connection(index), limits.request));
                }
                return Err(record.into_error());
            }
        }
    }
}

/// Runs a read on one connection only, once.
pub(crate) async fn on_one<T, Fut>(
    pool: &Pool,
    connection: &Connection,
    limits: Limits,
    call: impl Fn(Channel) -> Fut,
) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Status>>,
{
    attempt(pool, connection, Instant::now() + limits.request, &call)
        .await
        .map_err(of_one)
}

/// The error of a read that one endpoint failed, where no other is asked.
pub(crate) fn of_one(failure: Failure) -> Error {
    match failure.kind {
        Kind::Unreachable | Kind::NoLeader => Error::NoQuorum {
            message: failure.message,
        },
        Kind::Lost => Error::Timeout {
            message: failure.message,
        },
        Kind::Busy | Kind::Rejected | Kind::Foreign | Kind::Faulty => rejected(failure),
    }
}

/// One attempt: dial and authenticate where needed, send, wait. An idle connection that turns out to be closed, and a
/// token that is no longer valid, are replaced once.
async fn attempt<T, Fut>(
    pool: &Pool,
    connection: &Connection,
    deadline: Instant,
    call: &impl Fn(Channel) -> Fut,
) -> Result<T, Failure>
where
    Fut: Future<Output = Result<T, Status>>,
{
    let started = Instant::now();
    let (mut is_redialled, mut is_signed_again) = (false, false);
    let failure = loop {
        let channel = match channel(pool, connection, deadline).await {
            Ok(channel) => channel,
            Err(failure) => break failure,
        };
        let failure: Failure = match timeout_at(deadline, call(channel)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => status.into(),
            Err(_) => return Err(unanswered(connection, started.elapsed())),
        };
        if failure.kind == Kind::Unreachable && !is_redialled {
            is_redialled = true;
        } else if pool.auth().is_outdated(&failure) && !is_signed_again {
            is_signed_again = true;
        } else {
            break failure;
        }
    };
    Err(match failure.kind {
        Kind::Rejected => failure,
        _ => Failure {
            message: format!("{}: {}", connection.endpoint(), failure.message),
            ..failure
        },
    })
}

/// An open connection with the token for it.
async fn channel(pool: &Pool, connection: &Connection, deadline: Instant) -> Result<Channel, Failure> {
    let started = Instant::now();
    match timeout_at(deadline, connection.channel()).await {
        Ok(Ok(channel)) => pool.auth().sign(channel, deadline).await,
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure {
            kind: Kind::Unreachable,
            code: Code::Unavailable,
            message: format!("no connection within {}", seconds(started.elapsed())),
        }),
    }
}

fn unanswered(connection: &Connection, after: Duration) -> Failure {
    let message = format!("{}: no answer within {}", connection.endpoint(), seconds(after));
    Failure {
        kind: Kind::Lost,
        code: Code::DeadlineExceeded,
        message,
    }
}

fn note(pool: &Pool, index: usize, failure: &Failure) {
    match failure.kind {
        Kind::Unreachable | Kind::NoLeader | Kind::Foreign | Kind::Lost => pool.failed(index),
        Kind::Busy | Kind::Rejected | Kind::Faulty => {}
    }
}

fn rejected(failure: Failure) -> Error {
    // Some servers give a code and no words.
    let message = if failure.message.is_empty() {
        failure.code.to_string()
    } else {
        failure.message
    };
    Error::Rejected {
        code: failure.code,
        message,
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// What happened in one call so far: the last failure of each endpoint.
struct Record {
    limits: Limits,
    started: Instant,
    deadline: Instant,
    rounds: u32,
    failures: Vec<(usize, Failure)>,
}

impl Record {
    fn new(limits: Limits) -> Record {
        let started = Instant::now();
        Record {
            limits,
            started,
            deadline: started + limits.request,
            rounds: 0,
            failures: Vec::new(),
        }
    }

    fn add(&mut self, index: usize, failure: Failure) {
        self.failures.retain(|(other, _)| *other != index);
        self.failures.push((index, failure));
    }

    /// Counts a round over all endpoints and says how long to pause after it. Half of the pause is random,
    /// so that clients that lost the same leader do not come back in step.
    fn next_round(&mut self) -> Duration {
        let longest = BACKOFF_MAX.min(BACKOFF_MIN * 2_u32.saturating_pow(self.rounds));
        self.rounds += 1;
        longest.mul_f64(rand::random_range(0.5..1.0))
    }

    fn is_any(&self, kind: Kind) -> bool {
        self.failures.iter().any(|(_, failure)| failure.kind == kind)
    }

    /// Whether more rounds cannot help: nothing listens anywhere, or servers fail without saying why, or are no
    /// stores.
    fn is_hopeless(&self) -> bool {
        let nothing_listens = self
            .failures
            .iter()
            .all(|(_, failure)| failure.kind == Kind::Unreachable);
        let only_faults = self
            .failures
            .iter()
            .all(|(_, failure)| matches!(failure.kind, Kind::Faulty | Kind::Foreign | Kind::Unreachable));
        (nothing_listens && self.started.elapsed() >= self.limits.dial)
            || (only_faults && (self.is_any(Kind::Faulty) || self.is_any(Kind::Foreign)))
    }

    /// Whether another round after this pause has too little time for an answer.
    fn is_too_late(&self, pause: Duration) -> bool {
        let needed = LAST_ATTEMPT.min(self.limits.request / LAST_ATTEMPT_PART);
        self.deadline <= Instant::now() + pause + needed
    }

    /// The error of a call that gives up. (A write with an unknown outcome never comes here.)
    fn into_error(self) -> Error {
        let after = seconds(self.started.elapsed());
        let found = |kind| self.failures.iter().find(|(_, failure)| failure.kind == kind);
        let all = self
            .failures
            .iter()
            .map(|(_, failure)| failure.message.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        if self.is_any(Kind::Lost) {
            return Error::Timeout {
                message: format!("no answer after {after} ({all})"),
            };
        }
        if let Some((_, failure)) = found(Kind::Faulty).or_else(|| found(Kind::Busy)) {
            return rejected(failure.clone());
        }
        let what = if self.is_any(Kind::NoLeader) {
            "no quorum"
        } else if let Some((_, failure)) = found(Kind::Foreign) {
            return rejected(failure.clone());
        } else {
            "no endpoint reachable"
        };
        Error::NoQuorum {
            message: format!("{what} after {after} ({all})"),
        }
    }
}

//! `bench lease`: how many leases are granted and renewed, and how quickly.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use kv_proto::etcdserverpb::lease_client::LeaseClient;
use kv_proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::Status;

use super::args::LeaseBenchArgs;
use super::load::{Latencies, Results, kind_of};
use super::report::{Sheet, row};
use super::run::{PROGRESS_INTERVAL, bar, connect, verdict};
use crate::auth::Auth;
use crate::cli::{Exit, Failure, GlobalArgs, WriteOut, print};
use crate::connection::{Channel, Connection};

/// One client and what it holds.
struct Worker {
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    ids: Vec<i64>,
    latencies: Latencies,
    results: Results,
}

struct Shared {
    auth: Auth,
    request_timeout: Duration,
    ttl_s: i64,
    /// Numbers of this phase that were handed out, and how many there are.
    next: AtomicU64,
    grants: u64,
    renewals: u64,
}

pub(super) async fn run(global: &GlobalArgs, args: &LeaseBenchArgs) -> Result<Exit, Failure> {
    let connections = connect(global, args.conns).await?;
    let shared = Arc::new(Shared {
        auth: Auth::new(global.config().credentials),
        request_timeout: global.command_timeout,
        ttl_s: args.ttl,
        next: AtomicU64::new(0),
        grants: args.total,
        renewals: args.keepalives,
    });
    let worker = |connection: &Arc<Connection>| Worker {
        connection: connection.clone(),
        shared: shared.clone(),
        ids: Vec::new(),
        latencies: Latencies::new(),
        results: Results::new(),
    };
    let workers: Vec<Worker> = connections
        .iter()
        .cycle()
        .take(args.clients as usize)
        .map(worker)
        .collect();
    let started = Instant::now();
    let (granting, mut workers) = phase("grant", &shared, args.total, workers, Worker::grant).await;
    let granted = row("grant", &taken(&mut workers), granting);
    let (renewing, mut workers) = phase("keepalive", &shared, args.keepalives, workers, Worker::renew).await;
    let renewed = row("keepalive", &taken(&mut workers), renewing);
    let elapsed = started.elapsed();
    let (_, workers) = phase("revoke", &shared, args.total, workers, Worker::revoke).await;

    let mut results = Results::new();
    workers.iter().for_each(|worker| results.merge(&worker.results));
    let settings = [
        ("clients", u64::from(args.clients)),
        ("connections", u64::from(args.conns)),
        ("ttl_s", args.ttl.unsigned_abs()),
    ];
    let sheet = Sheet::new(
        "lease",
        settings,
        elapsed,
        vec![granted, renewed],
        &results.errors,
    );
    print(sheet.show(global.write_out.unwrap_or(WriteOut::Table)))?;
    verdict(sheet.is_total_failure())
}

/// Lets all workers do one thing; gives them back with the time that it took.
async fn phase<F>(
    name: &'static str,
    shared: &Shared,
    total: u64,
    workers: Vec<Worker>,
    work: impl Fn(Worker) -> F,
) -> (Duration, Vec<Worker>)
where
    F: Future<Output = Worker> + Send + 'static,
{
    shared.next.store(0, Ordering::Relaxed);
    let bar = bar(name, Some(total));
    let started = Instant::now();
    let mut running: JoinSet<Worker> = workers.into_iter().map(work).collect();
    let mut done = Vec::new();
    let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            joined = running.join_next() => match joined {
                Some(Ok(worker)) => done.push(worker),
                // A worker that panicked is a defect of this program: it must not look like a result.
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => break,
            },
            _ = tick.tick(), if !bar.is_hidden() => bar.set_position(shared.next.load(Ordering::Relaxed)),
        }
    }
    bar.finish_and_clear();
    (started.elapsed(), done)
}

/// The latencies of all workers, which begin anew.
fn taken(workers: &mut [Worker]) -> Latencies {
    let mut all = Latencies::new();
    for worker in workers {
        all.merge(&std::mem::replace(&mut worker.latencies, Latencies::new()));
    }
    all
}

impl Worker {
    async fn grant(mut self) -> Worker {
        while self.shared.next.fetch_add(1, Ordering::Relaxed) < self.shared.grants {
            let request = LeaseGrantRequest {
                ttl: self.shared.ttl_s,
                id: 0,
            };
            let started = Instant::now();
            let answer = async { self.service().await?.lease_grant(request).await };
            match within(self.shared.request_timeout, answer).await {
                Ok(answer) => {
                    self.latencies.record(started.elapsed());
                    self.ids.push(answer.get_ref().id);
                }
                Err(kind) => self.results.count_errors(&kind, 1),
            }
        }
        self
    }

    /// Renews its leases in turn, on one stream.
    async fn renew(mut self) -> Worker {
        if self.ids.is_empty() {
            return self;
        }
        let (mut requests, to_send) = mpsc::channel(1);
        let first = self.ids[0];
        if requests.try_send(LeaseKeepAliveRequest { id: first }).is_err() {
            return self;
        }
        let mut started = Instant::now();
        let opened = async { self.service().await?.lease_keep_alive(to_send).await };
        let mut answers = match within(self.shared.request_timeout, opened).await {
            Ok(answers) => answers.into_inner(),
            Err(kind) => {
                self.results.count_errors(&kind, 1);
                return self;
            }
        };
        let mut number = 0;
        while self.shared.next.fetch_add(1, Ordering::Relaxed) < self.shared.renewals {
            if number > 0 {
                let id = self.ids[number % self.ids.len()];
                started = Instant::now();
                if requests.try_send(LeaseKeepAliveRequest { id }).is_err() {
                    self.results.count_errors("connection lost", 1);
                    break;
                }
            }
            let answer = async {
                let answer = answers.message().await?;
                answer.ok_or_else(|| Status::unavailable("the server ended the stream"))
            };
            match within(self.shared.request_timeout, answer).await {
                Ok(answer) if answer.ttl > 0 => self.latencies.record(started.elapsed()),
                Ok(_) => self.results.count_errors("lease lost", 1),
                Err(kind) => {
                    self.results.count_errors(&kind, 1);
                    break;
                }
            }
            number += 1;
        }
        self
    }

    async fn revoke(mut self) -> Worker {
        for id in std::mem::take(&mut self.ids) {
            self.shared.next.fetch_add(1, Ordering::Relaxed);
            let answer = async {
                self.service()
                    .await?
                    .lease_revoke(LeaseRevokeRequest { id })
                    .await
            };
            if let Err(kind) = within(self.shared.request_timeout, answer).await {
                self.results.count_errors(&kind, 1);
            }
        }
        self
    }

    async fn service(&self) -> Result<LeaseClient<Channel>, Status> {
        let unavailable = |why: String| Status::unavailable(why);
        let channel = self
            .connection
            .channel()
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let deadline = Instant::now() + self.shared.request_timeout;
        let channel = self
            .shared
            .auth
            .sign(channel, deadline)
            .await
            .map_err(|failure| unavailable(failure.message))?;
        let origin = channel.origin.clone();
        Ok(LeaseClient::with_origin(channel, origin))
    }
}

/// An answer, or the kind of error.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Status>>) -> Result<T, String> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|status| kind_of(&status.into())),
        Err(_) => Err("timeout".to_owned()),
    }
}

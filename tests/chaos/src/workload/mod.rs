//! Clients that load a cluster and record what they saw.
//!
//! Each is a task that asks one thing after the other at a steady pace. Most of them go to another node when theirs
//! fails, as programs do; some speak to one node only, so that one which was cut off or stopped is asked too.

mod clients;
mod execute;
mod holders;
mod recorder;
mod watcher;

use std::time::Duration;

use kv_client::{Client, Config};
use quorate_checkers::history::{Outcome, Request};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::Endpoint;
pub(crate) use recorder::{Counts, Recorder};

/// How long a client waits for an answer. Short, so that whoever hangs at a stopped node is back soon.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Longest that reading all sets at the end may take.
const READ_SETS_WITHIN: Duration = Duration::from_secs(60);

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Clients besides those that watch.
    pub(crate) clients: u32,
    /// Operations a second of all of them together, if the cluster is that fast.
    pub(crate) ops_per_s: u32,
    /// What they ask is decided by this.
    pub(crate) seed: u64,
}

/// A running workload.
pub(crate) struct Workload {
    recorder: Recorder,
    clients: Party,
    /// They outlive the others: what nobody has watched, a checker can only guess.
    watchers: Party,
}

/// Clients that end together.
struct Party {
    stop: watch::Sender<bool>,
    tasks: JoinSet<anyhow::Result<()>>,
}

impl Party {
    fn new() -> Party {
        Party {
            stop: watch::Sender::new(false),
            tasks: JoinSet::new(),
        }
    }

    /// Lets each end after the operation that it is at.
    async fn end(&mut self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(())
    }
}

impl Workload {
    /// Starts all clients.
    pub(crate) fn start(
        load: Load,
        endpoints: &watch::Receiver<Vec<Endpoint>>,
        recorder: &Recorder,
    ) -> Workload {
        let mut clients = Party::new();
        let session = |index| Session::new(recorder, endpoints, index, &clients.stop);
        let pace = Duration::from_secs(1) * load.clients / load.ops_per_s.max(1);
        for index in 0..load.clients {
            let asking = clients::run(session(index), rng_of(load.seed, index), pace);
            clients.tasks.spawn(asking);
        }
        for index in [0, 1] {
            let locking = holders::lock(session(index), rng_of(load.seed, u32::MAX - index));
            clients.tasks.spawn(locking);
        }
        let leasing = holders::lease(session(1), rng_of(load.seed, u32::MAX - 2));
        clients.tasks.spawn(leasing);
        let mut watchers = Party::new();
        for pinned in [None, Some(0)] {
            let watching = watcher::run(
                recorder.clone(),
                endpoints.clone(),
                pinned,
                watchers.stop.subscribe(),
            );
            watchers.tasks.spawn(watching);
        }
        Workload {
            recorder: recorder.clone(),
            clients,
            watchers,
        }
    }

    /// Stops all clients but those that watch, each after the operation that it is at.
    pub(crate) async fn stop_asking(&mut self) -> anyhow::Result<()> {
        self.clients.end().await
    }

    /// Stops the rest.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Recorder> {
        self.clients.end().await?;
        self.watchers.end().await?;
        Ok(self.recorder)
    }
}

/// The choices of one client of a run.
fn rng_of(seed: u64, client: u32) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(client)))
}

/// Which nodes a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// All, beginning with one.
    Any(usize),
    /// One.
    Only(usize),
}

/// One client's connection to the cluster, which follows its changes.
struct Session {
    number: u32,
    recorder: Recorder,
    whom: Whom,
    endpoints: watch::Receiver<Vec<Endpoint>>,
    stop: watch::Receiver<bool>,
    client: Option<(Client, String)>,
}

impl Session {
    fn new(
        recorder: &Recorder,
        endpoints: &watch::Receiver<Vec<Endpoint>>,
        index: u32,
        stop: &watch::Sender<bool>,
    ) -> Session {
        let place = index as usize;
        Session {
            number: recorder.client_number(),
            recorder: recorder.clone(),
            whom: if index % 3 == 2 {
                Whom::Only(place / 3)
            } else {
                Whom::Any(place)
            },
            endpoints: endpoints.clone(),
            stop: stop.subscribe(),
            client: None,
        }
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// The client for the nodes that there are now, and the name of its endpoint.
    fn client(&mut self) -> anyhow::Result<(Client, String)> {
        if self.endpoints.has_changed().unwrap_or(false) {
            self.client = None;
        }
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut endpoints = self.endpoints.borrow_and_update().clone();
        let count = endpoints.len();
        let name = match self.whom {
            Whom::Any(first) => {
                endpoints.rotate_left(first % count);
                "any".to_owned()
            }
            Whom::Only(one) => {
                endpoints = vec![endpoints.swap_remove(one % count)];
                endpoints[0].name.clone()
            }
        };
        let made = (client_of(&endpoints)?, name);
        self.client = Some(made.clone());
        Ok(made)
    }

    /// Asks, records, and says what came of it.
    async fn ask(&mut self, request: Request) -> anyhow::Result<Outcome> {
        let (client, endpoint) = self.client()?;
        let start_ns = self.recorder.now_ns();
        let outcome = execute::execute(&client, &request).await;
        self.recorder
            .take(self.number, &endpoint, start_ns, request, outcome.clone());
        Ok(outcome)
    }
}

/// A client with the patience of this workload.
pub(crate) fn client_of(endpoints: &[Endpoint]) -> anyhow::Result<Client> {
    let mut config = Config::new(endpoints.iter().map(|endpoint| &endpoint.url));
    config.request_timeout = REQUEST_TIMEOUT;
    config.dial_timeout = REQUEST_TIMEOUT / 4;
    Ok(Client::new(config)?)
}

/// Keeps a steady pace without making up for what was missed.
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    fn new(interval: Duration) -> Pace {
        Pace {
            interval,
            next: Instant::now(),
        }
    }

    async fn wait(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.next = (self.next + self.interval).max(Instant::now());
    }
}

/// Reads every set once more when all is quiet, so that a lost element is seen.
///
/// # Errors
/// If one cannot be read, however often it is tried.
pub(crate) async fn read_sets(endpoints: &[Endpoint], recorder: &Recorder) -> anyhow::Result<()> {
    let client = client_of(endpoints)?;
    let number = recorder.client_number();
    let until = Instant::now() + READ_SETS_WITHIN;
    for epoch in 0..=clients::epoch_at(recorder.now_ns()) {
        let request = Request::SetRead {
            set: clients::set_name(recorder, epoch),
            serializable: false,
        };
        loop {
            let start_ns = recorder.now_ns();
            let outcome = execute::execute(&client, &request).await;
            recorder.take(number, "any", start_ns, request.clone(), outcome.clone());
            match outcome {
                Outcome::Ok(_) => break,
                Outcome::Failed(error) | Outcome::Unknown(error) => anyhow::ensure!(
                    Instant::now() < until,
                    "not within {} s; at last: {error}",
                    READ_SETS_WITHIN.as_secs()
                ),
            }
        }
    }
    Ok(())
}

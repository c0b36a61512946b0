//! One run: load on a cluster, faults one after the other, quiet at the end, and what is to be true then.

use std::cell::Cell;
use std::time::{Duration, Instant};

use quorate_checkers::{Check, Verdict};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::cluster::Cluster;
use crate::fault::Fault;
use crate::final_state;
use crate::kind::{Abilities, Kind, View};
use crate::observer::{Observer, Reign};
use crate::partition::Shape;
use crate::workload::{self, Load, Recorder, Workload};

/// Load without faults at the beginning of a run.
const WARM_UP: Duration = Duration::from_secs(1);

/// When it is over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    /// After this many faults.
    Rounds(u32),
    /// With the first fault that ends after this time.
    Time(Duration),
}

/// What is done.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// Which faults.
    pub(crate) kind: Kind,
    /// Of what the cluster is able to.
    pub(crate) abilities: Abilities,
    /// Of partitions; none: any.
    pub(crate) shape: Option<Shape>,
    /// How many.
    pub(crate) length: Length,
    /// Load without faults after each of them.
    pub(crate) pause: Duration,
    /// Every choice follows from it.
    pub(crate) seed: u64,
}

/// A fault that was done.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Injected {
    /// Which.
    pub(crate) fault: Fault,
    /// In words.
    pub(crate) words: String,
    /// When it was begun, in nanoseconds since the run began.
    pub(crate) start_ns: u64,
    /// When it was undone and every node served again.
    pub(crate) end_ns: u64,
}

/// A run that is over.
pub(crate) struct Run {
    /// What clients saw.
    pub(crate) recorder: Recorder,
    /// When they were told to stop, in nanoseconds since the run began.
    pub(crate) load_ended_ns: u64,
    /// The faults.
    pub(crate) faults: Vec<Injected>,
    /// Who led.
    pub(crate) reigns: Vec<Reign>,
    /// What was found of the cluster itself.
    pub(crate) checks: Vec<Check>,
    /// Whether a person ended it early.
    pub(crate) interrupted: bool,
}

/// Runs a schedule. A cluster that does not come back is a finding, not an error.
///
/// # Errors
/// Where the run itself cannot go on, and nothing is known of the cluster.
pub(crate) async fn run(
    cluster: &mut Cluster,
    schedule: &Schedule,
    load: Load,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Run> {
    let recorder = Recorder::new();
    let before = final_state::members(cluster).await?;
    let observer = Observer::start(cluster.endpoints(), &recorder);
    let mut workload = Workload::start(load, &cluster.endpoints(), &recorder);
    let mut faults = Vec::new();
    let interrupted = Cell::new(false);
    let asked_to_end = async {
        shutdown.await;
        interrupted.set(true);
        println!("Ending with the fault that is under way.");
        std::future::pending::<()>().await;
    };
    let came_back = tokio::select! {
        outcome = faults_in_turn(cluster, schedule, &recorder, &interrupted, &mut faults) => outcome,
        () = asked_to_end => Ok(()),
    };
    let mut checks = vec![check(
        "every node came back after every fault",
        faults.len(),
        "faults",
        came_back,
    )];
    let healed = async {
        cluster.undo_all()?;
        cluster.serves().await
    };
    let healed = healed.await;
    let load_ended_ns = recorder.now_ns();
    workload.stop_asking().await?;
    checks.push(check(
        "every node serves at the end",
        cluster.nodes().len(),
        "nodes",
        healed,
    ));
    let endpoints = cluster.endpoints().borrow().clone();
    let read = workload::read_sets(&endpoints, &recorder).await;
    checks.push(check("every set is read once more", 1, "cluster", read));
    let recorder = workload.stop().await?;
    let reigns = observer.stop().await?;
    checks.extend(final_state::check(cluster, &before).await);
    Ok(Run {
        recorder,
        load_ended_ns,
        faults,
        reigns,
        checks,
        interrupted: interrupted.get(),
    })
}

async fn faults_in_turn(
    cluster: &mut Cluster,
    schedule: &Schedule,
    recorder: &Recorder,
    interrupted: &Cell<bool>,
    faults: &mut Vec<Injected>,
) -> anyhow::Result<()> {
    let mut rng = StdRng::seed_from_u64(schedule.seed);
    let began = Instant::now();
    tokio::time::sleep(WARM_UP).await;
    loop {
        match schedule.length {
            Length::Rounds(rounds) if faults.len() >= rounds as usize => return Ok(()),
            Length::Time(time) if began.elapsed() >= time => return Ok(()),
            Length::Rounds(_) | Length::Time(_) if interrupted.get() => return Ok(()),
            Length::Rounds(_) | Length::Time(_) => {}
        }
        let view = View {
            nodes: cluster.names(),
            leader: cluster.leader().await?,
        };
        let fault = schedule
            .kind
            .decide(&view, schedule.abilities, schedule.shape, &mut rng);
        one(cluster, fault, recorder, faults).await?;
        tokio::time::sleep(schedule.pause).await;
    }
}

async fn one(
    cluster: &mut Cluster,
    fault: Fault,
    recorder: &Recorder,
    faults: &mut Vec<Injected>,
) -> anyhow::Result<()> {
    let words = fault.to_string();
    println!("{:>7.1} s  {words}", recorder.now_ns() as f64 / 1e9);
    let start_ns = recorder.now_ns();
    // Kept before it is done: what goes wrong on the way has to be seen in the report.
    faults.push(Injected {
        fault: fault.clone(),
        words,
        start_ns,
        end_ns: start_ns,
    });
    let done = fault.run(cluster).await;
    if let Some(last) = faults.last_mut() {
        last.end_ns = recorder.now_ns();
        if let Ok(Some(note)) = &done {
            println!("           {note}");
            last.words += &format!(": {note}");
        }
    }
    done.map(drop)
}

/// A finding of the harness itself, among those of the checkers.
pub(crate) fn check(what: &str, checked: usize, of: &str, found: anyhow::Result<()>) -> Check {
    Check {
        checker: what.to_owned(),
        checked: checked as u64,
        of: of.to_owned(),
        verdict: match found {
            Ok(()) => Verdict::Ok,
            Err(problem) => Verdict::Violation {
                explanation: format!("{problem:#}"),
            },
        },
    }
}

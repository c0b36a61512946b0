//! The command line, and a run from its beginning to its end.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use quorate_checkers::history::{self, Record, Request};
use quorate_checkers::{Check, Fault as CheckedFault, Settings, Verdict};

use crate::cluster::{Cluster, Plan, is_in_memory};
use crate::kind::{Abilities, Cutting, Kind};
use crate::partition::{RING_NODES_MIN, Shape};
use crate::report::{self, Conclusion, Facts, Summary};
use crate::run::{self, Injected, Length, Schedule};
use crate::sandbox;
use crate::workload::Load;

/// Exit code of a run that shows nothing.
const UNDECIDED: u8 = 2;
/// Answered operations without which a run shows nothing, for each fault.
const OPERATIONS_PER_FAULT_MIN: u64 = 100;
/// Operations on keys that must be asked during each fault.
const OPERATIONS_DURING_FAULT_MIN: usize = 30;
/// Where runs are kept.
const FOLDER: &str = "quorate-chaos";

/// Arguments of `quorate chaos`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is done to the cluster
    #[arg(value_enum, required_unless_present = "again")]
    fault: Option<Kind>,
    /// Check the history in the directory of an earlier run again, instead of making another one
    #[arg(long, value_name = "DIR", exclusive = true)]
    again: Option<PathBuf>,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "seconds")]
    rounds: u32,
    /// For how long, instead of how often; a soak without either takes 60 s
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// What every choice follows from; by default another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Of partitions: how the nodes are cut off; any shape unless given
    #[arg(long, value_enum)]
    shape: Option<Shape>,
    /// Nodes of the cluster: 3, or 5 for a ring, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(3..=7))]
    nodes: Option<u16>,
    /// Break the cluster that Docker Compose runs in this directory, instead of one of its own
    #[arg(long, conflicts_with_all = ["nodes", "shape", "binary", "keep_data"])]
    compose: bool,
    /// Break the running `quorate demo` whose data is in DIR, which starts its nodes again itself
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = "./quorate-data", conflicts_with_all = ["compose", "nodes", "shape", "binary", "keep_data"])]
    demo: Option<PathBuf>,
    /// Run nodes of another build of quorate
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Clients at a time, besides those that watch, lock and hold leases
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..))]
    clients: u32,
    /// Operations a second of all of them together
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Milliseconds of load without faults after each fault
    #[arg(long, value_name = "MS", default_value_t = 1_500)]
    pause: u64,
    /// Where history, faults, logs, verdict and report go; by default a new directory below ./quorate-chaos
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the nodes' data too
    #[arg(long)]
    keep_data: bool,
    /// Run on a file system in memory, where a kill loses nothing that a disk would have lost
    #[arg(long)]
    allow_ram: bool,
}

/// Starts a cluster, runs the faults, and says what was found. `shutdown` ends the faults early; the verdict then is on
/// what was done.
///
/// # Errors
/// Where the run could not be made, so that there is no verdict.
pub async fn run(args: Args, shutdown: impl Future<Output = ()>) -> ExitCode {
    let conclusion = match (&args.again, args.fault) {
        (Some(dir), _) => check_again(dir),
        (None, Some(fault)) => try_run(fault, &args, shutdown).await,
        (None, None) => unreachable!("clap asks for one of them"),
    };
    match conclusion {
        Ok(conclusion) => ExitCode::from(conclusion.exit_code()),
        Err(error) => {
            eprintln!("error: {error:#}\nUNDECIDED: there is no verdict.");
            ExitCode::from(UNDECIDED)
        }
    }
}

/// Holds the history of an earlier run against what is promised.
fn check_again(dir: &Path) -> anyhow::Result<Conclusion> {
    let open = |name: &str| {
        let path = dir.join(name);
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    };
    let settings: Settings = serde_json::from_reader(BufReader::new(open(report::SETTINGS)?))
        .with_context(|| format!("{} is not of this program", report::SETTINGS))?;
    let history = history::read(BufReader::new(open(report::HISTORY)?))?;
    let checked = quorate_checkers::check(&history, &settings);
    println!("{checked}");
    Ok(Conclusion::of(&checked.checks))
}

async fn try_run(fault: Kind, args: &Args, shutdown: impl Future<Output = ()>) -> anyhow::Result<Conclusion> {
    let (abilities, left_out) = abilities(fault, args)?;
    if abilities.cutting == Cutting::Packets || abilities.disks {
        sandbox::enter()?;
    }
    for reason in left_out {
        println!("left out: {reason}");
    }
    let started = chrono::Utc::now();
    let seed = args.seed.unwrap_or_else(rand::random);
    let dir = folder(args, started)?;
    let mut cluster = cluster(args, abilities, &dir).await?;
    let (name, nodes) = (fault.name(), cluster.nodes().len());
    println!("{name} on {nodes} nodes, seed {seed}, in {}", dir.display());
    let schedule = Schedule {
        kind: fault,
        abilities,
        shape: args.shape,
        length: length(fault, args),
        pause: Duration::from_millis(args.pause),
        seed,
    };
    let load = Load {
        clients: args.clients,
        ops_per_s: args.rate,
        seed,
    };
    let run = run::run(&mut cluster, &schedule, load, shutdown).await?;
    let strangers = !cluster.is_own();
    cluster.end().await?;
    let history = run.recorder.into_history();
    println!("checking {} operations …", history.len());
    let settings = settings(&run.faults, strangers);
    let checked = quorate_checkers::check(&history, &settings);
    let mut own_checks = run.checks;
    own_checks.push(coverage(&run.faults, &history, run.interrupted));
    let facts = Facts {
        title: format!("quorate chaos {name}"),
        started,
        seed,
        nodes,
        load_ended_ns: run.load_ended_ns,
        faults: run.faults,
        reigns: run.reigns,
        own_checks,
    };
    let summary = Summary::new(facts, &history, checked);
    report::write(&dir, &summary, &settings, &history)?;
    if !args.keep_data {
        let data = dir.join("data");
        std::fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
    }
    summary.print();
    println!("Report: {}", dir.join("report.html").display());
    Ok(summary.conclusion())
}

/// The cluster that is to be broken, serving.
async fn cluster(args: &Args, abilities: Abilities, dir: &Path) -> anyhow::Result<Cluster> {
    if args.compose {
        return Cluster::compose().await;
    }
    if let Some(dir) = &args.demo {
        return Cluster::demo(dir).await;
    }
    if is_in_memory(dir)? {
        ensure!(
            args.allow_ram,
            "{} lies in memory, where a kill loses nothing: choose a disk with --out, or say --allow-ram",
            dir.display()
        );
        println!("The data lies in memory (--allow-ram): what a disk may lose is not tried.");
    }
    let itself = || std::env::current_exe().context("cannot find this program's own file");
    let plan = Plan {
        nodes: nodes(args)?,
        dir: dir.to_owned(),
        abilities,
        binary: args.binary.clone().map_or_else(itself, Ok)?,
    };
    Cluster::start(plan).await.context("the cluster did not start")
}

/// What the cluster is to be able to: what the fault needs, or for a soak, all that is possible; and what is not.
fn abilities(fault: Kind, args: &Args) -> anyhow::Result<(Abilities, Vec<String>)> {
    let needs = fault.needs();
    if args.compose {
        let containers = Abilities {
            cutting: Cutting::Nodes,
            members: true,
            ..Abilities::default()
        };
        ensure!(
            containers.cover(needs),
            "{} is not possible with containers: leave --compose out",
            fault.name()
        );
        return Ok((containers, Vec::new()));
    }
    if args.demo.is_some() {
        ensure!(
            Abilities::default().cover(needs),
            "{} is not possible with a demo: leave --demo out",
            fault.name()
        );
        return Ok((Abilities::default(), Vec::new()));
    }
    let (possible, refusals) = sandbox::abilities();
    if fault == Kind::Soak {
        return Ok((possible, refusals));
    }
    ensure!(possible.cover(needs), "{}", refusals.join("; "));
    let cutting = match needs.cutting {
        Cutting::Nothing => Cutting::Nothing,
        Cutting::Nodes | Cutting::Packets => Cutting::Packets,
    };
    Ok((Abilities { cutting, ..needs }, Vec::new()))
}

fn nodes(args: &Args) -> anyhow::Result<u16> {
    let is_ring = args.shape == Some(Shape::Ring);
    let nodes = args.nodes.unwrap_or(if is_ring { 5 } else { 3 });
    ensure!(
        !is_ring || usize::from(nodes) >= RING_NODES_MIN,
        "a ring needs {RING_NODES_MIN} nodes or more: say --nodes 5"
    );
    Ok(nodes)
}

/// The run's directory, made.
fn folder(args: &Args, started: chrono::DateTime<chrono::Utc>) -> anyhow::Result<PathBuf> {
    let dir = args.out.clone().unwrap_or_else(|| {
        let name = format!("{}-{}", started.format("%Y%m%d-%H%M%S"), std::process::id());
        Path::new(FOLDER).join(name)
    });
    let data = dir.join("data");
    std::fs::create_dir_all(&data).with_context(|| format!("cannot create {}", data.display()))?;
    let is_empty = std::fs::read_dir(&data)?.next().is_none();
    ensure!(is_empty, "{} is not empty: choose another --out", data.display());
    dir.canonicalize()
        .with_context(|| format!("cannot find {}", dir.display()))
}

fn length(fault: Kind, args: &Args) -> Length {
    match (args.seconds, fault) {
        (Some(seconds), _) => Length::Time(Duration::from_secs(seconds)),
        (None, Kind::Soak) => Length::Time(Duration::from_secs(60)),
        (None, _) => Length::Rounds(args.rounds),
    }
}

fn settings(faults: &[Injected], strangers: bool) -> Settings {
    let checked = |fault: &Injected| CheckedFault {
        what: fault.words.clone(),
        start_ns: fault.start_ns,
        end_ns: fault.end_ns,
    };
    Settings {
        operations_min: OPERATIONS_PER_FAULT_MIN * faults.len().max(1) as u64,
        faults: faults.iter().map(checked).collect(),
        strangers,
    }
}

/// Whether the run shows anything: faults, and clients of keys that asked during each of them.
fn coverage(faults: &[Injected], history: &[Record], interrupted: bool) -> Check {
    let idle = faults.iter().find_map(|fault| {
        let span = fault.start_ns..fault.end_ns;
        let asked = history.iter().filter(|record| span.contains(&record.start_ns) && is_of_keys(&record.request));
        let asked = asked.count();
        let words = &fault.words;
        (asked < OPERATIONS_DURING_FAULT_MIN).then(|| {
            format!(
                "{asked} operations on keys were asked during \"{words}\": below {OPERATIONS_DURING_FAULT_MIN} that shows nothing"
            )
        })
    });
    let none = faults.is_empty().then(|| "no fault was done".to_owned());
    let verdict = match none.or(idle) {
        Some(why) => Verdict::Undecided { why },
        None => Verdict::Ok,
    };
    let what = match interrupted {
        true => "clients asked during every fault, until it was interrupted",
        false => "clients asked during every fault",
    };
    Check {
        checker: what.to_owned(),
        checked: faults.len() as u64,
        of: "faults".to_owned(),
        verdict,
    }
}

/// Neither what leases and locks are about, whose clients keep their own pace and write too, nor a watch, which takes as
/// long as the run.
fn is_of_keys(request: &Request) -> bool {
    match request {
        Request::Put { lease, .. } => lease.is_none(),
        Request::Read { .. }
        | Request::Delete { .. }
        | Request::CompareAndSet { .. }
        | Request::SetAdd { .. }
        | Request::SetRead { .. } => true,
        Request::Txn(_)
        | Request::Watch { .. }
        | Request::LockAcquire { .. }
        | Request::LockRelease { .. }
        | Request::LeaseGrant { .. }
        | Request::LeaseKeepAlive { .. }
        | Request::LeaseTimeToLive { .. }
        | Request::LeaseRevoke { .. }
        | Request::Hash { .. }
        | Request::Compact { .. } => false,
    }
}

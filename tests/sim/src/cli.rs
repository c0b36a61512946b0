//! The command line: one seed, or many, each in a process of its own.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::BufWriter,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::{
    check::check,
    entropy,
    plan::Plan,
    process::Process,
    run::{Outcome, Run},
    shrink::shrink,
};

/// Simulates whole clusters of Quorate
#[derive(Debug, Parser)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run seeds one after the other and sum up
    Simulate {
        /// How many
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        /// The first one
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Seconds of simulated time with faults, for each
        #[arg(long, default_value_t = DURATION_S)]
        seconds: u64,
        /// At the same time
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Run one seed
    Run {
        /// The seed
        seed: u64,
        /// Seconds of simulated time with faults
        #[arg(long, default_value_t = DURATION_S)]
        seconds: u64,
        /// A plan to run instead of the seed's
        #[arg(long)]
        plan: Option<PathBuf>,
        /// Make a known mistake, see tests/planted
        #[cfg(feature = "planted")]
        #[arg(long)]
        plant: Option<String>,
        /// Say what happens
        #[arg(long, short)]
        verbose: bool,
        /// Say what nodes say, as a filter of tracing
        #[arg(long)]
        log: Option<String>,
        /// Write the history there
        #[arg(long)]
        history: Option<PathBuf>,
        /// The outcome as a line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Find the fewest faults with which a seed still fails
    Shrink {
        /// The seed
        seed: u64,
        /// Seconds of simulated time with faults
        #[arg(long, default_value_t = DURATION_S)]
        seconds: u64,
        /// Where the plan that is left goes
        #[arg(long, default_value = "failing.json")]
        out: PathBuf,
    },
    /// Run all plans of a folder
    Replay {
        /// The folder
        folder: PathBuf,
    },
    /// Look how many seeds it takes to find each known mistake
    #[cfg(feature = "planted")]
    Planted {
        /// Which; all, unless one is named
        names: Vec<String>,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Give up after so many seeds
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// Seconds of simulated time with faults
        #[arg(long, default_value_t = DURATION_S)]
        seconds: u64,
    },
    /// Print the plan of a seed
    Plan {
        /// The seed
        seed: u64,
        /// Seconds of simulated time with faults
        #[arg(long, default_value_t = DURATION_S)]
        seconds: u64,
    },
}

/// As much simulated time as makes a thousand hours of ten thousand seeds.
const DURATION_S: u64 = 360;

/// A run that takes longer in real time hangs.
const RUN_MAX: Duration = Duration::from_secs(600);

/// What the first panic said, of a task or of the run itself.
static PANIC: OnceLock<String> = OnceLock::new();

impl Args {
    /// Does what is asked for; fails if a run does.
    ///
    /// # Errors
    /// When a run cannot be made.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Simulate {
                seeds,
                from,
                seconds,
                jobs,
            } => simulate(from, seeds, seconds, jobs),
            What::Run {
                seed,
                seconds,
                plan,
                #[cfg(feature = "planted")]
                plant,
                verbose,
                log,
                history,
                json,
            } => {
                #[cfg(feature = "planted")]
                if let Some(name) = plant {
                    crate::planted::plant(&name)?;
                }
                let plan = match plan {
                    Some(path) => serde_json::from_slice(&fs::read(&path)?)?,
                    None => Plan::of(seed, seconds),
                };
                if let Some(filter) = log {
                    tracing_subscriber::fmt()
                        .with_env_filter(filter)
                        .with_writer(std::io::stderr)
                        .without_time()
                        .init();
                }
                one(plan, verbose, history.as_deref(), json)
            }
            What::Shrink { seed, seconds, out } => {
                let plan = shrink(Plan::of(seed, seconds), &out)?;
                let (faults, out) = (plan.faults.len(), out.display());
                println!(
                    "{faults} faults are left; again with: quorate-sim run {seed} --verbose --plan {out}"
                );
                Ok(ExitCode::SUCCESS)
            }
            What::Replay { folder } => replay(&folder),
            #[cfg(feature = "planted")]
            What::Planted {
                names,
                from,
                seeds,
                seconds,
            } => crate::planted::find(&names, from, seeds, seconds),
            What::Plan { seed, seconds } => {
                println!("{}", serde_json::to_string_pretty(&Plan::of(seed, seconds))?);
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Plays one plan in this process, which must not have played another.
fn one(plan: Plan, verbose: bool, history_path: Option<&Path>, json: bool) -> anyhow::Result<ExitCode> {
    entropy::seed(plan.seed);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // The first one counts, as others may follow from it.
        let _ = PANIC.set(info.to_string());
        default(info);
    }));
    std::thread::spawn(|| {
        std::thread::sleep(RUN_MAX);
        eprintln!("the run does not come to its end: something goes round without any time passing");
        std::process::exit(3);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let played = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async { Box::pin(Run::new(plan, verbose).play()).await })
    }));
    let (mut outcome, history) = played.unwrap_or_else(|_| (Outcome::default(), Vec::new()));
    if let Some(panic) = PANIC.get() {
        outcome.violations.insert(0, panic.replace('\n', " "));
    }
    if !history.is_empty() {
        check(&mut outcome, &history);
    }
    if let Some(path) = history_path {
        let mut file = BufWriter::new(File::create(path)?);
        for record in &history {
            quorate_checkers::history::write(&mut file, record)?;
        }
    }
    if json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{outcome:#?}");
    }
    // Not dropped: that takes longer than the end of the process.
    std::mem::forget(runtime);
    Ok(if outcome.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs what once failed.
fn replay(folder: &Path) -> anyhow::Result<ExitCode> {
    let mut plans: Vec<PathBuf> = fs::read_dir(folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    plans.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    plans.sort();
    let mut failed = 0;
    for path in &plans {
        if let Some(first) = Process::of_plan(path)?.outcome()?.violations.first() {
            failed += 1;
            println!("{}: {first}", path.display());
        }
    }
    println!("{} plans, {failed} failed", plans.len());
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What came of many runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    simulated_ms: u64,
    operations: u64,
    acknowledged: u64,
    faults: u64,
    power_cuts: u64,
}

fn simulate(from: u64, seeds: u64, seconds: u64, jobs: usize) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut sum = Sum::default();
    let mut under_way = VecDeque::new();
    let mut next = from..from + seeds;
    loop {
        while under_way.len() < jobs.max(1)
            && let Some(seed) = next.next()
        {
            under_way.push_back((seed, Process::of_seed(seed, seconds)?));
        }
        let Some((seed, process)) = under_way.pop_front() else {
            break;
        };
        sum.add(seed, &process.outcome()?);
        if sum.runs.is_multiple_of(1000) {
            println!("{}", sum.line(began.elapsed()));
        }
    }
    println!("{}", sum.line(began.elapsed()));
    Ok(if sum.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.simulated_ms += outcome.simulated_ms;
        self.operations += outcome.operations;
        self.acknowledged += outcome.acknowledged;
        self.faults += outcome.faults;
        self.power_cuts += outcome.power_cuts;
        if let Some(first) = outcome.violations.first() {
            println!("seed {seed}: {first}\n  again with: quorate-sim run {seed} --verbose");
            self.failed.push(seed);
        }
    }

    fn line(&self, took: Duration) -> String {
        let hours = self.simulated_ms as f64 / 3_600_000.0;
        format!(
            "{} seeds, {} failed; {:.1} hours simulated in {:.0} s ({:.0} times as fast); {} operations, {} acknowledged; {} faults, \
             {} power cuts",
            self.runs,
            self.failed.len(),
            hours,
            took.as_secs_f64(),
            hours * 3600.0 / took.as_secs_f64(),
            self.operations,
            self.acknowledged,
            self.faults,
            self.power_cuts,
        )
    }
}

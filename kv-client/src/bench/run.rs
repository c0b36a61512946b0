//! Starts the clients of a load, shows progress, and reports.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use kv_proto::etcdserverpb::DeleteRangeRequest;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::args::{BenchArgs, BenchCommand};
use super::load::{self, Keys, Pace, Plan, Results, Values};
use super::report::Report;
use super::{lease, watch};
use crate::auth::Auth;
use crate::cli::{Consistency, Exit, Failure, GlobalArgs, Interrupts, WriteOut, print};
use crate::connection::{Connection, Dialer};
use crate::endpoint::Endpoint;
use crate::{Client, Error};

/// How often the progress bar moves.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How many writes fill the store at a time.
const FILL_CLIENTS: u32 = 128;

/// Runs one load and prints its report.
pub(crate) async fn run(global: &GlobalArgs, command: &BenchCommand) -> Result<Exit, Failure> {
    let (name, args, consistency, write_percent) = match command {
        BenchCommand::Put(args) => ("put", args, Consistency::Linearizable, 100),
        BenchCommand::Range(args) => ("range", &args.common, args.read.consistency, 0),
        BenchCommand::Mixed(args) => ("mixed", &args.common, args.read.consistency, args.write_percent),
        BenchCommand::Watch(args) => return Box::pin(watch::run(global, args)).await,
        BenchCommand::Lease(args) => return Box::pin(lease::run(global, args)).await,
    };
    let serializable = consistency == Consistency::Serializable;
    let plan = |pace, writes_percent: u8, sequential| -> Result<Arc<Plan>, Failure> {
        Ok(Arc::new(Plan {
            writes_per_10_000: u32::from(writes_percent) * 100,
            serializable,
            keys: keys(args)?,
            values: Values::new(args.value_size as usize),
            request_timeout: global.command_timeout,
            pace,
            sequential,
            auth: Auth::new(global.config().credentials),
        }))
    };
    keys(args)?;
    let connections = connect(global, args.conns).await?;
    if args.fill {
        let plan = plan(Pace::start(args.key_count, None, None), 100, true)?;
        let (_, filled) = run_clients(
            &plan,
            &connections,
            FILL_CLIENTS,
            bar("fill", Some(args.key_count)),
        )
        .await;
        if let Some((kind, count)) = filled.errors.first_key_value() {
            let what = format!("{count} of {} keys could not be written: {kind}", args.key_count);
            return Err(Failure::new(
                Exit::Other,
                what,
                "see how the servers are with the command status",
            ));
        }
    }
    let bar = bar(name, args.duration.is_none().then_some(args.total));
    // The clock starts with the plan.
    let plan = plan(
        Pace::start(args.total, args.duration, args.rate),
        write_percent,
        false,
    )?;
    // What was measured until somebody interrupts counts.
    let mut interrupts = Interrupts::listen()?;
    let stopped = plan.clone();
    let stop = tokio::spawn(async move {
        interrupts.next().await;
        stopped.pace.stop();
    });
    let (elapsed, results) = run_clients(&plan, &connections, args.clients, bar).await;
    stop.abort();
    if args.clean {
        clean(global, &args.prefix).await?;
    }
    let report = Report::new(name, serializable, args, elapsed, &results);
    match global.write_out.unwrap_or(WriteOut::Table) {
        WriteOut::Json => print(report.json())?,
        WriteOut::Table => print(report.table())?,
        WriteOut::Simple | WriteOut::Fields | WriteOut::Protobuf => print(report.lines())?,
    }
    verdict(report.is_total_failure())
}

/// The exit of a load.
pub(super) fn verdict(is_total_failure: bool) -> Result<Exit, Failure> {
    if is_total_failure {
        return Err(Failure::new(
            Exit::Other,
            "no request succeeded",
            "see how the servers are with the command status",
        ));
    }
    Ok(Exit::Ok)
}

/// A steady load of writes.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) clients: u32,
    /// Writes a second.
    pub(crate) rate: u64,
    pub(crate) prefix: String,
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Performance {
    pub(crate) writes_per_s: f64,
    pub(crate) slowest: Duration,
    pub(crate) deviation: Duration,
    pub(crate) errors: u64,
}

/// The sizes and the number of keys in a [`Demand`]: etcdctl's.
const DEMAND_KEY_SIZE: usize = 256;
const DEMAND_KEYS: u64 = 1_000_000;
const DEMAND_VALUE_SIZE: usize = 1_024;
/// Connections of a [`Demand`].
const DEMAND_CONNECTIONS: u32 = 50;

/// Puts a load on the cluster, with progress on a terminal.
pub(crate) async fn perform(global: &GlobalArgs, demand: &Demand) -> Result<Performance, Failure> {
    let keys = Keys::new(&demand.prefix, DEMAND_KEY_SIZE, DEMAND_KEYS)
        .ok_or_else(|| Failure::usage("the prefix is too long", "name a shorter --prefix"))?;
    let connections = connect(global, demand.clients.min(DEMAND_CONNECTIONS)).await?;
    let total = demand.rate * demand.duration.as_secs().max(1);
    let plan = Arc::new(Plan {
        writes_per_10_000: 10_000,
        serializable: false,
        keys,
        values: Values::new(DEMAND_VALUE_SIZE),
        request_timeout: global.command_timeout,
        pace: Pace::start(total, Some(demand.duration), Some(demand.rate)),
        sequential: false,
        auth: Auth::new(global.config().credentials),
    });
    let bar = bar("check", Some(total));
    let (elapsed, results) = run_clients(&plan, &connections, demand.clients, bar).await;
    let writes = &results.writes;
    Ok(Performance {
        writes_per_s: writes.histogram.len() as f64 / elapsed.max(demand.duration).as_secs_f64(),
        slowest: Duration::from_micros(writes.max_us),
        deviation: Duration::from_secs_f64(writes.histogram.stdev() / 1e6),
        errors: results.errors.values().sum(),
    })
}

fn keys(args: &BenchArgs) -> Result<Keys, Failure> {
    Keys::new(&args.prefix, args.key_size as usize, args.key_count).ok_or_else(|| {
        let what = format!(
            "a key of {} bytes has no room for the prefix and {} numbers",
            args.key_size, args.key_count
        );
        Failure::usage(what, "make --key-size larger, or --prefix or --key-count smaller")
    })
}

/// Opens all connections before the clock starts. Each must succeed: what is measured is to be what was asked for.
pub(super) async fn connect(global: &GlobalArgs, count: u32) -> Result<Vec<Arc<Connection>>, Failure> {
    let dialer = Dialer::new(&global.config())?;
    let mut connections = Vec::new();
    for text in global.endpoints.iter().cycle().take(count as usize) {
        let connection = Connection::new(Endpoint::parse(text)?, &dialer);
        if let Err(error) = connection.channel().await {
            return Err(Error::NoQuorum {
                message: format!("{text}: {error}"),
            }
            .into());
        }
        connections.push(Arc::new(connection));
    }
    if connections.is_empty() {
        return Err(Failure::usage(
            "no endpoint is given",
            "name the servers with --endpoints host:port,...",
        ));
    }
    Ok(connections)
}

async fn run_clients(
    plan: &Arc<Plan>,
    connections: &[Arc<Connection>],
    clients: u32,
    bar: ProgressBar,
) -> (Duration, Results) {
    let started = Instant::now();
    let done = Arc::new(AtomicU64::new(0));
    let mut running = JoinSet::new();
    for connection in connections.iter().cycle().take(clients as usize) {
        running.spawn(load::client(plan.clone(), connection.clone(), done.clone()));
    }
    let mut results = Results::new();
    let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            joined = running.join_next() => match joined {
                Some(Ok(one)) => results.merge(&one),
                // A client that panicked is a defect of this program: it must not look like a result.
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => break,
            },
            _ = tick.tick(), if !bar.is_hidden() => bar.set_position(done.load(Ordering::Relaxed)),
        }
    }
    bar.finish_and_clear();
    (started.elapsed(), results)
}

/// A progress bar, on a terminal only.
pub(super) fn bar(name: &'static str, total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{bar:40}] {pos}/{len}  {per_sec}  {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{msg} {spinner} {pos}  {per_sec}  {elapsed}",
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(name);
    bar
}

/// Deletes what the load has written.
pub(super) async fn clean(global: &GlobalArgs, prefix: &str) -> Result<(), Failure> {
    let first = prefix.as_bytes().to_vec();
    let range_end = crate::prefix_end(&first);
    let key = if first.is_empty() {
        range_end.clone()
    } else {
        first.into()
    };
    Client::new(global.config())?
        .delete_range(DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        })
        .await?;
    Ok(())
}

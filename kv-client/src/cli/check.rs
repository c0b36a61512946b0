//! `check perf`: whether the cluster keeps up with a load.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use kv_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, RangeRequest};

use super::args::{GlobalArgs, WriteOut};
use super::commands::{Outcome, Session};
use super::endpoints::EndpointArgs;
use super::exit::{Exit, Failure};
use super::json;
use super::output::{print, table};
use super::values::parse_duration;
use crate::bench::{self, Demand, Performance};
use crate::prefix_end;

/// Kinds of checks.
#[derive(Clone, Debug, Subcommand)]
pub enum CheckCommand {
    /// Write at a steady rate for a minute, and judge what came of it
    #[command(after_help = PERF_HELP)]
    Perf(PerfArgs),
}

const PERF_HELP: &str = "\
Passes if at least nine tenths of the rate were reached, no write took longer than 0.5 s, and the standard deviation
of their latency is at most 0.1 s; these are etcdctl's loads and limits. Exit code 1 if not. The keys are deleted
afterwards; there must be none with the prefix before.";

/// Arguments of `check perf`.
#[derive(Clone, Debug, clap::Args)]
pub struct PerfArgs {
    /// How much: s 150 writes a second by 50 clients, m 1000 by 200, l 8000 by 500, xl 15000 by 1000
    #[arg(long, default_value = "s")]
    pub load: Load,
    /// What the keys begin with
    #[arg(long, default_value = "/etcdctl-check-perf/")]
    pub prefix: String,
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Compact the history afterwards
    #[arg(long)]
    pub auto_compact: bool,
    /// Defragment the endpoints afterwards
    #[arg(long)]
    pub auto_defrag: bool,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Small
    #[value(name = "s", alias = "small")]
    Small,
    /// Medium
    #[value(name = "m", alias = "medium")]
    Medium,
    /// Large
    #[value(name = "l", alias = "large")]
    Large,
    /// Very large
    #[value(name = "xl", aliases = ["xlarge", "xLarge"])]
    XLarge,
}

impl Load {
    fn demand(self, args: &PerfArgs) -> Demand {
        let (clients, rate) = match self {
            Load::Small => (50, 150),
            Load::Medium => (200, 1_000),
            Load::Large => (500, 8_000),
            Load::XLarge => (1_000, 15_000),
        };
        Demand {
            clients,
            rate,
            prefix: args.prefix.clone(),
            duration: args.duration,
        }
    }
}

/// The part of the rate that must be reached.
const RATE_MIN: f64 = 0.9;
/// The longest that a write may take.
const LATENCY_MAX: Duration = Duration::from_millis(500);
/// The largest standard deviation of latency.
const DEVIATION_MAX: Duration = Duration::from_millis(100);

pub(super) async fn run(global: &GlobalArgs, command: &CheckCommand) -> Outcome {
    let CheckCommand::Perf(args) = command;
    let session = Session::new(global)?;
    let (key, range_end) = (args.prefix.clone(), prefix_end(args.prefix.as_bytes()));
    let count = RangeRequest {
        key: key.clone().into(),
        range_end: range_end.clone(),
        count_only: true,
        ..Default::default()
    };
    if session.client.range(count).await?.count > 0 {
        return Err(Failure::usage(
            format!("there are keys that begin with {key}"),
            "delete them, or name another --prefix",
        ));
    }
    let demand = args.load.demand(args);
    let performance = bench::perform(global, &demand).await;
    // Whatever came of it: nothing is left behind.
    let delete = DeleteRangeRequest {
        key: key.into(),
        range_end,
        prev_kv: false,
    };
    let deleted = session.client.delete_range(delete).await?;
    if args.auto_compact {
        let request = CompactionRequest {
            revision: deleted.header.as_ref().map_or(0, |header| header.revision),
            physical: true,
        };
        session.client.compact(request).await?;
    }
    if args.auto_defrag {
        session.defrag(EndpointArgs { cluster: false }).await?;
    }
    session.judge(&demand, &performance?)
}

impl Session {
    fn judge(&self, demand: &Demand, performance: &Performance) -> Outcome {
        let verdicts = verdicts(demand, performance);
        let passed = verdicts.iter().all(|(passed, _)| *passed);
        let word = |passed: bool| if passed { "PASS" } else { "FAIL" };
        match self.write_out.unwrap_or(WriteOut::Simple) {
            WriteOut::Json => {
                let form = |(passed, text): &(bool, String)| {
                    json::whole([("passed", (*passed).into()), ("text", text.as_str().into())])
                };
                let all = verdicts.iter().map(form).collect();
                print(json::line(&json::whole([
                    ("passed", passed.into()),
                    ("verdicts", all),
                ])))?;
            }
            WriteOut::Table => {
                let mut table = table(["VERDICT", "WHY"]);
                for (passed, text) in &verdicts {
                    table.add_row([word(*passed), text]);
                }
                print(format!("{table}\n{}\n", word(passed)))?;
            }
            WriteOut::Simple | WriteOut::Fields | WriteOut::Protobuf => {
                let lines = verdicts
                    .iter()
                    .map(|(passed, text)| format!("{}: {text}\n", word(*passed)));
                print(format!("{}{}\n", lines.collect::<String>(), word(passed)))?;
            }
        }
        Ok(if passed { Exit::Ok } else { Exit::Other })
    }
}

/// What is judged, and whether it is good enough.
fn verdicts(demand: &Demand, performance: &Performance) -> Vec<(bool, String)> {
    let rate = performance.writes_per_s;
    let seconds = |duration: Duration| format!("{:.3} s", duration.as_secs_f64());
    let mut verdicts = vec![
        (
            rate >= RATE_MIN * demand.rate as f64,
            format!("throughput {rate:.0} of {} writes/s", demand.rate),
        ),
        (
            performance.slowest <= LATENCY_MAX,
            format!(
                "slowest write {}, at most {}",
                seconds(performance.slowest),
                seconds(LATENCY_MAX)
            ),
        ),
        (
            performance.deviation <= DEVIATION_MAX,
            format!(
                "standard deviation {}, at most {}",
                seconds(performance.deviation),
                seconds(DEVIATION_MAX)
            ),
        ),
    ];
    if performance.errors > 0 {
        verdicts.push((false, format!("{} writes failed", performance.errors)));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::verdicts;
    use crate::bench::{Demand, Performance};

    #[test]
    fn judges_by_rate_and_latency() {
        let demand = Demand {
            clients: 50,
            rate: 150,
            prefix: String::new(),
            duration: Duration::from_secs(60),
        };
        let good = Performance {
            writes_per_s: 149.0,
            slowest: Duration::from_millis(80),
            deviation: Duration::from_millis(3),
            errors: 0,
        };
        let passes =
            |performance: &Performance| verdicts(&demand, performance).iter().all(|(passed, _)| *passed);
        assert!(passes(&good));
        assert!(!passes(&Performance {
            writes_per_s: 134.0,
            ..good
        }));
        assert!(!passes(&Performance {
            slowest: Duration::from_millis(501),
            ..good
        }));
        assert!(!passes(&Performance {
            deviation: Duration::from_millis(101),
            ..good
        }));
        assert!(!passes(&Performance { errors: 1, ..good }));
    }
}

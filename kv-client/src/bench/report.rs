//! The figures of a load as a table, as lines, and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::args::BenchArgs;
use super::load::{Latencies, Results};
use crate::cli::{WriteOut, table};

/// What was asked for and what came of it. Times in milliseconds.
#[derive(Serialize)]
pub(super) struct Report {
    load: &'static str,
    consistency: &'static str,
    clients: u32,
    conns: u32,
    key_count: u64,
    key_size: u32,
    value_size: u32,
    seconds: f64,
    rows: Vec<Row>,
    /// Reads of keys that do not exist; they count as successes.
    not_found: u64,
    errors: BTreeMap<String, u64>,
}

/// The figures of one kind of request, or of all.
#[derive(Serialize)]
pub(super) struct Row {
    name: &'static str,
    ops: u64,
    ops_per_s: f64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Report {
    pub(super) fn new(
        load: &'static str,
        serializable: bool,
        args: &BenchArgs,
        elapsed: Duration,
        results: &Results,
    ) -> Report {
        let mut all = results.writes.clone();
        all.merge(&results.reads);
        let parts: &[(&'static str, &Latencies)] = match load {
            "mixed" => &[("put", &results.writes), ("range", &results.reads), ("all", &all)],
            _ => &[(load, &all)],
        };
        Report {
            load,
            consistency: if serializable {
                "serializable"
            } else {
                "linearizable"
            },
            clients: args.clients,
            conns: args.conns,
            key_count: args.key_count,
            key_size: args.key_size,
            value_size: args.value_size,
            seconds: elapsed.as_secs_f64(),
            rows: parts
                .iter()
                .map(|(name, latencies)| row(name, latencies, elapsed))
                .collect(),
            not_found: results.not_found,
            errors: results.errors.clone(),
        }
    }

    /// Whether nothing succeeded although something was tried.
    pub(super) fn is_total_failure(&self) -> bool {
        !self.errors.is_empty() && self.rows.iter().all(|row| row.ops == 0)
    }

    /// One line of JSON.
    pub(super) fn json(&self) -> String {
        json_of(self)
    }

    pub(super) fn table(&self) -> String {
        format!("{}\n{}{}", self.heading(), table_of(&self.rows), self.remarks())
    }

    pub(super) fn lines(&self) -> String {
        format!("{}\n{}{}", self.heading(), lines_of(&self.rows), self.remarks())
    }

    fn heading(&self) -> String {
        let Report {
            load,
            consistency,
            clients,
            conns,
            key_count,
            value_size,
            seconds,
            ..
        } = self;
        let reads = if *load == "put" {
            String::new()
        } else {
            format!(", {consistency}")
        };
        format!(
            "{load}{reads}: {clients} clients, {conns} connections, {key_count} keys, values of {value_size} B, {seconds:.2} s"
        )
    }

    fn remarks(&self) -> String {
        let mut out = String::new();
        if self.not_found > 0 {
            let _ = writeln!(
                out,
                "not found: {} (write the keys first with --fill)",
                self.not_found
            );
        }
        out + &errors_of(&self.errors)
    }
}

/// The figures of a load that is not one kind of request: settings, rows, and errors.
#[derive(Serialize)]
pub(super) struct Sheet {
    load: &'static str,
    #[serde(flatten)]
    settings: BTreeMap<&'static str, u64>,
    seconds: f64,
    rows: Vec<Row>,
    errors: BTreeMap<String, u64>,
}

impl Sheet {
    pub(super) fn new(
        load: &'static str,
        settings: impl IntoIterator<Item = (&'static str, u64)>,
        elapsed: Duration,
        rows: Vec<Row>,
        errors: &BTreeMap<String, u64>,
    ) -> Sheet {
        Sheet {
            load,
            settings: settings.into_iter().collect(),
            seconds: elapsed.as_secs_f64(),
            rows,
            errors: errors.clone(),
        }
    }

    /// Whether nothing at all succeeded.
    pub(super) fn is_total_failure(&self) -> bool {
        self.rows.iter().all(|row| row.ops == 0)
    }

    pub(super) fn show(&self, write_out: WriteOut) -> String {
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{value} {}", name.replace('_', " ")))
            .collect();
        let heading = format!("{}: {}, {:.2} s\n", self.load, settings.join(", "), self.seconds);
        let errors = errors_of(&self.errors);
        match write_out {
            WriteOut::Json => json_of(self),
            WriteOut::Table => heading + &table_of(&self.rows) + &errors,
            WriteOut::Simple | WriteOut::Fields | WriteOut::Protobuf => {
                heading + &lines_of(&self.rows) + &errors
            }
        }
    }
}

fn json_of(report: &impl Serialize) -> String {
    // Fails only on a map with keys that are not strings, and there is none here.
    let mut line = serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    line.push('\n');
    line
}

fn table_of(rows: &[Row]) -> String {
    let mut table = table([
        "LOAD", "OPS", "OPS/S", "MEAN MS", "P50 MS", "P90 MS", "P99 MS", "P99.9 MS", "MAX MS",
    ]);
    rows.iter().for_each(|row| {
        table.add_row(row.cells());
    });
    format!("{table}\n")
}

fn lines_of(rows: &[Row]) -> String {
    let mut out = String::new();
    for row in rows {
        let [name, ops, rate, mean, p50, p90, p99, p999, max] = row.cells();
        let _ = writeln!(
            out,
            "{name}: {ops} ops, {rate} ops/s, mean {mean} p50 {p50} p90 {p90} p99 {p99} p99.9 {p999} max {max} ms"
        );
    }
    out
}

fn errors_of(errors: &BTreeMap<String, u64>) -> String {
    errors
        .iter()
        .map(|(kind, count)| format!("errors: {count} × {kind}\n"))
        .collect()
}

/// The figures of one kind of request.
pub(super) fn row(name: &'static str, latencies: &Latencies, elapsed: Duration) -> Row {
    let ops = latencies.histogram.len();
    let quantile = |q| ms(latencies.histogram.value_at_quantile(q).min(latencies.max_us));
    Row {
        name,
        ops,
        ops_per_s: ops as f64 / elapsed.as_secs_f64(),
        mean_ms: latencies.histogram.mean() / 1e3,
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        p999_ms: quantile(0.999),
        max_ms: ms(latencies.max_us),
    }
}

impl Row {
    fn cells(&self) -> [String; 9] {
        let times = [
            self.mean_ms,
            self.p50_ms,
            self.p90_ms,
            self.p99_ms,
            self.p999_ms,
            self.max_ms,
        ];
        let [mean, p50, p90, p99, p999, max] = times.map(|ms| {
            if ms < 10.0 {
                format!("{ms:.2}")
            } else {
                format!("{ms:.1}")
            }
        });
        [
            self.name.to_owned(),
            self.ops.to_string(),
            format!("{:.0}", self.ops_per_s),
            mean,
            p50,
            p90,
            p99,
            p999,
            max,
        ]
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

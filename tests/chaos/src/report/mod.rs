//! What a run leaves: a folder with its history, its faults, the verdict, and a page to look at.

mod html;
mod timeline;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use quorate_checkers::history::{self, Record};
use quorate_checkers::{Check, Report, Settings, Verdict};
use serde::Serialize;

use crate::gaps::{self, Gap};
use crate::observer::Reign;
use crate::run::Injected;
use crate::workload::Counts;

/// The file of what clients saw.
pub(crate) const HISTORY: &str = "history.jsonl";
/// The file of what the checkers must know besides.
pub(crate) const SETTINGS: &str = "settings.json";

/// How a run went, for people and for programs.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// What was asked for, in words.
    pub(crate) title: String,
    /// When it began.
    pub(crate) started: chrono::DateTime<chrono::Utc>,
    /// How long it was, in seconds.
    pub(crate) seconds: f64,
    /// What its choices follow from.
    pub(crate) seed: u64,
    /// Nodes at its beginning.
    pub(crate) nodes: usize,
    /// How operations ended.
    pub(crate) operations: Counts,
    /// What was checked: the cluster at the end, and the history.
    pub(crate) checks: Vec<Check>,
    /// Around each fault; none where nothing was acknowledged any more.
    pub(crate) gaps_ms: Vec<Option<f64>>,
    /// The middle and the largest of them.
    pub(crate) gap_p50_and_max_ms: Option<(f64, f64)>,
    /// Who led.
    pub(crate) reigns: Vec<Reign>,
    #[serde(skip)]
    gaps: Vec<Option<Gap>>,
    #[serde(skip)]
    faults: Vec<Injected>,
}

/// What the exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Conclusion {
    /// Nothing was found.
    Passed,
    /// A promise was broken.
    Violated,
    /// The run does not show enough.
    Undecided,
}

impl Conclusion {
    /// What these checks come to.
    pub(crate) fn of(checks: &[Check]) -> Conclusion {
        let any = |wanted: fn(&Verdict) -> bool| checks.iter().any(|check| wanted(&check.verdict));
        if any(|verdict| matches!(verdict, Verdict::Violation { .. })) {
            Conclusion::Violated
        } else if any(|verdict| matches!(verdict, Verdict::Undecided { .. })) {
            Conclusion::Undecided
        } else {
            Conclusion::Passed
        }
    }

    /// The exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Conclusion::Passed => 0,
            Conclusion::Violated => 1,
            Conclusion::Undecided => 2,
        }
    }
}

/// What is known of a run before it is summed up.
pub(crate) struct Facts {
    pub(crate) title: String,
    pub(crate) started: chrono::DateTime<chrono::Utc>,
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    /// From then on clients were not expected to write.
    pub(crate) load_ended_ns: u64,
    pub(crate) faults: Vec<Injected>,
    pub(crate) reigns: Vec<Reign>,
    pub(crate) own_checks: Vec<Check>,
}

impl Summary {
    /// Sums a run up.
    pub(crate) fn new(facts: Facts, history: &[Record], report: Report) -> Summary {
        let mut operations = Counts::default();
        for record in history {
            operations.add(&record.outcome);
        }
        let end_ns = history.iter().map(|record| record.end_ns).max().unwrap_or(0);
        let acknowledged = gaps::acknowledgements(history);
        let begun: Vec<u64> = facts.faults.iter().map(|fault| fault.start_ns).collect();
        let gaps = gaps::around(&begun, &acknowledged, facts.load_ended_ns);
        let gaps_ms: Vec<Option<f64>> = gaps.iter().map(|gap| gap.map(Gap::ms)).collect();
        let known: Vec<f64> = gaps_ms.iter().flatten().copied().collect();
        Summary {
            title: facts.title,
            started: facts.started,
            seconds: end_ns as f64 / 1e9,
            seed: facts.seed,
            nodes: facts.nodes,
            operations,
            checks: facts.own_checks.into_iter().chain(report.checks).collect(),
            gap_p50_and_max_ms: gaps::middle_and_largest(&known),
            gaps_ms,
            reigns: facts.reigns,
            gaps,
            faults: facts.faults,
        }
    }

    /// What it comes to.
    pub(crate) fn conclusion(&self) -> Conclusion {
        Conclusion::of(&self.checks)
    }

    /// The verdict in one line.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.conclusion() {
            Conclusion::Passed => "PASSED: every check above is content.",
            Conclusion::Violated => "FAILED: a promise was broken; the lines marked VIOLATION say which.",
            Conclusion::Undecided => {
                "UNDECIDED: the run does not show enough; the lines marked UNDECIDED say why."
            }
        }
    }

    /// What a person reads at the end.
    pub(crate) fn print(&self) {
        let Counts { ok, failed, unknown } = self.operations;
        println!(
            "\n{}: {} faults in {:.0} s",
            self.title,
            self.faults.len(),
            self.seconds
        );
        println!(
            "  {} operations: {ok} answered, {failed} refused, {unknown} with unknown outcome",
            self.operations.total()
        );
        if let Some((p50, max)) = self.gap_p50_and_max_ms {
            println!(
                "  longest time without an acknowledged write around a fault: p50 {p50:.0} ms, max {max:.0} ms"
            );
        }
        for check in &self.checks {
            let (word, detail) = words(&check.verdict);
            println!("  {word:<9}  {} ({} {})", check.checker, check.checked, check.of);
            for line in detail.lines() {
                println!("               {line}");
            }
        }
        println!("{}", self.verdict());
    }
}

/// A verdict in a word, and what there is to say about it.
fn words(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Ok => ("ok", ""),
        Verdict::Violation { explanation } => ("VIOLATION", explanation),
        Verdict::Undecided { why } => ("UNDECIDED", why),
    }
}

/// Writes all files of a run.
pub(crate) fn write(
    dir: &Path,
    summary: &Summary,
    settings: &Settings,
    history: &[Record],
) -> anyhow::Result<()> {
    let create = |name: &str| {
        let path = dir.join(name);
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        anyhow::Ok(BufWriter::new(file))
    };
    let mut file = create(SETTINGS)?;
    serde_json::to_writer(&mut file, settings)?;
    file.flush()?;
    let mut file = create(HISTORY)?;
    for record in history {
        history::write(&mut file, record)?;
    }
    file.flush()?;
    let mut file = create("faults.jsonl")?;
    for fault in &summary.faults {
        serde_json::to_writer(&mut file, fault)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    let mut file = create("verdict.json")?;
    let verdict = serde_json::json!({ "conclusion": summary.conclusion(), "summary": summary });
    serde_json::to_writer_pretty(&mut file, &verdict)?;
    file.flush()?;
    let mut file = create("report.html")?;
    file.write_all(html::page(summary, history).as_bytes())?;
    Ok(file.flush()?)
}

//! The page: one drawing over the time of the run, and two tables. It needs no other file and no script.

use std::fmt::Write as _;

use quorate_checkers::history::Record;

use super::timeline::{Slice, Timeline};
use super::{Summary, words};

/// Width of the drawing.
const WIDTH: f64 = 1200.0;
/// Left of the drawing, for its labels.
const LEFT: f64 = 80.0;
/// Where each part begins, and how high it is.
const LEADER: (f64, f64) = (20.0, 24.0);
const OPERATIONS: (f64, f64) = (70.0, 200.0);
const LATENCY: (f64, f64) = (315.0, 145.0);
const HEIGHT: f64 = 500.0;
/// The range of latencies that is drawn, in milliseconds, on a logarithmic scale.
const LATENCY_MS: (f64, f64) = (0.1, 10_000.0);
/// Colours of nodes, by the order in which they first led.
const COLOURS: [&str; 6] = ["#4c78a8", "#f58518", "#54a24b", "#b279a2", "#9d755d", "#72b7b2"];
/// How it looks.
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1300px;padding:0 1rem;color:#222}\
svg{width:100%;height:auto;background:#fff}text{font:12px system-ui,sans-serif;fill:#444}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:left;border-bottom:1px solid #ddd;\
vertical-align:top}td.n{text-align:right}pre{margin:0;white-space:pre-wrap}.ok{color:#2a7d2a}.bad{color:#b00020;font-weight:600}";

/// The whole page.
pub(super) fn page(summary: &Summary, history: &[Record]) -> String {
    let timeline = Timeline::new(history);
    let good = summary.conclusion() == super::Conclusion::Passed;
    let class = if good { "ok" } else { "bad" };
    let counts = summary.operations;
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p class={class}>{verdict}</p>\
         <p>{started}, {seconds:.0} s, {nodes} nodes, seed {seed}. {total} operations: {ok} answered, {failed} refused, \
         {unknown} with unknown outcome.{gap}</p>{drawing}{legend}{faults}{checks}</html>\n",
        title = escape(&summary.title),
        verdict = summary.verdict(),
        started = summary.started.format("%Y-%m-%d %H:%M:%S UTC"),
        seconds = summary.seconds,
        nodes = summary.nodes,
        seed = summary.seed,
        total = counts.total(),
        ok = counts.ok,
        failed = counts.failed,
        unknown = counts.unknown,
        gap = summary.gap_p50_and_max_ms.map_or_else(String::new, |(p50, max)| format!(
            " Longest time without an acknowledged write around a fault: p50 {p50:.0} ms, max {max:.0} ms."
        )),
        drawing = drawing(summary, &timeline),
        legend = "<p>Red bands are faults, from the moment they are done until every node serves again; dark lines below \
                  the operations are the longest times without an acknowledged write.</p>",
        faults = fault_table(summary),
        checks = check_table(summary),
    )
}

fn drawing(summary: &Summary, timeline: &Timeline) -> String {
    let x = |ns: u64| LEFT + ns as f64 / timeline.end_ns as f64 * (WIDTH - LEFT);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role='img' aria-label='timeline'>");
    for fault in &summary.faults {
        let width = (x(fault.end_ns) - x(fault.start_ns)).max(1.0);
        let _ = write!(
            svg,
            "<rect x='{:.1}' y='{}' width='{width:.1}' height='{}' fill='#d62728' opacity='.15'><title>{}</title></rect>",
            x(fault.start_ns),
            LEADER.0,
            LATENCY.0 + LATENCY.1 - LEADER.0,
            escape(&fault.words),
        );
    }
    svg += &leaders(summary, timeline, &x);
    svg += &operations(timeline, &x);
    for gap in summary.gaps.iter().flatten() {
        let _ = write!(
            svg,
            "<rect x='{:.1}' y='{}' width='{:.1}' height='5' fill='#222'><title>no write for {:.0} ms</title></rect>",
            x(gap.from_ns),
            OPERATIONS.0 + OPERATIONS.1 + 2.0,
            (x(gap.to_ns) - x(gap.from_ns)).max(1.0),
            gap.ms(),
        );
    }
    svg += &latencies(timeline, &x);
    svg += &time_axis(timeline, &x);
    svg + "</svg>"
}

fn leaders(summary: &Summary, timeline: &Timeline, x: &dyn Fn(u64) -> f64) -> String {
    let mut svg = format!("<text x='0' y='{}'>leader</text>", LEADER.0 + 16.0);
    let mut known: Vec<&str> = Vec::new();
    let ends = summary.reigns.iter().skip(1).map(|next| next.from_ns);
    for (reign, to_ns) in summary.reigns.iter().zip(ends.chain([timeline.end_ns])) {
        let Some(leader) = reign.leader.as_deref() else {
            continue;
        };
        if !known.contains(&leader) {
            known.push(leader);
        }
        let place = known.iter().position(|name| *name == leader).unwrap_or(0);
        let (from, width) = (x(reign.from_ns), x(to_ns.max(reign.from_ns)) - x(reign.from_ns));
        let _ = write!(
            svg,
            "<rect x='{from:.1}' y='{}' width='{width:.1}' height='{}' fill='{}'><title>{leader}, term {}</title></rect>",
            LEADER.0,
            LEADER.1,
            COLOURS[place % COLOURS.len()],
            reign.term,
        );
        if width > 20.0 {
            let _ = write!(
                svg,
                "<text x='{:.1}' y='{}' style='fill:#fff'>{leader}</text>",
                from + 4.0,
                LEADER.0 + 16.0
            );
        }
    }
    svg
}

fn operations(timeline: &Timeline, x: &dyn Fn(u64) -> f64) -> String {
    let per_second = |count: u64| count as f64 * 1e9 / timeline.slice_ns as f64;
    let all = |slice: &Slice| slice.ok + slice.failed + slice.unknown;
    let highest = timeline.slices.iter().map(all).max().unwrap_or(0).max(1);
    let (top, height) = OPERATIONS;
    let mut svg = format!(
        "<text x='0' y='{}'>operations/s</text><text x='0' y='{}'>{:.0}</text><text x='0' y='{}'>0</text>",
        top - 6.0,
        top + 12.0,
        per_second(highest),
        top + height
    );
    for (index, slice) in timeline.slices.iter().enumerate() {
        let from = x(index as u64 * timeline.slice_ns);
        let width = x(timeline.slice_ns) - x(0);
        let mut bottom = top + height;
        for (count, colour) in [
            (slice.ok, "#7fb3d5"),
            (slice.failed, "#f0a202"),
            (slice.unknown, "#b00020"),
        ] {
            let part = count as f64 / highest as f64 * height;
            if count > 0 {
                bottom -= part;
                let _ = write!(
                    svg,
                    "<rect x='{from:.1}' y='{bottom:.1}' width='{width:.1}' height='{:.1}' fill='{colour}'/>",
                    part.max(0.5)
                );
            }
        }
    }
    svg
}

fn latencies(timeline: &Timeline, x: &dyn Fn(u64) -> f64) -> String {
    let (top, height) = LATENCY;
    let y = |ms: f64| {
        let (low, high) = (LATENCY_MS.0.ln(), LATENCY_MS.1.ln());
        let part = (ms.clamp(LATENCY_MS.0, LATENCY_MS.1).ln() - low) / (high - low);
        top + height - part * height
    };
    let mut svg = format!("<text x='0' y='{}'>latency (p50, max)</text>", top - 14.0);
    for ms in [0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0] {
        let _ = write!(
            svg,
            "<text x='0' y='{:.1}'>{ms} ms</text><line x1='{LEFT}' x2='{WIDTH}' y1='{:.1}' y2='{:.1}' stroke='#eee' />",
            y(ms) + 4.0,
            y(ms),
            y(ms)
        );
    }
    svg += &curve(timeline, x, "#4c78a8", |slice| y(slice.p50_ms));
    svg += &curve(timeline, x, "#e45756", |slice| y(slice.max_ms));
    svg
}

/// A line through all slices in which something was answered.
fn curve(timeline: &Timeline, x: &dyn Fn(u64) -> f64, colour: &str, y: impl Fn(&Slice) -> f64) -> String {
    let mut path = String::new();
    let mut pen = "M";
    for (index, slice) in timeline.slices.iter().enumerate() {
        if slice.ok == 0 {
            pen = "M";
            continue;
        }
        let middle = x(index as u64 * timeline.slice_ns + timeline.slice_ns / 2);
        let _ = write!(path, "{pen}{middle:.1} {:.1}", y(slice));
        pen = "L";
    }
    format!("<path d=\"{path}\" fill='none' stroke='{colour}' />")
}

fn time_axis(timeline: &Timeline, x: &dyn Fn(u64) -> f64) -> String {
    let seconds = timeline.end_ns as f64 / 1e9;
    let step = [1_u32, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600]
        .into_iter()
        .find(|step| seconds / f64::from(*step) <= 15.0)
        .unwrap_or(7_200);
    let mut svg = String::new();
    let mut second = 0_u64;
    while second as f64 <= seconds {
        let _ = write!(
            svg,
            "<text x='{:.1}' y='{}'>{second} s</text>",
            x(second * 1_000_000_000),
            LATENCY.0 + LATENCY.1 + 20.0
        );
        second += u64::from(step);
    }
    svg
}

fn fault_table(summary: &Summary) -> String {
    let mut table =
        "<h2>Faults</h2><table><tr><th>at<th>what<th>until all served<th>longest without a write".to_owned();
    for (fault, gap) in summary.faults.iter().zip(&summary.gaps_ms) {
        let _ = write!(
            table,
            "<tr><td class=n>{:.1} s<td>{}<td class=n>{:.1} s<td class=n>{}",
            fault.start_ns as f64 / 1e9,
            escape(&fault.words),
            (fault.end_ns - fault.start_ns) as f64 / 1e9,
            gap.map_or_else(|| "—".to_owned(), |ms| format!("{ms:.0} ms")),
        );
    }
    table + "</table>"
}

fn check_table(summary: &Summary) -> String {
    let mut table = "<h2>Checks</h2><table>".to_owned();
    for check in &summary.checks {
        let (word, detail) = words(&check.verdict);
        let class = if word == "ok" { "ok" } else { "bad" };
        let _ = write!(
            table,
            "<tr><td class={class}>{word}<td>{}<td class=n>{} {}<td><pre>{}</pre>",
            escape(&check.checker),
            check.checked,
            escape(&check.of),
            escape(detail),
        );
    }
    table + "</table>"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

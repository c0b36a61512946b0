//! The stats page: rendered here, refreshed by the browser, no script.

use std::fmt::{self, Write as _};

use super::{BackendSnapshot, PoolSnapshot, Snapshot};
use crate::backend::Kind;
use crate::health::State;
use crate::history;

/// Seconds from one refresh to the next.
const REFRESH_S: u32 = 2;
/// Size of the little curve of requests per second.
const CURVE: (u32, u32) = (120, 24);

/// Text that came from elsewhere, harmless in HTML.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The whole page.
pub(super) fn page(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(16 << 10);
    let host = Text(&snapshot.host);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_S}\">\
         <title>{host} · balancer</title><link rel=\"stylesheet\" href=\"/style.css\"></head>\n<body>\
         <header><h1>{host}</h1><p>Quorate balancer {} · up {}</p></header>\n",
        snapshot.version,
        span(snapshot.uptime_s * 1000),
    );
    if snapshot.draining {
        out.push_str("<p class=\"notice\">Draining: takes nothing new and is about to end.</p>\n");
    }
    for shown in &snapshot.pools {
        pool(&mut out, shown);
    }
    out.push_str(
        "<footer><a href=\"/stats.json\">stats.json</a> <a href=\"/metrics\">metrics</a> \
         <a href=\"/readyz\">readyz</a></footer></body></html>\n",
    );
    out
}

fn pool(out: &mut String, pool: &PoolSnapshot) {
    let title = match pool.kind {
        Kind::Node => "Storage nodes",
        Kind::Web => "Web apps",
    };
    let (usable, all) = (pool.usable, pool.backends.len());
    let _ = write!(
        out,
        "<section><h2>{title} <small>on {}</small></h2>\n<dl>\
         <div><dt>usable</dt><dd{}>{usable} of {all}</dd></div>",
        pool.listen,
        if usable == 0 { " class=\"bad\"" } else { "" },
    );
    for (name, value) in [
        ("requests", pool.requests),
        ("client connections", pool.connections as u64),
        ("second tries", pool.retries),
        ("not delivered", pool.undelivered),
        ("outcome unknown", pool.broken),
        ("turned away", pool.rejected + pool.connections_rejected),
    ] {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", grouped(value));
    }
    out.push_str("</dl>\n");
    if pool.backends.is_empty() {
        out.push_str("<p class=\"notice\">None found yet. Do the seed names resolve?</p></section>\n");
        return;
    }
    out.push_str(
        "<div class=\"scroll\"><table><thead><tr><th>backend</th><th>kind</th><th>state</th><th>since</th>\
         <th class=\"n\">requests</th><th>last minute</th><th class=\"n\">in flight</th><th class=\"n\">errors</th>\
         <th class=\"n\">retries</th><th class=\"n\">ejected</th><th>last check</th></tr></thead><tbody>\n",
    );
    for shown in &pool.backends {
        backend(out, pool.kind, shown);
    }
    out.push_str("</tbody></table></div></section>\n");
}

fn backend(out: &mut String, kind: Kind, backend: &BackendSnapshot) {
    let state = backend.state.as_str();
    let _ = write!(out, "<tr><td>{}", backend.address);
    if let Some(id) = &backend.member_id {
        let _ = write!(out, "<small>{id}</small>");
    }
    if let (State::WrongCluster, Some(id)) = (backend.state, &backend.cluster_id) {
        let _ = write!(out, "<small>cluster {id}</small>");
    }
    let _ = write!(
        out,
        "</td><td>{}</td><td><span class=\"state {state}\">{state}</span></td><td>{}</td><td class=\"n\">{}</td><td>",
        kind.as_str(),
        span(backend.since_ms),
        grouped(backend.requests),
    );
    curve(out, &backend.requests_per_second);
    out.push_str("</td>");
    for value in [
        backend.in_flight as u64,
        backend.errors,
        backend.retries,
        backend.ejections,
    ] {
        let _ = write!(out, "<td class=\"n\">{}</td>", grouped(value));
    }
    match &backend.last_check {
        None => out.push_str("<td>none yet</td>"),
        Some(check) => {
            let class = if check.good { "good" } else { "bad" };
            let latency = latency(check.latency_us);
            let _ = write!(
                out,
                "<td class=\"{class}\">{}<small>{latency}</small></td>",
                Text(&check.text)
            );
        }
    }
    out.push_str("</tr>\n");
}

/// The last minute as a curve, newest at the right, and the figure of the last second.
fn curve(out: &mut String, per_second: &[u32]) {
    let (width, height) = CURVE;
    let top = per_second.iter().copied().max().unwrap_or(0).max(1);
    let _ = write!(
        out,
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" aria-hidden=\"true\">\
         <polyline points=\""
    );
    let step = f64::from(width) / (history::SECONDS - 1) as f64;
    let first = history::SECONDS.saturating_sub(per_second.len());
    for (i, value) in per_second.iter().enumerate() {
        let x = (first + i) as f64 * step;
        let y = f64::from(height - 1) - f64::from(*value) / f64::from(top) * f64::from(height - 2);
        let _ = write!(out, "{x:.1},{y:.1} ");
    }
    let last = per_second.last().copied().unwrap_or(0);
    let _ = write!(out, "\"/></svg><small>{}/s</small>", grouped(u64::from(last)));
}

/// A number with thin spaces between groups of three digits.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A time span in its largest unit.
fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => "now".into(),
        s @ 1..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

fn latency(us: u64) -> String {
    if us < 1000 {
        format!("{us} µs")
    } else {
        format!("{}.{} ms", us / 1000, us % 1000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::CheckSnapshot;

    #[test]
    fn figures() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(123), "123");
        assert_eq!(
            ["now", "5 s", "2 min", "2 h", "3 d"],
            [900, 5_000, 120_000, 7_300_000, 260_000_000].map(span)[..]
        );
        assert_eq!([latency(80), latency(1_250)], ["80 µs", "1.2 ms"]);
    }

    #[test]
    fn what_a_backend_says_is_shown_as_text() {
        let check = CheckSnapshot {
            good: false,
            text: "<script>&".into(),
            latency_us: 1,
            age_ms: 1,
        };
        let shown = BackendSnapshot {
            address: "10.0.0.1:2379".into(),
            member_id: Some("8e9e05c52164694d".into()),
            cluster_id: None,
            state: State::Down,
            since_ms: 61_000,
            requests: 1000,
            in_flight: 0,
            errors: 3,
            retries: 2,
            ejections: 1,
            connections: 0,
            checks: 9,
            checks_failed: 3,
            last_check: Some(check),
            requests_per_second: vec![0, 5, 10],
        };
        let mut out = String::new();
        backend(&mut out, Kind::Node, &shown);
        assert!(
            out.contains("&lt;script&gt;&amp;") && !out.contains("<script"),
            "{out}"
        );
        for part in ["10.0.0.1:2379", "8e9e05c52164694d", "state down", "61 s", "10/s"] {
            assert!(out.contains(part), "{part}: {out}");
        }
    }
}

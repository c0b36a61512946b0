//! `cluster autopilot`: what the cluster does with its members of its own accord.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;

use super::args::WriteOut;
use super::commands::{Outcome, Session};
use super::exit::Exit;
use super::output::{print, table};
use crate::autopilot::{Autopilot, AutopilotDecision, AutopilotMember, AutopilotNext};

/// Commands about the cluster as a whole.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show how the members are, what happens to them next, and what was decided
    #[command(after_help = AUTOPILOT_HELP)]
    Autopilot,
}

const AUTOPILOT_HELP: &str = "\
The leader replaces and removes members that are silent for its --reap-after, and
gives votes to learners up to its --max-voters; any node passes the question on.
Times count since this leader leads.";

impl Session {
    pub(super) async fn cluster(&self, command: ClusterCommand) -> Outcome {
        let ClusterCommand::Autopilot = command;
        let report = self.client.autopilot().await?;
        match self.write_out.unwrap_or(WriteOut::Table) {
            WriteOut::Json => print(format!("{}\n", report.json))?,
            WriteOut::Simple | WriteOut::Fields | WriteOut::Protobuf => print(lines(&report))?,
            WriteOut::Table => print(whole(&report, SystemTime::now()))?,
        }
        Ok(Exit::Ok)
    }
}

/// A line for each member, for scripts.
fn lines(report: &Autopilot) -> String {
    let line = |member: &AutopilotMember| format!("{}\n", cells(report, member).join(", "));
    report.members.iter().map(line).collect()
}

fn whole(report: &Autopilot, now: SystemTime) -> String {
    let mut members = table(["ID", "NAME", "ZONE", "ROLE", "HEALTH", "FOR", "NEXT"]);
    for member in &report.members {
        members.add_row(cells(report, member));
    }
    let mut out = format!("{}\n{members}\n", summary(report));
    for decision in &report.decisions {
        out.push_str(&decided(decision, now));
    }
    out
}

fn summary(report: &Autopilot) -> String {
    let health = if report.healthy { "healthy" } else { "unhealthy" };
    let tolerance = match report.failure_tolerance {
        ..=0 => "no voter may fail".to_owned(),
        1 => "1 voter may fail".to_owned(),
        more => format!("{more} voters may fail"),
    };
    let reaping = match report.reap_after_ms {
        0 => "silent members are kept".to_owned(),
        after => format!("a member silent for {} is replaced or removed", time(after)),
    };
    format!(
        "{health}: {tolerance}; at least {} voters, at most {}; {reaping}",
        report.min_voters, report.max_voters
    )
}

fn cells(report: &Autopilot, member: &AutopilotMember) -> [String; 7] {
    [
        member.id.clone(),
        member.name.clone(),
        member.zone.clone(),
        member.role.clone(),
        member.health.replace('_', " "),
        time(member.for_ms),
        member
            .next
            .as_ref()
            .map_or_else(String::new, |next| happens(report, next)),
    ]
}

/// `replaced by n4 in 9m30s`, `kept: why`.
fn happens(report: &Autopilot, next: &AutopilotNext) -> String {
    let mut text = match next.action.as_str() {
        "promote" => "promoted".to_owned(),
        "replace" => "replaced".to_owned(),
        "remove" => "removed".to_owned(),
        "keep" => "kept".to_owned(),
        other => other.to_owned(),
    };
    if let Some(by) = &next.by {
        let named = report.members.iter().find(|member| member.id == *by);
        text += &format!(" by {}", named.map_or(by, |member| &member.name));
    }
    match (next.in_ms, &next.why) {
        (Some(0), _) => text += " now",
        (Some(wait), _) => text += &format!(" in {}", time(wait)),
        (None, Some(why)) if next.action == "keep" => text += &format!(": {why}"),
        (None, Some(why)) => text += &format!(" {why}"),
        (None, None) => {}
    }
    text
}

/// `2m10s ago: replace n2, n4`.
fn decided(decision: &AutopilotDecision, now: SystemTime) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(decision.at_unix_ms);
    let ago = now.duration_since(at).unwrap_or_default();
    let names: Vec<&str> = decision.members.iter().map(String::as_str).collect();
    let what = match (decision.action.as_str(), names.as_slice()) {
        ("replace", [gone, by]) => format!("{gone} was replaced by {by}"),
        ("remove", _) => format!("{} was removed", names.join(", ")),
        ("promote", _) => format!("{} got a vote", names.join(", ")),
        (action, _) => format!("{action}: {}", names.join(", ")),
    };
    let failed = decision
        .error
        .as_ref()
        .map(|error| format!(" (perhaps: {error})"))
        .unwrap_or_default();
    format!("{} ago: {what}{failed}\n", time(ago.as_millis() as u64))
}

/// A time as a person says it: `850ms`, `12s`, `9m30s`, `2h5m`.
fn time(ms: u64) -> String {
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    let both = |large: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match ms {
        ..1000 => format!("{ms}ms"),
        1000..60_000 => format!("{seconds}s"),
        60_000..3_600_000 => both(minutes, 'm', seconds % 60, 's'),
        _ => both(hours, 'h', minutes % 60, 'm'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, expected) in [
            (850, "850ms"),
            (12_300, "12s"),
            (600_000, "10m"),
            (570_000, "9m30s"),
            (7_500_000, "2h5m"),
        ] {
            assert_eq!(time(ms), expected);
        }
    }

    #[test]
    fn the_report_as_people_read_it() {
        let member = |id: &str, role: &str, health: &str, for_ms, next| AutopilotMember {
            id: id.to_owned(),
            name: format!("n{id}"),
            zone: "eu-1".to_owned(),
            role: role.to_owned(),
            health: health.to_owned(),
            for_ms,
            next,
        };
        let next = |action: &str, in_ms, by: Option<&str>, why: Option<&str>| {
            Some(AutopilotNext {
                action: action.to_owned(),
                in_ms,
                by: by.map(str::to_owned),
                why: why.map(str::to_owned),
            })
        };
        let report = Autopilot {
            leader: "1".to_owned(),
            term: 3,
            healthy: false,
            failure_tolerance: 0,
            min_voters: 3,
            max_voters: 5,
            reap_after_ms: 600_000,
            members: vec![
                member("1", "leader", "healthy", 7_500_000, None),
                member("2", "voter", "healthy", 60_000, None),
                member(
                    "3",
                    "voter",
                    "silent",
                    30_000,
                    next("replace", Some(570_000), Some("4"), None),
                ),
                member("4", "learner", "healthy", 900, None),
                member(
                    "5",
                    "learner",
                    "catching_up",
                    0,
                    next("promote", None, None, Some("once it can")),
                ),
                member(
                    "6",
                    "learner",
                    "silent",
                    30_000,
                    next("keep", None, None, Some("of a client")),
                ),
            ],
            decisions: vec![AutopilotDecision {
                at_unix_ms: 1_000,
                action: "replace".to_owned(),
                members: vec!["n0".to_owned(), "n2".to_owned()],
                error: None,
            }],
            json: String::new(),
        };
        insta::assert_snapshot!(whole(&report, UNIX_EPOCH + Duration::from_secs(131)), @r"
        unhealthy: no voter may fail; at least 3 voters, at most 5; a member silent for 10m is replaced or removed
        +----+------+------+---------+-------------+-------+-------------------------+
        | ID | NAME | ZONE | ROLE    | HEALTH      | FOR   | NEXT                    |
        +============================================================================+
        | 1  | n1   | eu-1 | leader  | healthy     | 2h5m  |                         |
        | 2  | n2   | eu-1 | voter   | healthy     | 1m    |                         |
        | 3  | n3   | eu-1 | voter   | silent      | 30s   | replaced by n4 in 9m30s |
        | 4  | n4   | eu-1 | learner | healthy     | 900ms |                         |
        | 5  | n5   | eu-1 | learner | catching up | 0ms   | promoted once it can    |
        | 6  | n6   | eu-1 | learner | silent      | 30s   | kept: of a client       |
        +----+------+------+---------+-------------+-------+-------------------------+
        2m10s ago: n0 was replaced by n2
        ");
    }
}

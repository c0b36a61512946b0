//! Alarms that a node raises and ends by itself: of room, as the leader sees its own.
//!
//! A follower without room raises none: it stands still by itself, and clients need not suffer.

use std::time::Duration;

use kv_core::{Alarm, AlarmChange, AlarmKind, Command};
use tokio::time::Instant;

use crate::{node::Node, raft::leader::Leader};

/// How often a node looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// What is to change, if anything: `alarms` are raised now, `own` is this member, `members` are all.
fn due(alarms: &[Alarm], own: u64, members: &[u64], leads: bool, is_full: bool) -> Option<AlarmChange> {
    let raised = alarms
        .iter()
        .find(|alarm| alarm.member_id == own && alarm.kind == AlarmKind::NoSpace);
    let end = |alarm: &Alarm| AlarmChange {
        alarm: *alarm,
        raise: false,
    };
    match raised {
        None if leads && is_full => Some(AlarmChange {
            alarm: Alarm {
                member_id: own,
                kind: AlarmKind::NoSpace,
                by_itself: true,
            },
            raise: true,
        }),
        Some(alarm) if alarm.by_itself && !(leads && is_full) => Some(end(alarm)),
        // Of those that are gone, nobody else will.
        _ if leads => {
            let mut left = alarms.iter();
            let orphan = left.find(|alarm| alarm.by_itself && !members.contains(&alarm.member_id));
            orphan.map(end)
        }
        _ => None,
    }
}

/// Raises and ends this node's alarms.
pub(crate) async fn run(node: Node) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let leads = node.inner.leadership.current() == Leader::Here;
        let alarms = node.alarms();
        if alarms.is_empty() && !(leads && node.is_out_of_space()) {
            continue;
        }
        let members: Vec<u64> = node.members().iter().map(|member| member.id).collect();
        let own = node.identity().member_id;
        let Some(change) = due(&alarms, own, &members, leads, node.is_out_of_space()) else {
            continue;
        };
        let deadline = Instant::now() + node.limits().request_timeout;
        match node.propose(Command::Alarm(change), deadline).await {
            Ok(_) if change.raise => tracing::error!("no space: writes are refused until there is room"),
            Ok(_) => tracing::info!("there is space again: writes are taken"),
            Err(error) => tracing::warn!(%error, "an alarm is not changed yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(member_id: u64, by_itself: bool) -> Alarm {
        Alarm {
            member_id,
            kind: AlarmKind::NoSpace,
            by_itself,
        }
    }

    #[test]
    fn a_member_ends_what_it_raised() {
        let raise = Some(AlarmChange {
            alarm: alarm(1, true),
            raise: true,
        });
        let end = |id| {
            Some(AlarmChange {
                alarm: alarm(id, true),
                raise: false,
            })
        };
        for (alarms, leads, is_full, expected) in [
            (vec![], true, true, raise),
            (vec![], true, false, None),
            (vec![], false, true, None),
            (vec![alarm(1, true)], true, true, None),
            (vec![alarm(1, true)], true, false, end(1)),
            // Who leads next decides for itself.
            (vec![alarm(1, true)], false, true, end(1)),
            (vec![alarm(1, false)], true, false, None),
            (vec![alarm(2, true)], true, false, None),
            (vec![alarm(9, true)], true, false, end(9)),
            (vec![alarm(9, true)], false, false, None),
            (vec![alarm(9, false)], true, false, None),
        ] {
            assert_eq!(
                due(&alarms, 1, &[1, 2], leads, is_full),
                expected,
                "{alarms:?} {leads} {is_full}"
            );
        }
    }
}

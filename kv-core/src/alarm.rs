//! Alarms: what is wrong with a member, known to all, and what is refused as long as it is. The rules are
//! etcd's.
//!
//! Without space whatever makes the store larger is refused, so that what frees space can go on. With a member
//! whose data differ from the others' nothing is changed any more. Reads go on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fact::{Fact, FactKey};
use crate::{Command, Effects, Error, Op, Response, State};

/// Alarms at the same time, at most: clients may raise one for any id.
pub const ALARMS_MAX: usize = 1024;

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlarmKind {
    /// Its quota, or its disk, is full.
    NoSpace,
    /// Its data are not what they should be.
    Corrupt,
}

/// One alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// The member.
    pub member_id: u64,
    /// What is wrong with it.
    pub kind: AlarmKind,
    /// Whether the member raised it, and so ends it too; a client's waits for a client.
    pub by_itself: bool,
}

/// Raises an alarm, or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmChange {
    /// Which one. [`Alarm::by_itself`] counts only where it is raised.
    pub alarm: Alarm,
    /// Whether it is raised.
    pub raise: bool,
}

/// The alarms that are raised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms(BTreeMap<(u64, AlarmKind), bool>);

impl Alarms {
    fn iter(&self) -> impl Iterator<Item = Alarm> {
        let alarm = |(&(member_id, kind), &by_itself): (&(u64, AlarmKind), &bool)| Alarm {
            member_id,
            kind,
            by_itself,
        };
        self.0.iter().map(alarm)
    }

    pub(crate) fn facts(&self) -> impl Iterator<Item = Fact> {
        self.iter().map(Fact::Alarm)
    }

    /// Takes back what [`Alarms::facts`] listed.
    pub(crate) fn restore(&mut self, alarm: Alarm) {
        self.0.insert((alarm.member_id, alarm.kind), alarm.by_itself);
    }

    /// Whether a command may be applied.
    pub(crate) fn check(&self, command: &Command) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let any = |kind| self.0.keys().any(|(_, raised)| *raised == kind);
        if any(AlarmKind::Corrupt) && command.changes_data() {
            return Err(Error::Corrupt);
        }
        if any(AlarmKind::NoSpace) && command.grows() {
            return Err(Error::NoSpace);
        }
        Ok(())
    }
}

impl Command {
    /// Whether it can make the store larger. Deleting and compacting go on when there is no room.
    pub fn grows(&self) -> bool {
        fn any_put(ops: &[Op]) -> bool {
            ops.iter().any(|op| match op {
                Op::Put(_) => true,
                Op::Txn(txn) => any_put(&txn.success) || any_put(&txn.failure),
                Op::Range(_) | Op::DeleteRange(_) => false,
            })
        }
        match self.bare() {
            Command::Put(_) | Command::LeaseGrant(_) => true,
            Command::Txn(txn) => any_put(&txn.success) || any_put(&txn.failure),
            _ => false,
        }
    }

    /// Whether a client changes keys by it, their history, or which leases exist. Time goes on: what is over ends.
    fn changes_data(&self) -> bool {
        matches!(
            self.bare(),
            Command::Put(_)
                | Command::DeleteRange(_)
                | Command::Txn(_)
                | Command::Compact(_)
                | Command::LeaseGrant(_)
                | Command::LeaseRevoke(_)
        )
    }
}

impl State {
    /// The alarms that are raised, by member.
    pub fn alarms(&self) -> impl Iterator<Item = Alarm> {
        self.alarms.iter()
    }

    /// Raises or ends an alarm; it answers with the alarm that is raised now, or was ended. What is raised
    /// already stays as it is, but a client's counts for more than the member's own.
    pub(crate) fn change_alarm(
        &mut self,
        change: &AlarmChange,
        effects: &mut Effects,
    ) -> Result<Response, Error> {
        let Alarm {
            member_id,
            kind,
            by_itself,
        } = change.alarm;
        let key = (member_id, kind);
        let raised = &mut self.alarms.0;
        if !change.raise {
            let ended = raised.remove(&key);
            if ended.is_some() {
                effects.remove(&FactKey::Alarm(member_id, kind));
            }
            let alarm = ended.map(|by_itself| Alarm {
                by_itself,
                ..change.alarm
            });
            return Ok(Response::Alarm { alarm });
        }
        if !raised.contains_key(&key) && raised.len() >= ALARMS_MAX {
            return Err(Error::TooManyAlarms);
        }
        let by_itself = by_itself && raised.get(&key).copied().unwrap_or(true);
        let alarm = Alarm {
            by_itself,
            ..change.alarm
        };
        if raised.insert(key, by_itself) != Some(by_itself) {
            effects.set(&Fact::Alarm(alarm));
        }
        Ok(Response::Alarm { alarm: Some(alarm) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Compact, DeleteRange, KeyValue, LeaseGrant, LeaseRenew, Outcome, Put, Range, Restorer, Revision, Txn,
        Values,
    };

    /// A store whose values nobody asks for.
    struct Unread;

    impl Values for Unread {
        type Error = Revision;

        fn get(&self, at: Revision) -> Result<KeyValue, Revision> {
            Err(at)
        }
    }

    fn apply(state: &mut State, command: Command) -> Result<Response, Error> {
        let outcome = state.apply(&Unread, &command, &mut Effects::default());
        let Outcome { result, .. } = outcome.expect("nothing is read");
        result
    }

    fn change(
        state: &mut State,
        member_id: u64,
        kind: AlarmKind,
        by_itself: bool,
        raise: bool,
    ) -> Option<Alarm> {
        let alarm = Alarm {
            member_id,
            kind,
            by_itself,
        };
        match apply(state, Command::Alarm(AlarmChange { alarm, raise })) {
            Ok(Response::Alarm { alarm }) => alarm,
            other => panic!("{other:?}"),
        }
    }

    fn put() -> Command {
        Command::Put(Put {
            key: "a".into(),
            ..Put::default()
        })
    }

    fn delete() -> Command {
        Command::DeleteRange(DeleteRange {
            key: "a".into(),
            ..DeleteRange::default()
        })
    }

    fn txn(op: Op) -> Command {
        Command::Txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
    }

    fn grant(id: i64) -> Command {
        Command::LeaseGrant(LeaseGrant {
            id,
            ttl_s: 60,
            now_ms: 1,
        })
    }

    #[test]
    fn without_space_only_what_grows_is_refused() {
        let mut state = State::new();
        apply(&mut state, put()).unwrap();
        change(&mut state, 7, AlarmKind::NoSpace, false, true).unwrap();
        let nested = Op::Txn(Txn {
            failure: vec![Op::Put(Put::default())],
            ..Txn::default()
        });
        for command in [
            put(),
            txn(Op::Put(Put {
                key: "b".into(),
                ..Put::default()
            })),
            txn(nested),
            grant(1),
        ] {
            assert_eq!(apply(&mut state, command), Err(Error::NoSpace));
        }
        let range = Op::Range(Range {
            key: "x".into(),
            ..Range::default()
        });
        for command in [txn(range), delete(), Command::Compact(Compact { revision: 2 })] {
            apply(&mut state, command).unwrap();
        }
        change(&mut state, 7, AlarmKind::NoSpace, false, false).unwrap();
        apply(&mut state, put()).unwrap();
    }

    #[test]
    fn with_a_corrupt_member_nothing_changes() {
        let mut state = State::new();
        apply(&mut state, put()).unwrap();
        change(&mut state, 7, AlarmKind::Corrupt, false, true).unwrap();
        let delete_in = Op::DeleteRange(DeleteRange {
            key: "a".into(),
            ..DeleteRange::default()
        });
        for command in [
            put(),
            delete(),
            txn(delete_in),
            Command::Compact(Compact { revision: 1 }),
            grant(1),
        ] {
            assert_eq!(apply(&mut state, command), Err(Error::Corrupt));
        }
        let renew = LeaseRenew {
            ids: vec![1],
            now_ms: 2,
        };
        apply(&mut state, Command::LeaseRenew(renew)).unwrap();
        assert_eq!(state.revision(), 2);
    }

    #[test]
    fn a_client_s_alarm_waits_for_a_client() {
        let mut state = State::new();
        let raised =
            |state: &mut State, by_itself| change(state, 7, AlarmKind::NoSpace, by_itself, true).unwrap();
        assert!(raised(&mut state, true).by_itself);
        assert!(!raised(&mut state, false).by_itself);
        assert!(!raised(&mut state, true).by_itself);
        assert_eq!(change(&mut state, 8, AlarmKind::NoSpace, false, false), None);
        assert_eq!(change(&mut state, 7, AlarmKind::Corrupt, false, false), None);
        assert_eq!(state.alarms().count(), 1);
    }

    #[test]
    fn there_is_an_end_to_alarms() {
        let mut state = State::new();
        for id in 0..ALARMS_MAX as u64 {
            change(&mut state, id, AlarmKind::NoSpace, false, true).unwrap();
        }
        let alarm = Alarm {
            member_id: u64::MAX,
            kind: AlarmKind::NoSpace,
            by_itself: false,
        };
        let beyond = Command::Alarm(AlarmChange { alarm, raise: true });
        assert_eq!(apply(&mut state, beyond), Err(Error::TooManyAlarms));
        assert!(change(&mut state, 3, AlarmKind::NoSpace, false, true).is_some());
    }

    #[test]
    fn alarms_come_back_from_their_facts() {
        let mut state = State::new();
        change(&mut state, 7, AlarmKind::NoSpace, true, true);
        change(&mut state, 7, AlarmKind::Corrupt, false, true);
        change(&mut state, 3, AlarmKind::NoSpace, false, true);
        let mut restorer = Restorer::new();
        for fact in state.facts() {
            let read = Fact::from_bytes(&fact.key().to_bytes(), &fact.to_bytes()).unwrap();
            restorer.push_fact(read).unwrap();
        }
        assert_eq!(
            restorer.finish(state.revision(), state.compacted()).unwrap(),
            state
        );
    }
}

//! What a fuzzer or its twin asks of whatever reads what peers and clients send.
//!
//! What is decoded is taken as far as it goes without a node: converted, validated, and applied to a state.

use std::collections::BTreeMap;

use kv_core::{
    Command, Effects, KeyValue, LeaseExpire, LeaseGrant, Limits, Op, Put, Record, Revision, State, Txn,
    Values,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{codec, raft::propose::Attempt};

pub use crate::{
    api::fuzz::{json, json_seeds, request, request_seeds, rest, rest_seeds},
    raft::fuzz::{frame, frame_seeds},
};

/// Records by revision.
#[derive(Default)]
struct Memory(BTreeMap<Revision, Record>);

impl Values for Memory {
    type Error = Revision;

    fn get(&self, at: Revision) -> Result<KeyValue, Revision> {
        match self.0.get(&at) {
            Some(Record::Put(kv)) => Ok(kv.clone()),
            _ => Err(at),
        }
    }
}

/// Applies a command to a state with two keys, one of them with a lease; then, once more, to what came of it; then
/// ends all leases.
pub(crate) fn apply(command: &Command) {
    let (mut state, mut memory) = (State::new(), Memory::default());
    let put = |key: &'static str, lease| {
        Command::Put(Put {
            key: key.into(),
            value: key.into(),
            lease,
            ..Put::default()
        })
    };
    let grant = LeaseGrant {
        id: 7,
        ttl_s: 60,
        now_ms: 1,
    };
    for command in [
        &Command::LeaseGrant(grant),
        &put("a", 0),
        &put("b", 7),
        command,
        command,
    ] {
        step(&mut state, &mut memory, command);
    }
    let expire = LeaseExpire {
        ids: state.leases().collect(),
        now_ms: u64::MAX,
    };
    step(&mut state, &mut memory, &Command::LeaseExpire(expire));
    assert_eq!(state.leases().len(), 0);
}

fn step(state: &mut State, memory: &mut Memory, command: &Command) {
    let mut effects = Effects::default();
    let outcome = state.apply(memory, command, &mut effects);
    memory.0.extend(effects.records);
    let outcome = outcome.expect("every record was kept");
    again(&Attempt::Done(outcome));
}

/// What is validated must go through the log; what is refused must say why.
pub(crate) fn propose(command: &Command) {
    match command.validate(&Limits::default()) {
        Ok(()) => {
            again(command);
            apply(command);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// What can be decoded can be encoded and decoded again, and is the same.
pub(crate) fn again<T: Serialize + DeserializeOwned>(value: &T) {
    let frame = codec::encode(value).expect("it is small");
    let decoded: T = codec::decode(&frame).expect("it was encoded here");
    assert_eq!(codec::encode(&decoded).expect("it is small"), frame);
}

/// A command of every shape.
pub(crate) fn commands() -> Vec<Command> {
    let put = Put {
        key: "a".into(),
        value: "1".into(),
        prev_kv: true,
        ..Put::default()
    };
    let inner = Txn {
        compare: vec![kv_core::Compare {
            key: "b".into(),
            range_end: "c".into(),
            result: kv_core::CompareResult::Greater,
            target: kv_core::CompareTarget::Value("0".into()),
        }],
        success: vec![Op::Put(put.clone())],
        failure: vec![Op::DeleteRange(kv_core::DeleteRange {
            key: "b".into(),
            ..Default::default()
        })],
    };
    let outer = Txn {
        failure: vec![
            Op::Txn(inner.clone()),
            Op::Range(kv_core::Range {
                key: "a".into(),
                range_end: "\0".into(),
                ..Default::default()
            }),
        ],
        ..inner.clone()
    };
    vec![
        Command::Put(put),
        Command::Txn(outer).by(kv_core::Caller::User {
            name: "alice".into(),
            revision: 3,
        }),
        Command::Compact(kv_core::Compact { revision: 2 }),
        Command::LeaseRevoke(kv_core::LeaseRevoke { id: 7 }),
        Command::LeaseRenew(kv_core::LeaseRenew {
            ids: vec![7, -1],
            now_ms: 5,
        }),
        Command::Auth(kv_core::AuthCommand::RoleGrant {
            role: "r".into(),
            permission: None,
        }),
        Command::Alarm(kv_core::AlarmChange {
            alarm: kv_core::Alarm {
                member_id: 3,
                kind: kv_core::AlarmKind::NoSpace,
                by_itself: true,
            },
            raise: true,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use quorate_fuzzing::twin;

    #[test]
    fn frame() {
        twin("frame", super::frame_seeds(), super::frame);
    }

    #[test]
    fn request() {
        twin("request", super::request_seeds(), super::request);
    }

    #[test]
    fn json() {
        twin("json", super::json_seeds(), super::json);
    }

    #[test]
    fn rest() {
        twin("rest", super::rest_seeds(), super::rest);
    }
}

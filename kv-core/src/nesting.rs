//! A bound on how deep a value may contain others of its kind.
//!
//! Commands, operations and answers nest, and serde decodes one within the other, each level on the stack of the
//! one around it. Without a bound, a few megabytes of a damaged log or of a peer's frame would overflow it, which
//! ends the process. Whatever nests goes through [`one_deeper`]; bytes that go beyond the bound are refused.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, de::Error};

/// The deepest nesting that is decoded: transactions within the outermost one and, as one more level, who asks for it.
pub const NESTING_MAX: usize = 64;

thread_local! {
    /// How deep the decoding that is under way on this thread is: a value is decoded in one go.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// One level, until it is dropped.
struct Level;

impl Level {
    fn enter() -> Option<Level> {
        DEPTH.with(|depth| {
            (depth.get() < NESTING_MAX).then(|| {
                depth.set(depth.get() + 1);
                Level
            })
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Decodes what stands one level deeper than what is around it. For `#[serde(deserialize_with)]`.
pub(crate) fn one_deeper<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let Some(_level) = Level::enter() else {
        return Err(D::Error::custom(format_args!(
            "nested deeper than {NESTING_MAX} levels"
        )));
    };
    T::deserialize(deserializer)
}

#[cfg(test)]
mod tests {
    use bincode::Options;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{Caller, Command, Op, Outcome, Response, Txn};

    /// What a thread of a node's runtime has.
    const STACK_BYTES: usize = 2 << 20;

    fn options() -> impl Options {
        bincode::DefaultOptions::new().with_limit(64 << 20)
    }

    /// Decodes on a thread with as little stack as there is anywhere in a node. The text of the error, if one comes.
    fn decoded<T: DeserializeOwned + Send + 'static>(bytes: Vec<u8>) -> Result<T, String> {
        let decode = move || options().deserialize(&bytes).map_err(|error| error.to_string());
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(decode);
        thread.unwrap().join().expect("no panic")
    }

    /// `levels` times what stands before an inner value, then the innermost.
    fn nested(before: &[u8], levels: usize, innermost: &[u8]) -> Vec<u8> {
        [&before.repeat(levels)[..], innermost].concat()
    }

    /// The bytes of a value, up to those of the one inside it, which is the last of all.
    fn before(outer: &impl serde::Serialize, inner: &impl serde::Serialize) -> Vec<u8> {
        let (mut outer, inner) = (
            options().serialize(outer).unwrap(),
            options().serialize(inner).unwrap(),
        );
        assert!(outer.ends_with(&inner));
        outer.truncate(outer.len() - inner.len());
        outer
    }

    fn inside(failure: Vec<Op>) -> Op {
        Op::Txn(Txn {
            failure,
            ..Txn::default()
        })
    }

    #[test]
    fn operations_nest_up_to_the_bound() {
        let leaf = inside(Vec::new());
        let leaf_bytes = options().serialize(&leaf).unwrap();
        let before = before(&inside(vec![leaf.clone()]), &leaf);
        let mut op: Op = decoded(nested(&before, NESTING_MAX - 1, &leaf_bytes)).unwrap();
        let mut levels = 1;
        while let Op::Txn(Txn { mut failure, .. }) = op {
            let Some(inner) = failure.pop() else { break };
            (op, levels) = (inner, levels + 1);
        }
        assert_eq!(levels, NESTING_MAX);
        for levels in [NESTING_MAX, 1 << 20] {
            let error = decoded::<Op>(nested(&before, levels, &leaf_bytes)).unwrap_err();
            assert_eq!(error, "nested deeper than 64 levels");
        }
        // What was refused leaves nothing behind.
        assert!(decoded::<Op>(nested(&before, NESTING_MAX - 1, &leaf_bytes)).is_ok());
    }

    #[test]
    fn who_asks_counts_as_a_level() {
        let as_anonymous = |command: Command| Command::As {
            caller: Caller::Anonymous,
            command: Box::new(command),
        };
        let leaf = Command::Txn(Txn::default());
        let leaf_bytes = options().serialize(&leaf).unwrap();
        let before = before(&as_anonymous(leaf.clone()), &leaf);
        assert!(decoded::<Command>(nested(&before, NESTING_MAX, &leaf_bytes)).is_ok());
        for levels in [NESTING_MAX + 1, 1 << 20] {
            assert!(decoded::<Command>(nested(&before, levels, &leaf_bytes)).is_err());
        }
    }

    #[test]
    fn answers_nest_up_to_the_bound() {
        let txn = |responses| Response::Txn {
            succeeded: true,
            responses,
        };
        let leaf = (0_i64, Response::Compact);
        let leaf_bytes = options().serialize(&leaf).unwrap();
        let before = before(&(0_i64, txn(vec![leaf.clone()])), &leaf);
        let outcome = options().serialize(&Outcome {
            revision: 0,
            result: Ok(Response::Compact),
        });
        let head = &outcome.unwrap()[..1];
        let of = |levels| {
            // Within an outcome, the answer has no revision of its own.
            let answer = nested(&before, levels, &leaf_bytes);
            [head, &[0], &answer[1..]].concat()
        };
        assert!(decoded::<Outcome>(of(NESTING_MAX)).is_ok());
        for levels in [NESTING_MAX + 1, 1 << 20] {
            assert!(decoded::<Outcome>(of(levels)).is_err());
        }
    }

    #[test]
    fn what_is_validated_can_be_decoded() {
        let nested = |levels| {
            let txn = (0..levels).fold(Txn::default(), |txn, _| Txn {
                failure: vec![Op::Txn(txn)],
                ..Txn::default()
            });
            Command::Txn(txn)
        };
        let limits = crate::Limits { max_txn_ops: 1_000 };
        let deepest = nested(NESTING_MAX - 1);
        assert_eq!(deepest.validate(&limits), Ok(()));
        let asked = deepest.by(Caller::User {
            name: "alice".into(),
            revision: 1,
        });
        let bytes = options().serialize(&asked).unwrap();
        assert_eq!(decoded(bytes), Ok(asked));
        assert_eq!(
            nested(NESTING_MAX).validate(&limits),
            Err(crate::Error::NestedTooDeep)
        );
    }
}

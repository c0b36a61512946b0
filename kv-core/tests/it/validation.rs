//! Requests that are refused before they are proposed. All but the sort options were sent to etcd 3.5.1, which
//! answers the same; it does not check sort options yet, later releases do.

use kv_core::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, Error, Limits, Op, Put, Range,
    SortOrder, SortTarget, Txn,
};

#[test]
fn errors_have_etcds_text() {
    let texts = [
        (Error::EmptyKey, "etcdserver: key is not provided"),
        (Error::KeyNotFound, "etcdserver: key not found"),
        (Error::ValueProvided, "etcdserver: value is provided"),
        (Error::LeaseProvided, "etcdserver: lease is provided"),
        (
            Error::TooManyOps,
            "etcdserver: too many operations in txn request",
        ),
        (
            Error::DuplicateKey,
            "etcdserver: duplicate key given in txn request",
        ),
        (Error::InvalidSortOption, "etcdserver: invalid sort option"),
        (
            Error::Compacted,
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            Error::FutureRevision,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (Error::LeaseNotFound, "etcdserver: requested lease not found"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn sort_options_are_etcds_numbers() {
    assert_eq!(
        [0, 1, 2].map(SortOrder::try_from),
        [SortOrder::None, SortOrder::Ascend, SortOrder::Descend].map(Ok)
    );
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    assert_eq!([0, 1, 2, 3, 4].map(SortTarget::try_from), targets.map(Ok));
    for number in [-1, 5, i32::MAX] {
        assert_eq!(SortOrder::try_from(number), Err(Error::InvalidSortOption));
        assert_eq!(SortTarget::try_from(number), Err(Error::InvalidSortOption));
    }
}

fn check(command: Command) -> Result<(), Error> {
    command.validate(&Limits::default())
}

fn put(key: &'static str) -> Op {
    Op::Put(Put {
        key: key.into(),
        ..Put::default()
    })
}

fn delete(key: &'static str, range_end: &'static str) -> Op {
    Op::DeleteRange(DeleteRange {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    })
}

fn compare(key: &'static str) -> Compare {
    let (result, target) = (CompareResult::Equal, CompareTarget::Version(0));
    Compare {
        key: key.into(),
        range_end: "".into(),
        result,
        target,
    }
}

fn txn(compare: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>) -> Txn {
    Txn {
        compare,
        success,
        failure,
    }
}

/// A transaction that always runs these.
fn then(success: Vec<Op>) -> Result<(), Error> {
    check(Command::Txn(txn(vec![], success, vec![])))
}

fn inner(success: Vec<Op>, failure: Vec<Op>) -> Op {
    Op::Txn(txn(vec![], success, failure))
}

#[test]
fn a_key_is_needed_everywhere() {
    assert_eq!(Range::default().validate(), Err(Error::EmptyKey));
    assert_eq!(check(Command::Put(Put::default())), Err(Error::EmptyKey));
    assert_eq!(
        check(Command::DeleteRange(DeleteRange::default())),
        Err(Error::EmptyKey)
    );
    assert_eq!(
        check(Command::Txn(txn(vec![compare("")], vec![], vec![]))),
        Err(Error::EmptyKey)
    );
    assert_eq!(then(vec![Op::Range(Range::default())]), Err(Error::EmptyKey));
    assert_eq!(then(vec![inner(vec![], vec![put("")])]), Err(Error::EmptyKey));
    assert_eq!(check(Command::Txn(Txn::default())), Ok(()));
    assert_eq!(check(Command::Compact(Compact { revision: -1 })), Ok(()));
}

#[test]
fn ignore_excludes_what_it_ignores() {
    let value = Put {
        key: "a".into(),
        value: "1".into(),
        ignore_value: true,
        ..Put::default()
    };
    assert_eq!(check(Command::Put(value.clone())), Err(Error::ValueProvided));
    let lease = Put {
        key: "a".into(),
        lease: 1,
        ignore_lease: true,
        ..Put::default()
    };
    assert_eq!(check(Command::Put(lease.clone())), Err(Error::LeaseProvided));
    let both = Put {
        lease: 1,
        ignore_lease: true,
        ..value.clone()
    };
    assert_eq!(check(Command::Put(both.clone())), Err(Error::ValueProvided));
    assert_eq!(
        check(Command::Put(Put {
            key: "".into(),
            ..both
        })),
        Err(Error::EmptyKey)
    );
    assert_eq!(
        check(Command::Put(Put {
            value: "".into(),
            ..value
        })),
        Ok(())
    );
    assert_eq!(check(Command::Put(Put { lease: 0, ..lease })), Ok(()));
}

#[test]
fn operations_are_counted_by_the_longest_list_of_each_level() {
    let reads = |n| {
        vec![
            Op::Range(Range {
                key: "a".into(),
                ..Range::default()
            });
            n
        ]
    };
    let compares = |n| vec![compare("a"); n];
    assert_eq!(
        check(Command::Txn(txn(compares(128), reads(128), reads(128)))),
        Ok(())
    );
    for (compared, succeeded, failed) in [(129, 0, 0), (0, 129, 0), (0, 0, 129)] {
        let long = txn(compares(compared), reads(succeeded), reads(failed));
        assert_eq!(check(Command::Txn(long)), Err(Error::TooManyOps));
    }
    assert_eq!(then(vec![inner(reads(127), vec![])]), Ok(()));
    assert_eq!(then(vec![inner(reads(128), vec![])]), Err(Error::TooManyOps));
    // The longest list counts, not the one that the inner transaction stands in, and not their sum.
    assert_eq!(
        check(Command::Txn(txn(
            compares(100),
            vec![inner(reads(29), vec![])],
            vec![]
        ))),
        Err(Error::TooManyOps)
    );
    assert_eq!(
        then(vec![inner(reads(126), vec![]), inner(reads(126), vec![])]),
        Ok(())
    );
}

#[test]
fn the_first_error_in_etcds_order_counts() {
    // The count before the keys, compares before operations, all operations before duplicates, success before
    // failure.
    let mut many = vec![compare(""); 129];
    assert_eq!(
        check(Command::Txn(txn(many.clone(), vec![], vec![]))),
        Err(Error::TooManyOps)
    );
    many.truncate(1);
    let ignoring = Op::Put(Put {
        key: "a".into(),
        value: "1".into(),
        ignore_value: true,
        ..Put::default()
    });
    assert_eq!(
        check(Command::Txn(txn(many, vec![ignoring.clone()], vec![]))),
        Err(Error::EmptyKey)
    );
    assert_eq!(
        check(Command::Txn(txn(
            vec![],
            vec![put("a"), put("a")],
            vec![ignoring]
        ))),
        Err(Error::ValueProvided)
    );
}

#[test]
fn a_key_is_written_once() {
    let duplicate = Err(Error::DuplicateKey);
    assert_eq!(then(vec![put("a"), put("a")]), duplicate);
    assert_eq!(then(vec![put("a"), put("b")]), Ok(()));
    assert_eq!(
        check(Command::Txn(txn(vec![], vec![put("a")], vec![put("a")]))),
        Ok(())
    );
    assert_eq!(
        check(Command::Txn(txn(vec![], vec![], vec![put("a"), put("a")]))),
        duplicate
    );
    assert_eq!(then(vec![put("a"), delete("a", "")]), duplicate);
    assert_eq!(then(vec![delete("a", "c"), put("b")]), duplicate);
    assert_eq!(then(vec![delete("a", "c"), put("c")]), Ok(()));
    assert_eq!(then(vec![delete("a", "c"), delete("b", "d")]), Ok(()));
    assert_eq!(then(vec![delete("c", "a"), put("b")]), Ok(()));
    // etcd does not see a deletion of every key from one on.
    assert_eq!(then(vec![delete("a", "\0"), put("b")]), Ok(()));
}

#[test]
fn a_key_is_written_once_over_all_levels() {
    let duplicate = Err(Error::DuplicateKey);
    assert_eq!(then(vec![put("a"), inner(vec![put("a")], vec![])]), duplicate);
    assert_eq!(then(vec![put("a"), inner(vec![], vec![put("a")])]), duplicate);
    assert_eq!(then(vec![inner(vec![put("a")], vec![put("a")])]), Ok(()));
    assert_eq!(
        then(vec![inner(vec![put("a")], vec![]), inner(vec![], vec![put("a")])]),
        duplicate
    );
    assert_eq!(
        then(vec![delete("a", "c"), inner(vec![], vec![put("b")])]),
        duplicate
    );
    assert_eq!(
        then(vec![put("b"), inner(vec![], vec![delete("a", "c")])]),
        duplicate
    );
    assert_eq!(then(vec![inner(vec![delete("a", "c")], vec![put("b")])]), Ok(()));
    // Between transactions inside, the order counts.
    assert_eq!(
        then(vec![
            inner(vec![delete("a", "c")], vec![]),
            inner(vec![put("b")], vec![])
        ]),
        duplicate
    );
    assert_eq!(
        then(vec![
            inner(vec![put("b")], vec![]),
            inner(vec![delete("a", "c")], vec![])
        ]),
        Ok(())
    );
}

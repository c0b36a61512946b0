//! Users, roles and permissions: what changes them, and what they allow.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use kv_core::{
    Auth, AuthCommand, AuthError, Caller, Command, Compare, CompareResult, CompareTarget, DeleteRange, Error,
    KeyRange, LeaseKeys, Op, Outcome, PasswordHash, Permission, PermissionKind, PermissionRange, Put, Range,
    Request, Secret, State, Txn,
};
use proptest::prelude::*;

use crate::disk::Disk;

/// A state machine and who asks it.
struct World {
    state: State,
    disk: Disk,
}

impl World {
    fn new() -> World {
        World {
            state: State::new(),
            disk: Disk::default(),
        }
    }

    fn apply(&mut self, caller: Caller, command: Command) -> Result<(), Error> {
        let Outcome { result, .. } = self.disk.apply(&mut self.state, &command.by(caller));
        result.map(|_| ())
    }

    /// As a node would, of its own accord.
    fn change(&mut self, command: AuthCommand) -> Result<(), Error> {
        self.apply(Caller::Node, Command::Auth(command))
    }

    /// Somebody who has just logged in.
    fn user(&self, name: &str) -> Caller {
        let revision = self.state.auth().revision();
        self.state.auth().caller(name, revision).expect("the user exists")
    }

    /// Root, and `alice` with the role `r`; authentication is on.
    fn enabled(granted: &[Permission]) -> World {
        let mut world = World::new();
        let mut commands = vec![user_add("root"), grant_role("root", "root"), user_add("alice")];
        commands.extend([role_add("r"), grant_role("alice", "r")]);
        commands.extend(granted.iter().map(|permission| AuthCommand::RoleGrant {
            role: "r".into(),
            permission: Some(permission.clone()),
        }));
        commands.push(enable());
        for command in commands {
            world.change(command).expect("accepted");
        }
        world
    }
}

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd {
        name: name.into(),
        password: Some(PasswordHash("hash".into())),
        no_password: false,
    }
}

fn user_delete(name: &str) -> AuthCommand {
    AuthCommand::UserDelete { name: name.into() }
}

fn change_password(name: &str) -> AuthCommand {
    AuthCommand::UserChangePassword {
        name: name.into(),
        password: Some(PasswordHash("other".into())),
    }
}

fn grant_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole {
        user: user.into(),
        role: role.into(),
    }
}

fn revoke_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserRevokeRole {
        user: user.into(),
        role: role.into(),
    }
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd { name: name.into() }
}

fn role_delete(name: &str) -> AuthCommand {
    AuthCommand::RoleDelete { name: name.into() }
}

fn enable() -> AuthCommand {
    AuthCommand::Enable {
        secret: Secret([1; 32]),
    }
}

fn permission(kind: PermissionKind, key: &'static [u8], range_end: &'static [u8]) -> Permission {
    Permission {
        kind,
        range: range(key, range_end),
    }
}

fn range(key: &'static [u8], range_end: &'static [u8]) -> PermissionRange {
    PermissionRange {
        key: key.into(),
        range_end: range_end.into(),
    }
}

fn grant(role: &str, permission: Option<Permission>) -> AuthCommand {
    AuthCommand::RoleGrant {
        role: role.into(),
        permission,
    }
}

fn revoke(role: &str, range: PermissionRange) -> AuthCommand {
    AuthCommand::RoleRevoke {
        role: role.into(),
        range,
    }
}

/// Each change in turn, what etcd 3.5.1 answers to it, and the auth revision after it. Asked of etcd by hand;
/// the two grants of odd ranges are answered as etcd has done since 3.5.3.
#[test]
fn changes_are_answered_as_by_etcd() {
    use PermissionKind::{Read, Write};
    let script: Vec<(AuthCommand, &str)> = vec![
        (user_add(""), "etcdserver: user name is empty"),
        (user_add("u"), "ok 2"),
        (user_add("u"), "etcdserver: user name already exists"),
        (user_delete("nobody"), "etcdserver: user name not found"),
        (enable(), "etcdserver: root user does not exist"),
        (user_add("root"), "ok 3"),
        (enable(), "etcdserver: root user does not have root role"),
        (grant_role("root", "root"), "ok 4"),
        (grant_role("root", "root"), "ok 4"),
        (grant_role("nobody", "root"), "etcdserver: user name not found"),
        (grant_role("u", "none"), "etcdserver: role name not found"),
        (grant_role("nobody", "none"), "etcdserver: user name not found"),
        (
            revoke_role("u", "none"),
            "etcdserver: role is not granted to the user",
        ),
        (revoke_role("nobody", "none"), "etcdserver: user name not found"),
        (change_password("nobody"), "etcdserver: user name not found"),
        (change_password("u"), "ok 5"),
        (role_add(""), "etcdserver: role name is empty"),
        (role_add("r"), "ok 6"),
        (role_add("r"), "etcdserver: role name already exists"),
        (role_delete("none"), "etcdserver: role name not found"),
        (grant("none", None), "etcdserver: permission not given"),
        (
            grant("none", Some(permission(Read, b"a", b""))),
            "etcdserver: role name not found",
        ),
        (
            grant("r", Some(permission(Read, b"b", b"a"))),
            "etcdserver: invalid auth management",
        ),
        (
            grant("r", Some(permission(Read, b"", b"\0"))),
            "etcdserver: invalid auth management",
        ),
        (grant("r", Some(permission(Read, b"a", b"b"))), "ok 7"),
        (grant("r", Some(permission(Write, b"a", b"b"))), "ok 8"),
        (
            revoke("none", range(b"a", b"")),
            "etcdserver: role name not found",
        ),
        (
            revoke("r", range(b"a", b"")),
            "etcdserver: permission is not granted to the role",
        ),
        (revoke("r", range(b"a", b"b")), "ok 9"),
        (AuthCommand::Disable, "ok 9"),
        (enable(), "ok 9"),
        (enable(), "ok 9"),
        (user_delete("root"), "etcdserver: invalid auth management"),
        (role_add("root"), "ok 10"),
        (role_delete("root"), "etcdserver: invalid auth management"),
        (revoke_role("root", "root"), "etcdserver: invalid auth management"),
        (grant_role("u", "r"), "ok 11"),
        (role_delete("r"), "ok 12"),
        (
            revoke_role("u", "r"),
            "etcdserver: role is not granted to the user",
        ),
        (AuthCommand::Disable, "ok 13"),
        (user_delete("root"), "ok 14"),
        (enable(), "etcdserver: root user does not exist"),
    ];
    let mut world = World::new();
    let (mut told, mut expected) = (String::new(), String::new());
    for (command, answer) in script {
        writeln!(expected, "{command:?}: {answer}").unwrap();
        let answer = match world.change(command.clone()) {
            Ok(()) => format!("ok {}", world.state.auth().revision()),
            Err(error) => error.to_string(),
        };
        writeln!(told, "{command:?}: {answer}").unwrap();
    }
    assert_eq!(told, expected);
}

#[test]
fn only_administrators_change_users_and_roles() {
    let mut world = World::enabled(&[]);
    let (root, alice) = (world.user("root"), world.user("alice"));
    let add = || Command::Auth(user_add("bob"));
    let refused = |error: AuthError| Err(Error::Auth(error));
    assert_eq!(
        world.apply(Caller::Anonymous, add()),
        refused(AuthError::UserEmpty)
    );
    assert_eq!(
        world.apply(alice.clone(), add()),
        refused(AuthError::PermissionDenied)
    );
    assert_eq!(
        world.apply(alice, Command::Auth(AuthCommand::Disable)),
        refused(AuthError::PermissionDenied)
    );
    assert_eq!(world.apply(root.clone(), add()), Ok(()));
    let nobody = Caller::User {
        name: "nobody".into(),
        revision: u64::MAX,
    };
    assert_eq!(
        world.apply(nobody, Command::Auth(AuthCommand::Disable)),
        refused(AuthError::PermissionDenied)
    );
    assert_eq!(world.apply(root, Command::Auth(AuthCommand::Disable)), Ok(()));
    assert_eq!(
        world.apply(Caller::Anonymous, add()),
        refused(AuthError::UserExists)
    );
}

#[test]
fn a_changed_credential_ends_what_was_shown_before() {
    let everything = permission(PermissionKind::ReadWrite, b"\0", b"\0");
    let put = || {
        Command::Put(Put {
            key: "k".into(),
            ..Put::default()
        })
    };
    for ends in [change_password("alice"), user_delete("alice")] {
        let mut world = World::enabled(std::slice::from_ref(&everything));
        let alice = world.user("alice");
        let Caller::User { name, revision } = alice.clone() else {
            panic!("a user")
        };
        assert_eq!(world.apply(alice.clone(), put()), Ok(()));
        // What does not concern her credentials does not end them.
        world.change(user_add("bob")).unwrap();
        world.change(grant_role("alice", "root")).unwrap();
        assert_eq!(world.apply(alice.clone(), put()), Ok(()));
        world.change(ends).unwrap();
        assert!(world.apply(alice.clone(), put()).is_err());
        assert_eq!(
            world.state.auth().caller(&name, revision),
            Err(AuthError::InvalidToken)
        );
        // Neither does a new user of that name bring them back.
        let _ = world.change(user_add("alice"));
        let again = world.apply(alice, put());
        assert_eq!(again, Err(Error::Auth(AuthError::OldRevision)));
    }
    let mut world = World::enabled(&[everything]);
    let alice = world.user("alice");
    world.change(AuthCommand::Disable).unwrap();
    world.change(enable()).unwrap();
    assert_eq!(
        world.apply(alice, put()),
        Err(Error::Auth(AuthError::OldRevision))
    );
}

/// Keys of leases, by lease.
struct Leases(BTreeMap<i64, Vec<Vec<u8>>>);

impl LeaseKeys for Leases {
    fn keys_of(&self, lease: i64) -> impl Iterator<Item = &[u8]> {
        self.0.get(&lease).into_iter().flatten().map(Vec::as_slice)
    }
}

fn leases() -> Leases {
    Leases(BTreeMap::from([
        (1, vec![b"a".into()]),
        (2, vec![b"a".into(), b"b\0".into()]),
    ]))
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(prop::sample::select(vec![0, b'a', b'b', b'c']), 1..3).prop_map(Bytes::from)
}

fn end() -> impl Strategy<Value = Bytes> {
    prop_oneof![2 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 3 => key()]
}

fn put() -> impl Strategy<Value = Put> {
    (key(), any::<bool>(), prop_oneof![3 => Just(0_i64), 1 => 1..4_i64]).prop_map(|(key, prev_kv, lease)| {
        Put {
            key,
            prev_kv,
            lease,
            ..Put::default()
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let leaf = prop_oneof![
        put().prop_map(Op::Put),
        (key(), end()).prop_map(|(key, range_end)| Op::Range(Range {
            key,
            range_end,
            ..Range::default()
        })),
        (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| Op::DeleteRange(DeleteRange {
            key,
            range_end,
            prev_kv
        })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let ops = || prop::collection::vec(inner.clone(), 0..3);
        (prop::collection::vec((key(), end()), 0..2), ops(), ops()).prop_map(
            |(compared, success, failure)| {
                let compare = compared.into_iter().map(|(key, range_end)| Compare {
                    key,
                    range_end,
                    result: CompareResult::Equal,
                    target: CompareTarget::Version(0),
                });
                Op::Txn(Txn {
                    compare: compare.collect(),
                    success,
                    failure,
                })
            },
        )
    })
}

fn granted() -> impl Strategy<Value = Vec<Permission>> {
    let kind = prop::sample::select(vec![
        PermissionKind::Read,
        PermissionKind::Write,
        PermissionKind::ReadWrite,
    ]);
    let permission = (kind, key(), end()).prop_map(|(kind, key, range_end)| Permission {
        kind,
        range: PermissionRange { key, range_end },
    });
    prop::collection::vec(permission, 0..6)
}

/// Everything an operation touches, one by one: whether it writes, and which keys.
fn touched(op: &Op, leases: &Leases, all: &mut Vec<(bool, Bytes, Bytes)>) {
    match op {
        Op::Range(range) => all.push((false, range.key.clone(), range.range_end.clone())),
        Op::Put(put) => {
            all.push((true, put.key.clone(), Bytes::new()));
            if put.prev_kv {
                all.push((false, put.key.clone(), Bytes::new()));
            }
            for key in leases.keys_of(put.lease) {
                all.push((true, Bytes::copy_from_slice(key), Bytes::new()));
            }
        }
        Op::DeleteRange(delete) => {
            all.push((true, delete.key.clone(), delete.range_end.clone()));
            if delete.prev_kv {
                all.push((false, delete.key.clone(), delete.range_end.clone()));
            }
        }
        Op::Txn(txn) => {
            for compare in &txn.compare {
                all.push((false, compare.key.clone(), compare.range_end.clone()));
            }
            for op in txn.success.iter().chain(&txn.failure) {
                touched(op, leases, all);
            }
        }
    }
}

/// Whether one permission or another allows each key of a range, looked at key by key. Membership can change
/// only at the ends of ranges and right after a key, so those stand for all keys.
fn naive(granted: &[Permission], writes: bool, key: &Bytes, range_end: &Bytes) -> bool {
    let asked = KeyRange::new(key, range_end);
    let mut places: Vec<Vec<u8>> = Vec::new();
    for (key, end) in granted
        .iter()
        .map(|permission| (&permission.range.key, &permission.range.range_end))
        .chain([(key, range_end)])
    {
        places.extend([key.to_vec(), end.to_vec(), [&key[..], &[0]].concat()]);
    }
    let allows = |place: &[u8]| {
        granted.iter().any(|permission| {
            let kind = permission.kind;
            (if writes { kind.writes() } else { kind.reads() }) && permission.range.keys().contains(place)
        })
    };
    asked != KeyRange::Nothing
        && places
            .iter()
            .filter(|place| asked.contains(place))
            .all(|place| allows(place))
}

/// `alice` of a world with these permissions, as far as they can be granted.
fn auth(granted: &mut Vec<Permission>) -> (Auth, Caller) {
    granted.retain(|permission| permission.range.keys() != KeyRange::Nothing);
    // A role keeps one permission for a range: the last.
    let by_range: BTreeMap<_, _> = granted.drain(..).map(|p| (p.range, p.kind)).collect();
    granted.extend(
        by_range
            .into_iter()
            .map(|(range, kind)| Permission { kind, range }),
    );
    let world = World::enabled(granted);
    let alice = world.user("alice");
    (world.state.auth().clone(), alice)
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["root", "a", "b", ""]).prop_map(String::from)
}

fn change() -> impl Strategy<Value = AuthCommand> {
    let role_and_permission = (name(), granted());
    prop_oneof![
        Just(enable()),
        Just(AuthCommand::Disable),
        (name(), any::<bool>()).prop_map(|(name, no_password)| AuthCommand::UserAdd {
            name,
            password: Some(PasswordHash("hash".into())),
            no_password,
        }),
        name().prop_map(|name| user_delete(&name)),
        name().prop_map(|name| change_password(&name)),
        (name(), name()).prop_map(|(user, role)| grant_role(&user, &role)),
        (name(), name()).prop_map(|(user, role)| revoke_role(&user, &role)),
        name().prop_map(|name| role_add(&name)),
        name().prop_map(|name| role_delete(&name)),
        role_and_permission.prop_map(|(role, granted)| grant(&role, granted.into_iter().next())),
        (name(), key(), end())
            .prop_map(|(role, key, range_end)| revoke(&role, PermissionRange { key, range_end })),
    ]
}

proptest! {
    /// Whatever was changed: the facts hold all of it, and what was refused changed nothing.
    #[test]
    fn users_and_roles_come_back(changes in prop::collection::vec(change(), 0..40)) {
        let mut world = World::new();
        for change in changes {
            let before = world.state.clone();
            let changed = world.change(change).is_ok();
            if !changed {
                prop_assert_eq!(&world.state, &before);
            }
            prop_assert!(world.state.auth().revision() >= before.auth().revision());
            let restored = world.disk.restore(&world.state);
            prop_assert_eq!(&restored, &world.state);
            let facts: Vec<_> = world.state.facts().map(|fact| fact.key().to_bytes()).collect();
            prop_assert_eq!(facts, world.disk.facts.keys().cloned().collect::<Vec<_>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// However deep in a transaction: what is not allowed by itself is not allowed, and the other way round.
    #[test]
    fn a_request_is_allowed_when_each_key_it_touches_is(mut granted in granted(), op in op()) {
        let (auth, alice) = auth(&mut granted);
        let mut all = Vec::new();
        touched(&op, &leases(), &mut all);
        let expected = all.iter().all(|(writes, key, end)| naive(&granted, *writes, key, end));
        let command = match op {
            Op::Put(put) => Command::Put(put),
            Op::DeleteRange(delete) => Command::DeleteRange(delete),
            Op::Txn(txn) => Command::Txn(txn),
            range @ Op::Range(_) => Command::Txn(Txn { success: vec![range], ..Txn::default() }),
        };
        let answer = |caller: &Caller| auth.check(caller, Request::Command(&command), &leases());
        prop_assert_eq!(answer(&alice).is_ok(), expected, "{:?}", command);
        prop_assert_eq!(answer(&Caller::Anonymous), Err(AuthError::UserEmpty));
        prop_assert_eq!(answer(&Caller::Node), Ok(()));
        let root = auth.caller("root", auth.revision()).expect("root");
        prop_assert_eq!(answer(&root), Ok(()));
    }

    /// Taking a role away takes effect for the next command.
    #[test]
    fn without_a_role_nothing_is_allowed(op in op()) {
        let mut world = World::enabled(&[permission(PermissionKind::ReadWrite, b"\0", b"\0")]);
        let alice = world.user("alice");
        let txn = Txn { success: vec![op], ..Txn::default() };
        let read = |world: &World| world.state.authorize(&alice, Request::Command(&Command::Txn(txn.clone())));
        let before = read(&world);
        world.change(revoke_role("alice", "r")).expect("revoked");
        let denied = Err(Error::Auth(AuthError::PermissionDenied));
        let mut touches = Vec::new();
        touched(&txn.success[0], &Leases(BTreeMap::new()), &mut touches);
        let possible = touches.iter().all(|(_, key, end)| KeyRange::new(key, end) != KeyRange::Nothing);
        prop_assert_eq!(before.is_ok(), possible);
        if !touches.is_empty() {
            prop_assert_eq!(read(&world), denied);
        }
    }
}

//! Requests to the services around the data: locks and elections, members, users and roles.

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    methods::{
        AUTH_DISABLE, AUTH_ENABLE, AUTH_STATUS, AUTHENTICATE, CAMPAIGN, DELETE_RANGE, GET_LEADER, LOCK,
        MEMBER_ADD, MEMBER_LIST, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBER_UPDATE, Method, PROCLAIM, PUT, RANGE,
        RESIGN, ROLE_ADD, ROLE_DELETE, ROLE_GET, ROLE_GRANT, ROLE_LIST, ROLE_REVOKE, TXN, UNLOCK, USER_ADD,
        USER_DELETE, USER_GET, USER_GRANT, USER_LIST, USER_PASSWORD, USER_REVOKE,
    },
    requests::{
        Asked, Step, data, delete_range, key, object, one_of, put, range, range_end, txn, value, yes,
    },
    side::{LEADER, MEMBER},
};

/// The passwords that users have.
pub(super) const PASSWORDS: [&str; 2] = ["one", "two"];
/// Who asks while there are users; `w`, who has no password, never does.
pub(super) const USERS: [Option<&str>; 7] = [
    None,
    Some("root"),
    Some("root"),
    Some("root"),
    Some("u"),
    Some("u"),
    Some("v"),
];

fn asked(method: Method, request: BoxedStrategy<Value>) -> BoxedStrategy<Asked> {
    request.prop_map(move |request| (method, request)).boxed()
}

/// Every lease has a lock and an election of its own, so that nobody waits in line.
pub(super) fn lock_or_election() -> BoxedStrategy<Asked> {
    let of_lease = |lease: i64| {
        let (lock, election) = (format!("lock{lease}"), format!("election{lease}"));
        let key = format!("{lock}/{lease}");
        prop_oneof![
            Just((LOCK, json!({"name": lock, "lease": lease}))),
            Just((UNLOCK, json!({"key": key}))),
            value().prop_map({
                let election = election.clone();
                move |value| {
                    (
                        CAMPAIGN,
                        json!({"name": election, "lease": lease, "value": value}),
                    )
                }
            }),
            Just((GET_LEADER, json!({"name": election}))),
        ]
    };
    let leader = one_of(&[LEADER]);
    prop_oneof![
        3 => (1..4i64).prop_flat_map(of_lease),
        1 => asked(PROCLAIM, object(vec![("leader", 0.9, leader.clone()), ("value", 0.9, value())])),
        1 => asked(RESIGN, object(vec![("leader", 0.9, leader)])),
    ]
    .boxed()
}

/// Members come and go, and none of them starts: learners, since a voter that does not start costs etcd its
/// quorum. Learners are not updated: etcd makes voters of them.
pub(super) fn members() -> BoxedStrategy<Asked> {
    let urls = |urls: &'static [&'static [&'static str]]| select(urls).prop_map(|urls| json!(urls)).boxed();
    let id = one_of(&[MEMBER, MEMBER, "7"]);
    let some = urls(&[
        &["http://127.0.0.1:1"],
        &["http://127.0.0.1:1"],
        &["http://127.0.0.1:1", "http://127.0.0.1:2"],
        &["nonsense"],
        &[],
    ]);
    prop_oneof![
        4 => asked(MEMBER_ADD, object(vec![("peerURLs", 0.95, some.clone()), ("isLearner", 1.0, yes())])),
        3 => asked(MEMBER_REMOVE, object(vec![("ID", 1.0, id.clone())])),
        2 => asked(MEMBER_PROMOTE, object(vec![("ID", 1.0, id)])),
        1 => asked(MEMBER_UPDATE, object(vec![("ID", 1.0, one_of(&["7"])), ("peerURLs", 0.9, some)])),
        2 => asked(MEMBER_LIST, object(vec![("linearizable", 0.5, yes())])),
        2 => data(),
    ]
    .boxed()
}

/// What is there before a sequence with users: `root`, who may do everything, and a user with a role.
pub(super) fn users_before() -> Vec<Step> {
    let add = |name: &str| (USER_ADD, json!({"name": name, "password": PASSWORDS[0]}));
    let grant = |user: &str, role: &str| (USER_GRANT, json!({"user": user, "role": role}));
    let authenticate = |name: &str| (AUTHENTICATE, json!({"name": name, "password": PASSWORDS[0]}));
    let permission = json!({"permType": "READWRITE", "key": "a", "range_end": "b"});
    [
        add("root"),
        grant("root", "root"),
        add("u"),
        (ROLE_ADD, json!({"name": "r"})),
        (ROLE_GRANT, json!({"name": "r", "perm": permission})),
        grant("u", "r"),
        (AUTH_ENABLE, json!({})),
        authenticate("root"),
        authenticate("u"),
    ]
    .map(|(method, request)| Step::json(method, request))
    .into()
}

/// Users, roles, and what they may do with the data. `root` keeps a password, so that there is a way back.
pub(super) fn users() -> BoxedStrategy<Asked> {
    let user = || one_of(&["root", "u", "u", "v", ""]);
    let role = || one_of(&["root", "r", "r", "s", ""]);
    let password = || one_of(&PASSWORDS);
    let pair = |user_field: &'static str| object(vec![(user_field, 1.0, user()), ("role", 1.0, role())]);
    let named = |field: &'static str, name: BoxedStrategy<Value>| object(vec![(field, 1.0, name)]);
    let with_password = || object(vec![("name", 1.0, user()), ("password", 1.0, password())]);
    let nothing = || Just(json!({})).boxed();
    let range_of_role =
        || (key(), range_end()).prop_filter("no range", |(key, end)| end == "\0" || text(end) > text(key));
    let permission = (
        range_of_role(),
        any::<bool>(),
        one_of(&["READ", "WRITE", "READWRITE"]),
    )
        .prop_map(|((key, end), is_range, kind)| {
            let mut permission = json!({"permType": kind, "key": key});
            if is_range {
                permission["range_end"] = end;
            }
            permission
        });
    let revoked = (role(), range_of_role(), any::<bool>()).prop_map(|(role, (key, end), is_range)| {
        let mut request = json!({"role": role, "key": key});
        if is_range {
            request["range_end"] = end;
        }
        request
    });
    let accounts = prop_oneof![
        1 => asked(AUTH_ENABLE, nothing()),
        1 => asked(AUTH_DISABLE, nothing()),
        1 => asked(AUTH_STATUS, nothing()),
        4 => asked(AUTHENTICATE, with_password()),
        2 => asked(USER_ADD, with_password()),
        1 => Just((USER_ADD, json!({"name": "w", "options": {"no_password": true}}))),
        // With a name: etcd takes nobody who asks for nobody for a user.
        1 => asked(USER_GET, named("name", one_of(&["root", "u", "u", "v"]))),
        1 => asked(USER_LIST, nothing()),
        1 => asked(USER_DELETE, named("name", user())),
        1 => asked(USER_PASSWORD, with_password()),
        2 => asked(USER_GRANT, pair("user")),
        1 => asked(USER_REVOKE, pair("name")),
    ];
    let roles = prop_oneof![
        2 => asked(ROLE_ADD, named("name", role())),
        1 => asked(ROLE_GET, named("role", role())),
        1 => asked(ROLE_LIST, nothing()),
        1 => asked(ROLE_DELETE, named("role", role())),
        4 => asked(ROLE_GRANT, object(vec![("name", 1.0, role()), ("perm", 1.0, permission.boxed())])),
        2 => asked(ROLE_REVOKE, revoked.boxed()),
    ];
    let data = prop_oneof![
        3 => asked(RANGE, range()),
        3 => asked(PUT, put()),
        1 => asked(DELETE_RANGE, delete_range()),
        3 => asked(TXN, txn_of_users()),
    ];
    let data = data.prop_map(|(method, mut request)| {
        fill(&mut request);
        (method, request)
    });
    prop_oneof![3 => accounts, 2 => roles, 4 => data].boxed()
}

/// A transaction whose operations are all checked by etcd: it overlooks what is in a transaction inside, or is read
/// by way of `prev_kv`, and lets one pass that has no operations.
fn txn_of_users() -> BoxedStrategy<Value> {
    let op = |op: &mut Value| {
        if let Some(Value::Object(put)) = op.get_mut("request_put") {
            put.remove("prev_kv");
        }
    };
    let txn = txn(0).prop_map(move |mut txn| {
        for branch in ["success", "failure"] {
            txn.get_mut(branch)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .for_each(op);
        }
        txn
    });
    let has_ops = |txn: &Value| {
        ["compare", "success", "failure"]
            .iter()
            .any(|part| txn[part].as_array().is_some_and(|part| !part.is_empty()))
    };
    txn.prop_filter("no operations", has_ops).boxed()
}

/// Ranges that hold no key become single keys: etcd lets some of them pass.
fn fill(request: &mut Value) {
    match request {
        Value::Array(items) => items.iter_mut().for_each(fill),
        Value::Object(fields) => {
            let is_empty = |end: &Value| {
                let key = fields.get("key").map_or("", text);
                end != "\0" && text(end) <= key
            };
            if fields.get("range_end").is_some_and(is_empty) {
                fields.remove("range_end");
            }
            fields.values_mut().for_each(fill);
        }
        _ => {}
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

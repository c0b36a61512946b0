//! The requests of a sequence, as people write them.
//!
//! They are JSON, but bytes are text (a character is a byte) and `+N` is the Nth revision of the sequence.

use std::fmt;

use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{
    methods::{
        COMPACT, DELETE_RANGE, GRANT, KEEP_ALIVE, LEASES, Method, PUT, RANGE, REVOKE, TIME_TO_LIVE, TXN,
    },
    services,
};

/// How a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Via {
    Grpc,
    Json,
}

/// Requests in a sequence.
const STEPS_MAX: usize = 14;

/// One request.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) via: Via,
    /// Whose token goes with it, if it has one.
    pub(super) user: Option<&'static str>,
    pub(super) method: Method,
    pub(super) request: Value,
}

impl Step {
    /// A request of nobody, over JSON.
    pub(super) fn json(method: Method, request: Value) -> Step {
        Step {
            via: Via::Json,
            user: None,
            method,
            request,
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.via, self.method.name, self.request)?;
        self.user.map_or(Ok(()), |user| write!(f, " by {user}"))
    }
}

/// A method and its request.
pub(super) type Asked = (Method, Value);

/// One of these requests, either way.
pub(super) fn steps(
    requests: BoxedStrategy<Asked>,
    users: &'static [Option<&'static str>],
) -> impl Strategy<Value = Vec<Step>> + use<> {
    let step = (select(vec![Via::Grpc, Via::Json]), select(users), requests);
    let step = step.prop_map(|(via, user, (method, request))| Step {
        via,
        user,
        method,
        request,
    });
    vec(step, 1..STEPS_MAX)
}

/// Any request about data.
pub(super) fn data() -> BoxedStrategy<Asked> {
    prop_oneof![
        6 => range().prop_map(|request| (RANGE, request)),
        6 => put().prop_map(|request| (PUT, request)),
        3 => delete_range().prop_map(|request| (DELETE_RANGE, request)),
        6 => txn(2).prop_map(|request| (TXN, request)),
        1 => compaction().prop_map(|request| (COMPACT, request)),
        3 => grant().prop_map(|request| (GRANT, request)),
        1 => lease(vec![]).prop_map(|request| (REVOKE, request)),
        1 => lease(vec![]).prop_map(|request| (KEEP_ALIVE, request)),
        1 => lease(vec![("keys", 0.6, yes())]).prop_map(|request| (TIME_TO_LIVE, request)),
        1 => Just((LEASES, json!({}))),
        1 => services::lock_or_election(),
    ]
    .boxed()
}

/// An object whose fields are there with a probability each.
pub(super) fn object(fields: Vec<(&'static str, f64, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let names: Vec<_> = fields.iter().map(|(name, ..)| *name).collect();
    let values: Vec<_> = fields
        .into_iter()
        .map(|(_, probability, value)| match probability {
            1.0 => value.prop_map(Some).boxed(),
            _ => weighted(probability, value).boxed(),
        })
        .collect();
    values
        .prop_map(move |values| {
            let fields = names.iter().zip(values);
            let fields = fields.filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(fields.collect::<Map<_, _>>())
        })
        .boxed()
}

pub(super) fn one_of(values: &[&'static str]) -> BoxedStrategy<Value> {
    select(values.to_vec()).prop_map(Value::from).boxed()
}

pub(super) fn number(range: std::ops::Range<i64>) -> BoxedStrategy<Value> {
    range.prop_map(Value::from).boxed()
}

pub(super) fn yes() -> BoxedStrategy<Value> {
    Just(Value::from(true)).boxed()
}

pub(super) fn key() -> BoxedStrategy<Value> {
    one_of(&["a", "a", "a", "b", "b", "ab", "c", "d", "\0", "\u{ff}"])
}

/// Ends of ranges: of prefixes, of everything above, and below the beginning.
pub(super) fn range_end() -> BoxedStrategy<Value> {
    one_of(&["b", "b", "c", "e", "\0", "\0", "ac", "a", "\u{ff}\u{ff}"])
}

fn revision() -> BoxedStrategy<Value> {
    let of_sequence = (0..14).prop_map(|revision| Value::from(format!("+{revision}")));
    prop_oneof![12 => of_sequence, 1 => Just(json!("+1000")), 1 => Just(json!("-1"))].boxed()
}

pub(super) fn value() -> BoxedStrategy<Value> {
    one_of(&["", "x", "y", "\u{80}\0z"])
}

pub(super) fn range() -> BoxedStrategy<Value> {
    object(vec![
        ("key", 0.97, key()),
        ("range_end", 0.6, range_end()),
        ("limit", 0.3, number(-1..4)),
        ("revision", 0.4, revision()),
        (
            "sort_order",
            0.4,
            one_of(&["NONE", "ASCEND", "DESCEND", "DESCEND"]),
        ),
        (
            "sort_target",
            0.4,
            one_of(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"]),
        ),
        ("serializable", 0.2, yes()),
        ("keys_only", 0.1, yes()),
        ("count_only", 0.1, yes()),
        ("min_mod_revision", 0.1, revision()),
        ("max_mod_revision", 0.1, revision()),
        ("min_create_revision", 0.1, revision()),
        ("max_create_revision", 0.1, revision()),
    ])
}

pub(super) fn put() -> BoxedStrategy<Value> {
    object(vec![
        ("key", 0.98, key()),
        ("value", 0.8, value()),
        ("lease", 0.3, number(0..4)),
        ("prev_kv", 0.3, yes()),
        ("ignore_value", 0.1, yes()),
        ("ignore_lease", 0.1, yes()),
    ])
}

pub(super) fn delete_range() -> BoxedStrategy<Value> {
    object(vec![
        ("key", 0.97, key()),
        ("range_end", 0.4, range_end()),
        ("prev_kv", 0.4, yes()),
    ])
}

fn compaction() -> BoxedStrategy<Value> {
    object(vec![("revision", 0.95, revision()), ("physical", 0.1, yes())])
}

/// Leases that live for longer than a run, or cannot be granted.
fn grant() -> BoxedStrategy<Value> {
    let ttl = prop_oneof![9 => 100_000i64..100_003, 1 => Just(9_000_000_001)];
    lease(vec![("TTL", 1.0, ttl.prop_map(Value::from).boxed())])
}

/// A request that names a lease.
fn lease(mut fields: Vec<(&'static str, f64, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    fields.push(("ID", 1.0, number(1..4)));
    object(fields)
}

pub(super) fn txn(depth: u32) -> BoxedStrategy<Value> {
    object(vec![
        ("compare", 0.7, array(compare(), 3)),
        ("success", 0.8, array(op(depth), 4)),
        ("failure", 0.6, array(op(depth), 3)),
    ])
}

fn array(item: BoxedStrategy<Value>, max: usize) -> BoxedStrategy<Value> {
    vec(item, 0..=max).prop_map(Value::from).boxed()
}

fn op(depth: u32) -> BoxedStrategy<Value> {
    let named = |name: &'static str, request: BoxedStrategy<Value>| {
        request.prop_map(move |request| Value::Object(Map::from_iter([(name.to_owned(), request)])))
    };
    let flat = prop_oneof![
        3 => named("request_range", range()),
        4 => named("request_put", put()),
        2 => named("request_delete_range", delete_range()),
    ];
    if depth == 0 {
        flat.boxed()
    } else {
        prop_oneof![6 => flat, 1 => named("request_txn", txn(depth - 1))].boxed()
    }
}

fn compare() -> BoxedStrategy<Value> {
    let target = one_of(&["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]);
    let operand = prop_oneof![
        number(0..3).prop_map(|operand| json!({"version": operand})),
        revision().prop_map(|operand| json!({"create_revision": operand})),
        revision().prop_map(|operand| json!({"mod_revision": operand})),
        value().prop_map(|operand| json!({"value": operand})),
        number(0..4).prop_map(|operand| json!({"lease": operand})),
        Just(json!({})),
    ];
    let rest = object(vec![
        ("key", 0.98, key()),
        ("range_end", 0.3, range_end()),
        ("result", 0.8, one_of(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"])),
    ]);
    let fitting = |operand: &Value| match operand.as_object().and_then(|fields| fields.keys().next()) {
        Some(name) if name == "create_revision" => json!("CREATE"),
        Some(name) if name == "mod_revision" => json!("MOD"),
        Some(name) => json!(name.to_uppercase()),
        None => json!("VERSION"),
    };
    (rest, operand, weighted(0.05, target))
        .prop_map(move |(mut compare, mut operand, other_target)| {
            compare["target"] = other_target.unwrap_or_else(|| fitting(&operand));
            let fields = compare.as_object_mut().unwrap();
            fields.append(operand.as_object_mut().unwrap());
            compare
        })
        .boxed()
}

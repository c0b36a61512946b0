//! The requests of a sequence, as people write them.
//!
//! They are JSON, but bytes are text (a character is a byte) and `+N` is the Nth revision of the sequence.

use std::fmt;

use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// A method: its path in the gateway, and in gRPC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    pub(super) json: &'static str,
    pub(super) service: &'static str,
    pub(super) name: &'static str,
}

const fn method(json: &'static str, service: &'static str, name: &'static str) -> Method {
    Method { json, service, name }
}

pub(super) const RANGE: Method = method("kv/range", "etcdserverpb.KV", "Range");
pub(super) const PUT: Method = method("kv/put", "etcdserverpb.KV", "Put");
pub(super) const DELETE_RANGE: Method = method("kv/deleterange", "etcdserverpb.KV", "DeleteRange");
pub(super) const TXN: Method = method("kv/txn", "etcdserverpb.KV", "Txn");
pub(super) const COMPACT: Method = method("kv/compaction", "etcdserverpb.KV", "Compact");
pub(super) const WATCH: Method = method("watch", "etcdserverpb.Watch", "Watch");
pub(super) const GRANT: Method = method("lease/grant", "etcdserverpb.Lease", "LeaseGrant");
pub(super) const REVOKE: Method = method("lease/revoke", "etcdserverpb.Lease", "LeaseRevoke");
pub(super) const KEEP_ALIVE: Method = method("lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive");
pub(super) const TIME_TO_LIVE: Method = method("lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive");
pub(super) const LEASES: Method = method("lease/leases", "etcdserverpb.Lease", "LeaseLeases");

/// How a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Via {
    Grpc,
    Json,
}

/// One request.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) via: Via,
    pub(super) method: Method,
    pub(super) request: Value,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.via, self.method.name, self.request)
    }
}

/// Any request.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let request = prop_oneof![
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
    ];
    (select(vec![Via::Grpc, Via::Json]), request).prop_map(|(via, (method, request))| Step {
        via,
        method,
        request,
    })
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

fn number(range: std::ops::Range<i64>) -> BoxedStrategy<Value> {
    range.prop_map(Value::from).boxed()
}

pub(super) fn yes() -> BoxedStrategy<Value> {
    Just(Value::from(true)).boxed()
}

fn key() -> BoxedStrategy<Value> {
    one_of(&["a", "a", "a", "b", "b", "ab", "c", "d", "\0", "\u{ff}"])
}

/// Ends of ranges: of prefixes, of everything above, and below the beginning.
fn range_end() -> BoxedStrategy<Value> {
    one_of(&["b", "b", "c", "e", "\0", "\0", "ac", "a", "\u{ff}\u{ff}"])
}

fn revision() -> BoxedStrategy<Value> {
    let of_sequence = (0..14).prop_map(|revision| Value::from(format!("+{revision}")));
    prop_oneof![12 => of_sequence, 1 => Just(json!("+1000")), 1 => Just(json!("-1"))].boxed()
}

fn value() -> BoxedStrategy<Value> {
    one_of(&["", "x", "y", "\u{80}\0z"])
}

fn range() -> BoxedStrategy<Value> {
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

fn put() -> BoxedStrategy<Value> {
    object(vec![
        ("key", 0.98, key()),
        ("value", 0.8, value()),
        ("lease", 0.3, number(0..4)),
        ("prev_kv", 0.3, yes()),
        ("ignore_value", 0.1, yes()),
        ("ignore_lease", 0.1, yes()),
    ])
}

fn delete_range() -> BoxedStrategy<Value> {
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

fn txn(depth: u32) -> BoxedStrategy<Value> {
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

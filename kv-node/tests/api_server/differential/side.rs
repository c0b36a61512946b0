//! One of the two, asked and answering in the words of the sequence.

use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use serde_json::{Value, json};

use super::{
    requests::{DELETE_RANGE, LEASES, Method, PUT, REVOKE, Step, Via},
    wire::{Answers, Wire},
};

/// Fields whose base64 is shown as text.
const BYTES: [&str; 4] = ["key", "range_end", "value", "keys"];
/// Fields that count from the beginning of the sequence.
const REVISIONS: [&str; 9] = [
    "revision",
    "create_revision",
    "mod_revision",
    "compact_revision",
    "start_revision",
    "min_mod_revision",
    "max_mod_revision",
    "min_create_revision",
    "max_create_revision",
];
/// Fields that are not compared.
const MASKED: [&str; 3] = ["cluster_id", "member_id", "raft_term"];

/// A server, and the revision at which the sequence began.
pub(super) struct Side {
    wire: Wire,
    base: i64,
}

impl Side {
    pub(super) fn new(wire: Wire) -> Side {
        Side { wire, base: 0 }
    }

    /// Revokes every lease and deletes every key. The sequence begins at a revision of its own, which no other
    /// has compacted.
    pub(super) async fn reset(&mut self) {
        let leases = self.ask_json(LEASES, json!({})).await;
        for lease in leases["leases"].as_array().unwrap_or(&Vec::new()) {
            self.ask_json(REVOKE, lease.clone()).await;
        }
        self.ask_json(PUT, json!({"key": "a"})).await;
        self.base = 0;
        let deleted = self
            .ask_json(DELETE_RANGE, json!({"key": "\0", "range_end": "\0"}))
            .await;
        let revision = deleted["header"]["revision"].as_str().unwrap();
        self.base = revision.parse().unwrap();
    }

    async fn ask_json(&self, method: Method, request: Value) -> Value {
        let mut answer = self
            .ask(&Step {
                via: Via::Json,
                method,
                request,
            })
            .await;
        assert_eq!(answer["http"], 200, "{answer}");
        answer["json"][0].take()
    }

    /// The answer to a request, whatever it is.
    pub(super) async fn ask(&self, step: &Step) -> Value {
        let request = self.absolute(step.request.clone());
        let answer = self.wire.ask(step.via, step.method, &request).await;
        self.relative(answer)
    }

    /// The answers to a stream of requests.
    pub(super) async fn stream(&self, via: Via, method: Method, requests: &[Value]) -> Answers {
        let requests = requests.iter().map(|request| self.absolute(request.clone()));
        let answers = self.wire.stream(via, method, requests.collect()).await;
        let base = self.base;
        answers.map(move |answer| relative(answer, base)).boxed()
    }

    /// From the sequence's words to the wire's.
    fn absolute(&self, mut value: Value) -> Value {
        each_text(&mut value, &mut |name, text| {
            if BYTES.contains(&name) {
                let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
                *text = STANDARD.encode(bytes);
            } else if REVISIONS.contains(&name)
                && let Some(revision) = text.strip_prefix('+')
            {
                *text = (self.base + revision.parse::<i64>().unwrap()).to_string();
            }
        });
        value
    }

    fn relative(&self, value: Value) -> Value {
        relative(value, self.base)
    }
}

/// From the wire's words to those of a sequence that began at `base`.
fn relative(mut value: Value, base: i64) -> Value {
    each_text(&mut value, &mut |name, text| {
        if BYTES.contains(&name) {
            let bytes = STANDARD.decode(&text).unwrap();
            *text = bytes.into_iter().map(char::from).collect();
        } else if REVISIONS.contains(&name) {
            let revision: i64 = text.parse().unwrap();
            *text = if base == 0 {
                revision.to_string()
            } else {
                format!("{:+}", revision - base)
            };
        } else if MASKED.contains(&name) {
            text.clear();
        }
    });
    arrange(&mut value);
    value
}

/// Masks the time that a lease has left, and puts in order what has none.
fn arrange(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(arrange),
        Value::Object(fields) => {
            if fields.contains_key("grantedTTL") {
                fields["TTL"].take();
            }
            for (name, value) in fields {
                match value {
                    Value::Array(items) if name == "leases" || name == "keys" => {
                        items.sort_by_key(Value::to_string);
                    }
                    _ => arrange(value),
                }
            }
        }
        _ => {}
    }
}

/// Every text, with the name of the field that it is in.
fn each_text(value: &mut Value, change: &mut impl FnMut(&str, &mut String)) {
    fn walk(name: &str, value: &mut Value, change: &mut impl FnMut(&str, &mut String)) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| walk(name, item, change)),
            Value::Object(fields) => fields
                .iter_mut()
                .for_each(|(name, value)| walk(name, value, change)),
            Value::String(text) => change(name, text),
            _ => {}
        }
    }
    walk("", value, change);
}

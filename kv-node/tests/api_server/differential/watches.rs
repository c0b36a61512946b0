//! Watches beside a sequence: some from before its first request on, some of the past when it has ended.

use std::fmt;

use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{
    methods::{DELETE_RANGE, PUT, WATCH},
    requests::{Step, Via, object, one_of, yes},
    side::Side,
    wire::Conversation,
};

/// Watches of one stream.
#[derive(Clone)]
pub(super) struct Watches {
    via: Via,
    creates: Vec<Value>,
}

impl fmt::Debug for Watches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} Watch {}", self.via, json!(self.creates))
    }
}

/// Those that see what happens.
pub(super) fn live() -> impl Strategy<Value = Watches> {
    watches(create(None))
}

/// Those that see what has happened.
pub(super) fn past() -> impl Strategy<Value = Watches> {
    let revision = (1..14)
        .prop_map(|revision| Value::from(format!("+{revision}")))
        .boxed();
    watches(create(Some(revision)))
}

fn watches(create: BoxedStrategy<Value>) -> impl Strategy<Value = Watches> {
    let via = select(vec![Via::Grpc, Via::Json]);
    (via, proptest::collection::vec(create, 0..3)).prop_map(|(via, creates)| Watches { via, creates })
}

fn create(start_revision: Option<BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    let keys = select(vec![
        ("a", None),
        ("a", Some("b")),
        ("a", Some("\0")),
        ("\0", Some("\0")),
        ("b", None),
        ("b", Some("d")),
    ]);
    let keys = keys.prop_map(|(key, end)| {
        let mut create = Map::from_iter([("key".to_owned(), key.into())]);
        if let Some(end) = end {
            create.insert("range_end".to_owned(), end.into());
        }
        create
    });
    // With both filters there would be nothing to wait for.
    let filters = one_of(&["NOPUT", "NODELETE"])
        .prop_map(|filter| json!([filter]))
        .boxed();
    let mut options = vec![
        ("prev_kv", 0.4, yes()),
        ("filters", 0.2, filters),
        ("fragment", 0.1, yes()),
    ];
    options.extend(start_revision.map(|revision| ("start_revision", 1.0, revision)));
    (keys, object(options))
        .prop_map(|(mut create, mut options)| {
            create.append(options.as_object_mut().unwrap());
            json!({"create_request": create})
        })
        .boxed()
}

/// Writes that every watch sees the last of.
pub(super) async fn finish(side: &Side) -> Last {
    let mut revision = String::new();
    for (method, request) in [
        (PUT, json!({"key": "a", "value": "last"})),
        (PUT, json!({"key": "b", "value": "last"})),
        (DELETE_RANGE, json!({"key": "a"})),
        (DELETE_RANGE, json!({"key": "b"})),
    ] {
        let answer = side.ask(&Step::json(method, request)).await;
        let header = &answer["json"][0]["header"]["revision"];
        revision = header.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    }
    Last(revision.parse().unwrap())
}

/// The revision of the last write: both keys were put before, and then both deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last(i64);

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+}", self.0)
    }
}

impl Last {
    /// The revision of the last event that a watch sees.
    fn of(self, create: &Value) -> String {
        let create = &create["create_request"];
        let sees_b = create["key"] == "b" || matches!(create["range_end"].as_str(), Some("\0"));
        let no_delete = create["filters"] == json!(["NODELETE"]);
        let back = match (sees_b, no_delete) {
            (true, false) => 0,
            (false, false) => 1,
            (true, true) => 2,
            (false, true) => 3,
        };
        format!("{:+}", self.0 - back)
    }
}

impl Watches {
    /// Those of them that begin at the end begin there.
    pub(super) fn before(&self, last: Last) -> Watches {
        let mut watches = self.clone();
        for create in &mut watches.creates {
            let start = &mut create["create_request"]["start_revision"];
            let revision: i64 = start.as_str().unwrap().parse().unwrap();
            *start = format!("{:+}", revision.min(last.0 - 3)).into();
        }
        watches
    }

    /// Opens them; they see everything that is asked for after this.
    pub(super) async fn open(&self, side: &Side) -> Open {
        // Without a request, the gateway would wait for one.
        let conversation = match self.creates.as_slice() {
            [] => None,
            creates => Some(side.stream(self.via, WATCH, creates).await),
        };
        let mut open = Open {
            conversation,
            creates: self.creates.clone(),
            seen: vec![Vec::new(); self.creates.len()],
        };
        // Each is created before it sees anything, but one may see before the next is created.
        while open.seen.iter().any(Vec::is_empty) {
            open.next().await;
        }
        open
    }
}

/// Watches and what they have seen, each for itself: events come in pieces that need not be the same.
pub(super) struct Open {
    conversation: Option<Conversation>,
    creates: Vec<Value>,
    seen: Vec<Vec<Value>>,
}

impl Open {
    /// What they see up to the last write.
    pub(super) async fn close(mut self, last: Last) -> Value {
        while !self.have_ended(last) {
            self.next().await;
        }
        self.seen.into()
    }

    fn have_ended(&self, last: Last) -> bool {
        self.creates.iter().zip(&self.seen).all(|(create, seen)| {
            let last = last.of(create);
            seen.last()
                .is_some_and(|seen| seen["canceled"] == true || seen["kv"]["mod_revision"] == last)
        })
    }

    async fn next(&mut self) {
        let conversation = self.conversation.as_mut().expect("there are watches");
        let answer = conversation.next().await;
        let mut answer =
            answer.unwrap_or_else(|| panic!("{:?} see no more than {:?}", self.creates, self.seen));
        let id = answer["watch_id"].as_str().map_or(0, |id| id.parse().unwrap());
        let seen: &mut Vec<Value> = &mut self.seen[id];
        match answer["events"].take() {
            Value::Array(events) => seen.extend(events),
            _ => seen.push(answer),
        }
    }
}

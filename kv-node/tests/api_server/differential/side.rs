//! One of the two, asked and answering in the words of the sequence.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    methods::{
        AUTH_DISABLE, AUTH_STATUS, AUTHENTICATE, CAMPAIGN, DELETE_RANGE, LEASES, MEMBER_ADD, MEMBER_LIST,
        MEMBER_REMOVE, Method, PUT, REVOKE, ROLE_DELETE, ROLE_LIST, USER_DELETE, USER_LIST,
    },
    requests::{Step, Via},
    services::PASSWORDS,
    wire::{Conversation, Wire},
};

/// Fields whose base64 is shown as text.
const BYTES: [&str; 4] = ["key", "range_end", "value", "keys"];
/// Fields that count from the beginning of the sequence.
const REVISIONS: [&str; 10] = [
    "revision",
    "create_revision",
    "mod_revision",
    "compact_revision",
    "start_revision",
    "min_mod_revision",
    "max_mod_revision",
    "min_create_revision",
    "max_create_revision",
    "rev",
];
/// In a request: the id of the member that the sequence has added. In an answer: that there is one.
pub(super) const MEMBER: &str = "$member";
/// What the URLs of members begin with that a sequence adds; there are two of them, 1 and 2.
const MEMBER_URL: &str = "http://127.0.0.1:";
/// Where the ports of those members begin, and of how many members until they are used again.
const MEMBER_PORTS_FROM: u16 = 40_000;
const MEMBERS_MAX: u16 = 10_000;
/// In a request: the key of the last candidate that was elected.
pub(super) const LEADER: &str = "$leader";
/// What the names of remembered tokens begin with.
const TOKEN_OF: &str = "token of ";
/// In an answer: the server itself, as a member.
const SELF: &str = "$self";
/// Fields that are not compared.
const MASKED: [&str; 4] = ["cluster_id", "member_id", "raft_term", "token"];

/// A server, and what the sequence has come to know of it.
pub(super) struct Side {
    wire: Wire,
    base: Base,
    known: Mutex<HashMap<String, Value>>,
    /// How many members were removed: a member's port says after how many it was added.
    removed: AtomicU16,
}

/// Where the sequence began.
#[derive(Clone, Copy, Default)]
struct Base {
    revision: i64,
    auth_revision: i64,
}

impl Side {
    pub(super) fn new(wire: Wire) -> Side {
        Side {
            wire,
            base: Base::default(),
            known: Mutex::default(),
            removed: AtomicU16::new(0),
        }
    }

    /// Turns authentication off, and takes away every user, role, lease, key, and member but one. The sequence
    /// begins at revisions of its own, which no other has compacted.
    ///
    /// # Errors
    /// What was refused.
    pub(super) async fn reset(&mut self) -> Result<(), String> {
        self.base = Base::default();
        self.known.lock().unwrap().clear();
        self.disable_auth().await?;
        for user in self.list(USER_LIST, "users").await? {
            self.done(USER_DELETE, json!({"name": user})).await?;
        }
        for role in self.list(ROLE_LIST, "roles").await? {
            self.done(ROLE_DELETE, json!({"role": role})).await?;
        }
        for member in self.list(MEMBER_LIST, "members").await? {
            if member != SELF {
                self.done(MEMBER_REMOVE, json!({"ID": MEMBER})).await?;
            }
        }
        for lease in self.list(LEASES, "leases").await? {
            self.done(REVOKE, lease).await?;
        }
        let status = self.done(AUTH_STATUS, json!({})).await?;
        self.done(PUT, json!({"key": "a"})).await?;
        let everything = json!({"key": "\0", "range_end": "\0"});
        let deleted = self.done(DELETE_RANGE, everything).await?;
        let number = |text: &Value| text.as_str().unwrap().parse().unwrap();
        self.base = Base {
            revision: number(&deleted["header"]["revision"]),
            auth_revision: number(&status["authRevision"]),
        };
        Ok(())
    }

    async fn disable_auth(&self) -> Result<(), String> {
        let disable = Step::json(AUTH_DISABLE, json!({}));
        if self.ask(&disable).await["http"] == 200 {
            return Ok(());
        }
        for password in PASSWORDS {
            let root = json!({"name": "root", "password": password});
            self.ask(&Step::json(AUTHENTICATE, root)).await;
        }
        let by_root = Step {
            user: Some("root"),
            ..disable
        };
        succeeded(&by_root, self.ask(&by_root).await).map(|_| ())
    }

    async fn list(&self, method: Method, field: &str) -> Result<Vec<Value>, String> {
        match self.done(method, json!({})).await?[field].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// The answer to a request that must succeed.
    async fn done(&self, method: Method, request: Value) -> Result<Value, String> {
        let step = Step::json(method, request);
        let mut answer = succeeded(&step, self.ask(&step).await)?;
        Ok(answer["json"][0].take())
    }

    /// The answer to a request, whatever it is.
    pub(super) async fn ask(&self, step: &Step) -> Value {
        let request = self.absolute(step.method, step.request.clone());
        let token = step.user.and_then(|user| self.known(&token_of(user)));
        let token = token.as_ref().and_then(Value::as_str);
        let answer = self.wire.ask(step.via, step.method, &request, token).await;
        let first = match step.via {
            Via::Grpc => &answer[0],
            Via::Json => &answer["json"][0],
        };
        self.learn(step, first);
        relative(step.method, answer, self.base)
    }

    /// The answers to a stream of requests.
    pub(super) async fn stream(&self, via: Via, method: Method, requests: &[Value]) -> Conversation {
        let requests = requests
            .iter()
            .map(|request| self.absolute(method, request.clone()));
        let conversation = self.wire.stream(via, method, requests.collect()).await;
        let base = self.base;
        conversation.map(move |answer| relative(method, answer, base))
    }

    fn known(&self, name: &str) -> Option<Value> {
        self.known.lock().unwrap().get(name).cloned()
    }

    /// Remembers what later requests name.
    fn learn(&self, step: &Step, answer: &Value) {
        let (name, value) = match step.method {
            AUTHENTICATE => (
                token_of(step.request["name"].as_str().unwrap_or_default()),
                &answer["token"],
            ),
            CAMPAIGN => (LEADER.to_owned(), &answer["leader"]),
            MEMBER_ADD => (MEMBER.to_owned(), &answer["member"]["ID"]),
            // While authentication is off, etcd refuses tokens.
            AUTH_DISABLE if !answer["header"].is_null() => {
                self.known
                    .lock()
                    .unwrap()
                    .retain(|name, _| !name.starts_with(TOKEN_OF));
                return;
            }
            MEMBER_REMOVE if !answer["header"].is_null() => {
                self.removed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            MEMBER_LIST => (MEMBER.to_owned(), &stranger(answer)["ID"]),
            _ => return,
        };
        if !value.is_null() {
            self.known.lock().unwrap().insert(name, value.clone());
        }
    }

    /// From the sequence's words to the wire's.
    fn absolute(&self, method: Method, mut request: Value) -> Value {
        each_text(&mut request, &mut |name, text| {
            if is_bytes(method, name) {
                let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
                *text = STANDARD.encode(bytes);
            } else if REVISIONS.contains(&name)
                && let Some(revision) = text.strip_prefix('+')
            {
                *text = (self.base.revision + revision.parse::<i64>().unwrap()).to_string();
            } else if name == "peerURLs"
                && let Some(member) = text.strip_prefix(MEMBER_URL)
            {
                // etcd makes ids of URLs and the second, and takes no member back that was removed.
                let nth = self.removed.load(Ordering::Relaxed) % MEMBERS_MAX;
                *text = format!(
                    "{MEMBER_URL}{}",
                    MEMBER_PORTS_FROM + 2 * nth + member.parse::<u16>().unwrap()
                );
            }
        });
        if request["leader"] == LEADER {
            request["leader"] = self.known(LEADER).unwrap_or_default();
        }
        if request["ID"] == MEMBER {
            request["ID"] = self.known(MEMBER).unwrap_or_else(|| "7".into());
        }
        request
    }
}

fn succeeded(step: &Step, answer: Value) -> Result<Value, String> {
    if answer["http"] == 200 {
        Ok(answer)
    } else {
        Err(format!("{step:?}: {answer}"))
    }
}

/// Under what a user's last token is remembered.
fn token_of(user: &str) -> String {
    format!("{TOKEN_OF}{user}")
}

/// The member that a sequence has added: it has not started, and so has no name.
fn stranger(answer: &Value) -> &Value {
    let members = answer["members"].as_array().map_or(&[][..], Vec::as_slice);
    let stranger = members.iter().find(|member| is_stranger(member));
    stranger.unwrap_or(&Value::Null)
}

fn is_stranger(member: &Value) -> bool {
    member["name"].as_str().is_none_or(str::is_empty)
}

/// Whether a field is of bytes. Names are text, but those of locks and elections are not.
fn is_bytes(method: Method, field: &str) -> bool {
    let of_services = ["v3lockpb.Lock", "v3electionpb.Election"].contains(&method.service);
    BYTES.contains(&field) || (of_services && field == "name")
}

/// From the wire's words to those of a sequence that began at `base`.
fn relative(method: Method, mut value: Value, base: Base) -> Value {
    each_text(&mut value, &mut |name, text| {
        let count_from = |base: i64, text: &mut String| {
            let number: i64 = text.parse().unwrap();
            if base != 0 {
                *text = format!("{:+}", number - base);
            }
        };
        if is_bytes(method, name) {
            let bytes = STANDARD.decode(&text).unwrap();
            *text = bytes.into_iter().map(char::from).collect();
        } else if REVISIONS.contains(&name) {
            count_from(base.revision, text);
        } else if name == "peerURLs"
            && let Some(port) = text.strip_prefix(MEMBER_URL)
        {
            // Those of the server itself are below.
            if let Some(above) = port.parse::<u16>().unwrap().checked_sub(MEMBER_PORTS_FROM + 1) {
                *text = format!("{MEMBER_URL}{}", above % 2 + 1);
            }
        } else if text == "etcdserver: member ID already exist" {
            // etcd says so of the same URLs in the same second.
            *text = "etcdserver: Peer URLs already exists".to_owned();
        } else if name == "authRevision" {
            count_from(base.auth_revision, text);
        } else if MASKED.contains(&name) {
            text.clear();
        }
    });
    arrange(&mut value);
    value
}

/// Masks the time that a lease has left and the ids of members, and puts in order what has none.
fn arrange(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(arrange),
        Value::Object(fields) => {
            if fields.contains_key("grantedTTL") {
                fields["TTL"].take();
            }
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("members", Value::Array(members)) => {
                        members.iter_mut().for_each(mask_member);
                        members.sort_by_key(Value::to_string);
                    }
                    ("member", member) => mask_member(member),
                    ("leases" | "keys" | "perm", Value::Array(items)) => items.sort_by_key(Value::to_string),
                    (_, value) => arrange(value),
                }
            }
        }
        _ => {}
    }
}

/// The server itself is called otherwise, and an id is random.
fn mask_member(member: &mut Value) {
    if is_stranger(member) {
        member["ID"] = MEMBER.into();
    } else {
        *member = SELF.into();
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

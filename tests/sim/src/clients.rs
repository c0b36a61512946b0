//! Clients: each does one operation after the other on keys that all share, on any node, and writes down what
//! came of it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use quorate_checkers::history::{Answer, Compare, Keys, Op, Outcome, Record, Reply, Request, Test, Txn};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    net::{CLIENTS, Host, Net},
    plan::Load,
    random::Random,
    trace::Trace,
    wire::{call, is_certain, is_write},
};

/// A client waits no longer than this: longer than a node does.
const PATIENCE: Duration = Duration::from_secs(7);
/// What clients have done so far.
pub type History = Arc<Mutex<Vec<Record>>>;

/// One client.
pub struct Client {
    /// No other client has it.
    pub number: u32,
    /// Its way to the nodes.
    pub net: Arc<Net>,
    /// Where it says what it does.
    pub trace: Arc<Trace>,
    /// What it draws.
    pub random: Random,
    /// Where it writes down what came of it.
    pub history: History,
    /// Cancelled when no more is to be asked: what is under way is waited for, or the history would lack it.
    pub enough: CancellationToken,
    load: Load,
    nodes: Arc<Mutex<Vec<Host>>>,
    written: u64,
}

impl Client {
    /// A client that goes to any of `nodes`.
    pub fn new(
        number: u32,
        net: Arc<Net>,
        trace: Arc<Trace>,
        seed: u64,
        history: History,
        load: Load,
        nodes: Arc<Mutex<Vec<Host>>>,
    ) -> Client {
        Client {
            number,
            net,
            trace,
            random: Random::of(seed, &format!("client {number}")),
            history,
            enough: CancellationToken::new(),
            load,
            nodes,
            written: 0,
        }
    }

    /// Until when it goes on; forever, unless told.
    pub fn until(self, enough: &CancellationToken) -> Client {
        Client {
            enough: enough.clone(),
            ..self
        }
    }

    /// Goes on until there is enough.
    pub async fn run(mut self) {
        loop {
            self.pause(Duration::from_millis(self.load.pause_ms_max)).await;
            if self.enough.is_cancelled() {
                return;
            }
            let request = self.draw();
            self.ask_any(request).await;
        }
    }

    /// Compacts now and then until there is enough.
    pub async fn compact(mut self) {
        loop {
            self.pause(Duration::from_millis(self.load.compaction_ms_max))
                .await;
            if self.enough.is_cancelled() {
                return;
            }
            let revision = self.past();
            self.ask_any(Request::Compact { revision }).await;
        }
    }

    /// Any node.
    pub fn node(&mut self) -> Host {
        let nodes = self.nodes.lock();
        *self.random.pick(&nodes)
    }

    /// Waits for up to so long, or until there is enough.
    pub async fn pause(&mut self, at_most: Duration) {
        let pause = self.random.time(Duration::from_millis(1)..at_most);
        tokio::select! {
            biased;
            () = self.enough.cancelled() => {}
            () = sleep(pause) => {}
        }
    }

    /// Asks any node.
    pub async fn ask_any(&mut self, request: Request) -> Outcome {
        let node = self.node();
        self.ask(node, request).await
    }

    /// A revision that there was not long ago.
    pub fn past(&mut self) -> u64 {
        let ago = self.random.below(30);
        let history = self.history.lock();
        let answers = history.iter().rev().filter_map(Record::answer);
        let newest = answers.take(20).map(|answer| answer.revision).max();
        newest.unwrap_or(1).saturating_sub(ago).max(1)
    }

    fn key(&mut self) -> String {
        format!("r/{}", self.random.below(self.load.keys))
    }

    /// A value that nobody writes again.
    pub fn value(&mut self) -> String {
        self.written += 1;
        format!("{}-{}", self.number, self.written)
    }

    /// The value last seen under a key by this client or another, so that comparisons have a chance.
    fn expected(&mut self, key: &str) -> Option<String> {
        let history = self.history.lock();
        let recent = history.iter().rev().take(20);
        let seen = recent.filter_map(|record| match (&record.request, &record.outcome) {
            (Request::Put { key: of, value, .. }, _) if of == key => Some(Some(value.clone())),
            (Request::CompareAndSet { key: of, value, .. }, _) if of == key => Some(Some(value.clone())),
            (
                Request::Read {
                    keys: Keys::Key(of), ..
                },
                Outcome::Ok(Answer {
                    reply: Reply::Read(read),
                    ..
                }),
            ) if of == key => Some(read.first().map(|kv| kv.value.clone())),
            _ => None,
        });
        let seen: Vec<Option<String>> = seen.take(3).collect();
        drop(history);
        if seen.is_empty() {
            None
        } else {
            self.random.pick(&seen).clone()
        }
    }

    fn draw(&mut self) -> Request {
        let key = self.key();
        match self.random.below(100) {
            0..32 => Request::Read {
                keys: Keys::Key(key),
                serializable: self.random.percent(15),
                revision: None,
            },
            32..35 => Request::Read {
                keys: Keys::Prefix("r/".to_owned()),
                serializable: self.random.percent(50),
                revision: Some(self.past()),
            },
            35..60 => Request::Put {
                key,
                value: self.value(),
                lease: None,
            },
            60..80 => Request::CompareAndSet {
                expected: self.expected(&key),
                key,
                value: self.value(),
            },
            80..86 => Request::Delete { keys: Keys::Key(key) },
            86..90 => Request::Read {
                keys: Keys::Prefix("r/".to_owned()),
                serializable: self.random.percent(50),
                revision: None,
            },
            _ => self.draw_txn(key),
        }
    }

    /// Moves on two keys at once.
    fn draw_txn(&mut self, key: String) -> Request {
        let other = self.key();
        let is = match self.expected(&key) {
            Some(value) => Test::Value(value),
            None => Test::Version(0),
        };
        let put = |key: &str, value| Op::Put {
            key: key.to_owned(),
            value,
            lease: None,
        };
        let mut then = vec![put(&key, self.value()), Op::Read(Keys::Key(other.clone()))];
        if other != key {
            then.push(put(&other, self.value()));
        }
        Request::Txn(Txn {
            compares: vec![Compare { key: key.clone(), is }],
            then,
            otherwise: vec![Op::Read(Keys::Key(key)), Op::Read(Keys::Key(other))],
        })
    }

    /// Asks one node, and writes down what comes of it.
    pub async fn ask(&mut self, node: Host, request: Request) -> Outcome {
        let transport = self.net.client(CLIENTS + self.number as usize, node);
        let start_ns = self.trace.now_ns();
        let answered = match timeout(PATIENCE, call(transport, &request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Status::deadline_exceeded("the client waits no longer")),
        };
        let changes = is_write(&request);
        let outcome = match answered {
            Ok(answer) => Outcome::Ok(answer),
            Err(status) if !changes || is_certain(&request, &status) => {
                Outcome::Failed(status.message().to_owned())
            }
            Err(status) => Outcome::Unknown(status.message().to_owned()),
        };
        self.trace.say(format_args!(
            "client {} asked node {node} {request:?}: {outcome:?}",
            self.number
        ));
        self.history.lock().push(Record {
            client: self.number,
            endpoint: format!("n{node}"),
            start_ns,
            end_ns: self.trace.now_ns(),
            request,
            outcome: outcome.clone(),
        });
        outcome
    }
}

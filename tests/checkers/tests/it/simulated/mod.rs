//! Histories of clients of a tiny store, which executes one request at a time, at some moment between its start and its
//! end. Everything is drawn from a seed.

mod execute;
mod random;
mod request;
mod store;
mod watching;

use quorate_checkers::history::*;

pub(crate) use random::Random;
pub(crate) use store::Bug;
use store::Store;

/// The longest step of the clock.
const TICK_NS_MAX: u64 = 2_000_000;
const NODES: u32 = 3;

/// What clients do, and how often out of 1000 times.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) operations: usize,
    pub(crate) clients: u32,
    pub(crate) keys: u64,
    pub(crate) sets: u64,
    pub(crate) failed_per_mille: u64,
    pub(crate) unknown_per_mille: u64,
    /// Whether the mix has locks, leases, and reads of old states.
    pub(crate) everything: bool,
    /// Whether somebody watches all keys from the first revision on.
    pub(crate) watched: bool,
    pub(crate) bug: Bug,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Plan {
        Plan {
            seed,
            operations: 1500,
            clients: 6,
            keys: 5,
            sets: 2,
            failed_per_mille: 20,
            unknown_per_mille: 30,
            everything: true,
            watched: true,
            bug: Bug::None,
        }
    }
}

/// A history, and how often the store made its mistake.
pub(crate) struct Run {
    pub(crate) history: Vec<Record>,
    pub(crate) mistakes: u64,
}

/// Where a client is.
enum Doing {
    Nothing,
    Asking(Record, Fate),
    Answered(Record),
}

/// What will come of a request.
enum Fate {
    Executed,
    NotExecuted,
    /// Nobody hears whether it is executed; it is not, now, or later.
    Unknown,
}

pub(crate) struct Client {
    id: u32,
    doing: Doing,
    lease: Option<i64>,
    /// The lock's key and fencing number.
    held: Option<(String, String, u64)>,
}

struct Simulation {
    plan: Plan,
    random: Random,
    store: Store,
    history: Vec<Record>,
    /// Writes that take effect when nobody waits for them any more.
    late: Vec<Request>,
    values: u64,
}

pub(crate) fn run(plan: &Plan) -> Run {
    let mut simulation = Simulation {
        plan: plan.clone(),
        random: Random::new(plan.seed),
        store: Store::new(plan.bug),
        history: Vec::with_capacity(plan.operations),
        late: Vec::new(),
        values: 0,
    };
    let client = |id| Client {
        id,
        doing: Doing::Nothing,
        lease: None,
        held: None,
    };
    let mut clients: Vec<Client> = (1..=plan.clients).map(client).collect();
    while simulation.history.len() < plan.operations {
        simulation.tick();
        let index = simulation.random.below(u64::from(plan.clients)) as usize;
        simulation.advance(&mut clients[index]);
    }
    for client in clients {
        simulation.leave(client);
    }
    simulation.finish()
}

impl Simulation {
    fn tick(&mut self) {
        self.store.at_ns += 1 + self.random.below(TICK_NS_MAX);
        self.store.expire();
        if !self.late.is_empty() && self.random.chance(50) {
            let index = self.random.below(self.late.len() as u64) as usize;
            let request = self.late.swap_remove(index);
            self.store.execute(&request, &mut self.random);
        }
    }

    fn advance(&mut self, client: &mut Client) {
        let now_ns = self.store.at_ns;
        client.doing = match std::mem::replace(&mut client.doing, Doing::Nothing) {
            Doing::Nothing => self.ask(client),
            Doing::Asking(record, fate) => self.serve(record, fate),
            Doing::Answered(mut record) => {
                record.end_ns = now_ns;
                client.heard(&record);
                self.history.push(record);
                Doing::Nothing
            }
        };
    }

    fn ask(&mut self, client: &Client) -> Doing {
        let request = self.request(client);
        let fate = if self.random.chance(self.plan.failed_per_mille) {
            Fate::NotExecuted
        } else if self.random.chance(self.plan.unknown_per_mille) {
            Fate::Unknown
        } else {
            Fate::Executed
        };
        let endpoint = format!("n{}", 1 + self.random.below(u64::from(NODES)));
        let record = Record {
            client: client.id,
            endpoint,
            start_ns: self.store.at_ns,
            end_ns: 0,
            request,
            outcome: Outcome::Failed("no leader".into()),
        };
        Doing::Asking(record, fate)
    }

    fn serve(&mut self, mut record: Record, fate: Fate) -> Doing {
        match fate {
            Fate::Executed => match self.store.execute(&record.request, &mut self.random) {
                Some(answer) => record.outcome = Outcome::Ok(answer),
                None if matches!(record.request, Request::Put { .. }) => {
                    record.outcome = Outcome::Failed("requested lease not found".into());
                }
                // A lock: it waits, unless its lease is over.
                None if self.random.chance(990) => return Doing::Asking(record, Fate::Executed),
                None => record.outcome = Outcome::Unknown("gave up".into()),
            },
            Fate::NotExecuted => {
                if self.plan.bug == Bug::FailureExecuted && matches!(record.request, Request::Put { .. }) {
                    self.store.mistakes += 1;
                    self.store.execute(&record.request, &mut self.random);
                }
            }
            Fate::Unknown => {
                record.outcome = Outcome::Unknown("timeout".into());
                match self.random.below(3) {
                    0 => {}
                    1 => {
                        self.store.execute(&record.request, &mut self.random);
                    }
                    _ => self.late.push(record.request.clone()),
                }
            }
        }
        Doing::Answered(record)
    }

    /// What nobody waits for any more is in the history, too.
    fn leave(&mut self, client: Client) {
        if let Doing::Asking(mut record, _) | Doing::Answered(mut record) = client.doing {
            record.end_ns = self.store.at_ns;
            if matches!(record.outcome, Outcome::Failed(_)) {
                record.outcome = Outcome::Unknown("the run was over".into());
            }
            self.history.push(record);
        }
    }

    fn finish(mut self) -> Run {
        for set in 0..self.plan.sets {
            let request = Request::SetRead {
                set: format!("s/{set}/"),
                serializable: false,
            };
            let start_ns = self.store.at_ns + 1;
            self.store.at_ns += 2;
            let answer = self
                .store
                .execute(&request, &mut self.random)
                .expect("a read does not wait");
            self.history.push(Record {
                client: 0,
                endpoint: "n1".into(),
                start_ns,
                end_ns: self.store.at_ns,
                request,
                outcome: Outcome::Ok(answer),
            });
        }
        let watches = watching::watches(&self.plan, &self.store, &mut self.random);
        self.history.extend(watches);
        Run {
            history: self.history,
            mistakes: self.store.mistakes,
        }
    }
}

impl Client {
    fn heard(&mut self, record: &Record) {
        match (&record.request, record.answer().map(|answer| &answer.reply)) {
            (Request::LeaseGrant { lease, .. }, Some(_)) => self.lease = Some(*lease),
            (Request::LeaseKeepAlive { .. }, Some(Reply::Lease { ttl_s: 0 })) => {
                self.lease = None;
                self.held = None;
            }
            (Request::LockAcquire { name, .. }, Some(Reply::Lock { key, fencing })) => {
                self.held = Some((name.clone(), key.clone(), *fencing));
            }
            // Whether it waits yet is not known: with this lease it had better not try again.
            (Request::LockAcquire { .. }, _) => self.lease = None,
            (Request::LockRelease { .. }, _) => self.held = None,
            (Request::LeaseRevoke { .. }, _) => {
                self.lease = None;
                self.held = None;
            }
            _ => {}
        }
    }
}

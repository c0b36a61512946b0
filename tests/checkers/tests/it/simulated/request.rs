//! What clients ask.

use quorate_checkers::history::*;

use super::{Client, Simulation};

impl Simulation {
    pub(super) fn request(&mut self, client: &Client) -> Request {
        if self.plan.everything && self.random.chance(350) {
            return self.of_owner(client);
        }
        let key = self.key();
        match self.random.below(100) {
            0..30 => Request::Read {
                keys: Keys::Key(key),
                serializable: false,
                revision: None,
            },
            30..50 => Request::Put {
                key,
                value: self.value(),
                lease: None,
            },
            50..68 => Request::CompareAndSet {
                expected: self.expected(&key),
                value: self.value(),
                key,
            },
            68..74 => Request::Delete { keys: Keys::Key(key) },
            74..84 => Request::Txn(self.txn()),
            84..92 => Request::SetAdd {
                set: format!("s/{}/", self.random.below(self.plan.sets)),
                element: self.value(),
            },
            92..94 => Request::SetRead {
                set: format!("s/{}/", self.random.below(self.plan.sets)),
                serializable: self.plan.everything && self.random.chance(500),
            },
            _ if self.plan.everything => self.read_of_the_past(),
            _ => Request::Read {
                keys: Keys::Prefix("t/".into()),
                serializable: false,
                revision: None,
            },
        }
    }

    fn read_of_the_past(&mut self) -> Request {
        let old = self.random.chance(300);
        Request::Read {
            keys: Keys::Prefix(if self.random.chance(500) { "r/" } else { "t/" }.into()),
            serializable: !old,
            revision: old.then(|| 1 + self.random.below(self.store.revision)),
        }
    }

    fn key(&mut self) -> String {
        format!("r/{}", self.random.below(self.plan.keys))
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    /// Mostly what is there.
    fn expected(&mut self, key: &str) -> Option<String> {
        let there = self.store.now.get(key).map(|kv| kv.value.clone());
        if self.random.chance(800) {
            there
        } else {
            Some("v1".into())
        }
    }

    /// One over two keys of its own kind.
    fn txn(&mut self) -> Txn {
        let key = |index| format!("t/{index}");
        let (a, b) = (self.random.below(3), self.random.below(3));
        let there = self.store.now.get(&key(a));
        let is = match (self.random.below(3), there) {
            (0, Some(kv)) => Test::Value(kv.value.clone()),
            (1, Some(kv)) => Test::ModRevision(kv.mod_revision),
            (_, kv) => Test::Version(kv.map_or(0, |kv| kv.version) + u64::from(self.random.chance(200))),
        };
        let mut put = |index| Op::Put {
            key: key(index),
            value: self.value(),
            lease: None,
        };
        let then = if a == b {
            vec![Op::Read(Keys::Prefix("t/".into())), put(a)]
        } else {
            vec![put(a), put(b)]
        };
        let otherwise = if self.random.chance(300) {
            vec![Op::Delete(Keys::Prefix("t/".into()))]
        } else {
            vec![Op::Read(Keys::Key(key(b)))]
        };
        Txn {
            compares: vec![Compare { key: key(a), is }],
            then,
            otherwise,
        }
    }

    /// What somebody asks who owns leases and locks.
    fn of_owner(&mut self, client: &Client) -> Request {
        let Some(lease) = client.lease else {
            self.values += 1;
            return Request::LeaseGrant {
                lease: 0x1000 + self.values as i64,
                ttl_s: 1,
            };
        };
        match (&client.held, self.random.below(10)) {
            (_, 0..4) => Request::LeaseKeepAlive { lease },
            (_, 4) => Request::Put {
                key: format!("l/{}", self.random.below(3)),
                value: self.value(),
                lease: Some(lease),
            },
            (Some(_), 5) => Request::LeaseRevoke { lease },
            (Some((_, key, fencing)), 6..8) => Request::Txn(Txn {
                compares: vec![Compare {
                    key: key.clone(),
                    is: Test::CreateRevision(*fencing),
                }],
                then: vec![Op::Put {
                    key: "guarded".into(),
                    value: self.value(),
                    lease: None,
                }],
                otherwise: Vec::new(),
            }),
            (Some((name, key, _)), _) => Request::LockRelease {
                name: name.clone(),
                key: key.clone(),
            },
            (None, _) => Request::LockAcquire {
                name: format!("lock{}", self.random.below(3)),
                lease: Some(lease),
            },
        }
    }
}

//! What a request does to the simulated store.

use quorate_checkers::history::*;

use super::random::Random;
use super::store::{Bug, Lease, Store};

const NS_PER_S: u64 = 1_000_000_000;
/// How often a mistake is made, out of 1000 chances; and where chances are few.
const MISTAKES_PER_MILLE: u64 = 30;
const RARE_MISTAKES_PER_MILLE: u64 = 500;
/// How far behind a node may be that answers a serializable read.
const LAG_REVISIONS: u64 = 20;

impl Store {
    /// Whether to make the mistake now.
    fn errs(&mut self, bug: Bug, random: &mut Random) -> bool {
        let per_mille = if bug == Bug::MixedRead || bug == Bug::TwoOwners {
            RARE_MISTAKES_PER_MILLE
        } else {
            MISTAKES_PER_MILLE
        };
        let errs = self.bug == bug && self.revision > 20 && random.chance(per_mille);
        self.mistakes += u64::from(errs);
        errs
    }

    /// None while it has to wait.
    pub(crate) fn execute(&mut self, request: &Request, random: &mut Random) -> Option<Answer> {
        let reply = match request {
            Request::Read { .. } | Request::SetRead { .. } => {
                return Some(self.execute_read(request, random));
            }
            // A lease that is over refuses.
            Request::Put {
                lease: Some(lease), ..
            } if !self.leases.contains_key(lease) => return None,
            Request::Put { key, value, lease } => {
                self.write(vec![put(key, value, *lease)], random);
                Reply::Put
            }
            Request::SetAdd { set, element } => {
                if self.errs(Bug::LostElement, random) {
                    self.revision += 1;
                } else {
                    self.write(vec![put(&format!("{set}{element}"), element, None)], random);
                }
                Reply::SetAdd
            }
            Request::Delete { keys } => {
                match self.write(vec![Op::Delete(keys.clone())], random).results[..] {
                    [OpReply::Delete(deleted)] => Reply::Delete { deleted },
                    _ => unreachable!(),
                }
            }
            Request::CompareAndSet { key, expected, value } => {
                let is = expected.clone().map_or(Test::Version(0), Test::Value);
                let mut txn = Txn {
                    compares: vec![Compare { key: key.clone(), is }],
                    then: vec![put(key, value, None)],
                    otherwise: Vec::new(),
                };
                if !self.holds(&txn.compares[0]) && self.errs(Bug::NoCompare, random) {
                    txn.compares.clear();
                }
                Reply::CompareAndSet {
                    succeeded: self.txn(&txn).succeeded,
                }
            }
            Request::Txn(txn) => self.execute_txn(txn, random),
            Request::LockAcquire {
                name,
                lease: Some(lease),
            } => return self.lock(name, *lease, random),
            Request::LockRelease { key, .. } => {
                self.write(vec![Op::Delete(Keys::Key(key.clone()))], random);
                Reply::LockReleased
            }
            Request::LeaseGrant { lease, ttl_s } => {
                let until_ns = self.at_ns + ttl_s * NS_PER_S;
                self.leases.insert(
                    *lease,
                    Lease {
                        ttl_s: *ttl_s,
                        until_ns,
                    },
                );
                Reply::Lease { ttl_s: *ttl_s }
            }
            Request::LeaseKeepAlive { lease } => {
                let at_ns = self.at_ns;
                let ttl_s = self.leases.get_mut(lease).map_or(0, |lease| {
                    lease.until_ns = at_ns + lease.ttl_s * NS_PER_S;
                    lease.ttl_s
                });
                Reply::Lease { ttl_s }
            }
            Request::LeaseRevoke { lease } => {
                self.end_lease(*lease);
                Reply::LeaseRevoked
            }
            _ => unreachable!("not asked here"),
        };
        Some(Answer {
            revision: self.forgotten.take().unwrap_or(self.revision),
            reply,
        })
    }

    fn write(&mut self, then: Vec<Op>, random: &mut Random) -> TxnReply {
        let txn = Txn {
            then,
            ..Txn::default()
        };
        let before = self.revision;
        let mut reply = self.txn(&txn);
        if self.revision > before {
            if self.errs(Bug::DoubleApply, random) {
                reply = self.txn(&txn);
            } else if self.errs(Bug::LostWrite, random) {
                self.forgotten = Some(self.revision);
                self.forget_last();
            }
        }
        reply
    }

    fn execute_txn(&mut self, txn: &Txn, random: &mut Random) -> Reply {
        let puts = txn.then.iter().filter(|op| matches!(op, Op::Put { .. })).count();
        if puts == 2 && self.errs(Bug::TornTxn, random) {
            let half = Txn {
                then: txn.then[..1].to_vec(),
                ..txn.clone()
            };
            let mut reply = self.txn(&half);
            if reply.succeeded {
                reply.results = vec![OpReply::Put; 2];
            }
            return Reply::Txn(reply);
        }
        Reply::Txn(self.txn(txn))
    }

    fn execute_read(&mut self, request: &Request, random: &mut Random) -> Answer {
        let keys = match request {
            Request::Read { keys, .. } => keys.clone(),
            Request::SetRead { set, .. } => Keys::Prefix(set.clone()),
            _ => unreachable!(),
        };
        let mut revision = self.revision;
        if request.is_serializable() {
            revision = revision.saturating_sub(random.below(LAG_REVISIONS)).max(1);
        } else if self.errs(Bug::StaleRead, random) {
            revision = revision.saturating_sub(LAG_REVISIONS).max(1);
        }
        let at = request.as_of().unwrap_or(revision);
        let mut kvs = if at == self.revision {
            Store::read(&self.now, &keys)
        } else {
            Store::read(&self.at(at), &keys)
        };
        if request.is_serializable() && kvs.len() > 1 {
            let older = Store::read(&self.at(revision.saturating_sub(15).max(1)), &keys);
            let differs = older
                .iter()
                .any(|older| older.key == kvs[0].key && *older != kvs[0]);
            if differs && self.errs(Bug::MixedRead, random) {
                kvs[0] = older[0].clone();
            }
        }
        let reply = match request {
            Request::SetRead { set, .. } => {
                Reply::SetRead(kvs.into_iter().map(|kv| kv.key[set.len()..].to_owned()).collect())
            }
            _ => Reply::Read(kvs),
        };
        Answer { revision, reply }
    }

    fn lock(&mut self, name: &str, lease: i64, random: &mut Random) -> Option<Answer> {
        let key = format!("{name}/{lease:x}");
        if !self.leases.contains_key(&lease) {
            return None;
        }
        if !self.now.contains_key(&key) {
            self.txn(&Txn {
                then: vec![put(&key, "", Some(lease))],
                ..Txn::default()
            });
        }
        let own = self.now[&key].create_revision;
        let owners = Store::read(&self.now, &Keys::Prefix(format!("{name}/")));
        let first = owners.iter().all(|other| other.create_revision >= own);
        (first || self.errs(Bug::TwoOwners, random)).then_some(Answer {
            revision: self.revision,
            reply: Reply::Lock { key, fencing: own },
        })
    }
}

fn put(key: &str, value: &str, lease: Option<i64>) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        lease,
    }
}

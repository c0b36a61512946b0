//! Elections: who is the leader, and of what it wants to be known.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv_proto::etcdserverpb::request_op::Request;
use kv_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, TxnRequest, WatchCreateRequest,
};
use kv_proto::mvccpb::event::EventType;
use kv_proto::mvccpb::{Event, KeyValue};

use crate::cursor::revision;
use crate::line::{self, Place};
use crate::{Client, Error, Lease, LeaseLoss, Watch, WatchItem, prefix_end};

/// Being the leader of an election, as long as the lease lives and until it resigns.
#[derive(Debug)]
#[must_use = "it leads until it resigns, or its lease ends"]
pub struct Leadership {
    client: Client,
    place: Place,
    lease: i64,
}

impl Client {
    /// Waits until it is the leader of the election of this name, under a lease, and says `value` about itself. The
    /// same election as that of etcd's `etcdctl elect` and Election service. A call that is dropped while it waits
    /// stays a candidate until the lease ends.
    ///
    /// # Errors
    /// As [`Client::lock`].
    pub async fn campaign(&self, lease: &Lease, name: &[u8], value: Bytes) -> Result<Leadership, Error> {
        let place = line::reach_the_front(self, lease, name, value.clone()).await?;
        let leadership = Leadership {
            client: self.clone(),
            place,
            lease: lease.id(),
        };
        let request = RangeRequest {
            key: leadership.place.key.clone(),
            ..Default::default()
        };
        // The place may be from an earlier campaign with the same lease.
        let said = self.range(request).await?;
        if said.kvs.first().is_some_and(|kv| kv.value != value) {
            leadership.proclaim(value).await?;
        }
        Ok(leadership)
    }

    /// Observes who leads the election of this name, from now on.
    pub fn observe(&self, name: &[u8]) -> Observe {
        Observe {
            client: self.clone(),
            prefix: line::prefix(name),
            candidates: BTreeMap::new(),
            watch: None,
            events: VecDeque::new(),
            told: None,
            header: ResponseHeader::default(),
        }
    }
}

impl Leadership {
    /// The key of the leader.
    pub fn key(&self) -> &Bytes {
        &self.place.key
    }

    /// The fencing number: larger than that of every leader before.
    pub fn revision(&self) -> i64 {
        self.place.revision
    }

    /// Says something else about itself.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if it leads no more; otherwise those of [`Client::put`].
    pub async fn proclaim(&self, value: Bytes) -> Result<(), Error> {
        let put = PutRequest {
            key: self.place.key.clone(),
            value,
            lease: self.lease,
            ..Default::default()
        };
        let answer = self.if_leader(Request::RequestPut(put)).await?;
        if answer {
            Ok(())
        } else {
            Err(Error::LeaseLost(LeaseLoss::Ended))
        }
    }

    /// Lets the next one lead.
    ///
    /// # Errors
    /// Those of [`Client::delete_range`].
    pub async fn resign(self) -> Result<(), Error> {
        let delete = DeleteRangeRequest {
            key: self.place.key.clone(),
            ..Default::default()
        };
        self.if_leader(Request::RequestDeleteRange(delete))
            .await
            .map(drop)
    }

    async fn if_leader(&self, request: Request) -> Result<bool, Error> {
        let request = TxnRequest {
            compare: vec![line::is_kept(&self.place)],
            success: vec![line::op(request)],
            failure: vec![],
        };
        Ok(self.client.txn(request).await?.succeeded)
    }
}

/// The leaders of an election, one after the other, and what they say.
#[derive(Debug)]
pub struct Observe {
    client: Client,
    prefix: Bytes,
    /// All that are in line.
    candidates: BTreeMap<Bytes, KeyValue>,
    /// None until the candidates are known.
    watch: Option<Watch>,
    /// What is not in `candidates` yet.
    events: VecDeque<Event>,
    /// Key and revision of the leader told last.
    told: Option<(Bytes, i64)>,
    header: ResponseHeader,
}

impl Observe {
    /// The header of the answer that told of the leader given last.
    pub fn header(&self) -> ResponseHeader {
        self.header
    }

    /// The next leader, or the next thing that it says. Cancel-safe. After an error it can be asked again.
    ///
    /// # Errors
    /// Those of [`Client::range`] where nobody can be asked at the beginning, and [`Error::Rejected`].
    pub async fn next(&mut self) -> Result<KeyValue, Error> {
        loop {
            if let Some(leader) = self.news() {
                return Ok(leader);
            }
            if self.apply_one_revision() {
                continue;
            }
            let Some(watch) = &mut self.watch else {
                self.begin().await?;
                continue;
            };
            match watch.next().await {
                Some(Ok(WatchItem::Events { events, .. })) => {
                    self.header = watch.header();
                    self.events.extend(events);
                }
                Some(Ok(_)) => {}
                Some(Err(Error::Compacted { .. })) | None => self.watch = None,
                Some(Err(error)) => {
                    self.watch = None;
                    return Err(error);
                }
            }
        }
    }

    /// Reads who is in line, and watches from there.
    async fn begin(&mut self) -> Result<(), Error> {
        let (key, range_end) = (self.prefix.clone(), prefix_end(&self.prefix));
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            ..Default::default()
        };
        let all = self.client.range(request).await?;
        self.header = all.header.unwrap_or_default();
        let request = WatchCreateRequest {
            key,
            range_end,
            start_revision: self.header.revision + 1,
            ..Default::default()
        };
        self.watch = Some(self.client.watch(request).await?);
        self.candidates = all.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        Ok(())
    }

    /// The leader, if it is not the one told last or says something else.
    fn news(&mut self) -> Option<KeyValue> {
        let leader = self.candidates.values().min_by_key(|kv| kv.create_revision)?;
        let news = Some((leader.key.clone(), leader.mod_revision));
        if news == self.told {
            return None;
        }
        self.told = news;
        Some(leader.clone())
    }

    /// Takes the events of the next revision in, if there are any.
    fn apply_one_revision(&mut self) -> bool {
        let Some(first) = self.events.front().map(revision) else {
            return false;
        };
        while self.events.front().is_some_and(|event| revision(event) == first) {
            let Some(event) = self.events.pop_front() else {
                break;
            };
            let is_delete = event.r#type() == EventType::Delete;
            let Some(kv) = event.kv else { continue };
            if is_delete {
                self.candidates.remove(&kv.key);
            } else {
                self.candidates.insert(kv.key.clone(), kv);
            }
        }
        true
    }
}

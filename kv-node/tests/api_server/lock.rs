//! etcd's Lock and Election services. What is expected was asked of etcd 3.5.1, but for the errors of a place that
//! is lost while one waits: there etcd waits on, and then says of an election that it is won.

use std::time::Duration;

use kv_proto::{
    etcdserverpb as pb,
    v3electionpb::{self as epb, election_client::ElectionClient},
    v3lockpb::{self as lpb, lock_client::LockClient},
};
use tokio::{task::JoinHandle, time::timeout};
use tonic::{Code, Status, transport::Channel};

use crate::{
    common::{DEADLINE, until},
    harness::Server,
};

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn unknown<T: std::fmt::Debug>(result: Result<T, Status>, message: &str) {
    assert_eq!(refusal(result), (Code::Unknown, message.to_owned()));
}

impl Server {
    fn locks(&self) -> LockClient<Channel> {
        LockClient::new(self.channel())
    }

    fn elections(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel())
    }

    async fn granted(&self, id: i64, ttl: i64) {
        let mut lease = pb::lease_client::LeaseClient::new(self.channel());
        lease
            .lease_grant(pb::LeaseGrantRequest { id, ttl })
            .await
            .unwrap();
    }

    fn lock(&self, lease: i64) -> JoinHandle<Result<Vec<u8>, Status>> {
        let mut locks = self.locks();
        tokio::spawn(async move {
            let request = lpb::LockRequest {
                name: "l".into(),
                lease,
            };
            Ok(locks.lock(request).await?.into_inner().key.to_vec())
        })
    }

    async fn unlock(&self, key: &[u8]) -> Result<tonic::Response<lpb::UnlockResponse>, Status> {
        let key = key.to_vec().into();
        self.locks().unlock(lpb::UnlockRequest { key }).await
    }

    /// Waits until so many places are in the line.
    async fn places(&self, name: &str, count: i64) {
        let range = kv_core::Range {
            key: format!("{name}/").into(),
            range_end: format!("{name}0").into(),
            ..kv_core::Range::default()
        };
        until("places in the line", || {
            self.node.store().range(&range).unwrap().result.count == count
        })
        .await;
    }

    fn campaign(&self, lease: i64, value: &'static str) -> JoinHandle<Result<epb::LeaderKey, Status>> {
        let mut elections = self.elections();
        tokio::spawn(async move {
            let request = epb::CampaignRequest {
                name: "e".into(),
                lease,
                value: value.into(),
            };
            let won = elections.campaign(request).await?.into_inner();
            assert!(won.header.is_some());
            Ok(won.leader.unwrap())
        })
    }
}

async fn done<T>(call: JoinHandle<T>) -> T {
    timeout(DEADLINE, call).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_lock_goes_from_one_to_the_next_in_order() {
    let server = Server::start().await;
    for id in 1..=3 {
        server.granted(id, 60).await;
    }
    assert_eq!(done(server.lock(1)).await.unwrap(), b"l/1");
    assert_eq!(done(server.lock(1)).await.unwrap(), b"l/1", "held already");
    let second = server.lock(2);
    server.places("l", 2).await;
    let third = server.lock(3);
    server.places("l", 3).await;
    assert!(!second.is_finished() && !third.is_finished());
    server.unlock(b"l/1").await.unwrap();
    assert_eq!(done(second).await.unwrap(), b"l/2");
    assert!(!third.is_finished());
    server.unlock(b"l/2").await.unwrap();
    assert_eq!(done(third).await.unwrap(), b"l/3");
    server.stop().await;
}

#[tokio::test]
async fn a_lock_is_free_when_its_lease_ends_and_lost_where_the_own_one_does() {
    let server = Server::start().await;
    server.granted(1, 3).await;
    server.granted(2, 60).await;
    server.granted(3, 2).await;
    assert_eq!(done(server.lock(1)).await.unwrap(), b"l/1");
    let second = server.lock(2);
    server.places("l", 2).await;
    let third = server.lock(3);
    server.places("l", 3).await;
    unknown(done(third).await, "mutex: session is expired");
    assert_eq!(done(second).await.unwrap(), b"l/2");
    server.stop().await;
}

#[tokio::test]
async fn who_stops_waiting_leaves_the_line() {
    let server = Server::start().await;
    server.granted(1, 60).await;
    server.granted(2, 60).await;
    assert_eq!(done(server.lock(1)).await.unwrap(), b"l/1");
    let second = server.lock(2);
    server.places("l", 2).await;
    second.abort();
    server.places("l", 1).await;
    // A node that stops keeps the places, and tells those who wait.
    let again = server.lock(2);
    server.places("l", 2).await;
    let node = server.node.clone();
    timeout(Duration::from_secs(4), server.stop()).await.unwrap();
    assert_eq!(refusal(done(again).await).0, Code::Unavailable);
    assert_eq!(node.store().keys(), 3, "two places and the harness's key");
}

#[tokio::test]
async fn locks_as_etcd() {
    let server = Server::start().await;
    server.granted(-20, 60).await;
    assert_eq!(done(server.lock(-20)).await.unwrap(), b"l/-14");
    server.unlock(b"l/-14").await.unwrap();
    // Without a lease it makes one.
    let key = done(server.lock(0)).await.unwrap();
    let leases: Vec<i64> = server.node.store().with_state(|state| state.leases().collect());
    assert_eq!(key, format!("l/{:x}", leases[1]).as_bytes());
    unknown(
        done(server.lock(9999)).await,
        "etcdserver: requested lease not found",
    );
    unknown(server.unlock(b"").await, "etcdserver: key is not provided");
    server.unlock(b"nothing").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn elections_as_etcd() {
    let server = Server::start().await;
    let mut elections = server.elections();
    server.granted(1, 60).await;
    server.granted(2, 60).await;
    let ask = || epb::LeaderRequest { name: "e".into() };
    unknown(elections.leader(ask()).await, "election: no leader");
    let mut observed = elections.observe(ask()).await.unwrap().into_inner();

    let first = done(server.campaign(1, "one")).await.unwrap();
    assert_eq!(
        (&first.name[..], &first.key[..], first.lease),
        (&b"e"[..], &b"e/1"[..], 1)
    );
    let again = done(server.campaign(1, "uno")).await.unwrap();
    assert_eq!(again, first);
    let second = server.campaign(2, "two");
    server.places("e", 2).await;
    assert!(!second.is_finished());
    let leads = elections.leader(ask()).await.unwrap().into_inner().kv.unwrap();
    assert_eq!(
        (leads.create_revision, &leads.value[..]),
        (first.rev, &b"uno"[..])
    );

    let proclaim = |leader: Option<epb::LeaderKey>, value: &'static str| epb::ProclaimRequest {
        leader,
        value: value.into(),
    };
    let missing = "\"leader\" field must be provided";
    unknown(elections.proclaim(proclaim(None, "x")).await, missing);
    unknown(
        elections.resign(epb::ResignRequest { leader: None }).await,
        missing,
    );
    let old = epb::LeaderKey {
        rev: first.rev - 1,
        ..first.clone()
    };
    unknown(
        elections.proclaim(proclaim(Some(old.clone()), "x")).await,
        "election: not leader",
    );
    elections
        .resign(epb::ResignRequest { leader: Some(old) })
        .await
        .unwrap();
    elections
        .proclaim(proclaim(Some(first.clone()), "eins"))
        .await
        .unwrap();
    elections
        .resign(epb::ResignRequest { leader: Some(first) })
        .await
        .unwrap();
    let second = done(second).await.unwrap();
    assert_eq!(&second.key[..], b"e/2");
    unknown(
        done(server.campaign(9999, "x")).await,
        "etcdserver: requested lease not found",
    );

    // Whoever reads slowly misses what was replaced, but never the last, nor sees anything twice.
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "two") {
        let told = timeout(DEADLINE, observed.message()).await.unwrap().unwrap();
        seen.push(String::from_utf8(told.unwrap().kv.unwrap().value.to_vec()).unwrap());
    }
    let all = ["one", "uno", "eins", "two"];
    let mut rest = all.iter();
    assert!(
        seen.iter().all(|seen| rest.any(|value| value == seen)),
        "{seen:?}"
    );
    let node = server.node.clone();
    timeout(Duration::from_secs(4), server.stop()).await.unwrap();
    assert_eq!(
        refusal(timeout(DEADLINE, observed.message()).await.unwrap()).0,
        Code::Unavailable
    );
    drop(node);
}

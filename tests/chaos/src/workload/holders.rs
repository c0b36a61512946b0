//! Clients that hold things for a time: locks with fencing, and keys under leases.

use std::time::Duration;

use kv_client::{Client, Error};
use kv_proto::etcdserverpb::RangeRequest;
use quorate_checkers::history::{Answer, Compare, Keys, Op, Outcome, Reply, Request, Test, Txn};
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::Session;
use super::execute::{answered, text};

/// Time to live of the lease under a lock: longer than the longest pause of a node that is not the last.
const LOCK_TTL_S: u64 = 10;
/// Longest wait for a lock.
const LOCK_WITHIN: Duration = Duration::from_secs(20);
/// Times to live of leases that run out.
const LEASE_TTL_S: std::ops::RangeInclusive<u64> = 2..=5;
/// Pause between two turns.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes a lock, writes what it guards with its fencing number, and gives it back, until told to stop.
pub(super) async fn lock(mut session: Session, mut rng: StdRng) -> anyhow::Result<()> {
    while !session.is_over() {
        let id = lease_id(&mut rng);
        let grant = Request::LeaseGrant {
            lease: id,
            ttl_s: LOCK_TTL_S,
        };
        if let Outcome::Ok(_) = session.ask(grant).await? {
            guarded(&mut session, id).await?;
            session.ask(Request::LeaseRevoke { lease: id }).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn guarded(session: &mut Session, lease: i64) -> anyhow::Result<()> {
    let name = format!("{}lock/one", session.recorder.prefix());
    let (client, endpoint) = session.client()?;
    let request = Request::LockAcquire {
        name: name.clone(),
        lease: Some(lease),
    };
    let start_ns = session.recorder.now_ns();
    let acquired = tokio::time::timeout(LOCK_WITHIN, acquire(&client, lease, &name)).await;
    let outcome = match acquired {
        Ok(Ok(Some(answer))) => Outcome::Ok(answer),
        Ok(Ok(None)) => Outcome::Unknown("the lease ended before the lock was seen".to_owned()),
        // Whatever went wrong, the place in the line may have been taken.
        Ok(Err(error)) => Outcome::Unknown(error.to_string()),
        Err(_) => Outcome::Unknown(format!("not acquired within {} s", LOCK_WITHIN.as_secs())),
    };
    session
        .recorder
        .take(session.number, &endpoint, start_ns, request, outcome.clone());
    let Outcome::Ok(Answer {
        reply: Reply::Lock { key, fencing },
        ..
    }) = outcome
    else {
        return Ok(());
    };
    let write = Request::Txn(Txn {
        compares: vec![Compare {
            key: key.clone(),
            is: Test::CreateRevision(fencing),
        }],
        then: vec![Op::Put {
            key: format!("{}lock-guarded", session.recorder.prefix()),
            value: format!("v{}", session.recorder.unique()),
            lease: None,
        }],
        otherwise: vec![Op::Read(Keys::Key(key.clone()))],
    });
    session.ask(write).await?;
    session.ask(Request::LockRelease { name, key }).await?;
    Ok(())
}

/// The lock, as of a revision at which it was certainly held: the owner's key is read once more for that.
async fn acquire(client: &Client, lease: i64, name: &str) -> Result<Option<Answer>, Error> {
    let lease = client.keep_alive(lease).await?;
    let lock = client.lock(&lease, name.as_bytes()).await?;
    let look = RangeRequest {
        key: lock.key().clone(),
        ..RangeRequest::default()
    };
    let found = client.range(look).await?;
    let is_held = found
        .kvs
        .first()
        .is_some_and(|kv| kv.create_revision == lock.revision());
    let reply = Reply::Lock {
        key: text(lock.key()),
        fencing: lock.revision().cast_unsigned(),
    };
    Ok(is_held.then(|| answered(found.header, reply)))
}

/// Puts keys under leases, renews some of these, and lets them run out, until told to stop.
pub(super) async fn lease(mut session: Session, mut rng: StdRng) -> anyhow::Result<()> {
    while !session.is_over() {
        let lease = lease_id(&mut rng);
        let ttl_s = rng.random_range(LEASE_TTL_S);
        let granted = session.ask(Request::LeaseGrant { lease, ttl_s }).await?;
        if let Outcome::Ok(_) = granted {
            let value = format!("v{}", session.recorder.unique());
            session
                .ask(Request::Put {
                    key: format!("{}leased/{value}", session.recorder.prefix()),
                    value,
                    lease: Some(lease),
                })
                .await?;
            if rng.random_range(0..2) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.random_range(100..1_500))).await;
                session.ask(Request::LeaseKeepAlive { lease }).await?;
            }
            session.ask(Request::LeaseTimeToLive { lease }).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

fn lease_id(rng: &mut StdRng) -> i64 {
    rng.random_range(1..i64::MAX)
}

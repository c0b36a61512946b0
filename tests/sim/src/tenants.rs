//! Clients with leases: what hangs on them, and locks that they hold.

use std::time::Duration;

use quorate_checkers::history::{Answer, Compare, Keys, Op, Outcome, Reply, Request, Test, Txn};

use tokio::time::sleep;

use crate::clients::Client;

/// Leases last between these, in seconds.
const TTL_S: std::ops::Range<u64> = 2..20;
/// Locks that clients are after.
const LOCKS: u64 = 2;

/// Takes leases, hangs keys on them, and keeps them alive, gives them back, or lets them end; or takes locks.
pub async fn live(mut client: Client) {
    let mut lease = i64::from(client.number) << 32;
    loop {
        client.pause(Duration::from_secs(5)).await;
        if client.enough.is_cancelled() {
            return;
        }
        lease += 1;
        let ttl_s = client.random.among(TTL_S);
        let granted = client.ask_any(Request::LeaseGrant { lease, ttl_s }).await;
        if !matches!(granted, Outcome::Ok(_)) {
            continue;
        }
        if client.random.percent(50) {
            stay(&mut client, lease, ttl_s).await;
        } else {
            lock(&mut client, lease, ttl_s).await;
        }
    }
}

async fn stay(client: &mut Client, lease: i64, ttl_s: u64) {
    let key = format!("l/{}/{}", client.number, lease & 0xffff_ffff);
    let value = client.value();
    let attached = Request::Put {
        key: key.clone(),
        value,
        lease: Some(lease),
    };
    client.ask_any(attached).await;
    for _ in 0..client.random.below(6) {
        if client.random.percent(40) {
            last_moment(client, ttl_s).await;
        } else {
            client.pause(Duration::from_millis(ttl_s * 1200)).await;
        }
        let request = match client.random.below(4) {
            0 => Request::LeaseTimeToLive { lease },
            1 => Request::Read {
                keys: Keys::Key(key.clone()),
                serializable: false,
                revision: None,
            },
            _ => Request::LeaseKeepAlive { lease },
        };
        client.ask_any(request).await;
    }
    if client.random.percent(40) {
        client.ask_any(Request::LeaseRevoke { lease }).await;
    }
}

/// Waits until about the time at which a lease of so many seconds ends, if it began when the last answer came.
async fn last_moment(client: &mut Client, ttl_s: u64) {
    let margin = Duration::from_millis(200);
    let almost = Duration::from_secs(ttl_s) - margin;
    let wait = almost + client.random.time(Duration::ZERO..2 * margin);
    tokio::select! {
        biased;
        () = client.enough.cancelled() => {}
        () = sleep(wait) => {}
    }
}

/// Holds a lock for a while, and writes what it guards with the fence that a careful client uses.
async fn lock(client: &mut Client, lease: i64, ttl_s: u64) {
    let name = format!("k/{}", client.random.below(LOCKS));
    let asked = Request::LockAcquire {
        name: name.clone(),
        lease: Some(lease),
    };
    let Outcome::Ok(Answer {
        reply: Reply::Lock { key, fencing },
        ..
    }) = client.ask_any(asked).await
    else {
        return;
    };
    for _ in 0..client.random.below(4) {
        client.pause(Duration::from_millis(ttl_s * 700)).await;
        let guarded = Op::Put {
            key: format!("g/{name}"),
            value: client.value(),
            lease: None,
        };
        let fenced = Request::Txn(Txn {
            compares: vec![Compare {
                key: key.clone(),
                is: Test::CreateRevision(fencing),
            }],
            then: vec![guarded],
            otherwise: Vec::new(),
        });
        client.ask_any(fenced).await;
        if client.random.percent(50) {
            client.ask_any(Request::LeaseKeepAlive { lease }).await;
        }
    }
    if client.random.percent(70) {
        client.ask_any(Request::LockRelease { name, key }).await;
    } else {
        client.ask_any(Request::LeaseRevoke { lease }).await;
    }
}

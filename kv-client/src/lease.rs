//! Leases, and keeping them alive.

use std::fmt;
use std::time::Duration;

use futures::stream;
use kv_proto::etcdserverpb::lease_client::LeaseClient;
use kv_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, ResponseHeader,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;

use crate::client::{call, with_leader};
use crate::connection::Channel;
use crate::failover;
use crate::{Client, Error};

/// A lease is renewed after this part of its time to live.
const RENEW_AFTER_PART: u32 = 3;
/// The pause after a renewal that failed.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest time to live that is counted with, in seconds: etcd grants no longer one.
const TTL_MAX_S: u64 = 9_000_000_000;
/// What an attempt to renew is given at least, however little is left.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

impl Client {
    /// Grants a lease: for this many seconds (the server may make it more), with this ID or, for 0, one of the
    /// server's choice. After [`Error::OutcomeUnknown`] there may be a lease that ends by itself.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn lease_grant(&self, ttl_s: i64, id: i64) -> Result<LeaseGrantResponse, Error> {
        call!(
            self,
            write,
            lease,
            lease_grant(LeaseGrantRequest { ttl: ttl_s, id })
        )
    }

    /// Ends a lease, and deletes the keys under it.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse, Error> {
        call!(self, write, lease, lease_revoke(LeaseRevokeRequest { id }))
    }

    /// Asks how long a lease has to live, and with `keys` what it holds. The TTL of an unknown lease is -1.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`].
    pub async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseTimeToLiveResponse, Error> {
        call!(
            self,
            read,
            lease,
            lease_time_to_live(LeaseTimeToLiveRequest { id, keys })
        )
    }

    /// Lists the leases.
    ///
    /// # Errors
    /// As [`Client::lease_time_to_live`].
    pub async fn lease_leases(&self) -> Result<LeaseLeasesResponse, Error> {
        call!(self, read, lease, lease_leases(LeaseLeasesRequest {}))
    }

    /// Renews a lease once; tried on other endpoints until one answers. The TTL of an unknown lease is 0.
    ///
    /// # Errors
    /// As [`Client::lease_time_to_live`].
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        self.renew(id, self.limits().request).await
    }

    /// Grants a lease and keeps it alive until the handle is dropped.
    ///
    /// # Errors
    /// As [`Client::lease_grant`].
    pub async fn lease(&self, ttl_s: i64) -> Result<Lease, Error> {
        let asked = Instant::now();
        let granted = self.lease_grant(ttl_s, 0).await?;
        let first = Renewal::new(granted.ttl, granted.header);
        Ok(Lease::spawn(self.clone(), granted.id, first, asked))
    }

    /// Keeps a lease alive that was granted before.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] if there is no such lease; otherwise as [`Client::lease_time_to_live`].
    pub async fn keep_alive(&self, id: i64) -> Result<Lease, Error> {
        let asked = Instant::now();
        let renewed = self.lease_keep_alive_once(id).await?;
        if renewed.ttl <= 0 {
            return Err(Error::LeaseLost(LeaseLoss::Ended));
        }
        let first = Renewal::new(renewed.ttl, renewed.header);
        Ok(Lease::spawn(self.clone(), id, first, asked))
    }

    async fn renew(&self, id: i64, within: Duration) -> Result<LeaseKeepAliveResponse, Error> {
        let limits = self.limits_within(within.min(self.limits().request));
        failover::read(self.pool(), limits, |channel| renew_on(channel, id)).await
    }
}

/// A lease that is kept alive in the background. Dropping it leaves the lease to its end; [`Lease::revoke`] ends it.
pub struct Lease {
    client: Client,
    id: i64,
    state: watch::Receiver<State>,
    header: ResponseHeader,
    renewing: JoinHandle<()>,
}

/// What is known about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Alive(Renewal),
    Lost(LeaseLoss),
}

/// An answer that a lease lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Renewal {
    /// The time that it has to live from then on, in seconds.
    ttl_s: i64,
    header: ResponseHeader,
}

impl Renewal {
    fn new(ttl_s: i64, header: Option<ResponseHeader>) -> Renewal {
        Renewal {
            ttl_s,
            header: header.unwrap_or_default(),
        }
    }
}

/// How a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseLoss {
    /// The cluster does not know it any more: it ran out or was revoked.
    Ended,
    /// It could not be renewed for as long as it was to live: it may have ended.
    Unconfirmed,
}

impl fmt::Display for LeaseLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaseLoss::Ended => "the lease ran out or was revoked",
            LeaseLoss::Unconfirmed => "the lease could not be renewed in time and may have run out",
        })
    }
}

impl Lease {
    fn spawn(client: Client, id: i64, first: Renewal, asked: Instant) -> Lease {
        let (told, state) = watch::channel(State::Alive(first));
        let renewing = tokio::spawn(keep(client.clone(), id, first.ttl_s, asked, told));
        Lease {
            client,
            id,
            state,
            header: first.header,
            renewing,
        }
    }

    /// The ID, to attach keys to.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The header of the answer that [`Lease::renewed`] gave last, or of the first one.
    pub fn header(&self) -> ResponseHeader {
        self.header
    }

    /// Whether it is lost by now.
    pub fn is_lost(&self) -> bool {
        matches!(*self.state.borrow(), State::Lost(_))
    }

    /// Waits until it is lost: at the latest when it may have run out for want of an answer. Cancel-safe.
    pub async fn lost(&self) -> LeaseLoss {
        let mut state = self.state.clone();
        let lost = state.wait_for(|state| matches!(state, State::Lost(_))).await;
        match lost.as_deref() {
            Ok(State::Lost(loss)) => *loss,
            // The task ends only after it said so, or with the runtime.
            Ok(State::Alive(_)) | Err(_) => LeaseLoss::Unconfirmed,
        }
    }

    /// Waits until it is renewed the next time, and gives its time to live from then on, in seconds. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn renewed(&mut self) -> Result<i64, Error> {
        let changed = self.state.changed().await;
        match *self.state.borrow_and_update() {
            State::Alive(renewal) if changed.is_ok() => {
                self.header = renewal.header;
                Ok(renewal.ttl_s)
            }
            State::Alive(_) => Err(Error::LeaseLost(LeaseLoss::Unconfirmed)),
            State::Lost(loss) => Err(Error::LeaseLost(loss)),
        }
    }

    /// Ends the lease, and with it the keys under it.
    ///
    /// # Errors
    /// As [`Client::lease_revoke`].
    pub async fn revoke(self) -> Result<(), Error> {
        self.renewing.abort();
        self.client.lease_revoke(self.id).await.map(drop)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &format_args!("{:x}", self.id))
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

/// Renews a lease until it is lost. Its life is counted from when the last successful renewal was asked for: the
/// server counts from a later moment.
async fn keep(client: Client, id: i64, mut ttl_s: i64, mut asked: Instant, told: watch::Sender<State>) {
    loop {
        let ttl = Duration::from_secs(ttl_s.unsigned_abs().min(TTL_MAX_S));
        let ends = asked + ttl;
        let mut next = asked + ttl / RENEW_AFTER_PART;
        let renewed = loop {
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            if now >= ends {
                told.send_replace(State::Lost(LeaseLoss::Unconfirmed));
                return;
            }
            match client.renew(id, (ends - now).max(ATTEMPT_MIN)).await {
                Ok(renewed) => {
                    asked = now;
                    break Renewal::new(renewed.ttl, renewed.header);
                }
                Err(error) => {
                    tracing::debug!(lease = id, %error, "not renewed yet");
                    next = (Instant::now() + PAUSE).min(ends);
                }
            }
        };
        if renewed.ttl_s <= 0 {
            told.send_replace(State::Lost(LeaseLoss::Ended));
            return;
        }
        ttl_s = renewed.ttl_s;
        told.send_replace(State::Alive(renewed));
    }
}

async fn renew_on(channel: Channel, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    let requests = stream::iter([LeaseKeepAliveRequest { id }]);
    let mut answers = lease(channel)
        .lease_keep_alive(with_leader(requests, true))
        .await?
        .into_inner();
    answers
        .message()
        .await?
        .ok_or_else(|| Status::unavailable("the server ended the stream of renewals"))
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    let origin = channel.origin.clone();
    LeaseClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX)
}

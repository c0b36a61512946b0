//! etcd's Lease service. What a lease does is decided in kv-core; `crate::lease` knows what time it is.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};
use kv_core::{Command, Error, LeaseGrant, LeaseRevoke, Request as Asked, Response as Answer};
use kv_proto::etcdserverpb::{self as pb, lease_server::Lease};
use tonic::{Request, Response, Status, Streaming};

use super::{
    calls::Api,
    errors::ApiError,
    metrics::{Method, counted},
    session::Session,
    watch::needs_leader,
};
use crate::node::{Node, ProposeError, ReadBarrierError};

/// How often an id is chosen anew because it was taken, before something must be wrong.
const ID_TRIES: usize = 10;
/// Renewals of one stream that are under way together; further ones are read from it when these are answered.
const RENEWALS_MAX: usize = 256;

/// The service.
pub(super) struct LeaseService(pub(super) Api);

/// Makes a lease, with an id of its own where none is given; answers with the revision, the id, and the TTL
/// in seconds.
pub(super) async fn grant(session: &Session, id: i64, ttl_s: i64) -> Result<(i64, i64, i64), ApiError> {
    let mut tries = 0..ID_TRIES;
    loop {
        let chosen = if id == 0 {
            rand::random_range(1..=i64::MAX)
        } else {
            id
        };
        let grant = LeaseGrant {
            id: chosen,
            ttl_s,
            now_ms: 0,
        };
        match session.propose(Command::LeaseGrant(grant)).await {
            Ok((revision, Answer::LeaseGrant { id, ttl_s })) => return Ok((revision, id, ttl_s)),
            Ok(_) => return Err(ApiError::WrongAnswer),
            Err(ApiError::Refused(Error::LeaseExists)) if id == 0 && tries.next().is_some() => {}
            Err(error) => return Err(error),
        }
    }
}

impl LeaseService {
    async fn grant(
        &self,
        session: &Session,
        request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, ApiError> {
        let (revision, id, ttl) = grant(session, request.id, request.ttl).await?;
        Ok(pb::LeaseGrantResponse {
            header: Some(self.0.header(revision)),
            id,
            ttl,
            error: String::new(),
        })
    }

    async fn revoke(
        &self,
        session: &Session,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, ApiError> {
        let command = Command::LeaseRevoke(LeaseRevoke { id: request.id });
        let (revision, _) = session.propose(command).await?;
        Ok(pb::LeaseRevokeResponse {
            header: Some(self.0.header(revision)),
        })
    }

    async fn time_to_live(
        &self,
        session: &Session,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, ApiError> {
        self.0.barrier().await?;
        if request.keys {
            session.allow(Asked::LeaseKeys(request.id)).await?;
        }
        let now_ms = self.0.node().clock_ms();
        let (revision, found) = self.0.node().store().with_state(|state| {
            let keys = |id| {
                let keys = state.lease_keys(id).filter(|_| request.keys);
                keys.map(|key| key.to_vec().into()).collect()
            };
            let lease = state.lease(request.id).map(|term| (term, keys(request.id)));
            (state.revision(), lease)
        });
        let answer = pb::LeaseTimeToLiveResponse {
            header: Some(self.0.header(revision)),
            id: request.id,
            ttl: -1,
            ..pb::LeaseTimeToLiveResponse::default()
        };
        let Some((term, keys)) = found else {
            return Ok(answer);
        };
        let remaining_s = term.expires_at_ms.saturating_sub(now_ms) / 1000;
        Ok(pb::LeaseTimeToLiveResponse {
            ttl: i64::try_from(remaining_s).unwrap_or(i64::MAX),
            granted_ttl: term.ttl_s,
            keys,
            ..answer
        })
    }

    async fn leases(&self) -> Result<pb::LeaseLeasesResponse, ApiError> {
        self.0.barrier().await?;
        // As etcd, those first whose end is near.
        let (revision, ids) = self.0.node().store().with_state(|state| {
            let ids: Vec<i64> = state.lease_ends().map(|(_, id)| id).collect();
            (state.revision(), ids)
        });
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.0.header(revision)),
            leases: ids.into_iter().map(|id| pb::LeaseStatus { id }).collect(),
        })
    }
}

/// The TTL is 0 where there is no such lease.
async fn keep_alive(
    session: Session,
    request: Result<pb::LeaseKeepAliveRequest, Status>,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let id = request?.id;
    session.allow(Asked::LeaseRenew(id)).await?;
    let renewed = session.node().renew_lease(id).await;
    let ttl = renewed.map_err(ApiError::from)?;
    Ok(pb::LeaseKeepAliveResponse {
        header: Some(session.header(session.node().store().revision())),
        id,
        ttl,
    })
}

/// Resolves to why no stream goes on: the node stops or, where a leader is needed, there is none.
async fn end(node: Node, needs_leader: bool) -> ApiError {
    let (stopping, mut leaderless) = (node.stopping(), node.leaderless());
    tokio::select! {
        () = stopping.cancelled() => ProposeError::Stopped.into(),
        _ = leaderless.wait_for(|leaderless| *leaderless), if needs_leader => ReadBarrierError::NoLeader.into(),
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let call = self.0.metrics().call(Method::LeaseGrant);
        let session = self.0.session(&request);
        call.end(self.grant(&session, request.into_inner()).await)
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let call = self.0.metrics().call(Method::LeaseRevoke);
        let session = self.0.session(&request);
        call.end(self.revoke(&session, request.into_inner()).await)
    }

    /// Answers in the order asked. It ends with the requests, with the first error, or with the node; with
    /// [`needs_leader`] also when the leader is lost.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let session = self.0.session(&request);
        let needs_leader = needs_leader(request.metadata());
        if needs_leader && self.0.node().leader().is_none() {
            return Err(ApiError::from(ReadBarrierError::NoLeader).into());
        }
        let answers = request
            .into_inner()
            .map(move |request| keep_alive(session.clone(), request))
            .buffered(RENEWALS_MAX);
        let end = end(self.0.node().clone(), needs_leader);
        let under_way = Some((Box::pin(answers), Box::pin(end)));
        let answers = stream::unfold(under_way, async |under_way| {
            let (mut answers, mut end) = under_way?;
            tokio::select! {
                answer = answers.next() => Some((answer?, Some((answers, end)))),
                why = &mut end => Some((Err(why.into()), None)),
            }
        });
        let answers = counted(&self.0, Method::LeaseKeepAlive, answers);
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let call = self.0.metrics().call(Method::LeaseTimeToLive);
        let session = self.0.session(&request);
        call.end(self.time_to_live(&session, request.into_inner()).await)
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let call = self.0.metrics().call(Method::LeaseLeases);
        call.end(self.leases().await)
    }
}

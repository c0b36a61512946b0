//! etcd's Election service: the leader is who has the oldest key under the election's name, see `line`; what
//! the key holds is what the leader proclaims.

use std::pin::Pin;

use futures::{Stream, stream};
use kv_core::{Op, Put, Txn};
use kv_proto::v3electionpb::{self as pb, election_server::Election};
use tonic::{Request, Response, Status};

use super::{
    calls::{Api, Consistency},
    convert,
    errors::ApiError,
    line::{Line, Place, created, give_up, goes_on, in_service, run},
    metrics::{Method, counted},
    session::Session,
};
use crate::{node::ProposeError, watch::Subscription};

/// The service.
pub(super) struct ElectionService(pub(super) Api);

impl ElectionService {
    /// Answers when the caller leads. Where it stood for election before, with another value, that is now its value.
    async fn campaign(
        &self,
        session: &Session,
        request: pb::CampaignRequest,
    ) -> Result<pb::CampaignResponse, ApiError> {
        let line = Line::new(&request.name);
        let joined = line.join(session, request.lease, request.value.clone()).await?;
        let Place { key, revision, lease } = joined.place.clone();
        if joined.held.is_some_and(|held| held != request.value) {
            let put = Put {
                key: key.clone(),
                value: request.value,
                lease,
                ..Put::default()
            };
            if !proclaim(session, put, revision).await?.1 {
                return Err(ApiError::SessionExpired);
            }
        }
        line.wait(session, &joined.place).await?;
        Ok(pb::CampaignResponse {
            header: Some(self.0.header(joined.header_revision)),
            leader: Some(pb::LeaderKey {
                name: request.name,
                key,
                rev: revision,
                lease,
            }),
        })
    }

    async fn proclaim(
        &self,
        session: &Session,
        request: pb::ProclaimRequest,
    ) -> Result<pb::ProclaimResponse, ApiError> {
        let leader = request.leader.ok_or(ApiError::NoLeaderKey)?;
        let put = Put {
            key: leader.key,
            value: request.value,
            lease: leader.lease,
            ..Put::default()
        };
        match proclaim(session, put, leader.rev).await? {
            (revision, true) => Ok(pb::ProclaimResponse {
                header: Some(self.0.header(revision)),
            }),
            (_, false) => Err(ApiError::NotElected),
        }
    }

    async fn leader(
        &self,
        session: &Session,
        request: pb::LeaderRequest,
    ) -> Result<pb::LeaderResponse, ApiError> {
        let (revision, leader) = Line::new(&request.name)
            .first(session, Consistency::Linearizable)
            .await?;
        let leader = leader.ok_or(ApiError::NobodyElected)?;
        Ok(pb::LeaderResponse {
            header: Some(self.0.header(revision)),
            kv: Some(convert::key_value(leader)),
        })
    }

    /// Of somebody who does not lead nothing is taken.
    async fn resign(
        &self,
        session: &Session,
        request: pb::ResignRequest,
    ) -> Result<pb::ResignResponse, ApiError> {
        let leader = request.leader.ok_or(ApiError::NoLeaderKey)?;
        let (revision, _, _) = run(session, give_up(&leader.key, leader.rev)).await?;
        Ok(pb::ResignResponse {
            header: Some(self.0.header(revision)),
        })
    }
}

/// Changes what a key holds if it is still the one created at `revision`; the store's revision, and whether it was.
async fn proclaim(session: &Session, put: Put, revision: i64) -> Result<(i64, bool), ApiError> {
    let txn = Txn {
        compare: vec![created(&put.key, revision)],
        success: vec![Op::Put(put)],
        failure: Vec::new(),
    };
    let (revision, succeeded, _) = run(session, txn).await?;
    Ok((revision, succeeded))
}

/// Follows who leads and what it proclaims. A slow reader misses what was replaced meanwhile, never the latest.
struct Observer {
    session: Session,
    line: Line,
    /// `None` before the first look.
    news: Option<Subscription>,
    /// The revision of what was told last.
    told: i64,
}

impl Observer {
    async fn next(&mut self) -> Result<pb::LeaderResponse, ApiError> {
        loop {
            // What follows a revision is at hand where it is told of; only the first look has to ask around.
            if let Some(news) = &mut self.news
                && !goes_on(news.next().await)?
            {
                self.news = None;
            }
            let consistency = Consistency::of(self.news.is_some());
            let (revision, leader) = self.line.first(&self.session, consistency).await?;
            if self.news.is_none() {
                self.news = Some(self.line.follow(&self.session, revision)?);
            }
            if let Some(leader) = leader.filter(|leader| leader.mod_revision != self.told) {
                self.told = leader.mod_revision;
                return Ok(pb::LeaderResponse {
                    header: Some(self.session.header(revision)),
                    kv: Some(convert::key_value(leader)),
                });
            }
        }
    }
}

/// All that an observer sees, until the first error or until the node stops.
fn observe(session: Session, line: Line) -> impl Stream<Item = Result<pb::LeaderResponse, Status>> {
    let stop = session.node().stopping();
    let observer = Observer {
        session,
        line,
        news: None,
        told: 0,
    };
    stream::unfold(Some(observer), move |observer| {
        let stop = stop.clone();
        async move {
            let mut observer = observer?;
            let seen = tokio::select! {
                seen = observer.next() => in_service(seen),
                () = stop.cancelled() => Err(ProposeError::Stopped.into()),
            };
            match seen {
                Ok(leader) => Some((Ok(leader), Some(observer))),
                Err(error) => Some((Err(error.into()), None)),
            }
        }
    })
}

type Leaders = Pin<Box<dyn Stream<Item = Result<pb::LeaderResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Election for ElectionService {
    type ObserveStream = Leaders;

    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let call = self.0.metrics().call(Method::Campaign);
        let session = self.0.session(&request);
        call.end(in_service(self.campaign(&session, request.into_inner()).await))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let call = self.0.metrics().call(Method::Proclaim);
        let session = self.0.session(&request);
        call.end(in_service(self.proclaim(&session, request.into_inner()).await))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let call = self.0.metrics().call(Method::Leader);
        let session = self.0.session(&request);
        call.end(in_service(self.leader(&session, request.into_inner()).await))
    }

    async fn observe(&self, request: Request<pb::LeaderRequest>) -> Result<Response<Leaders>, Status> {
        let session = self.0.session(&request);
        let leaders = observe(session, Line::new(&request.get_ref().name));
        Ok(Response::new(Box::pin(counted(
            &self.0,
            Method::Observe,
            leaders,
        ))))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let call = self.0.metrics().call(Method::Resign);
        let session = self.0.session(&request);
        call.end(in_service(self.resign(&session, request.into_inner()).await))
    }
}

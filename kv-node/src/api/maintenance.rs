//! etcd's Maintenance service: status, alarms, hashes, backups, and who leads.

use futures::{StreamExt, stream::BoxStream};
use kv_core::{Alarm, AlarmChange, AlarmKind, Command};
use kv_proto::etcdserverpb::{self as pb, maintenance_server::Maintenance};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{
    calls::Api,
    errors::{ApiError, UpkeepError},
    metrics::Method,
    ops::{ETCD_CLUSTER_VERSION, ETCD_VERSION},
    session::Session,
};
use crate::{backup, blocking::elsewhere, node::ProposeError};

/// The service.
pub(super) struct MaintenanceService(pub(super) Api);

impl MaintenanceService {
    fn status(&self) -> pb::StatusResponse {
        let status = self.0.node().status();
        let mut errors = status.errors;
        if status.leader.is_none() && errors.is_empty() {
            errors.push("etcdserver: no leader".into());
        }
        pb::StatusResponse {
            header: Some(self.0.header(status.revision)),
            version: ETCD_VERSION.into(),
            db_size: signed(status.db_size_bytes),
            leader: status.leader.unwrap_or(0),
            raft_index: status.last_log_index,
            raft_term: status.term,
            raft_applied_index: status.applied_index,
            errors,
            db_size_in_use: signed(status.live_bytes),
            is_learner: status.is_learner,
            storage_version: ETCD_CLUSTER_VERSION.into(),
            db_size_quota: signed(status.quota_bytes),
        }
    }

    async fn alarm(
        &self,
        session: &Session,
        request: &pb::AlarmRequest,
    ) -> Result<pb::AlarmResponse, ApiError> {
        use pb::alarm_request::AlarmAction;
        let kind = match pb::AlarmType::try_from(request.alarm) {
            Ok(pb::AlarmType::Nospace) => Some(AlarmKind::NoSpace),
            Ok(pb::AlarmType::Corrupt) => Some(AlarmKind::Corrupt),
            Ok(pb::AlarmType::None) | Err(_) => None,
        };
        let action = AlarmAction::try_from(request.action).map_err(|_| UpkeepError::UnknownAction)?;
        if action != AlarmAction::Get {
            session.allow(kv_core::Request::Admin).await?;
        }
        let alarms = match (action, kind) {
            (AlarmAction::Get, kind) => {
                self.0.barrier().await?;
                let mut alarms = self.0.node().alarms();
                alarms.retain(|alarm| kind.is_none_or(|kind| alarm.kind == kind));
                alarms
            }
            // Nothing is meant; etcd does nothing.
            (AlarmAction::Activate | AlarmAction::Deactivate, None) => Vec::new(),
            (action, Some(kind)) => {
                let alarm = Alarm {
                    member_id: request.member_id,
                    kind,
                    by_itself: false,
                };
                let raise = action == AlarmAction::Activate;
                let change = Command::Alarm(AlarmChange { alarm, raise });
                match session.propose(change).await? {
                    (_, kv_core::Response::Alarm { alarm }) => alarm.into_iter().collect(),
                    _ => return Err(ApiError::WrongAnswer),
                }
            }
        };
        Ok(pb::AlarmResponse {
            header: Some(self.0.header(self.0.node().store().revision())),
            alarms: alarms.into_iter().map(alarm_member).collect(),
        })
    }

    /// Reads every record up to the revision: not on a thread that serves requests.
    async fn hash_kv(&self, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, ApiError> {
        let store = self.0.node().store().clone();
        let hashed = elsewhere(move || store.hash_kv(request.revision.max(0)))
            .await
            .map_err(|error| ApiError::Store(error.to_string()))??;
        Ok(pb::HashKvResponse {
            header: Some(self.0.header(self.0.node().store().revision())),
            hash: hashed.hash,
            compact_revision: hashed.compacted,
            hash_revision: hashed.revision,
        })
    }
}

impl MaintenanceService {
    /// Frees at once what compaction gave up, and writes down what is in memory. Requests go on meanwhile.
    async fn defragment(&self) -> Result<pb::DefragmentResponse, ApiError> {
        self.0.sweep().await?;
        let store = self.0.node().store().clone();
        elsewhere(move || store.sync())
            .await
            .map_err(|error| ApiError::Store(error.to_string()))??;
        Ok(pb::DefragmentResponse {
            header: Some(self.0.header(self.0.node().store().revision())),
        })
    }

    async fn hash(&self) -> Result<pb::HashResponse, ApiError> {
        let hashed = self.hash_kv(pb::HashKvRequest::default()).await?;
        Ok(pb::HashResponse {
            header: hashed.header,
            hash: hashed.hash,
        })
    }

    async fn move_leader(&self, request: pb::MoveLeaderRequest) -> Result<pb::MoveLeaderResponse, ApiError> {
        let node = self.0.node();
        let own = node.identity().member_id;
        if node.status().leader != Some(own) {
            return Err(UpkeepError::NotLeader.into());
        }
        if !node.is_voter(request.target_id) {
            return Err(UpkeepError::BadTransferee.into());
        }
        if request.target_id != own && !node.transfer_leader(request.target_id, self.0.deadline()).await {
            return Err(UpkeepError::TransferTimedOut.into());
        }
        Ok(pb::MoveLeaderResponse {
            header: Some(self.0.header(0)),
        })
    }

    /// There is no release of this product that speaks an older version of etcd's protocol, so there is nothing
    /// to go back to.
    fn downgrade(&self, request: &pb::DowngradeRequest) -> Result<pb::DowngradeResponse, ApiError> {
        use pb::downgrade_request::DowngradeAction;
        let action = DowngradeAction::try_from(request.action).map_err(|_| UpkeepError::UnknownAction)?;
        let refusal = match action {
            DowngradeAction::Cancel => UpkeepError::NoDowngrade,
            DowngradeAction::Validate | DowngradeAction::Enable if is_version(&request.version) => {
                UpkeepError::DowngradeTarget
            }
            DowngradeAction::Validate | DowngradeAction::Enable => UpkeepError::DowngradeFormat,
        };
        Err(refusal.into())
    }
}

fn alarm_member(alarm: Alarm) -> pb::AlarmMember {
    let kind = match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    pb::AlarmMember {
        member_id: alarm.member_id,
        alarm: kind.into(),
    }
}

/// Snapshots on their way out of this process at a time: each keeps what was compacted since from being freed.
static SNAPSHOTS: Semaphore = Semaphore::const_new(SNAPSHOTS_MAX);
const SNAPSHOTS_MAX: usize = 8;

impl MaintenanceService {
    /// A backup, see [`backup`]. Counted as done when it begins.
    fn snapshot(&self) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Status>>, ApiError> {
        let one = SNAPSHOTS
            .try_acquire()
            .map_err(|_| ApiError::Propose(ProposeError::TooManyRequests))?;
        let header = self.0.header(self.0.node().store().revision());
        let pieces = backup::stream(self.0.node().store().clone()).map(move |piece| {
            let _one = &one;
            let backup::Piece {
                bytes,
                remaining_bytes,
            } = piece.map_err(ApiError::from)?;
            Ok(pb::SnapshotResponse {
                header: Some(header),
                remaining_bytes,
                blob: bytes,
                version: ETCD_CLUSTER_VERSION.into(),
            })
        });
        Ok(pieces.boxed())
    }
}

/// Two or three numbers with points between them.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    (2..=3).contains(&parts.len()) && parts.iter().all(|part| part.parse::<u32>().is_ok())
}

/// etcd's sizes are signed.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(
        &self,
        _request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let call = self.0.metrics().call(Method::Status);
        call.end(Ok(self.status()))
    }

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let call = self.0.metrics().call(Method::Alarm);
        let session = self.0.session(&request);
        call.end(self.alarm(&session, &request.into_inner()).await)
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let call = self.0.metrics().call(Method::HashKv);
        call.end(self.hash_kv(request.into_inner()).await)
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let call = self.0.metrics().call(Method::Snapshot);
        call.end(MaintenanceService::snapshot(self))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let call = self.0.metrics().call(Method::Defragment);
        call.end(self.defragment().await)
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let call = self.0.metrics().call(Method::Hash);
        call.end(self.hash().await)
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let call = self.0.metrics().call(Method::MoveLeader);
        call.end(self.move_leader(request.into_inner()).await)
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let call = self.0.metrics().call(Method::Downgrade);
        call.end(self.downgrade(request.get_ref()))
    }
}

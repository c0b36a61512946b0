//! etcd's Maintenance service, as far as it is served: the node's status and alarms, and the hash of its keys.

use kv_proto::etcdserverpb::{self as pb, maintenance_server::Maintenance};
use tonic::{Request, Response, Status};

use super::{
    calls::Api,
    errors::ApiError,
    metrics::Method,
    ops::{ETCD_CLUSTER_VERSION, ETCD_VERSION},
};

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

    /// The alarms of this node. It raises and clears them by itself, so they can only be asked for.
    fn alarm(&self, request: &pb::AlarmRequest) -> Result<pb::AlarmResponse, ApiError> {
        if request.action() != pb::alarm_request::AlarmAction::Get {
            return Err(ApiError::AlarmsClearThemselves);
        }
        let no_space = pb::AlarmMember {
            member_id: self.0.node().identity().member_id,
            alarm: pb::AlarmType::Nospace.into(),
        };
        let is_full = self.0.node().is_out_of_space();
        Ok(pb::AlarmResponse {
            header: Some(self.0.header(self.0.node().store().revision())),
            alarms: is_full.then_some(no_space).into_iter().collect(),
        })
    }

    /// Reads every record up to the revision: not on a thread that serves requests.
    async fn hash_kv(&self, request: pb::HashKvRequest) -> Result<pb::HashKvResponse, ApiError> {
        let store = self.0.node().store().clone();
        let hashed = tokio::task::spawn_blocking(move || store.hash_kv(request.revision.max(0)))
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
        call.end(self.alarm(request.get_ref()))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let call = self.0.metrics().call(Method::HashKv);
        call.end(self.hash_kv(request.into_inner()).await)
    }

    type SnapshotStream = futures::stream::Empty<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn move_leader(
        &self,
        _request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn downgrade(
        &self,
        _request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }
}

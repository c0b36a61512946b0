//! etcd's Cluster service, as far as it is served: the list of members.

use kv_proto::etcdserverpb::{self as pb, cluster_server::Cluster};
use tonic::{Request, Response, Status};

use super::{calls::Api, errors::ApiError, metrics::Method};

/// The service.
pub(super) struct ClusterService(pub(super) Api);

impl ClusterService {
    async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, ApiError> {
        if request.linearizable {
            self.0.barrier().await?;
        }
        let members = self.0.node().members().into_iter().map(|member| pb::Member {
            id: member.id,
            name: member.name,
            peer_ur_ls: member.peer_urls,
            client_ur_ls: member.client_urls,
            is_learner: member.is_learner,
        });
        // etcd leaves the revision out of this header.
        Ok(pb::MemberListResponse {
            header: Some(self.0.header(0)),
            members: members.collect(),
        })
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        let call = self.0.metrics().call(Method::MemberList);
        call.end(self.member_list(request.into_inner()).await)
    }

    async fn member_add(
        &self,
        _request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn member_remove(
        &self,
        _request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn member_update(
        &self,
        _request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }

    async fn member_promote(
        &self,
        _request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        Err(Status::unimplemented("not served yet"))
    }
}

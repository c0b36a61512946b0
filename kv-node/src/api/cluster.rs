//! etcd's Cluster service: the list of members and its changes. What may change is decided in
//! [`crate::membership::rules`], by the leader.

use kv_proto::etcdserverpb::{self as pb, cluster_server::Cluster};
use tonic::{Request, Response, Status};

use super::{calls::Api, errors::ApiError, metrics::Method};
use crate::{
    membership::rules::Change,
    node::{Changed, MemberInfo},
};

/// The service.
pub(super) struct ClusterService(pub(super) Api);

fn member(member: MemberInfo) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}

fn all(members: Vec<MemberInfo>) -> Vec<pb::Member> {
    members.into_iter().map(member).collect()
}

impl ClusterService {
    /// etcd leaves the revision out of this service's headers.
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(self.0.header(0))
    }

    async fn member_list(&self, request: pb::MemberListRequest) -> Result<pb::MemberListResponse, ApiError> {
        if request.linearizable {
            self.0.barrier().await?;
        }
        Ok(pb::MemberListResponse {
            header: self.header(),
            members: all(self.0.node().members()),
        })
    }

    async fn change(&self, change: Change) -> Result<Changed, ApiError> {
        Ok(self.0.node().change_members(change, self.0.deadline()).await?)
    }

    async fn member_add(&self, request: pb::MemberAddRequest) -> Result<pb::MemberAddResponse, ApiError> {
        let add = Change::Add {
            peer_urls: request.peer_ur_ls,
            is_learner: request.is_learner,
        };
        let Changed { id, members } = self.change(add).await?;
        let members = all(members);
        Ok(pb::MemberAddResponse {
            header: self.header(),
            member: members.iter().find(|member| member.id == id).cloned(),
            members,
        })
    }

    async fn member_remove(
        &self,
        request: pb::MemberRemoveRequest,
    ) -> Result<pb::MemberRemoveResponse, ApiError> {
        let Changed { members, .. } = self.change(Change::Remove { id: request.id }).await?;
        Ok(pb::MemberRemoveResponse {
            header: self.header(),
            members: all(members),
        })
    }

    async fn member_update(
        &self,
        request: pb::MemberUpdateRequest,
    ) -> Result<pb::MemberUpdateResponse, ApiError> {
        let update = Change::Update {
            id: request.id,
            peer_urls: request.peer_ur_ls,
        };
        let Changed { members, .. } = self.change(update).await?;
        Ok(pb::MemberUpdateResponse {
            header: self.header(),
            members: all(members),
        })
    }

    async fn member_promote(
        &self,
        request: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, ApiError> {
        let Changed { members, .. } = self.change(Change::Promote { id: request.id }).await?;
        Ok(pb::MemberPromoteResponse {
            header: self.header(),
            members: all(members),
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
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        let call = self.0.metrics().call(Method::MemberAdd);
        call.end(self.member_add(request.into_inner()).await)
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let call = self.0.metrics().call(Method::MemberRemove);
        call.end(self.member_remove(request.into_inner()).await)
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let call = self.0.metrics().call(Method::MemberUpdate);
        call.end(self.member_update(request.into_inner()).await)
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let call = self.0.metrics().call(Method::MemberPromote);
        call.end(self.member_promote(request.into_inner()).await)
    }
}

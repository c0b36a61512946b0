//! Calls about members and their upkeep.
//!
//! Members are changed with the rule of a write. What is done to one member goes to its endpoint and no other.

use kv_proto::etcdserverpb::alarm_request::AlarmAction;
use kv_proto::etcdserverpb::cluster_client::ClusterClient;
use kv_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use kv_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse,
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest,
    MemberUpdateResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};
use tonic::Streaming;

use crate::classify::Failure;
use crate::client::{call, with_leader};
use crate::connection::Channel;
use crate::failover::{self, Limits};
use crate::{Client, Error};

/// A call to one endpoint, and no other.
macro_rules! call_on {
    ($client:expr, $endpoint:expr, $limits:expr, $method:ident($request:expr)) => {{
        let connection = $client.connection($endpoint)?;
        let call =
            |channel: Channel| async move { Ok(maintenance(channel).$method($request).await?.into_inner()) };
        failover::on_one($client.pool(), &connection, $limits, call).await
    }};
}

impl Client {
    /// Lists the members; with `linearizable` as the quorum knows them, without as one member does.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`].
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        let call = |channel: Channel| async move {
            let request = with_leader(MemberListRequest { linearizable }, linearizable);
            Ok(cluster(channel).member_list(request).await?.into_inner())
        };
        failover::read(self.pool(), self.limits(), call).await
    }

    /// Adds a member, as a voter or a learner. It is to be started afterwards.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn member_add(&self, request: MemberAddRequest) -> Result<MemberAddResponse, Error> {
        call!(self, write, cluster, member_add(request))
    }

    /// Removes a member.
    ///
    /// # Errors
    /// As [`Client::member_add`].
    pub async fn member_remove(&self, id: u64) -> Result<MemberRemoveResponse, Error> {
        call!(self, write, cluster, member_remove(MemberRemoveRequest { id }))
    }

    /// Changes the peer URLs of a member.
    ///
    /// # Errors
    /// As [`Client::member_add`].
    pub async fn member_update(&self, request: MemberUpdateRequest) -> Result<MemberUpdateResponse, Error> {
        call!(self, write, cluster, member_update(request))
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// As [`Client::member_add`].
    pub async fn member_promote(&self, id: u64) -> Result<MemberPromoteResponse, Error> {
        call!(self, write, cluster, member_promote(MemberPromoteRequest { id }))
    }

    /// Asks for alarms, raises one, or ends one.
    ///
    /// # Errors
    /// Those of [`Client::range`] or [`Client::put`].
    pub async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Error> {
        if request.action() == AlarmAction::Get {
            call!(self, read, maintenance, alarm(request))
        } else {
            call!(self, write, maintenance, alarm(request))
        }
    }

    /// Asks one endpoint, and no other, how it is. The endpoint need not be in the configuration.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`], [`Error::NoQuorum`] if it cannot be reached, [`Error::Timeout`],
    /// [`Error::Rejected`].
    pub async fn status(&self, endpoint: &str) -> Result<StatusResponse, Error> {
        call_on!(self, endpoint, self.limits(), status(StatusRequest {}))
    }

    /// Asks one endpoint, and no other, for the hash of its keys at a revision (0: the current one). Equal
    /// revisions must hash the same on every member.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn hash_kv(&self, endpoint: &str, revision: i64) -> Result<HashKvResponse, Error> {
        call_on!(self, endpoint, self.limits(), hash_kv(HashKvRequest { revision }))
    }

    /// Lets the member at one endpoint give unused space back. etcd answers nothing else meanwhile, and may take long.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn defragment(&self, endpoint: &str) -> Result<DefragmentResponse, Error> {
        call_on!(self, endpoint, self.limits(), defragment(DefragmentRequest {}))
    }

    /// Tells the leader, whose endpoint this must be, to hand over to the member with an ID.
    ///
    /// # Errors
    /// As [`Client::status`], with [`Error::OutcomeUnknown`] in the place of a timeout.
    pub async fn move_leader(&self, endpoint: &str, target_id: u64) -> Result<MoveLeaderResponse, Error> {
        let request = MoveLeaderRequest { target_id };
        let answer: Result<_, Error> = call_on!(self, endpoint, self.limits(), move_leader(request));
        answer.map_err(|error| match error {
            Error::Timeout { message } => Error::OutcomeUnknown { message },
            other => other,
        })
    }

    /// Begins to fetch a snapshot from one endpoint. Only its beginning is under the time limit.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn snapshot(&self, endpoint: &str) -> Result<Snapshot, Error> {
        let parts = call_on!(self, endpoint, self.limits(), snapshot(SnapshotRequest {}))?;
        Ok(Snapshot { parts })
    }

    /// The limits of this client with another time for the whole call.
    pub(crate) fn limits_within(&self, request: std::time::Duration) -> Limits {
        Limits {
            request,
            ..self.limits()
        }
    }
}

/// A snapshot on its way, part by part. Dropping it ends the transfer.
pub struct Snapshot {
    parts: Streaming<SnapshotResponse>,
}

impl Snapshot {
    /// The next part; none after the last.
    ///
    /// # Errors
    /// [`Error::Timeout`] if the connection was lost, [`Error::Rejected`] in the server's words. A snapshot that ends so
    /// is incomplete.
    pub async fn part(&mut self) -> Result<Option<SnapshotResponse>, Error> {
        let part = self.parts.message().await;
        part.map_err(|status| failover::of_one(Failure::from(status)))
    }
}

fn cluster(channel: Channel) -> ClusterClient<Channel> {
    let origin = channel.origin.clone();
    ClusterClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX)
}

fn maintenance(channel: Channel) -> MaintenanceClient<Channel> {
    let origin = channel.origin.clone();
    MaintenanceClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX)
}

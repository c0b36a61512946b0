//! The calls of the etcd v3 API, each with its rule of retrying.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kv_proto::etcdserverpb::cluster_client::ClusterClient;
use kv_proto::etcdserverpb::kv_client::KvClient;
use kv_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use kv_proto::etcdserverpb::request_op::Request as Op;
use kv_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest,
    HashKvResponse, MemberListRequest, MemberListResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};
use tonic::metadata::MetadataValue;

use crate::connection::{Channel, Connection};
use crate::endpoint::Endpoint;
use crate::failover::{self, Limits};
use crate::pool::Pool;
use crate::{Config, Error};

/// How many connections are kept to endpoints that are not in the configuration ([`Client::status`] of a member
/// found in the member list). Beyond that a connection serves one call.
const EXTRA_CONNECTIONS_MAX: usize = 64;

/// A client of a cluster. Cheap to clone; connects when first used; all clones share their connections.
///
/// Needs a tokio runtime. Dropping the future of a call cancels it; a write may have been executed then.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    limits: Limits,
    extra: Mutex<HashMap<String, Arc<Connection>>>,
}

impl Client {
    /// A client of these endpoints. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`] if there is none or one is malformed.
    pub fn new(config: Config) -> Result<Client, Error> {
        let connect = |text: &String| {
            Ok(Arc::new(Connection::new(
                Endpoint::parse(text)?,
                config.dial_timeout,
            )))
        };
        let connections = config
            .endpoints
            .iter()
            .map(connect)
            .collect::<Result<Vec<_>, Error>>()?;
        if connections.is_empty() {
            let reason = "none is given, expected at least one host:port".to_owned();
            return Err(Error::InvalidEndpoint {
                endpoint: String::new(),
                reason,
            });
        }
        let limits = Limits {
            dial: config.dial_timeout,
            request: config.request_timeout,
        };
        let (pool, extra) = (Pool::new(connections), Mutex::default());
        Ok(Client {
            shared: Arc::new(Shared { pool, limits, extra }),
        })
    }

    /// Reads keys. Tried on other endpoints until one answers.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`].
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let needs_leader = !request.serializable;
        let call = |channel| range_on(channel, request.clone(), needs_leader);
        failover::read(&self.shared.pool, self.shared.limits, call).await
    }

    /// Writes one key. Sent again only where it cannot have been executed.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        let call = |channel: Channel| {
            let request = unary(request.clone(), true);
            async move { Ok(kv(channel).put(request).await?.into_inner()) }
        };
        failover::write(&self.shared.pool, self.shared.limits, call).await
    }

    /// Deletes keys. Sent again only where it cannot have been executed.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        let call = |channel: Channel| {
            let request = unary(request.clone(), true);
            async move { Ok(kv(channel).delete_range(request).await?.into_inner()) }
        };
        failover::write(&self.shared.pool, self.shared.limits, call).await
    }

    /// Runs a transaction. One that only reads is retried like [`Client::range`], any other like [`Client::put`].
    ///
    /// # Errors
    /// Those of [`Client::range`] or [`Client::put`].
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        let call = |channel: Channel| {
            let request = unary(request.clone(), true);
            async move { Ok(kv(channel).txn(request).await?.into_inner()) }
        };
        if is_read_only(&request) {
            failover::read(&self.shared.pool, self.shared.limits, call).await
        } else {
            failover::write(&self.shared.pool, self.shared.limits, call).await
        }
    }

    /// Gives up the history before a revision. Sent again only where it cannot have been executed, because the
    /// second of two equal requests is refused.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        let call = |channel: Channel| {
            let request = unary(request, true);
            async move { Ok(kv(channel).compact(request).await?.into_inner()) }
        };
        failover::write(&self.shared.pool, self.shared.limits, call).await
    }

    /// Asks one endpoint, and no other, how it is. The endpoint need not be in the configuration.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`], [`Error::NoQuorum`] if it cannot be reached, [`Error::Timeout`],
    /// [`Error::Rejected`].
    pub async fn status(&self, endpoint: &str) -> Result<StatusResponse, Error> {
        let connection = self.connection(endpoint)?;
        let call =
            |channel| async move { Ok(maintenance(channel).status(StatusRequest {}).await?.into_inner()) };
        failover::on_one(&connection, self.shared.limits, call).await
    }

    /// Asks one endpoint, and no other, for the hash of its keys at a revision (0: the current one). Equal
    /// revisions must hash the same on every member.
    ///
    /// # Errors
    /// As [`Client::status`].
    pub async fn hash_kv(&self, endpoint: &str, revision: i64) -> Result<HashKvResponse, Error> {
        let connection = self.connection(endpoint)?;
        let call = |channel| async move {
            Ok(maintenance(channel)
                .hash_kv(HashKvRequest { revision })
                .await?
                .into_inner())
        };
        failover::on_one(&connection, self.shared.limits, call).await
    }

    /// Lists the members; with `linearizable` as the quorum knows them, without as one member does.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`].
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        let call = |channel: Channel| async move {
            let origin = channel.origin.clone();
            let request = unary(MemberListRequest { linearizable }, linearizable);
            let mut cluster =
                ClusterClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX);
            Ok(cluster.member_list(request).await?.into_inner())
        };
        failover::read(&self.shared.pool, self.shared.limits, call).await
    }

    /// The connection to an endpoint: the pool's own where it is one of the pool.
    fn connection(&self, text: &str) -> Result<Arc<Connection>, Error> {
        let endpoint = Endpoint::parse(text)?;
        if let Some(own) = self
            .shared
            .pool
            .connections()
            .find(|own| *own.endpoint() == endpoint)
        {
            return Ok(own.clone());
        }
        let mut extra = self.shared.extra.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = extra.get(text) {
            return Ok(known.clone());
        }
        let connection = Arc::new(Connection::new(endpoint, self.shared.limits.dial));
        if extra.len() < EXTRA_CONNECTIONS_MAX {
            extra.insert(text.to_owned(), connection.clone());
        }
        Ok(connection)
    }
}

/// A request; with `needs_leader` marked so that a member without a leader refuses it at once instead of
/// holding it until it times out. This is etcd's metadata key.
fn unary<T>(message: T, needs_leader: bool) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if needs_leader {
        request
            .metadata_mut()
            .insert("hasleader", MetadataValue::from_static("true"));
    }
    request
}

/// The size of an answer is the server's affair: a limit here would turn an executed write into an error.
fn kv(channel: Channel) -> KvClient<Channel> {
    let origin = channel.origin.clone();
    KvClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX)
}

fn maintenance(channel: Channel) -> MaintenanceClient<Channel> {
    let origin = channel.origin.clone();
    MaintenanceClient::with_origin(channel, origin)
}

async fn range_on(
    channel: Channel,
    request: RangeRequest,
    needs_leader: bool,
) -> Result<RangeResponse, tonic::Status> {
    Ok(kv(channel)
        .range(unary(request, needs_leader))
        .await?
        .into_inner())
}

/// Whether no branch of a transaction writes.
fn is_read_only(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| match &op.request {
            Some(Op::RequestRange(_)) | None => true,
            Some(Op::RequestTxn(nested)) => is_read_only(nested),
            Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) => false,
        })
}

#[cfg(test)]
mod tests {
    use kv_proto::etcdserverpb::request_op::Request;
    use kv_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};

    use super::is_read_only;

    #[test]
    fn a_write_anywhere_makes_a_txn_a_write() {
        let op = |request| RequestOp {
            request: Some(request),
        };
        let get = op(Request::RequestRange(RangeRequest::default()));
        let put = op(Request::RequestPut(PutRequest::default()));
        let txn = |success, failure| TxnRequest {
            compare: vec![],
            success,
            failure,
        };
        assert!(is_read_only(&txn(vec![], vec![])));
        assert!(is_read_only(&txn(vec![get.clone()], vec![get.clone()])));
        assert!(!is_read_only(&txn(vec![get.clone()], vec![put.clone()])));
        let nested = op(Request::RequestTxn(txn(vec![get.clone()], vec![put])));
        assert!(!is_read_only(&txn(vec![get, nested], vec![])));
    }
}

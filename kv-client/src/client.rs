//! A client, and its calls about keys. Each call has its rule of retrying.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kv_proto::etcdserverpb::kv_client::KvClient;
use kv_proto::etcdserverpb::request_op::Request as Op;
use kv_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use tonic::metadata::MetadataValue;

use crate::auth::Auth;
use crate::connection::{Channel, Connection, Dialer};
use crate::endpoint::Endpoint;
use crate::failover::{self, Limits};
use crate::pool::Pool;
use crate::{Config, Error};

/// One call to whichever endpoint answers, by the rule of retrying that is named (`read` or `write` in `failover`).
macro_rules! call {
    ($client:expr, $rule:ident, $service:ident, $method:ident($request:expr)) => {{
        let request = $request;
        let call = |channel: $crate::connection::Channel| {
            let request = $crate::client::with_leader(request.clone(), true);
            async move { Ok($service(channel).$method(request).await?.into_inner()) }
        };
        $crate::failover::$rule($client.pool(), $client.limits(), call).await
    }};
}
pub(crate) use call;

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
    dialer: Dialer,
    extra: Mutex<HashMap<String, Arc<Connection>>>,
}

impl Client {
    /// A client of these endpoints. Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::InvalidEndpoint`] if there is none or one is malformed, [`Error::Tls`] if certificates cannot be used.
    pub fn new(config: Config) -> Result<Client, Error> {
        let dialer = Dialer::new(&config)?;
        let connect = |text: &String| Ok(Arc::new(Connection::new(Endpoint::parse(text)?, &dialer)));
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
        let pool = Pool::new(connections, Auth::new(config.credentials));
        let extra = Mutex::default();
        Ok(Client {
            shared: Arc::new(Shared {
                pool,
                limits,
                dialer,
                extra,
            }),
        })
    }

    /// Reads keys. Tried on other endpoints until one answers.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::Timeout`].
    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let needs_leader = !request.serializable;
        let call = |channel| {
            let request = with_leader(request.clone(), needs_leader);
            async move { Ok(kv(channel).range(request).await?.into_inner()) }
        };
        failover::read(self.pool(), self.limits(), call).await
    }

    /// Writes one key. Sent again only where it cannot have been executed.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        call!(self, write, kv, put(request))
    }

    /// Deletes keys. Sent again only where it cannot have been executed.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Error> {
        call!(self, write, kv, delete_range(request))
    }

    /// Runs a transaction. One that only reads is retried like [`Client::range`], any other like [`Client::put`].
    ///
    /// # Errors
    /// Those of [`Client::range`] or [`Client::put`].
    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        if is_read_only(&request) {
            call!(self, read, kv, txn(request))
        } else {
            call!(self, write, kv, txn(request))
        }
    }

    /// Gives up the history before a revision. Sent again only where it cannot have been executed, because the
    /// second of two equal requests is refused.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::NoQuorum`], [`Error::OutcomeUnknown`].
    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Error> {
        call!(self, write, kv, compact(request))
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub(crate) fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// The connection to an endpoint: the pool's own where it is one of the pool.
    pub(crate) fn connection(&self, text: &str) -> Result<Arc<Connection>, Error> {
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
        let connection = Arc::new(Connection::new(endpoint, &self.shared.dialer));
        if extra.len() < EXTRA_CONNECTIONS_MAX {
            extra.insert(text.to_owned(), connection.clone());
        }
        Ok(connection)
    }
}

/// A request; with `needs_leader` marked so that a member without a leader refuses it at once instead of
/// holding it until it times out. This is etcd's metadata key.
pub(crate) fn with_leader<T>(message: impl tonic::IntoRequest<T>, needs_leader: bool) -> tonic::Request<T> {
    let mut request = message.into_request();
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

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoints = self
            .pool()
            .connections()
            .map(|connection| connection.endpoint().to_string());
        f.debug_list().entries(endpoints).finish()
    }
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

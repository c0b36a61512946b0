//! etcd's KV service: decode, check, ask, encode. What a request does is decided in kv-core.

use futures::{StreamExt, stream::BoxStream};
use kv_core::Command;
use kv_proto::etcdserverpb::{self as pb, kv_server::Kv};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    calls::{Api, Consistency},
    convert,
    errors::ApiError,
    metrics::Method,
    range_stream,
    session::Session,
};

/// The service.
pub struct KvService(pub(super) Api);

impl KvService {
    async fn range(
        &self,
        session: &Session,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, ApiError> {
        let consistency = Consistency::of(request.serializable);
        let (revision, result) = session.range(&convert::range(request)?, consistency).await?;
        Ok(convert::range_response(self.0.header(revision), result))
    }

    /// Counted as done when the first piece is decided.
    async fn range_stream(
        &self,
        session: Session,
        request: pb::RangeRequest,
    ) -> Result<<KvService as Kv>::RangeStreamStream, ApiError> {
        let consistency = Consistency::of(request.serializable);
        let pieces = range_stream::pieces(session, convert::range(request)?, consistency).await?;
        Ok(pieces.boxed())
    }

    async fn put(&self, session: &Session, request: pb::PutRequest) -> Result<pb::PutResponse, ApiError> {
        self.0.check_size(request.encoded_len())?;
        let (revision, response) = session.propose(Command::Put(convert::put(request))).await?;
        convert::put_response(self.0.header(revision), response)
    }

    async fn delete_range(
        &self,
        session: &Session,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, ApiError> {
        self.0.check_size(request.encoded_len())?;
        let command = Command::DeleteRange(convert::delete_range(request));
        let (revision, response) = session.propose(command).await?;
        convert::delete_range_response(self.0.header(revision), response)
    }

    async fn txn(&self, session: &Session, request: pb::TxnRequest) -> Result<pb::TxnResponse, ApiError> {
        let size = request.encoded_len();
        let consistency = Consistency::of(convert::is_serializable(&request));
        let txn = convert::txn(request)?;
        // Like etcd, only what goes into the log is bounded by the size of a request.
        let (revision, response) = if txn.is_read_only() {
            session.read_txn(txn, consistency).await?
        } else {
            self.0.check_size(size)?;
            #[cfg(feature = "planted")]
            let txn = compared_early(session, txn).await?;
            session.propose(Command::Txn(txn)).await?
        };
        convert::txn_response(self.0.header(revision), response)
    }

    async fn compact(
        &self,
        session: &Session,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, ApiError> {
        let physical = request.physical;
        let (revision, _) = session.propose(convert::compact(request)).await?;
        if physical && let Err(error) = self.0.swept().await {
            // It is done all the same; the background will sweep.
            tracing::warn!(%error, "compacted, but not swept yet");
        }
        Ok(pb::CompactionResponse {
            header: Some(self.0.header(revision)),
        })
    }
}

/// Decides here and now which branch a transaction takes.
#[cfg(feature = "planted")]
async fn compared_early(session: &Session, txn: kv_core::Txn) -> Result<kv_core::Txn, ApiError> {
    if !quorate_planted::is("txn-compares-early") {
        return Ok(txn);
    }
    let compares = kv_core::Txn {
        compare: txn.compare.clone(),
        ..kv_core::Txn::default()
    };
    let (_, response) = session.read_txn(compares, Consistency::Serializable).await?;
    let holds = matches!(response, kv_core::Response::Txn { succeeded: true, .. });
    Ok(kv_core::Txn {
        compare: if holds { Vec::new() } else { txn.compare },
        ..txn
    })
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let call = self.0.metrics().call(Method::Range);
        let session = self.0.session(&request);
        call.end(self.range(&session, request.into_inner()).await)
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let call = self.0.metrics().call(Method::Put);
        let session = self.0.session(&request);
        call.end(self.put(&session, request.into_inner()).await)
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let call = self.0.metrics().call(Method::DeleteRange);
        let session = self.0.session(&request);
        call.end(self.delete_range(&session, request.into_inner()).await)
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let call = self.0.metrics().call(Method::Txn);
        let session = self.0.session(&request);
        call.end(self.txn(&session, request.into_inner()).await)
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let call = self.0.metrics().call(Method::Compact);
        let session = self.0.session(&request);
        call.end(self.compact(&session, request.into_inner()).await)
    }

    type RangeStreamStream = BoxStream<'static, Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let call = self.0.metrics().call(Method::RangeStream);
        let session = self.0.session(&request);
        call.end(self.range_stream(session, request.into_inner()).await)
    }
}

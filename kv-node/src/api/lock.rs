//! etcd's Lock service: a lock is held by the oldest key under its name, see `line`.

use bytes::Bytes;
use kv_core::{Command, DeleteRange};
use kv_proto::v3lockpb::{self as pb, lock_server::Lock};
use tonic::{Request, Response, Status};

use super::{
    calls::Api,
    errors::ApiError,
    line::{Line, in_service},
    metrics::Method,
    session::Session,
};

/// The service.
pub(super) struct LockService(pub(super) Api);

impl LockService {
    /// Answers when the lock is held.
    async fn lock(&self, session: &Session, request: pb::LockRequest) -> Result<pb::LockResponse, ApiError> {
        let line = Line::new(&request.name);
        let joined = line.join(session, request.lease, Bytes::new()).await?;
        #[cfg(feature = "planted")]
        if quorate_planted::is("lock-not-waited-for") {
            return Ok(pb::LockResponse {
                header: Some(self.0.header(self.0.node().store().revision())),
                key: joined.place.key,
            });
        }
        line.wait(session, &joined.place).await?;
        Ok(pb::LockResponse {
            header: Some(self.0.header(self.0.node().store().revision())),
            key: joined.place.key,
        })
    }

    async fn unlock(
        &self,
        session: &Session,
        request: pb::UnlockRequest,
    ) -> Result<pb::UnlockResponse, ApiError> {
        let delete = DeleteRange {
            key: request.key,
            ..DeleteRange::default()
        };
        let (revision, _) = session.propose(Command::DeleteRange(delete)).await?;
        Ok(pb::UnlockResponse {
            header: Some(self.0.header(revision)),
        })
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        let call = self.0.metrics().call(Method::Lock);
        let session = self.0.session(&request);
        call.end(in_service(self.lock(&session, request.into_inner()).await))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let call = self.0.metrics().call(Method::Unlock);
        let session = self.0.session(&request);
        call.end(in_service(self.unlock(&session, request.into_inner()).await))
    }
}

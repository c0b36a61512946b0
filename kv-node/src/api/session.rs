//! Who asks: what a request shows of it, and what it may do.
//!
//! Every call of a client that reads, writes or changes anything goes through a [`Session`], so that none can
//! forget to ask for permission: [`Api`] alone has no way to the data. A command is checked where it is
//! applied, a read in the state that is read.

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use http::{Extensions, HeaderMap, HeaderValue};
use kv_core::{Caller, Command, Range, RangeResult, Request, Response, Txn};
use kv_store::RangePieces;
use kv_tls::PeerCertificate;

use super::{
    calls::{Api, Consistency},
    errors::ApiError,
};

/// Where gRPC clients put their token.
const TOKEN: &str = "token";
/// Where HTTP clients do; gRPC clients may.
const AUTHORIZATION: &str = "authorization";

/// A client's request on its way to the node.
#[derive(Clone)]
pub(super) struct Session {
    api: Api,
    shown: Shown,
}

/// What a request shows of who asks; not checked yet.
#[derive(Clone, Debug)]
enum Shown {
    Nothing,
    Token(Arc<Token>),
    /// The common name of a certificate that was verified.
    Certificate(Arc<str>),
}

/// A token, and who showed it once that is known.
///
/// A stream goes on when its token's time is over, as its requests cannot bring another: what ends it is a
/// change of the user's credentials.
#[derive(Debug)]
struct Token {
    value: HeaderValue,
    caller: OnceLock<Caller>,
}

impl Deref for Session {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Api {
    /// The session of a gRPC request.
    pub(super) fn session<T>(&self, request: &tonic::Request<T>) -> Session {
        self.session_of(request.metadata().as_ref(), request.extensions())
    }

    /// The session of a request with these headers and extensions.
    pub(super) fn session_of(&self, headers: &HeaderMap, extensions: &Extensions) -> Session {
        let token = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION));
        let shown = match (token, extensions.get::<PeerCertificate>()) {
            (Some(token), _) => Shown::Token(Arc::new(Token {
                value: token.clone(),
                caller: OnceLock::new(),
            })),
            (None, Some(certificate)) if !certificate.common_name.is_empty() => {
                Shown::Certificate(certificate.common_name.clone())
            }
            (None, _) => Shown::Nothing,
        };
        Session {
            api: self.clone(),
            shown,
        }
    }
}

impl Session {
    /// Who asks. A token that this node does not know yet may be from a change that it has yet to apply, so it
    /// catches up before it refuses one.
    async fn caller(&self) -> Result<Caller, ApiError> {
        let token = match &self.shown {
            Shown::Nothing => return Ok(Caller::Anonymous),
            Shown::Certificate(name) => return Ok(self.node().authenticator().certified(name)),
            Shown::Token(token) => token,
        };
        if let Some(caller) = token.caller.get() {
            return Ok(caller.clone());
        }
        let look = || self.node().caller(token.value.as_bytes());
        let caller = match look() {
            Ok(Some(caller)) => Some(caller),
            unknown => {
                if let Err(behind) = self.barrier().await {
                    // Without a quorum this node knows what it knows.
                    unknown?;
                    return Err(behind);
                }
                look()?
            }
        };
        let Some(caller) = caller else {
            return Ok(Caller::Anonymous);
        };
        Ok(token.caller.get_or_init(|| caller).clone())
    }

    /// Refuses what the caller may not do, by what this node has applied.
    pub(super) async fn allow(&self, request: Request<'_>) -> Result<(), ApiError> {
        let caller = self.caller().await?;
        Ok(self.node().store().authorize(&caller, request)?)
    }

    /// Reads; answers with the current revision and what was found.
    pub(super) async fn range(
        &self,
        range: &Range,
        consistency: Consistency,
    ) -> Result<(i64, RangeResult), ApiError> {
        range.validate()?;
        self.settle(consistency).await?;
        let caller = self.caller().await?;
        #[cfg(feature = "planted")]
        if quorate_planted::is("range-torn") && !range.range_end.is_empty() {
            let (_, first) = self.api.range_by(&caller, range).await?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let (revision, mut second) = self.api.range_by(&caller, range).await?;
            let half = first.kvs.len() / 2;
            let seen = first.kvs[..half].iter().cloned();
            second
                .kvs
                .retain(|kv| first.kvs[..half].iter().all(|old| old.key != kv.key));
            second.kvs.splice(0..0, seen);
            return Ok((revision, second));
        }
        self.api.range_by(&caller, range).await
    }

    /// Decides a read that is answered piece by piece.
    pub(super) async fn range_pieces(
        &self,
        range: &Range,
        consistency: Consistency,
    ) -> Result<RangePieces, ApiError> {
        self.settle(consistency).await?;
        let caller = self.caller().await?;
        let decided = self
            .api
            .scan(|| self.node().store().range_pieces_by(&caller, range))
            .await;
        Ok(decided?)
    }

    /// Answers a transaction that does not write, without the log.
    pub(super) async fn read_txn(
        &self,
        txn: Txn,
        consistency: Consistency,
    ) -> Result<(i64, Response), ApiError> {
        txn.validate(self.core_limits())?;
        self.settle(consistency).await?;
        let caller = self.caller().await?;
        self.api.read_txn_by(&caller, &txn).await
    }

    /// Writes; answers with the revision after it.
    pub(super) async fn propose(&self, command: Command) -> Result<(i64, Response), ApiError> {
        command.validate(self.core_limits())?;
        let caller = self.caller().await?;
        self.api.propose_by(caller, command).await
    }
}

//! What every protocol of the API asks of the node: the one place where a request is checked, made
//! linearizable, and answered with a revision.

use std::sync::Arc;

use kv_core::{Caller, Command, Range, RangeResult, Response, Txn};
use kv_proto::etcdserverpb::ResponseHeader;
use tokio::{sync::Semaphore, time::Instant};

use super::{errors::ApiError, metrics::Metrics};
use crate::{
    blocking::{elsewhere, may_wait},
    node::Node,
};

/// The node as the services see it. Clones share it.
#[derive(Clone)]
pub(super) struct Api(Arc<Shared>);

struct Shared {
    node: Node,
    metrics: Metrics,
    cluster_id: u64,
    member_id: u64,
    core_limits: kv_core::Limits,
    scans: Semaphore,
}

/// Ranges of keys that are read at the same time. Each may hold a thread up, and there is an end to threads.
const SCANS_MAX: usize = 16;

/// What a read may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Consistency {
    /// Everything acknowledged before the read began, wherever: a quorum confirms it.
    #[default]
    Linearizable,
    /// What this node has applied, which may be the past.
    Serializable,
}

impl Consistency {
    /// Of etcd's flag.
    pub(super) fn of(serializable: bool) -> Consistency {
        if serializable {
            Consistency::Serializable
        } else {
            Consistency::Linearizable
        }
    }
}

impl Api {
    pub(super) fn new(node: Node) -> Api {
        let identity = node.identity();
        Api(Arc::new(Shared {
            metrics: Metrics::new(&node),
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            core_limits: kv_core::Limits {
                max_txn_ops: node.limits().max_txn_ops,
            },
            scans: Semaphore::new(SCANS_MAX),
            node,
        }))
    }

    pub(super) fn node(&self) -> &Node {
        &self.0.node
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// A response header at a revision.
    pub(super) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.0.cluster_id,
            member_id: self.0.member_id,
            revision,
            raft_term: self.0.node.term(),
        }
    }

    /// When a request that begins now has to be answered.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.0.node.limits().request_timeout
    }

    /// Refuses a write that is larger than the node takes.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), ApiError> {
        if bytes > self.0.node.limits().max_request_bytes {
            Err(ApiError::RequestTooLarge)
        } else {
            Ok(())
        }
    }

    /// Waits until this node has applied everything acknowledged before the call.
    pub(super) async fn barrier(&self) -> Result<(), ApiError> {
        Ok(self.0.node.read_barrier(self.deadline()).await?)
    }

    /// Waits until this node may answer a read.
    pub(super) async fn settle(&self, consistency: Consistency) -> Result<(), ApiError> {
        match consistency {
            Consistency::Linearizable => self.barrier().await,
            Consistency::Serializable => Ok(()),
        }
    }

    /// Bounds of commands and transactions.
    pub(super) fn core_limits(&self) -> &kv_core::Limits {
        &self.0.core_limits
    }

    /// Reads what may be much, without holding up whoever else this thread serves.
    pub(super) async fn scan<T>(&self, read: impl FnOnce() -> T) -> T {
        // The semaphore is never closed.
        let _permit = self.0.scans.acquire().await;
        may_wait(read)
    }

    /// Reads for a caller what is valid; answers with the current revision and what was found.
    pub(super) async fn range_by(
        &self,
        caller: &Caller,
        range: &Range,
    ) -> Result<(i64, RangeResult), ApiError> {
        let read = || self.0.node.store().range_by(caller, range);
        // Even with a limit, the keys of a range are counted.
        let read = if range.range_end.is_empty() {
            read()
        } else {
            self.scan(read).await
        }?;
        Ok((read.header_revision, read.result))
    }

    /// Answers for a caller a valid transaction that does not write.
    pub(super) async fn read_txn_by(&self, caller: &Caller, txn: &Txn) -> Result<(i64, Response), ApiError> {
        let outcome = self.scan(|| self.0.node.store().read_txn_by(caller, txn)).await?;
        Ok((outcome.revision, outcome.result?))
    }

    /// Proposes for a caller what is valid; answers with the revision after it.
    pub(super) async fn propose_by(
        &self,
        caller: Caller,
        command: Command,
    ) -> Result<(i64, Response), ApiError> {
        let proposed = self.0.node.propose_by(caller, command, self.deadline()).await;
        let outcome = proposed.inspect_err(|_| self.0.metrics.proposals_failed.increment(1))?;
        Ok((outcome.revision, outcome.result?))
    }

    /// Waits until this node has dropped what compaction gave up.
    pub(super) async fn swept(&self) -> Result<(), ApiError> {
        // The compaction may have been applied elsewhere first.
        self.barrier().await?;
        self.sweep().await
    }

    /// Drops what compaction gave up, all of it.
    pub(super) async fn sweep(&self) -> Result<(), ApiError> {
        loop {
            let store = self.0.node.store().clone();
            let step = elsewhere(move || store.sweep_step()).await;
            match step.map_err(|error| ApiError::Store(error.to_string()))? {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => return Ok(()),
                Err(fault) => return Err(fault.into()),
            }
        }
    }
}

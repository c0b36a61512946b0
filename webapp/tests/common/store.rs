//! A store of one process in memory, with etcd's API as far as the web app uses it, that fails by script.
//!
//! Only a test double: it knows equality of create revisions, puts, and ranges in rising key order. What it does not
//! know it refuses, so that a test cannot pass by accident.

use kv_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kv_proto::etcdserverpb::kv_server::{Kv, KvServer};
use kv_proto::etcdserverpb::request_op::Request as Op;
use kv_proto::etcdserverpb::response_op::Response as OpResponse;
use kv_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use kv_proto::mvccpb::KeyValue;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What a call does instead of its duty.
pub enum Fault {
    /// Refuse: there is no leader. Nothing is executed.
    NoLeader,
    /// Refuse: there is no room. Nothing is executed.
    NoSpace,
    /// Execute it and lose the answer.
    LoseAnswer,
    /// Lose it: not executed, and the caller cannot know.
    LoseRequest,
    /// Lose it, and somebody else's entry takes its place: every put of the same keys with this value.
    Overtaken(Vec<u8>),
    /// Say when it has begun, and do not answer before told to.
    Wait { begun: Arc<Notify>, go: Arc<Notify> },
    /// Never answer.
    Hang,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
    revision: i64,
    txn_faults: VecDeque<Fault>,
    range_faults: VecDeque<Fault>,
    has_no_leader: bool,
    /// For each range served: how many keys it returned.
    ranges: Vec<usize>,
    txns: usize,
}

#[derive(Clone)]
pub struct Store {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    _stop: Arc<watch::Sender<()>>,
}

impl Store {
    pub async fn start() -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, mut stopped) = watch::channel(());
        let store = Store {
            state: Arc::default(),
            address,
            _stop: Arc::new(stop),
        };
        let service = KvServer::new(Service(store.state.clone()));
        let stopping = async move {
            let _ = stopped.changed().await;
        };
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopping),
        );
        store
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next transaction does this.
    pub fn next_txn(&self, fault: Fault) {
        self.state().txn_faults.push_back(fault);
    }

    /// The next range does this.
    pub fn next_range(&self, fault: Fault) {
        self.state().range_faults.push_back(fault);
    }

    pub fn set_no_leader(&self, has_no_leader: bool) {
        self.state().has_no_leader = has_no_leader;
    }

    /// The values of the keys that start so, in key order.
    pub fn values(&self, prefix: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let state = self.state();
        let keys = state
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        keys.map(|(key, (value, _))| (text(key), text(value))).collect()
    }

    pub fn put(&self, key: &str, value: &[u8]) {
        let mut state = self.state();
        state.revision += 1;
        let revision = state.revision;
        state.keys.insert(key.into(), (value.to_vec(), revision));
    }

    /// How many keys each range returned since the last call.
    pub fn take_ranges(&self) -> Vec<usize> {
        std::mem::take(&mut self.state().ranges)
    }

    pub fn txns(&self) -> usize {
        self.state().txns
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }
}

struct Service(Arc<Mutex<State>>);

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock")
    }
}

impl State {
    fn check_leader(&self) -> Result<(), Status> {
        if self.has_no_leader {
            Err(no_leader())
        } else {
            Ok(())
        }
    }

    fn range(&mut self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        if request.sort_order != 0 || request.revision != 0 || request.serializable {
            return Err(Status::unimplemented(
                "the double knows linearizable ranges in key order",
            ));
        }
        let start = Bound::Included(request.key.to_vec());
        let end = if request.range_end.is_empty() {
            Bound::Included(request.key.to_vec())
        } else {
            Bound::Excluded(request.range_end.to_vec())
        };
        if matches!((&start, &end), (Bound::Included(s), Bound::Excluded(e)) if s >= e) {
            return Ok(RangeResponse::default());
        }
        let found: Vec<_> = self.keys.range((start, end)).collect();
        let limit = if request.limit == 0 {
            found.len()
        } else {
            request.limit as usize
        };
        let kvs: Vec<_> = found
            .iter()
            .take(limit)
            .map(|(key, (value, revision))| KeyValue {
                key: (*key).clone().into(),
                value: if request.keys_only {
                    bytes::Bytes::new()
                } else {
                    value.clone().into()
                },
                create_revision: *revision,
                mod_revision: *revision,
                version: 1,
                lease: 0,
            })
            .collect();
        self.ranges.push(kvs.len());
        Ok(RangeResponse {
            more: found.len() > limit,
            count: found.len() as i64,
            kvs,
            header: None,
        })
    }

    fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Status> {
        let mut succeeded = true;
        for compare in &request.compare {
            let is_absent = compare.result == CompareResult::Equal as i32
                && compare.target == CompareTarget::Create as i32
                && compare.target_union == Some(TargetUnion::CreateRevision(0));
            if !is_absent {
                return Err(Status::unimplemented("the double knows create_revision = 0"));
            }
            succeeded &= !self.keys.contains_key(compare.key.as_ref());
        }
        self.txns += 1;
        let ops = if succeeded {
            request.success
        } else {
            request.failure
        };
        if ops.iter().any(|op| matches!(op.request, Some(Op::RequestPut(_)))) {
            self.revision += 1;
        }
        let responses = ops.into_iter().map(|op| self.op(op)).collect::<Result<_, _>>()?;
        Ok(TxnResponse {
            header: None,
            succeeded,
            responses,
        })
    }

    fn op(&mut self, op: RequestOp) -> Result<ResponseOp, Status> {
        let response = match op.request {
            Some(Op::RequestPut(put)) => {
                let revision = self.revision;
                let known = self.keys.insert(put.key.to_vec(), (put.value.to_vec(), revision));
                assert!(known.is_none(), "the app never overwrites: {:?}", put.key);
                OpResponse::ResponsePut(PutResponse::default())
            }
            Some(Op::RequestRange(range)) => OpResponse::ResponseRange(self.range(&range)?),
            other => {
                return Err(Status::unimplemented(format!(
                    "the double does not know {other:?}"
                )));
            }
        };
        Ok(ResponseOp {
            response: Some(response),
        })
    }
}

fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

fn lost() -> Status {
    Status::unavailable("etcdserver: request timed out")
}

#[tonic::async_trait]
impl Kv for Service {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let fault = self.state().range_faults.pop_front();
        match fault {
            None => {}
            Some(Fault::NoLeader) => return Err(no_leader()),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Wait { begun, go }) => {
                begun.notify_one();
                go.notified().await;
            }
            Some(_) => return Err(lost()),
        }
        let mut state = self.state();
        state.check_leader()?;
        Ok(Response::new(state.range(request.get_ref())?))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        let fault = self.state().txn_faults.pop_front();
        match fault {
            None => {}
            Some(Fault::NoLeader) => return Err(no_leader()),
            Some(Fault::NoSpace) => {
                return Err(Status::resource_exhausted(
                    "etcdserver: mvcc: database space exceeded",
                ));
            }
            Some(Fault::LoseRequest) => return Err(lost()),
            Some(Fault::LoseAnswer) => {
                self.state().txn(request)?;
                return Err(lost());
            }
            Some(Fault::Overtaken(value)) => {
                let mut state = self.state();
                state.revision += 1;
                let revision = state.revision;
                for compare in request.compare {
                    state.keys.insert(compare.key.to_vec(), (value.clone(), revision));
                }
                return Err(lost());
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Wait { begun, go }) => {
                begun.notify_one();
                go.notified().await;
            }
        }
        let mut state = self.state();
        state.check_leader()?;
        Ok(Response::new(state.txn(request)?))
    }

    type RangeStreamStream = tonic::codegen::BoxStream<RangeStreamResponse>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented("the app reads in pages"))
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Err(Status::unimplemented("the app writes by transactions only"))
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(Status::unimplemented("the app never deletes"))
    }

    async fn compact(&self, _: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        Err(Status::unimplemented("the app never compacts"))
    }
}

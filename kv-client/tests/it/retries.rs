//! What is sent again and what is not, against servers that fail as they are told.
//!
//! The promise under test: a write is never sent again once it may have been executed.

use std::time::Instant;

use crate::support::{DIAL, IMPATIENT, Scripted, Step, client, impatient, persistent, refusing};
use kv_client::{Client, Config, Error};
use kv_proto::etcdserverpb::request_op::Request;
use kv_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use tonic::Code;

const TIMED_OUT: &str = "etcdserver: request timed out, possibly due to previous leader failure";
const NO_LEADER: Step = Step::Fail(Code::Unavailable, "etcdserver: no leader");

/// Every kind of write.
#[derive(Clone, Copy, Debug)]
enum Write {
    Put,
    Delete,
    Txn,
    Compact,
}

impl Write {
    const ALL: [Write; 4] = [Write::Put, Write::Delete, Write::Txn, Write::Compact];

    async fn run(self, client: &Client) -> Result<(), Error> {
        match self {
            Write::Put => client.put(PutRequest::default()).await.map(drop),
            Write::Delete => client.delete_range(DeleteRangeRequest::default()).await.map(drop),
            Write::Txn => {
                let put = RequestOp {
                    request: Some(Request::RequestPut(PutRequest::default())),
                };
                client
                    .txn(TxnRequest {
                        failure: vec![put],
                        ..Default::default()
                    })
                    .await
                    .map(drop)
            }
            Write::Compact => client.compact(CompactionRequest::default()).await.map(drop),
        }
    }
}

async fn put(client: &Client) -> Result<(), Error> {
    client.put(PutRequest::default()).await.map(drop)
}

async fn get(client: &Client) -> Result<(), Error> {
    client.range(RangeRequest::default()).await.map(drop)
}

#[tokio::test]
async fn a_write_that_may_have_been_executed_is_not_sent_again() {
    for step in [
        Step::Cut,
        Step::Hang,
        Step::Fail(Code::Unavailable, TIMED_OUT),
        Step::Fail(Code::Internal, "oops"),
    ] {
        let first = Scripted::start([step; 4]).await;
        let second = Scripted::start([]).await;
        for write in Write::ALL {
            // A new client each time, because one turns to the second server after the first failure.
            let client = impatient([first.endpoint(), second.endpoint()]);
            let before = first.calls();
            let result = write.run(&client).await;
            assert!(
                matches!(result, Err(Error::OutcomeUnknown { .. })),
                "{write:?} {step:?}: {result:?}"
            );
            assert_eq!(
                (first.calls() - before, second.calls()),
                (1, 0),
                "{write:?} {step:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_write_goes_on_where_a_connection_is_refused() {
    let (_socket, refusing) = refusing();
    let good = Scripted::start([]).await;
    let client = client([refusing, good.endpoint()]);
    for write in Write::ALL {
        write.run(&client).await.unwrap();
    }
    assert_eq!(good.calls(), 4);
}

#[tokio::test]
async fn a_write_goes_on_where_the_answer_excludes_its_execution() {
    for answer in [
        NO_LEADER,
        Step::Fail(Code::FailedPrecondition, "etcdserver: not leader"),
        Step::Fail(Code::ResourceExhausted, "etcdserver: too many requests"),
        Step::Fail(Code::Unavailable, "etcdserver: rpc not supported for learner"),
    ] {
        let first = Scripted::start([answer]).await;
        let second = Scripted::start([]).await;
        put(&client([first.endpoint(), second.endpoint()])).await.unwrap();
        assert_eq!((first.calls(), second.calls()), (1, 1), "{answer:?}");
    }
}

#[tokio::test]
async fn an_election_is_waited_for() {
    let only = Scripted::start([NO_LEADER; 3]).await;
    put(&client([only.endpoint()])).await.unwrap();
    assert_eq!(only.calls(), 4);
}

#[tokio::test]
async fn without_a_leader_the_error_is_no_quorum() {
    let only = Scripted::start([NO_LEADER; 100]).await;
    let client = persistent([only.endpoint()]);
    for result in [put(&client).await, get(&client).await] {
        let Err(Error::NoQuorum { message }) = result else {
            panic!("{result:?}")
        };
        assert!(
            message.starts_with("no quorum") && message.contains("etcdserver: no leader"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn where_nothing_listens_the_error_comes_after_the_dial_timeout() {
    let ((_one, first), (_two, second)) = (refusing(), refusing());
    let client = client([first.clone(), second.clone()]);
    for is_write in [true, false] {
        let started = Instant::now();
        let result = if is_write {
            put(&client).await
        } else {
            get(&client).await
        };
        let Err(Error::NoQuorum { message }) = result else {
            panic!("{result:?}")
        };
        assert!(message.contains(&first) && message.contains(&second), "{message}");
        assert!(started.elapsed() >= DIAL);
    }
}

#[tokio::test]
async fn a_refusal_is_final() {
    for is_write in [true, false] {
        let first = Scripted::start([Step::Fail(
            Code::InvalidArgument,
            "etcdserver: key is not provided",
        )])
        .await;
        let second = Scripted::start([]).await;
        let client = client([first.endpoint(), second.endpoint()]);
        let result = if is_write {
            put(&client).await
        } else {
            get(&client).await
        };
        let Err(Error::Rejected { code, message }) = result else {
            panic!("{result:?}")
        };
        assert_eq!(
            (code, message.as_str()),
            (Code::InvalidArgument, "etcdserver: key is not provided")
        );
        assert_eq!((first.calls(), second.calls()), (1, 0));
    }
}

#[tokio::test]
async fn a_read_is_tried_elsewhere_after_any_failure() {
    for step in [
        Step::Cut,
        Step::Hang,
        NO_LEADER,
        Step::Fail(Code::Unavailable, TIMED_OUT),
        Step::Fail(Code::Internal, ""),
    ] {
        for is_txn in [false, true] {
            let first = Scripted::start([step]).await;
            let second = Scripted::start([]).await;
            let client = client([first.endpoint(), second.endpoint()]);
            if is_txn {
                client.txn(TxnRequest::default()).await.map(drop)
            } else {
                get(&client).await
            }
            .unwrap();
            assert_eq!((first.calls(), second.calls()), (1, 1), "{step:?}");
        }
    }
}

#[tokio::test]
async fn a_read_that_nobody_answers_times_out() {
    let (first, second) = (
        Scripted::start([Step::Hang]).await,
        Scripted::start([Step::Hang]).await,
    );
    let started = Instant::now();
    let result = get(&impatient([first.endpoint(), second.endpoint()])).await;
    assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    assert!(started.elapsed() >= IMPATIENT);
    assert_eq!(
        (first.calls(), second.calls()),
        (1, 1),
        "asked once each, not again and again"
    );
}

#[tokio::test]
async fn a_slow_read_is_not_cut_short_by_a_second_attempt() {
    // The first server never answers and the second fails at once; the read must still wait for its deadline and
    // go on asking whoever is free.
    let first = Scripted::start([Step::Hang]).await;
    let second = Scripted::start([NO_LEADER, NO_LEADER]).await;
    get(&client([first.endpoint(), second.endpoint()])).await.unwrap();
    assert_eq!((first.calls(), second.calls()), (1, 3));
}

#[tokio::test]
async fn an_endpoint_that_failed_is_not_tried_first_again() {
    let first = Scripted::start([Step::Hang]).await;
    let second = Scripted::start([]).await;
    let client = client([first.endpoint(), second.endpoint()]);
    get(&client).await.unwrap();
    for _ in 0..5 {
        put(&client).await.unwrap();
    }
    assert_eq!((first.calls(), second.calls()), (1, 6));
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced() {
    let only = Scripted::start([]).await;
    let client = client([only.endpoint()]);
    for calls in 1..=3 {
        put(&client).await.unwrap();
        assert_eq!(only.calls(), calls);
        only.cut().await;
    }
}

#[tokio::test]
async fn no_endpoint_or_a_malformed_one_is_refused_at_once() {
    for endpoints in [vec![], vec!["localhost"], vec!["127.0.0.1:1", ""]] {
        let result = Client::new(Config::new(endpoints.clone())).map(drop);
        assert!(
            matches!(result, Err(Error::InvalidEndpoint { .. })),
            "{endpoints:?}: {result:?}"
        );
    }
}

#[tokio::test]
async fn status_of_an_endpoint_that_is_down_says_so() {
    let (_socket, down) = refusing();
    let up = Scripted::start([]).await;
    let client = client([up.endpoint()]);
    let result = client.status(&down).await;
    let Err(Error::NoQuorum { message }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(message, format!("{down}: connection refused"));
    // The scripted server has no Maintenance service.
    let result = client.status(&up.endpoint()).await;
    assert!(
        matches!(
            result,
            Err(Error::Rejected {
                code: Code::Unimplemented,
                ..
            })
        ),
        "{result:?}"
    );
}

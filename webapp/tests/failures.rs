//! A store that fails by script: no quorum, lost answers, no room; and the bounds of the server itself.

mod common;

use common::store::{Fault, Store};
use common::{Web, header, read, read_json};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use webapp::server::Server;

async fn start() -> (Store, Web) {
    let store = Store::start().await;
    let web = Web::start(&store, "web-1").await;
    (store, web)
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn without_a_quorum_nothing_is_stored_and_everybody_is_told() {
    let (store, web) = start().await;
    store.set_no_leader(true);
    assert_eq!(code(&web.register("Ada").await), (503, "no_quorum"));
    assert_eq!(code(&web.json("/api/names").await), (503, "no_quorum"));
    let response = web.submit("Ada").await;
    assert_eq!(header(&response, "retry-after"), "1");
    let (status, page) = read(response).await;
    assert_eq!(status, 503);
    assert!(
        page.contains("The store has no majority right now. Nothing was stored."),
        "{page}"
    );
    assert!(page.contains("value=\"Ada\""), "to try again");
    assert_eq!(web.page("/").await.0, 503);
    assert!(store.values("").is_empty());
    store.set_no_leader(false);
    assert_eq!(web.register("Ada").await.0, 201);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_no_quorum() {
    // Nobody listens there: the system gives this port to no server by itself.
    let web = Web::start_at("127.0.0.1:1", "web-1", None).await;
    assert_eq!(code(&web.register("Ada").await), (503, "no_quorum"));
}

#[tokio::test]
async fn a_lost_answer_to_an_executed_registration_is_found_to_be_ours() {
    let (store, web) = start().await;
    store.next_txn(Fault::LoseAnswer);
    // The first read after it fails, too.
    store.next_range(Fault::NoLeader);
    let (status, entry) = web.register("Ada").await;
    assert_eq!((status, entry["name"].as_str()), (201, Some("Ada")));
    assert_eq!(entry.get("id"), None, "the id is not for the public");
    store.next_txn(Fault::LoseAnswer);
    assert_eq!(web.submit("Grace").await.status(), 303);
    assert_eq!(store.txns(), 2, "nothing was sent twice");
}

#[tokio::test]
async fn a_lost_answer_to_a_registration_that_came_second_is_a_conflict() {
    let (store, web) = start().await;
    assert_eq!(web.register("Ada").await.0, 201);
    store.next_txn(Fault::LoseAnswer);
    assert_eq!(code(&web.register("ada").await), (409, "taken"));
}

#[tokio::test]
async fn a_lost_registration_that_somebody_overtook_is_a_conflict() {
    let (store, web) = start().await;
    let theirs =
        json!({ "name": "Ada", "registered_at": "2026-11-20T09:00:00.000Z", "host": "web-9", "id": "7" });
    store.next_txn(Fault::Overtaken(theirs.to_string().into_bytes()));
    let answer = web.register("Ada").await;
    assert_eq!(code(&answer), (409, "taken"));
    assert_eq!(answer.1["entry"]["host"], "web-9");
}

#[tokio::test]
async fn what_is_not_known_is_said_to_be_not_known() {
    let (store, web) = start().await;
    store.next_txn(Fault::LoseRequest);
    assert_eq!(code(&web.register("Ada").await), (504, "outcome_unknown"));
    store.next_txn(Fault::LoseRequest);
    let (status, page) = read(web.submit("Ada L").await).await;
    assert_eq!(status, 504);
    assert!(
        page.contains("The name may have been stored") && page.contains("href=\"/names/Ada%20L\""),
        "{page}"
    );
    assert!(store.values("").is_empty());
}

#[tokio::test]
async fn a_registration_that_hangs_ends_in_time() {
    let (store, web) = start().await;
    store.next_txn(Fault::Hang);
    let begun = Instant::now();
    assert_eq!(code(&web.register("Ada").await), (504, "outcome_unknown"));
    assert!(begun.elapsed() < webapp::registry::REGISTER_TIMEOUT);
}

#[tokio::test]
async fn a_full_store_refuses() {
    let (store, web) = start().await;
    store.next_txn(Fault::NoSpace);
    let answer = web.register("Ada").await;
    assert_eq!(code(&answer), (503, "store_refused"));
    assert!(
        answer.1["message"]
            .as_str()
            .unwrap()
            .contains("database space exceeded")
    );
    assert_eq!(web.register("Ada").await.0, 201);
}

#[tokio::test]
async fn a_read_that_hangs_times_out() {
    let (store, web) = start().await;
    store.next_range(Fault::Hang);
    assert_eq!(code(&web.json("/api/names").await), (504, "timeout"));
}

/// A registration that has reached the store and waits there.
async fn stuck_registration(
    store: &Store,
    web: &Web,
) -> (tokio::task::JoinHandle<(u16, Value)>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    store.next_txn(Fault::Wait {
        begun: begun.clone(),
        go: go.clone(),
    });
    let request = web
        .request(Method::POST, "/api/names")
        .json(&json!({ "name": "Ada" }));
    let answer = tokio::spawn(async move { read_json(request.send().await.expect("an answer")).await });
    begun.notified().await;
    (answer, go)
}

#[tokio::test]
async fn one_request_too_many_is_told_at_once() {
    let store = Store::start().await;
    let web = Web::start_at(&store.endpoint(), "web-1", Some(1)).await;
    let (stuck, go) = stuck_registration(&store, &web).await;
    assert_eq!(code(&web.json("/api/names").await), (503, "busy"));
    assert_eq!(web.page("/").await.0, 503);
    assert_eq!(web.page("/livez").await.0, 200, "health has its own way");
    go.notify_one();
    assert_eq!(stuck.await.unwrap().0, 201);
    assert_eq!(web.json("/api/names").await.0, 200);
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_end() {
    let (store, mut web) = start().await;
    let address = web.address;
    let (stuck, go) = stuck_registration(&store, &web).await;
    // An idle connection must not hold the stop up.
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    web.begin_stop();
    // Wait until the listener is gone.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    assert_eq!(stuck.await.unwrap().0, 201);
    let begun = Instant::now();
    web.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "ended by itself, not by the bound"
    );
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Server::bind(&address).await.err().unwrap().to_string();
    assert_eq!(
        error,
        format!("cannot listen on {address}: the port is taken; choose another with --listen")
    );
    let error = Server::bind("nonsense").await.err().unwrap().to_string();
    assert!(
        error.contains("nonsense") && error.contains("--listen"),
        "{error}"
    );
}

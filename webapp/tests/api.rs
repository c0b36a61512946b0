//! The JSON API over a real listener, on a store that works.

mod common;

use chrono::TimeDelta;
use common::store::Store;
use common::{Web, header, read, read_json};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn start() -> (Store, Web) {
    let store = Store::start().await;
    let web = Web::start(&store, "web-1").await;
    (store, web)
}

/// Status, error code, and message.
async fn send(
    web: &Web,
    method: Method,
    path: &str,
    kind: &str,
    body: impl Into<Vec<u8>>,
) -> (u16, String, String) {
    let request = web
        .request(method, path)
        .header("content-type", kind)
        .body(body.into());
    let (status, value) = read_json(request.send().await.expect("an answer")).await;
    let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
    (status, text("error"), text("message"))
}

#[tokio::test]
async fn a_name_is_registered_once() {
    let (store, web) = start().await;
    let body = json!({ "name": " Ada/Lovelace " });
    let response = web
        .request(Method::POST, "/api/names")
        .json(&body)
        .send()
        .await
        .unwrap();
    assert_eq!(header(&response, "location"), "/api/names/Ada%2FLovelace");
    let entry =
        json!({ "name": "Ada/Lovelace", "registered_at": "2026-11-20T10:00:00.000Z", "host": "web-1" });
    assert_eq!(read_json(response).await, (201, entry.clone()));

    let other = Web::start(&store, "web-2").await;
    other.clock.advance(TimeDelta::minutes(3));
    let (status, conflict) = other.register("ADA/lovelace").await;
    assert_eq!(status, 409);
    assert_eq!(
        conflict,
        json!({ "error": "taken", "message": "the name is taken", "entry": entry })
    );

    assert_eq!(
        other.json("/api/names/aDA%2Flovelace").await,
        (200, entry.clone())
    );
    assert_eq!(
        other.json("/api/names").await,
        (200, json!({ "names": [entry], "next": null }))
    );
    let (status, missing) = web.json("/api/names/Grace").await;
    assert_eq!((status, &missing["error"]), (404, &json!("not_registered")));
}

#[tokio::test]
async fn one_transaction_writes_entry_and_indexes() {
    let (store, web) = start().await;
    web.register("Ada").await;
    let all = store.values("names/");
    assert_eq!(all.len(), 3);
    assert_eq!(store.txns(), 1);
    assert_eq!(all[0].0, "names/by-name/ada");
    assert_eq!(all[0].1, all[2].1, "the newest-first index holds the entry, too");
    assert!(all[1].0.starts_with("names/by-time-asc/") && all[1].1.is_empty());
    assert!(all[2].0.starts_with("names/by-time/"));
}

#[tokio::test]
async fn of_many_at_once_exactly_one_wins() {
    let store = Store::start().await;
    let webs = [
        Web::start(&store, "web-1").await,
        Web::start(&store, "web-2").await,
    ];
    let spellings = ["ada", "ADA", "Ada", "aDa"];
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..40 {
        let (web, name) = (&webs[n % 2], spellings[n % 4]);
        let request = web
            .request(Method::POST, "/api/names")
            .json(&json!({ "name": name }));
        tasks.spawn(async move { read_json(request.send().await.unwrap()).await });
    }
    let answers = tasks.join_all().await;
    let (won, lost): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|(status, _)| common::created(*status));
    assert_eq!(won.len(), 1);
    assert_eq!(lost.len(), 39);
    for (status, answer) in lost {
        assert_eq!((status, &answer["entry"]), (409, &won[0].1));
    }
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let (store, web) = start().await;
    let json_type = "application/json; charset=utf-8";
    let post =
        async |kind: &'static str, body: Vec<u8>| send(&web, Method::POST, "/api/names", kind, body).await;
    let table: [(&'static str, &[u8], u16, &str, &str); 15] = [
        (json_type, b"", 400, "bad_json", "EOF"),
        (json_type, b"{\"name\": \"a\"", 400, "bad_json", "EOF"),
        (json_type, b"{\"name\": \"\xff\"}", 400, "bad_json", "unicode"),
        (json_type, br#"{"name": "\ud800"}"#, 400, "bad_json", "hex escape"),
        (json_type, br#"{"name": "a"} x"#, 400, "bad_json", "trailing"),
        (
            json_type,
            br#"{"name": "a", "nick": "b"}"#,
            400,
            "bad_fields",
            "`nick`",
        ),
        (
            json_type,
            br#"{"name": "a", "name": "b"}"#,
            400,
            "bad_fields",
            "`name`",
        ),
        (json_type, b"{}", 400, "bad_fields", "`name`"),
        (json_type, br#"{"name": 7}"#, 400, "bad_fields", "string"),
        (json_type, br#"["Ada"]"#, 400, "bad_fields", "not an array"),
        (
            json_type,
            b"1",
            400,
            "bad_fields",
            "an object with the field `name`",
        ),
        (
            "text/plain",
            br#"{"name": "a"}"#,
            415,
            "unsupported_media_type",
            "application/json",
        ),
        (
            json_type,
            br#"{"name": " "}"#,
            422,
            "invalid_name",
            "a name needs at least one character",
        ),
        (
            json_type,
            br#"{"name": "a\u0000b"}"#,
            422,
            "invalid_name",
            "a control character",
        ),
        (
            json_type,
            br#"{"name": ".."}"#,
            422,
            "invalid_name",
            "cannot be names",
        ),
    ];
    for (kind, body, status, code, part) in table {
        let text = String::from_utf8_lossy(body).into_owned();
        let answer = post(kind, body.to_vec()).await;
        assert_eq!(
            (answer.0, answer.1.as_str()),
            (status, code),
            "{text}: {}",
            answer.2
        );
        assert!(answer.2.contains(part), "{text}: {}", answer.2);
    }
    let long = json!({ "name": "x".repeat(65) }).to_string();
    let answer = post(json_type, long.into_bytes()).await;
    assert_eq!(
        (answer.0, answer.2.as_str()),
        (422, "a name has at most 64 characters, this one has 65")
    );
    assert!(store.values("").is_empty(), "nothing of it was stored");
}

/// Writes everything before it reads, as simple clients do: a connection reset meanwhile would lose the answer.
#[tokio::test]
async fn a_client_that_sends_all_of_a_large_body_sees_the_refusal() {
    const LEN: usize = 3 << 20;
    let (_store, web) = start().await;
    let mut stream = tokio::net::TcpStream::connect(web.address).await.unwrap();
    let head = format!(
        "POST /api/names HTTP/1.1\r\nhost: app.test\r\ncontent-type: application/json\r\ncontent-length: {LEN}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..LEN / 1024 {
        stream.write_all(&[b' '; 1024]).await.unwrap();
    }
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

/// The rest of a body is not waited for without end.
#[tokio::test]
async fn a_large_body_that_never_ends_is_refused_all_the_same() {
    let (_store, web) = start().await;
    let mut stream = tokio::net::TcpStream::connect(web.address).await.unwrap();
    let head = "POST /api/names HTTP/1.1\r\nhost: app.test\r\ncontent-type: application/json\r\n\
                content-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
        .write_all(&[b' '; webapp::BODY_BYTES_MAX + 1])
        .await
        .unwrap();
    let mut status = [0; 12];
    let read = stream.read_exact(&mut status);
    tokio::time::timeout(std::time::Duration::from_secs(8), read)
        .await
        .expect("within the bound")
        .unwrap();
    assert_eq!(&status, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_has_a_bound() {
    let (store, web) = start().await;
    let padded = |len: usize| {
        let mut body = br#"{"name": "Ada"}"#.to_vec();
        body.resize(len, b' ');
        body
    };
    let answer = send(
        &web,
        Method::POST,
        "/api/names",
        "application/json",
        padded(webapp::BODY_BYTES_MAX + 1),
    )
    .await;
    assert_eq!((answer.0, answer.1.as_str()), (413, "body_too_large"));
    assert!(store.values("").is_empty());
    let answer = send(
        &web,
        Method::POST,
        "/api/names",
        "application/json",
        padded(webapp::BODY_BYTES_MAX),
    )
    .await;
    assert_eq!(answer.0, 201);
}

#[tokio::test]
async fn wrong_methods_and_paths() {
    let (_store, web) = start().await;
    for (method, path, allow) in [
        (Method::DELETE, "/api/names", "GET,HEAD,POST"),
        (Method::PUT, "/api/names/ada", "GET,HEAD"),
        (Method::POST, "/", "GET,HEAD"),
        (Method::DELETE, "/names", "GET,HEAD,POST"),
    ] {
        let response = web.request(method.clone(), path).send().await.unwrap();
        assert_eq!(response.status(), 405, "{method} {path}");
        assert_eq!(header(&response, "allow"), allow, "{method} {path}");
    }
    let (status, answer) = web.json("/api/nmaes").await;
    assert_eq!((status, &answer["error"]), (404, &json!("no_such_page")));
    let (status, answer) = web.json("/api/names/%FF").await;
    assert_eq!((status, &answer["error"]), (400, &json!("bad_path")));
    let (status, page) = web.page("/nmaes").await;
    assert_eq!(status, 404);
    assert!(page.contains("Page not found"));
}

async fn register_many(web: &Web, count: usize) {
    for n in 0..count {
        // Three in each millisecond: the order within one must hold in both directions, too.
        if n % 3 == 0 {
            web.clock.advance(TimeDelta::milliseconds(1));
        }
        assert_eq!(web.register(&format!("name {n}")).await.0, 201);
    }
}

fn names(page: &Value) -> Vec<String> {
    let entries = page["names"].as_array().expect("names");
    entries
        .iter()
        .map(|entry| entry["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test]
async fn pages_hold_every_name_once_and_read_no_more_than_they_show() {
    let (store, web) = start().await;
    register_many(&web, 50).await;
    store.take_ranges();
    let (mut seen, mut path, mut times) = (Vec::new(), "/api/names?limit=7".to_owned(), Vec::new());
    loop {
        let (status, page) = web.json(&path).await;
        assert_eq!(status, 200, "{page}");
        assert!(store.take_ranges().iter().all(|keys| *keys <= 8));
        seen.extend(names(&page));
        times.extend(
            page["names"]
                .as_array()
                .unwrap()
                .iter()
                .map(|entry| entry["registered_at"].to_string()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/api/names?limit=7&cursor={next}"),
            None => break,
        }
    }
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
    assert_eq!(seen.len(), 50);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 50);
}

#[tokio::test]
async fn bad_paging_is_refused() {
    let (_store, web) = start().await;
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("limit=101", "bad_limit"),
        ("limit=x", "bad_limit"),
        ("limit=-1", "bad_limit"),
        ("cursor=", "bad_cursor"),
        ("cursor=AAAA", "bad_cursor"),
        ("cursor=../..", "bad_cursor"),
        ("page=2", "bad_query"),
        ("limit=1&limit=2", "bad_query"),
        ("cursor=%FF", "bad_query"),
    ] {
        let (status, answer) = web.json(&format!("/api/names?{query}")).await;
        assert_eq!((status, answer["error"].as_str()), (400, Some(code)), "{query}");
    }
    assert_eq!(web.json("/api/names?limit=100").await.0, 200);
}

#[tokio::test]
async fn what_others_wrote_does_not_hide_the_names() {
    let (store, web) = start().await;
    web.register("Ada").await;
    store.put("names/by-time/000", b"junk");
    store.put("names/by-name/bob", b"junk");
    assert_eq!(names(&web.json("/api/names").await.1), ["Ada"]);
    let (status, answer) = web.register("Bob").await;
    assert_eq!((status, answer["error"].as_str()), (500, Some("corrupt_entry")));
}

#[tokio::test]
async fn health_and_metrics() {
    let (store, web) = start().await;
    assert_eq!(web.page("/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(
        web.page("/readyz").await,
        (200, "[+]pages ok\n[+]store ok\nok\n".to_owned())
    );
    store.set_no_leader(true);
    let (status, text) = read(web.get("/readyz").await).await;
    assert_eq!(status, 200, "pages are served all the same");
    assert!(text.contains("[-]store"), "{text}");
    store.set_no_leader(false);
    web.register("Ada").await;
    let (_, text) = web.page("/metrics").await;
    let line = r#"quorate_web_http_requests_total{route="/api/names",method="POST",status="201"} 1"#;
    assert!(text.contains(line), "{text}");
}

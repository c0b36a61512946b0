//! `/v1/kv/…`.

use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};

use crate::harness::{MAX_REQUEST_BYTES, Server};

#[tokio::test]
async fn any_bytes_in_and_out() {
    let server = Server::start().await;
    let value: Vec<u8> = (0..=255).collect();
    for path in [
        "/v1/kv/a",
        "/v1/kv/app/config/x",
        "/v1/kv//leading",
        "/v1/kv/%00%ff%2f%25",
        "/v1/kv/ä%20b+c",
    ] {
        let put = server.ask("PUT", path, &[], value.clone()).await;
        assert_eq!(put.status, 200, "{path}: {put:?}");
        let revision = put.json()["revision"].as_i64().unwrap().to_string();
        assert_eq!(put.header("quorate-revision"), revision);
        let get = server.get(path).await;
        assert_eq!((get.status, &get.body), (200, &value), "{path}");
        assert_eq!(get.header("content-type"), "application/octet-stream");
        assert_eq!(get.header("x-content-type-options"), "nosniff");
        assert_eq!(
            (get.header("quorate-revision"), get.header("quorate-mod-revision")),
            (&*revision, &*revision)
        );
        assert_eq!(
            (
                get.header("quorate-create-revision"),
                get.header("quorate-version")
            ),
            (&*revision, "1")
        );
        assert_eq!(get.header("etag"), format!("\"{revision}\""));
    }
    // The same bytes, however the path spells them.
    assert_eq!(server.get("/v1/kv/app%2Fconfig%2Fx").await.status, 200);
    let list = server.get("/v1/kv/?prefix=%00&keys_only").await.json();
    assert_eq!(list["items"][0]["key_base64"], "AP8vJQ==");
    server.stop().await;
}

#[tokio::test]
async fn reads() {
    let server = Server::start().await;
    for value in ["one", "two"] {
        server.ask("PUT", "/v1/kv/k", &[], value).await;
    }
    assert_eq!(server.get("/v1/kv/k?rev=3").await.text(), "one");
    assert_eq!(server.get("/v1/kv/k?rev=3").await.header("quorate-revision"), "4");
    assert_eq!(
        server.get("/v1/kv/k?consistency=serializable").await.text(),
        "two"
    );
    let header = [("quorate-consistency", "serializable")];
    assert_eq!(server.ask("GET", "/v1/kv/k", &header, "").await.text(), "two");
    let head = server.ask("HEAD", "/v1/kv/k", &[], "").await;
    assert_eq!(
        (head.status, head.body.len(), head.header("content-length")),
        (200, 0, "3")
    );
    assert_eq!(head.header("etag"), "\"4\"");
    assert_eq!(server.ask("HEAD", "/v1/kv/nothing", &[], "").await.status, 404);
    let known = server
        .ask("GET", "/v1/kv/k", &[("if-none-match", "\"4\"")], "")
        .await;
    assert_eq!(
        (known.status, known.body.len(), known.header("etag")),
        (304, 0, "\"4\"")
    );
    assert_eq!(
        server
            .ask("GET", "/v1/kv/k", &[("if-none-match", "\"3\"")], "")
            .await
            .status,
        200
    );
    let missing = server.get("/v1/kv/nothing").await;
    let expected =
        json!({"error": "key_not_found", "message": "there is no such key", "outcome": "not executed"});
    assert_eq!(
        (missing.status, missing.json(), missing.header("quorate-revision")),
        (404, expected, "4")
    );
    assert_eq!(
        server.get("/v1/kv/k?rev=5").await.problem(),
        (400, "future_revision".to_owned())
    );
    let compact = kv_proto::etcdserverpb::CompactionRequest {
        revision: 4,
        physical: false,
    };
    server.kv().compact(compact).await.unwrap();
    assert_eq!(
        server.get("/v1/kv/k?rev=3").await.problem(),
        (410, "compacted".to_owned())
    );
    server.stop().await;
}

#[tokio::test]
async fn conditional_writes() {
    let server = Server::start().await;
    let path = "/v1/kv/k";
    let absent = [("if-none-match", "*")];
    assert_eq!(
        server.ask("PUT", path, &[("if-match", "*")], "0").await.status,
        412
    );
    let created = server.ask("PUT", path, &absent, "1").await;
    assert_eq!((created.status, created.header("etag")), (201, "\"3\""));
    let again = server.ask("PUT", path, &absent, "2").await;
    assert_eq!(again.problem(), (412, "precondition_failed".to_owned()));
    assert_eq!(
        (again.header("etag"), &again.json()["mod_revision"]),
        ("\"3\"", &json!(3))
    );
    assert_eq!(again.json()["outcome"], "not executed");
    let changed = server.ask("PUT", path, &[("if-match", "\"3\"")], "2").await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"4\""));
    assert_eq!(
        server
            .ask("PUT", path, &[("if-match", "\"3\"")], "3")
            .await
            .status,
        412
    );
    assert_eq!(
        server
            .ask("DELETE", path, &[("if-match", "\"3\"")], "")
            .await
            .status,
        412
    );
    assert_eq!(server.get(path).await.text(), "2");
    let deleted = server.ask("DELETE", path, &[("if-match", "\"4\"")], "").await;
    assert_eq!(
        (deleted.status, deleted.json()),
        (200, json!({"revision": 5, "deleted": 1}))
    );
    let gone = server.ask("DELETE", path, &[("if-match", "*")], "").await;
    assert_eq!((gone.status, &gone.json()["mod_revision"]), (412, &Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn writes_tell_what_was_there() {
    let server = Server::start().await;
    let first = server.ask("PUT", "/v1/kv/k?prev", &[], "1").await.json();
    assert_eq!(first, json!({"revision": 3, "prev": null}));
    let second = server.ask("PUT", "/v1/kv/k?prev", &[], "2").await.json();
    let prev = json!({"key": "k", "value": "1", "create_revision": 3, "mod_revision": 3, "version": 1});
    assert_eq!(second, json!({"revision": 4, "prev": prev}));
    let gone = server.ask("DELETE", "/v1/kv/k?prev=true", &[], "").await.json();
    assert_eq!(
        (&gone["deleted"], &gone["prev"]["value"]),
        (&json!(1), &json!("2"))
    );
    assert_eq!(
        server.ask("DELETE", "/v1/kv/k", &[], "").await.problem(),
        (404, "key_not_found".to_owned())
    );
    server.stop().await;
}

async fn keys_of_pages(server: &Server, first: &str) -> Vec<String> {
    let (mut keys, mut path) = (Vec::new(), first.to_owned());
    loop {
        let page = server.get(&path).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        keys.extend(items.iter().map(|item| item["key"].as_str().unwrap().to_owned()));
        match page["cursor"].as_str() {
            None => {
                assert_eq!((&page["more"], &page["remaining"]), (&json!(false), &json!(0)));
                return keys;
            }
            Some(cursor) => {
                assert_eq!(page["more"], true);
                // What happens between two pages is in neither.
                let name = format!("/v1/kv/app/{:03}", 500 + keys.len());
                server.ask("PUT", &name, &[], "later").await;
                path = format!("/v1/kv/?limit=7&cursor={cursor}");
            }
        }
    }
}

#[tokio::test]
async fn listings_show_one_revision() {
    let server = Server::start().await;
    let names: Vec<String> = (0..150).map(|number| format!("app/{number:03}")).collect();
    for name in &names {
        server.ask("PUT", &format!("/v1/kv/{name}"), &[], "v").await;
    }
    server.ask("PUT", "/v1/kv/apple", &[], "v").await;
    let first = server.get("/v1/kv/?prefix=app/&limit=7").await.json();
    assert_eq!(
        (&first["items"][0]["value"], &first["remaining"]),
        (&json!("v"), &json!(143))
    );
    assert_eq!(keys_of_pages(&server, "/v1/kv/?prefix=app/&limit=7").await, names);
    // More than one read of the store makes a page.
    let whole = server.get("/v1/kv/?prefix=app/&limit=140&rev=153").await.json();
    assert_eq!(
        (whole["items"].as_array().unwrap().len(), &whole["revision"]),
        (140, &json!(153))
    );
    let everything = server.get("/v1/kv?limit=1000&keys_only").await.json();
    let items = everything["items"].as_array().unwrap();
    assert!(items.len() > 152 && items.iter().all(|item| item.get("value").is_none()));
    assert_eq!(
        server.get("/v1/kv/?prefix=nothing").await.json()["items"],
        json!([])
    );

    let cursor = first["cursor"].as_str().unwrap();
    let compact = kv_proto::etcdserverpb::CompactionRequest {
        revision: 155,
        physical: false,
    };
    server.kv().compact(compact).await.unwrap();
    let gone = server.get(&format!("/v1/kv/?cursor={cursor}")).await;
    assert_eq!(gone.problem(), (410, "compacted".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_large_values_ends_early() {
    let server = Server::start().await;
    for number in 0..70 {
        server
            .ask(
                "PUT",
                &format!("/v1/kv/large/{number:02}"),
                &[],
                vec![b'x'; 100 << 10],
            )
            .await;
    }
    let page = server.get("/v1/kv/?prefix=large/").await;
    let (bytes, page) = (page.body.len(), page.json());
    assert_eq!(
        (page["items"].as_array().unwrap().len(), &page["remaining"]),
        (64, &json!(6))
    );
    assert!(bytes < 8 << 20, "{bytes}");
    let next = server
        .get(&format!("/v1/kv/?cursor={}", page["cursor"].as_str().unwrap()))
        .await
        .json();
    assert_eq!(
        (next["items"].as_array().unwrap().len(), &next["more"]),
        (6, &json!(false))
    );
    server.stop().await;
}

#[tokio::test]
async fn bad_input_is_told_clearly() {
    let server = Server::start().await;
    for (method, path, status, error) in [
        ("PUT", "/v1/kv/", 400, "empty_key"),
        ("DELETE", "/v1/kv/", 400, "empty_key"),
        ("PUT", "/v1/kv", 400, "empty_key"),
        ("GET", "/v1/kv/a%", 400, "bad_key"),
        ("GET", "/v1/kv/a%4", 400, "bad_key"),
        ("GET", "/v1/kv/a?rev=x", 400, "bad_query"),
        ("GET", "/v1/kv/a?rev=0", 400, "bad_query"),
        ("GET", "/v1/kv/a?revision=3", 400, "bad_query"),
        ("GET", "/v1/kv/a?prefix=b", 400, "bad_query"),
        ("GET", "/v1/kv/a?consistency=quorum", 400, "bad_query"),
        ("PUT", "/v1/kv/a?rev=3", 400, "bad_query"),
        ("GET", "/v1/kv/?limit=0", 400, "bad_query"),
        ("GET", "/v1/kv/?limit=1&limit=2", 400, "bad_query"),
        ("GET", "/v1/kv/?cursor=x", 400, "bad_cursor"),
        ("POST", "/v1/kv/a", 405, "method_not_allowed"),
        ("PATCH", "/v1/kv/a", 405, "method_not_allowed"),
        ("POST", "/v1/kv/", 405, "method_not_allowed"),
    ] {
        let answer = server.ask(method, path, &[], "").await;
        assert_eq!(answer.problem(), (status, error.to_owned()), "{method} {path}");
        assert_eq!(answer.json()["outcome"], "not executed");
    }
    assert_eq!(
        server.ask("POST", "/v1/kv/a", &[], "").await.header("allow"),
        "GET, HEAD, PUT, DELETE"
    );
    assert_eq!(
        server.ask("POST", "/v1/kv/", &[], "").await.header("allow"),
        "GET, HEAD"
    );
    let empty = server.ask("PUT", "/v1/kv/", &[], "").await.json();
    assert_eq!(empty["message"], "etcdserver: key is not provided");
    for condition in [("if-match", "3"), ("if-none-match", "\"3\"")] {
        let answer = server.ask("PUT", "/v1/kv/a", &[condition], "").await;
        assert_eq!(
            answer.problem(),
            (400, "bad_precondition".to_owned()),
            "{condition:?}"
        );
    }
    let header = [("quorate-consistency", "none")];
    assert_eq!(server.ask("GET", "/v1/kv/a", &header, "").await.problem().0, 400);
    assert_eq!(
        server.get("/v1/kv/a").await.header("quorate-revision"),
        "2",
        "nothing was done"
    );
    server.stop().await;
}

#[tokio::test]
async fn bodies_are_bounded() {
    let server = Server::start().await;
    assert_eq!(
        server
            .ask("PUT", "/v1/kv/k", &[], vec![7; MAX_REQUEST_BYTES - 1])
            .await
            .status,
        200
    );
    let too_large = (413, "request_too_large".to_owned());
    assert_eq!(
        server
            .ask("PUT", "/v1/kv/k", &[], vec![7; MAX_REQUEST_BYTES])
            .await
            .problem(),
        too_large
    );
    // Without a length it is only known on the way.
    let chunks = (0..20).map(|_| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![7; 100 << 10]))));
    let endless = reqwest::Body::wrap(StreamBody::new(stream::iter(chunks)));
    let sent = server
        .http
        .put(server.url("/v1/kv/k"))
        .body(endless)
        .send()
        .await
        .unwrap();
    assert_eq!(sent.status(), 413);
    assert_eq!(server.get("/v1/kv/k").await.body.len(), MAX_REQUEST_BYTES - 1);
    server.stop().await;
}

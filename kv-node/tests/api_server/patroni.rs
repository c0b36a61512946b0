//! Patroni's way of using etcd: a round of its leader race through the JSON gateway, on a node and, where it is
//! installed, on etcd itself.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{differential::Etcd, harness::Server};

/// A server, as one member of a Patroni cluster sees it.
struct Member {
    url: String,
    http: reqwest::Client,
    /// What the store's revision was: those shown here count from there.
    base: i64,
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

impl Member {
    async fn post(&self, path: &str, request: &Value) -> reqwest::Response {
        let url = format!("{}{path}", self.url);
        self.http
            .post(url)
            .body(request.to_string())
            .send()
            .await
            .unwrap()
    }

    /// Status and JSON of an answer that ends.
    async fn ask(&self, path: &str, request: Value) -> (u16, Value) {
        let answer = self.post(path, &request).await;
        let status = answer.status().as_u16();
        (status, self.shown(&answer.text().await.unwrap()))
    }

    /// The next line of a stream.
    async fn line(&self, stream: &mut reqwest::Response) -> Value {
        let chunk = stream.chunk().await.unwrap().unwrap();
        self.shown(std::str::from_utf8(&chunk).unwrap())
    }

    /// Without ids and terms, and with revisions since the beginning.
    fn shown(&self, text: &str) -> Value {
        let mut json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        self.mask(&mut json);
        json
    }

    fn mask(&self, json: &mut Value) {
        match json {
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::Object(fields) => {
                for name in ["cluster_id", "member_id", "raft_term"] {
                    fields.remove(name);
                }
                for name in ["revision", "create_revision", "mod_revision"] {
                    if let Some(Value::String(revision)) = fields.get_mut(name) {
                        *revision = format!("{:+}", revision.parse::<i64>().unwrap() - self.base);
                    }
                }
                fields.values_mut().for_each(|value| self.mask(value));
            }
            _ => {}
        }
    }

    /// Takes the leader's key if there is none, or if it is this member's own.
    async fn acquire(&self, name: &str, lease: &Value) -> (u16, Value) {
        let put = json!({"request_put": {"key": base64(LEADER), "value": base64(name), "lease": lease}});
        let is_own =
            json!({"key": base64(LEADER), "target": "VALUE", "result": "EQUAL", "value": base64(name)});
        let request = json!({
            "compare": [{"key": base64(LEADER), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
            "success": [put],
            "failure": [{"request_txn": {"compare": [is_own], "success": [put]}}],
        });
        self.ask("/v3/kv/txn", request).await
    }
}

const LEADER: &str = "/service/batman/leader";

async fn a_round(address: &str) {
    let url = format!("http://{address}");
    let http = reqwest::Client::new();
    let version = http.get(format!("{url}/version")).send().await.unwrap();
    let version: Value = serde_json::from_slice(&version.bytes().await.unwrap()).unwrap();
    let parts = version["etcdserver"].as_str().unwrap().split('.');
    let parts: Vec<u32> = parts.map(|part| part.parse().unwrap()).collect();
    assert!(parts.as_slice() >= [3, 4, 0].as_slice(), "{version}");
    let mut member = Member { url, http, base: 0 };
    let (status, members) = member.ask("/v3/cluster/member/list", json!({})).await;
    let client_url = members["members"][0]["clientURLs"][0].as_str();
    assert_eq!((status, client_url), (200, Some(member.url.as_str())));

    // It looks at the cluster, which is new, and watches it from the next revision on.
    let cluster = json!({"key": base64("/service/batman/"), "range_end": base64("/service/batman0")});
    let (_, loaded) = member.ask("/v3/kv/range", cluster.clone()).await;
    member.base = loaded["header"]["revision"].as_str().unwrap().parse().unwrap();
    let mut create = cluster.clone();
    create["start_revision"] = (member.base + 1).to_string().into();
    let mut watch = member.post("/v3/watch", &json!({"create_request": create})).await;
    let created = json!({"result": {"header": {"revision": "+0"}, "created": true}});
    assert_eq!(member.line(&mut watch).await, created);

    // It becomes the leader.
    let (_, granted) = member.ask("/v3/lease/grant", json!({"TTL": 30})).await;
    assert_eq!(
        (&granted["TTL"], &granted["header"]),
        (&json!("30"), &json!({"revision": "+0"}))
    );
    let lease = &granted["ID"];
    let put = |revision: &str| json!({"response_put": {"header": {"revision": revision}}});
    let acquired = json!({"header": {"revision": "+1"}, "succeeded": true, "responses": [put("+1")]});
    assert_eq!(member.acquire("pg1", lease).await, (200, acquired));
    let leader = json!({"key": base64(LEADER), "create_revision": "+1", "mod_revision": "+1",
        "version": "1", "value": base64("pg1"), "lease": lease});
    let seen = json!({"result": {"header": {"revision": "+1"}, "events": [{"kv": leader}]}});
    assert_eq!(member.line(&mut watch).await, seen);

    // It stays the leader; another member does not become it.
    let alive = member.ask("/v3/lease/keepalive", json!({"ID": lease})).await;
    let expected = json!({"result": {"header": {"revision": "+1"}, "ID": lease, "TTL": "30"}});
    assert_eq!(alive, (200, expected));
    let again = json!({"response_txn": {"header": {}, "succeeded": true, "responses": [put("+2")]}});
    let again = json!({"header": {"revision": "+2"}, "responses": [again]});
    assert_eq!(member.acquire("pg1", lease).await, (200, again));
    let refused = json!({"header": {"revision": "+2"}, "responses": [{"response_txn": {"header": {}}}]});
    assert_eq!(member.acquire("pg2", lease).await, (200, refused));
    let event = member.line(&mut watch).await;
    assert_eq!(event["result"]["events"][0]["kv"]["version"], "2");

    // Its lease ends, and with it the leader's key.
    let revoked = member.ask("/v3/kv/lease/revoke", json!({"ID": lease})).await;
    assert_eq!(revoked, (200, json!({"header": {"revision": "+3"}})));
    let gone = json!({"type": "DELETE", "kv": {"key": base64(LEADER), "mod_revision": "+3"}});
    let gone = json!({"result": {"header": {"revision": "+3"}, "events": [gone]}});
    assert_eq!(member.line(&mut watch).await, gone);
    let dead = member.ask("/v3/lease/keepalive", json!({"ID": lease})).await;
    assert_eq!(
        dead,
        (
            200,
            json!({"result": {"header": {"revision": "+3"}, "ID": lease}})
        )
    );
    let late = json!({"key": base64(LEADER), "value": base64("pg1"), "lease": lease});
    let failure = |code: u32, text: &str| json!({"error": text, "code": code, "message": text});
    let not_found = failure(5, "etcdserver: requested lease not found");
    assert_eq!(member.ask("/v3/kv/put", late).await, (404, not_found));

    // Without users there is nobody to authenticate; and the cluster is removed.
    let credentials = json!({"name": "patroni", "password": "secret"});
    let not_enabled = failure(9, "etcdserver: authentication is not enabled");
    assert_eq!(
        member.ask("/v3/auth/authenticate", credentials).await,
        (400, not_enabled)
    );
    let config = json!({"key": base64("/service/batman/config"), "value": base64("{}")});
    member.ask("/v3/kv/put", config).await;
    let removed = member.ask("/v3/kv/deleterange", cluster).await;
    assert_eq!(
        removed,
        (200, json!({"header": {"revision": "+5"}, "deleted": "1"}))
    );
}

#[tokio::test]
async fn patroni_on_a_node() {
    let server = Server::start().await;
    a_round(&server.address).await;
    server.stop().await;
}

#[tokio::test]
async fn patroni_on_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.answers().await;
    a_round(&etcd.address).await;
}

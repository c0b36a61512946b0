//! Keys are read and written by who may, over every way in.

use super::*;

#[tokio::test]
async fn only_who_says_who_it_is_and_may() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let mut kv = server.kv();
    assert_eq!(refusal(kv.put(put("a")).await), user_empty());
    assert_eq!(refusal(kv.range(range("a", "")).await), user_empty());
    assert_eq!(refusal(kv.txn(TxnRequest::default()).await), user_empty());
    assert_eq!(refusal(kv.put(with("no token", put("a"))).await), invalid_token());
    assert_eq!(
        refusal(kv.range(with("no token", range("a", ""))).await),
        invalid_token()
    );
    kv.put(with(&alice, put("a1"))).await.unwrap();
    kv.range(with(&alice, range("a", "b"))).await.unwrap();
    kv.range(with(&alice, range("r", "s"))).await.unwrap();
    assert_eq!(refusal(kv.put(with(&alice, put("r"))).await), denied());
    assert_eq!(refusal(kv.range(with(&alice, range("a", "c"))).await), denied());
    assert_eq!(refusal(kv.range(with(&alice, range("a", "\0"))).await), denied());
    kv.put(with(&root, put("z"))).await.unwrap();
    kv.range(with(&root, range("\0", "\0"))).await.unwrap();
    // etcd takes the other header too.
    let mut request = Request::new(range("a", "b"));
    request
        .metadata_mut()
        .insert("authorization", alice.parse().unwrap());
    kv.range(request).await.unwrap();
    // Requests that are not well formed are told so first, whoever asks.
    assert_eq!(
        refusal(kv.put(put("")).await),
        is(Code::InvalidArgument, "key is not provided")
    );
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_allowed_inside_a_transaction_that_is_not_outside() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let mut kv = server.kv();
    let role = AuthRoleAddRequest {
        name: "writer".into(),
    };
    server.auth().role_add(with(&root, role)).await.unwrap();
    server
        .auth()
        .role_grant_permission(with(&root, grant("writer", Type::Write, "w", "x")))
        .await
        .unwrap();
    server
        .auth()
        .user_grant_role(with(&root, user_role("alice", "writer")))
        .await
        .unwrap();
    kv.put(with(&alice, put("w"))).await.unwrap();
    let nosy_put = || PutRequest {
        prev_kv: true,
        ..put("w")
    };
    let nosy_delete = || DeleteRangeRequest {
        key: "w".into(),
        prev_kv: true,
        ..Default::default()
    };
    assert_eq!(refusal(kv.put(with(&alice, nosy_put())).await), denied());
    assert_eq!(
        refusal(kv.delete_range(with(&alice, nosy_delete())).await),
        denied()
    );
    for op in [
        Op::RequestPut(put("z")),
        Op::RequestRange(range("z", "")),
        Op::RequestRange(range("w", "")),
        Op::RequestPut(nosy_put()),
        Op::RequestDeleteRange(nosy_delete()),
    ] {
        let nested = |depth: u32| (0..depth).fold(txn(op.clone()), |inner, _| txn(Op::RequestTxn(inner)));
        for depth in 0..3 {
            assert_eq!(
                refusal(kv.txn(with(&alice, nested(depth))).await),
                denied(),
                "{op:?}, {depth} deep"
            );
            let unless = TxnRequest {
                failure: nested(depth).success,
                ..Default::default()
            };
            assert_eq!(refusal(kv.txn(with(&alice, unless)).await), denied());
        }
    }
    let compare = TxnRequest {
        compare: vec![pb::Compare {
            key: "w".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(refusal(kv.txn(with(&alice, compare)).await), denied());
    kv.txn(with(&alice, txn(Op::RequestPut(put("w"))))).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn rest_and_the_gateway_ask_too() {
    let server = Server::start().await;
    let (_, alice) = enable(&server).await;
    let refused = server.ask("PUT", "/v1/kv/a", &[], "1").await.problem();
    assert_eq!(refused, (401, "user_empty".into()));
    let token = [("authorization", &*alice)];
    let refused = server.ask("PUT", "/v1/kv/z", &token, "1").await.problem();
    assert_eq!(refused, (403, "permission_denied".into()));
    assert_eq!(server.ask("PUT", "/v1/kv/a", &token, "1").await.status, 200);
    let refused = server.ask("GET", "/v1/kv/?prefix=z", &token, "").await.problem();
    assert_eq!(refused, (403, "permission_denied".into()));
    let refused = server
        .ask("GET", "/v1/kv/a", &[("authorization", "x")], "")
        .await
        .problem();
    assert_eq!(refused, (401, "invalid_auth_token".into()));
    assert_eq!(server.ask("GET", "/v1/kv/a", &token, "").await.text(), "1");
    let answer = server.ask("POST", "/v3/kv/range", &[], r#"{"key":"YQ=="}"#).await;
    assert_eq!(answer.json()["message"], "etcdserver: user name is empty");
    let answer = server
        .ask("POST", "/v3/kv/range", &token, r#"{"key":"YQ=="}"#)
        .await;
    assert_eq!(answer.json()["count"], "1");
    let answer = server.ask("POST", "/v3/maintenance/snapshot", &token, "{}").await;
    assert!(
        answer.text().contains("etcdserver: permission denied"),
        "{answer:?}"
    );
    // Probes have no user.
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 200);
    server.stop().await;
}

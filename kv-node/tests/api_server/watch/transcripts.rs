//! What watches see, as transcripts.

use super::*;

#[tokio::test]
async fn a_key_is_followed_until_it_is_canceled() {
    compare(
        async |mut talk| {
            talk.create(of("a")).await;
            talk.put("a", "1").await;
            talk.hear().await;
            talk.put("b", "1").await;
            talk.put("a", "2").await;
            talk.hear().await;
            talk.delete("a").await;
            talk.hear().await;
            talk.cancel(7).await;
            talk.cancel(0).await;
            talk.hear().await;
            talk.put("a", "3").await;
            talk.create(of("a")).await;
            talk.said
        },
        r#"> watch "a" ""
0 at +0 created
> put a 1
0 at +1
    put a +1 = "1" created +1 version 1
> put b 1
> put a 2
0 at +3
    put a +3 = "2" created +1 version 2
> delete a
0 at +4
    delete a +4
> cancel 7
> cancel 0
0 at +4 canceled
> put a 3
> watch "a" ""
1 at +5 created
"#,
    )
    .await;
}

#[tokio::test]
async fn ids_and_what_is_refused() {
    compare(
        async |mut talk| {
            talk.create(range("b", "a")).await;
            talk.create(range("b", "b")).await;
            talk.create(range("", "")).await;
            talk.create(range("", "\0")).await;
            for watch_id in [9, 9, -4, 3] {
                talk.create(WatchCreateRequest { watch_id, ..of("a") }).await;
            }
            talk.create(of("a")).await;
            talk.create(of("a")).await;
            talk.cancel(9).await;
            talk.hear().await;
            talk.create(WatchCreateRequest {
                watch_id: 9,
                ..of("x")
            })
            .await;
            talk.put("x", "1").await;
            let mut heard = [talk.answer().await, talk.answer().await];
            heard.sort_by_key(|answer| answer.watch_id);
            for answer in heard {
                talk.said.push_str(&told(&answer, talk.began));
            }
            talk.said
        },
        r#"> watch "b" "a"
-1 at +0 created canceled (mvcc: watcher range is empty)
> watch "b" "b"
-1 at +0 created canceled (mvcc: watcher range is empty)
> watch "" ""
0 at +0 created
> watch "" "\0"
1 at +0 created
> watch "a" "" as 9
9 at +0 created
> watch "a" "" as 9
-1 at +0 created canceled (mvcc: duplicate watch ID provided on the WatchStream)
> watch "a" "" as -4
-4 at +0 created
> watch "a" "" as 3
3 at +0 created
> watch "a" ""
2 at +0 created
> watch "a" ""
4 at +0 created
> cancel 9
9 at +0 canceled
> watch "x" "" as 9
9 at +0 created
> put x 1
1 at +1
    put x +1 = "1" created +1 version 1
9 at +1
    put x +1 = "1" created +1 version 1
"#,
    )
    .await;
}

#[tokio::test]
async fn the_past_the_future_and_what_is_compacted() {
    compare(
        async |mut talk| {
            for value in ["1", "2"] {
                talk.put("a", value).await;
            }
            talk.delete("a").await;
            talk.put("b", "1").await;
            let from = |start_revision| WatchCreateRequest {
                start_revision,
                ..of("a")
            };
            talk.create(from(1)).await;
            talk.hear().await;
            talk.create(from(6)).await;
            for value in ["3", "4"] {
                talk.put("a", value).await;
                talk.hear().await;
            }
            talk.hear().await;
            talk.compact(2).await;
            talk.create(from(1)).await;
            talk.hear().await;
            talk.create(from(2)).await;
            talk.hear().await;
            talk.create(from(-1_000_000)).await;
            talk.hear().await;
            talk.said
        },
        r#"> put a 1
> put a 2
> delete a
> put b 1
> watch "a" "" from +1
0 at +4 created
0 at +4
    put a +1 = "1" created +1 version 1
    put a +2 = "2" created +1 version 2
    delete a +3
> watch "a" "" from +6
1 at +4 created
> put a 3
0 at +5
    put a +5 = "3" created +5 version 1
> put a 4
0 at +6
    put a +6 = "4" created +5 version 2
1 at +6
    put a +6 = "4" created +5 version 2
> compact +2
> watch "a" "" from +1
2 at +6 created
2 at NONE canceled compacted +2
> watch "a" "" from +2
3 at +6 created
3 at +6
    put a +2 = "2" created +1 version 2
    delete a +3
    put a +5 = "3" created +5 version 1
    put a +6 = "4" created +5 version 2
> watch "a" "" from -1000000
4 at +6 created
4 at NONE canceled compacted +2
"#,
    )
    .await;
}

#[tokio::test]
async fn previous_values_and_filters() {
    compare(
        async |mut talk| {
            talk.put("a", "1").await;
            talk.put("a", "2").await;
            talk.compact(2).await;
            talk.create(WatchCreateRequest {
                prev_kv: true,
                start_revision: 2,
                ..everything()
            })
            .await;
            talk.hear().await;
            talk.create(WatchCreateRequest {
                filters: vec![FilterType::Noput.into()],
                ..everything()
            })
            .await;
            talk.cancel(0).await;
            talk.hear().await;
            talk.put("a", "3").await;
            talk.delete("a").await;
            talk.hear().await;
            talk.create(WatchCreateRequest {
                prev_kv: true,
                start_revision: 3,
                filters: vec![FilterType::Nodelete.into()],
                ..everything()
            })
            .await;
            talk.hear().await;
            talk.put("a", "4").await;
            talk.hear().await;
            let filters = vec![FilterType::Noput.into(), FilterType::Nodelete.into()];
            talk.create(WatchCreateRequest {
                filters,
                ..everything()
            })
            .await;
            talk.put("a", "5").await;
            talk.hear().await;
            talk.progress().await;
            talk.hear().await;
            talk.said
        },
        r#"> put a 1
> put a 2
> compact +2
> watch "\0" "\0" from +2
0 at +2 created
0 at +2
    put a +2 = "2" created +1 version 2
> watch "\0" "\0"
1 at +2 created
> cancel 0
0 at +2 canceled
> put a 3
> delete a
1 at +4
    delete a +4
> watch "\0" "\0" from +3
2 at +4 created
2 at +4
    put a +3 = "3" created +1 version 3 was "2" of +2
> put a 4
2 at +5
    put a +5 = "4" created +5 version 1
> watch "\0" "\0"
3 at +5 created
> put a 5
2 at +6
    put a +6 = "5" created +5 version 2 was "4" of +5
> progress
-1 at +6
"#,
    )
    .await;
}

#[tokio::test]
async fn the_end_of_a_lease_is_told_like_any_other() {
    compare(
        async |mut talk| {
            let lease = pb::LeaseGrantRequest { id: 0, ttl: 60 };
            let lease = talk.lease.lease_grant(lease).await.unwrap().into_inner().id;
            for key in ["b", "a"] {
                let put = PutRequest {
                    lease,
                    ..put(key, "1")
                };
                talk.kv.put(put).await.unwrap();
            }
            talk.create(WatchCreateRequest {
                prev_kv: true,
                ..everything()
            })
            .await;
            talk.lease
                .lease_revoke(pb::LeaseRevokeRequest { id: lease })
                .await
                .unwrap();
            talk.hear().await;
            talk.said
        },
        r#"> watch "\0" "\0"
0 at +2 created
0 at +3
    delete a +3 was "1" of +2
    delete b +3 was "1" of +1
"#,
    )
    .await;
}

#[tokio::test]
async fn keys_that_may_not_be_read_may_not_be_watched() {
    let server = Server::start().await;
    let mut auth = server.auth();
    for name in ["root", "somebody"] {
        let user = pb::AuthUserAddRequest {
            name: name.into(),
            password: "secret".into(),
            ..Default::default()
        };
        auth.user_add(user).await.unwrap();
    }
    let root = || "root".to_owned();
    auth.role_add(pb::AuthRoleAddRequest { name: root() })
        .await
        .unwrap();
    let grant = pb::AuthUserGrantRoleRequest {
        user: root(),
        role: root(),
    };
    auth.user_grant_role(grant).await.unwrap();
    auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    let mut answers = Vec::new();
    for name in ["root", "somebody"] {
        let who = pb::AuthenticateRequest {
            name: name.into(),
            password: "secret".into(),
        };
        let token = auth.authenticate(who).await.unwrap().into_inner().token;
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(of("a"))),
        };
        let mut request = Request::new(stream::iter([create]));
        request.metadata_mut().insert("token", token.parse().unwrap());
        let mut stream = server.watch().watch(request).await.unwrap().into_inner();
        answers.push(stream.message().await.unwrap().unwrap());
    }
    let revision = answers[0].header.as_ref().unwrap().revision;
    let answers: Vec<_> = answers.iter().map(|answer| told(answer, revision)).collect();
    let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
    assert_eq!(
        answers,
        [
            "0 at +0 created\n".to_owned(),
            format!("-1 at +0 created canceled ({denied})\n")
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_is_told_as_a_whole() {
    compare(
        async |mut talk| {
            talk.put("c", "1").await;
            talk.create(everything()).await;
            let ops = [
                Op::RequestPut(put("b", "1")),
                Op::RequestDeleteRange(delete("c")),
                Op::RequestPut(put("a", "1")),
            ];
            talk.kv.txn(txn(ops)).await.unwrap();
            talk.hear().await;
            talk.create(WatchCreateRequest {
                start_revision: 1,
                prev_kv: true,
                ..range("b", "d")
            })
            .await;
            talk.hear().await;
            talk.said
        },
        r#"> put c 1
> watch "\0" "\0"
0 at +1 created
0 at +2
    put b +2 = "1" created +2 version 1
    delete c +2
    put a +2 = "1" created +2 version 1
> watch "b" "d" from +1
1 at +2 created
1 at +2
    put c +1 = "1" created +1 version 1
    put b +2 = "1" created +2 version 1
    delete c +2 was "1" of +1
"#,
    )
    .await;
}

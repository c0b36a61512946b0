//! What else is asked for: the cluster, leases, watches, locks.

use kv_proto::{
    v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, election_client::ElectionClient},
    v3lockpb::{LockRequest, UnlockRequest, lock_client::LockClient},
};

use super::*;

#[tokio::test]
async fn what_concerns_the_cluster_is_for_administrators() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let (mut cluster, mut maintenance) = (server.cluster(), server.maintenance());
    let everyone = pb::MemberListRequest::default();
    cluster.member_list(everyone).await.unwrap();
    maintenance.status(pb::StatusRequest {}).await.unwrap();
    maintenance
        .alarm(with(&alice, pb::AlarmRequest::default()))
        .await
        .unwrap();
    let disarm = || pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate.into(),
        alarm: pb::AlarmType::Nospace.into(),
        ..Default::default()
    };
    assert_eq!(refusal(maintenance.alarm(with(&alice, disarm())).await), denied());
    for (token, expected) in [
        (None, user_empty()),
        (Some("x"), invalid_token()),
        (Some(&*alice), denied()),
    ] {
        macro_rules! refused {
            ($client:ident.$method:ident($message:expr)) => {
                let request = match token {
                    None => Request::new($message),
                    Some(token) => with(token, $message),
                };
                assert_eq!(
                    refusal($client.$method(request).await),
                    expected,
                    stringify!($method)
                );
            };
        }
        refused!(cluster.member_add(pb::MemberAddRequest::default()));
        refused!(cluster.member_remove(pb::MemberRemoveRequest::default()));
        refused!(cluster.member_update(pb::MemberUpdateRequest::default()));
        refused!(cluster.member_promote(pb::MemberPromoteRequest::default()));
        refused!(maintenance.defragment(pb::DefragmentRequest {}));
        refused!(maintenance.hash(pb::HashRequest {}));
        refused!(maintenance.hash_kv(pb::HashKvRequest::default()));
        refused!(maintenance.snapshot(pb::SnapshotRequest {}));
        refused!(maintenance.move_leader(pb::MoveLeaderRequest::default()));
        refused!(maintenance.downgrade(pb::DowngradeRequest::default()));
    }
    let everything = pb::HashKvRequest::default();
    maintenance.hash_kv(with(&root, everything)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn leases_ask_for_their_keys() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let mut lease = LeaseClient::new(server.channel());
    let grant = |id| pb::LeaseGrantRequest { id, ttl: 600 };
    assert_eq!(refusal(lease.lease_grant(grant(1)).await), user_empty());
    lease.lease_grant(with(&alice, grant(1))).await.unwrap();
    lease.lease_grant(with(&alice, grant(2))).await.unwrap();
    let attach = |key, lease| PutRequest { lease, ..put(key) };
    server.kv().put(with(&alice, attach("a", 1))).await.unwrap();
    server.kv().put(with(&root, attach("r", 2))).await.unwrap();
    server.kv().put(with(&root, attach("z", 2))).await.unwrap();
    // A key of hers would go with the keys of others.
    assert_eq!(
        refusal(server.kv().put(with(&alice, attach("a", 2))).await),
        denied()
    );
    let attach = txn(Op::RequestTxn(txn(Op::RequestPut(attach("a", 2)))));
    assert_eq!(refusal(server.kv().txn(with(&alice, attach)).await), denied());
    let revoke = |id| pb::LeaseRevokeRequest { id };
    assert_eq!(refusal(lease.lease_revoke(revoke(1)).await), user_empty());
    assert_eq!(
        refusal(lease.lease_revoke(with(&alice, revoke(2))).await),
        denied()
    );
    let look = |keys| pb::LeaseTimeToLiveRequest { id: 2, keys };
    assert_eq!(refusal(lease.lease_time_to_live(look(false)).await), user_empty());
    assert_eq!(
        refusal(lease.lease_time_to_live(with(&alice, look(true))).await),
        denied()
    );
    lease.lease_time_to_live(with(&alice, look(false))).await.unwrap();
    assert_eq!(
        refusal(lease.lease_leases(pb::LeaseLeasesRequest {}).await),
        user_empty()
    );
    let renew = |id| tokio_stream::once(pb::LeaseKeepAliveRequest { id });
    let mut answers = lease
        .lease_keep_alive(with(&alice, renew(1)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);
    let mut answers = lease
        .lease_keep_alive(with(&alice, renew(2)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(refusal(answers.message().await), denied());
    assert_eq!(refusal(lease.lease_keep_alive(renew(1)).await), user_empty());
    lease.lease_revoke(with(&alice, revoke(1))).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn watches_ask_when_they_are_created() {
    let server = Server::start().await;
    let (_, alice) = enable(&server).await;
    let create = |key: &'static str, range_end: &'static str| pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(pb::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            ..Default::default()
        })),
    };
    let requests = || {
        tokio_stream::iter([
            create("a", "b"),
            create("a", "c"),
            create("r", "\0"),
            create("r", ""),
        ])
    };
    // The stream of requests ends, and with it the watches; what was answered is there.
    let created = async |request: Request<_>| {
        let mut answers = server.watch().watch(request).await.unwrap().into_inner();
        let mut created = Vec::new();
        while created.len() < 4 {
            let answer = answers.message().await.unwrap().unwrap();
            assert!(answer.created);
            created.push((answer.canceled, answer.cancel_reason));
        }
        created
    };
    let refused = |code: &str, why: &str| {
        let reason = format!("rpc error: code = {code} desc = etcdserver: {why}");
        (true, reason)
    };
    let denied = || refused("PermissionDenied", "permission denied");
    let allowed = || (false, String::new());
    assert_eq!(
        created(with(&alice, requests())).await,
        [allowed(), denied(), denied(), allowed()]
    );
    let nobody = vec![refused("InvalidArgument", "user name is empty"); 4];
    assert_eq!(created(Request::new(requests())).await, nobody);
    let stranger = vec![refused("Unauthenticated", "invalid auth token"); 4];
    assert_eq!(created(with("no token", requests())).await, stranger);
    server.stop().await;
}

/// The time of a token bounds when something new may begin; what ends a stream is a change of credentials.
#[tokio::test]
async fn a_stream_outlives_the_time_of_its_token() {
    let now_s = Arc::new(AtomicU64::new(1_000_000));
    let clock = now_s.clone();
    let env = Env {
        unix_time: Arc::new(move || Duration::from_secs(clock.load(Ordering::Relaxed))),
        ..Env::real()
    };
    let server = Server::start_in(env).await;
    let (root, alice) = enable(&server).await;
    let mut lease = LeaseClient::new(server.channel());
    let grant = pb::LeaseGrantRequest { id: 1, ttl: 600 };
    lease.lease_grant(with(&alice, grant)).await.unwrap();
    let (renew, renewals) = tokio::sync::mpsc::channel(1);
    let renewals = tokio_stream::wrappers::ReceiverStream::new(renewals);
    let one = pb::LeaseKeepAliveRequest { id: 1 };
    renew.send(one).await.unwrap();
    let mut answers = lease
        .lease_keep_alive(with(&alice, renewals))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);

    now_s.fetch_add(299, Ordering::Relaxed);
    server.kv().put(with(&alice, put("a"))).await.unwrap();
    now_s.fetch_add(1, Ordering::Relaxed);
    assert_eq!(
        refusal(server.kv().put(with(&alice, put("a"))).await),
        invalid_token()
    );
    assert_eq!(
        refusal(server.kv().put(with(&root, put("a"))).await),
        invalid_token()
    );
    renew.send(one).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().ttl, 600);

    let root = login(&server, "root", "root's").await.unwrap();
    let delete = AuthUserDeleteRequest { name: "alice".into() };
    server.auth().user_delete(with(&root, delete)).await.unwrap();
    renew.send(one).await.unwrap();
    assert_eq!(refusal(answers.message().await), denied());
    server.stop().await;
}

#[tokio::test]
async fn locks_and_elections_ask_for_their_keys() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let mut lease = LeaseClient::new(server.channel());
    let grant = |id| pb::LeaseGrantRequest { id, ttl: 600 };
    lease.lease_grant(with(&alice, grant(1))).await.unwrap();
    lease.lease_grant(with(&root, grant(2))).await.unwrap();
    let mut locks = LockClient::new(server.channel());
    let lock = |name: &'static str, lease| LockRequest {
        name: name.into(),
        lease,
    };
    // The keys of a lock are below its name.
    let locked = locks.lock(with(&alice, lock("a", 1))).await.unwrap().into_inner();
    assert_eq!(locked.key, "a/1");
    // etcd's own services are clients of it, and lose its codes.
    let hidden = |(_, message): (Code, String)| (Code::Unknown, message);
    assert_eq!(
        refusal(locks.lock(with(&alice, lock("z", 1))).await),
        hidden(denied())
    );
    assert_eq!(refusal(locks.lock(lock("a", 1)).await), user_empty());
    locks.lock(with(&root, lock("z", 2))).await.unwrap();
    let unlock = |key: &'static str| UnlockRequest { key: key.into() };
    assert_eq!(
        refusal(locks.unlock(with(&alice, unlock("z/2"))).await),
        hidden(denied())
    );
    locks.unlock(with(&alice, unlock("a/1"))).await.unwrap();

    let mut elections = ElectionClient::new(server.channel());
    let campaign = |name: &'static str| CampaignRequest {
        name: name.into(),
        lease: 1,
        value: "me".into(),
    };
    assert_eq!(
        refusal(elections.campaign(with(&alice, campaign("z"))).await),
        hidden(denied())
    );
    let elected = elections
        .campaign(with(&alice, campaign("a")))
        .await
        .unwrap()
        .into_inner();
    let proclaim = ProclaimRequest {
        leader: elected.leader,
        value: "still me".into(),
    };
    assert_eq!(refusal(elections.proclaim(proclaim.clone()).await), user_empty());
    elections.proclaim(with(&alice, proclaim)).await.unwrap();
    let who = |name: &'static str| LeaderRequest { name: name.into() };
    let leader = elections
        .leader(with(&alice, who("a")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(leader.kv.unwrap().value, "still me");
    assert_eq!(
        refusal(elections.leader(with(&alice, who("z"))).await),
        hidden(denied())
    );
    server.stop().await;
}

#[tokio::test]
async fn the_gateway_asks_for_every_service() {
    let server = Server::start().await;
    let (_, alice) = enable(&server).await;
    let token = [("authorization", &*alice)];
    // "YQ==" is a, which is hers, and "eg==" is z, which is not.
    for (path, allowed, denied) in [
        ("lease/grant", r#"{"ID": 1, "TTL": 600}"#, ""),
        ("kv/put", r#"{"key": "YQ==", "lease": 1}"#, r#"{"key": "eg=="}"#),
        ("lease/keepalive", r#"{"ID": 1}"#, ""),
        ("lease/timetolive", r#"{"ID": 1, "keys": true}"#, ""),
        ("lease/leases", "{}", ""),
        (
            "lock/lock",
            r#"{"name": "YQ==", "lease": 1}"#,
            r#"{"name": "eg==", "lease": 1}"#,
        ),
        ("lock/unlock", r#"{"key": "YS8x"}"#, r#"{"key": "ei8x"}"#),
        (
            "election/campaign",
            r#"{"name": "YQ==", "lease": 1, "value": "eA=="}"#,
            r#"{"name": "eg==", "lease": 1, "value": "eA=="}"#,
        ),
        ("election/leader", r#"{"name": "YQ=="}"#, r#"{"name": "eg=="}"#),
        ("lease/revoke", r#"{"ID": 1}"#, ""),
        ("cluster/member/list", "{}", ""),
    ] {
        let ask = async |headers: &[(&str, &str)], body: &str| {
            let answer = server
                .ask("POST", &format!("/v3/{path}"), headers, body.to_owned())
                .await;
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let refused = if json["error"].is_object() {
                &json["error"]["message"]
            } else {
                &json["message"]
            };
            refused.as_str().unwrap_or("").to_owned()
        };
        assert_eq!(ask(&token, allowed).await, "", "{path}");
        if path != "cluster/member/list" {
            assert_eq!(
                ask(&[], allowed).await,
                "etcdserver: user name is empty",
                "{path}"
            );
            let stranger = [("authorization", "x")];
            assert_eq!(
                ask(&stranger, allowed).await,
                "etcdserver: invalid auth token",
                "{path}"
            );
        }
        if !denied.is_empty() {
            assert_eq!(
                ask(&token, denied).await,
                "etcdserver: permission denied",
                "{path}"
            );
        }
    }
    server.stop().await;
}

/// One holds a lock, another waits for it, each by another way in; who may not write the lock's keys can do nothing about
/// the lease that holds it.
#[tokio::test]
async fn a_lock_goes_from_one_user_to_the_next_over_both_ways_in() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let mut auth = server.auth();
    for (name, role) in [("bob", "app"), ("carol", "none")] {
        let add = AuthRoleAddRequest { name: role.into() };
        // The one role is there already.
        drop(auth.role_add(with(&root, add)).await);
        auth.user_add(with(&root, user(name, "secret"))).await.unwrap();
        auth.user_grant_role(with(&root, user_role(name, role)))
            .await
            .unwrap();
    }
    let bob = login(&server, "bob", "secret").await.unwrap();
    let carol = login(&server, "carol", "secret").await.unwrap();
    let post = async |token: &str, path: &str, body: &str| {
        let headers = [("authorization", token)];
        let answer = server
            .ask("POST", &format!("/v3/{path}"), &headers, body.to_owned())
            .await;
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()
    };
    let denied = "etcdserver: permission denied";

    post(&alice, "lease/grant", r#"{"ID": 1, "TTL": 600}"#).await;
    let mut locks = LockClient::new(server.channel());
    let lock = LockRequest {
        name: "a".into(),
        lease: 1,
    };
    let held = locks.lock(with(&alice, lock)).await.unwrap().into_inner();
    assert_eq!(held.key, "a/1");
    let mut lease = LeaseClient::new(server.channel());
    let grant = pb::LeaseGrantRequest { id: 2, ttl: 600 };
    lease.lease_grant(with(&bob, grant)).await.unwrap();

    let waiting = post(&bob, "lock/lock", r#"{"name": "YQ==", "lease": "2"}"#);
    let handing_over = async {
        // Both are in line.
        let line = || range("a/", "a0");
        while server
            .kv()
            .range(with(&root, line()))
            .await
            .unwrap()
            .into_inner()
            .count
            < 2
        {}
        for path in ["lease/revoke", "kv/lease/revoke", "lock/unlock"] {
            let body = if path == "lock/unlock" {
                r#"{"key": "YS8x"}"#
            } else {
                r#"{"ID": 1}"#
            };
            assert_eq!(post(&carol, path, body).await["message"], denied, "{path}");
        }
        let renewed = post(&carol, "lease/keepalive", r#"{"ID": 1}"#).await;
        assert_eq!(renewed["message"], denied);
        let renewed = post(&alice, "lease/keepalive", r#"{"ID": 1}"#).await;
        assert_eq!(renewed["result"]["TTL"], "600");
        post(&alice, "lease/revoke", r#"{"ID": 1}"#).await;
    };
    let (next, ()) = tokio::join!(waiting, handing_over);
    // That is a/2.
    assert_eq!(next["key"], "YS8y");
    let unlock = UnlockRequest { key: "a/2".into() };
    locks.unlock(with(&bob, unlock)).await.unwrap();
    server.stop().await;
}

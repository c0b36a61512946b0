//! Users, roles, tokens and permissions, over every way in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kv_node::node::Env;
use kv_proto::{
    authpb::{Permission, UserAddOptions, permission::Type},
    etcdserverpb::{
        self as pb, AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleGetRequest,
        AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest, AuthStatusRequest,
        AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGetRequest,
        AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest, AuthenticateRequest,
        DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, lease_client::LeaseClient,
        request_op::Request as Op, watch_request::RequestUnion,
    },
};
use tonic::{Code, Request, Status};

use crate::harness::Server;

/// The request with a token.
fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn is(code: Code, message: &str) -> (Code, String) {
    (code, format!("etcdserver: {message}"))
}

fn denied() -> (Code, String) {
    is(Code::PermissionDenied, "permission denied")
}

fn user_empty() -> (Code, String) {
    is(Code::InvalidArgument, "user name is empty")
}

fn invalid_token() -> (Code, String) {
    is(Code::Unauthenticated, "invalid auth token")
}

fn user(name: &str, password: &str) -> AuthUserAddRequest {
    AuthUserAddRequest {
        name: name.into(),
        password: password.into(),
        ..Default::default()
    }
}

fn user_role(user: &str, role: &str) -> AuthUserGrantRoleRequest {
    AuthUserGrantRoleRequest {
        user: user.into(),
        role: role.into(),
    }
}

fn grant(
    role: &str,
    kind: Type,
    key: &'static str,
    range_end: &'static str,
) -> AuthRoleGrantPermissionRequest {
    AuthRoleGrantPermissionRequest {
        name: role.into(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: range_end.into(),
        }),
    }
}

async fn login(server: &Server, name: &str, password: &str) -> Result<String, Status> {
    let request = AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    let response = server.auth().authenticate(request).await?;
    Ok(response.into_inner().token)
}

/// Authentication on, with `root`, and `alice`, who may read and write `a` to `b`, and read `r` to `s`.
async fn enable(server: &Server) -> (String, String) {
    let mut auth = server.auth();
    auth.user_add(user("root", "root's")).await.unwrap();
    auth.user_grant_role(user_role("root", "root")).await.unwrap();
    auth.user_add(user("alice", "alice's")).await.unwrap();
    let role = AuthRoleAddRequest { name: "app".into() };
    auth.role_add(role).await.unwrap();
    auth.user_grant_role(user_role("alice", "app")).await.unwrap();
    auth.role_grant_permission(grant("app", Type::Readwrite, "a", "b"))
        .await
        .unwrap();
    auth.role_grant_permission(grant("app", Type::Read, "r", "s"))
        .await
        .unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let root = login(server, "root", "root's").await.unwrap();
    let alice = login(server, "alice", "alice's").await.unwrap();
    (root, alice)
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "v".into(),
        ..Default::default()
    }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    }
}

fn txn(op: Op) -> TxnRequest {
    TxnRequest {
        success: vec![pb::RequestOp { request: Some(op) }],
        ..Default::default()
    }
}

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
async fn users_and_roles_are_for_administrators_but_ones_own() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let mut auth = server.auth();
    let get = |name: &str| AuthUserGetRequest { name: name.into() };
    let role = |role: &str| AuthRoleGetRequest { role: role.into() };
    assert_eq!(
        refusal(auth.user_list(AuthUserListRequest {}).await),
        user_empty()
    );
    assert_eq!(refusal(auth.user_get(get("alice")).await), user_empty());
    assert_eq!(refusal(auth.user_add(user("eve", "e")).await), user_empty());
    assert_eq!(
        refusal(auth.user_list(with(&alice, AuthUserListRequest {})).await),
        denied()
    );
    assert_eq!(refusal(auth.user_get(with(&alice, get("root"))).await), denied());
    assert_eq!(refusal(auth.role_get(with(&alice, role("root"))).await), denied());
    assert_eq!(
        refusal(auth.user_add(with(&alice, user("eve", "e"))).await),
        denied()
    );
    assert_eq!(
        refusal(
            auth.user_grant_role(with(&alice, user_role("alice", "root")))
                .await
        ),
        denied()
    );
    assert_eq!(
        refusal(auth.auth_disable(with(&alice, AuthDisableRequest {})).await),
        denied()
    );
    assert_eq!(
        refusal(auth.auth_status(with(&alice, AuthStatusRequest {})).await),
        denied()
    );
    let own = auth
        .user_get(with(&alice, get("alice")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.roles, ["app"]);
    let own = auth
        .role_get(with(&alice, role("app")))
        .await
        .unwrap()
        .into_inner();
    let kinds: Vec<_> = own
        .perm
        .iter()
        .map(|perm| (perm.perm_type, &perm.key[..]))
        .collect();
    assert_eq!(kinds, [(2, &b"a"[..]), (0, &b"r"[..])]);
    let users = auth.user_list(with(&root, AuthUserListRequest {})).await.unwrap();
    assert_eq!(users.into_inner().users, ["alice", "root"]);
    let status = auth.auth_status(with(&root, AuthStatusRequest {})).await.unwrap();
    let status = status.into_inner();
    assert_eq!((status.enabled, status.auth_revision), (true, 8));
    let unknown = is(Code::FailedPrecondition, "user name not found");
    assert_eq!(refusal(auth.user_get(with(&root, get("eve"))).await), unknown);
    let unknown = is(Code::FailedPrecondition, "role name not found");
    assert_eq!(refusal(auth.role_get(with(&root, role("none"))).await), unknown);
    server.stop().await;
}

#[tokio::test]
async fn changes_take_effect_for_the_next_request() {
    let server = Server::start().await;
    let (root, alice) = enable(&server).await;
    let (mut auth, mut kv) = (server.auth(), server.kv());
    let revoke = AuthRoleRevokePermissionRequest {
        role: "app".into(),
        key: "r".into(),
        range_end: "s".into(),
    };
    auth.role_revoke_permission(with(&root, revoke.clone()))
        .await
        .unwrap();
    assert_eq!(
        refusal(auth.role_revoke_permission(with(&root, revoke)).await),
        is(Code::FailedPrecondition, "permission is not granted to the role")
    );
    assert_eq!(refusal(kv.range(with(&alice, range("r", ""))).await), denied());
    // Her token goes on, as nothing of her credentials has changed.
    kv.put(with(&alice, put("a"))).await.unwrap();
    let password = AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "another".into(),
        ..Default::default()
    };
    auth.user_change_password(with(&root, password)).await.unwrap();
    assert_eq!(refusal(kv.put(with(&alice, put("a"))).await), invalid_token());
    let failed = is(
        Code::InvalidArgument,
        "authentication failed, invalid user ID or password",
    );
    for (name, password) in [("alice", "alice's"), ("alice", ""), ("nobody", "x"), ("", "")] {
        assert_eq!(refusal(login(&server, name, password).await), failed, "{name}");
    }
    let alice = login(&server, "alice", "another").await.unwrap();
    kv.put(with(&alice, put("a"))).await.unwrap();
    let take = AuthUserRevokeRoleRequest {
        name: "alice".into(),
        role: "app".into(),
    };
    auth.user_revoke_role(with(&root, take)).await.unwrap();
    assert_eq!(refusal(kv.put(with(&alice, put("a"))).await), denied());
    let delete = AuthUserDeleteRequest { name: "alice".into() };
    auth.user_delete(with(&root, delete)).await.unwrap();
    assert_eq!(refusal(kv.put(with(&alice, put("a"))).await), invalid_token());
    auth.auth_disable(with(&root, AuthDisableRequest {}))
        .await
        .unwrap();
    kv.put(put("anything")).await.unwrap();
    kv.put(with(&root, put("anything"))).await.unwrap();
    assert_eq!(
        refusal(login(&server, "root", "root's").await),
        is(Code::FailedPrecondition, "authentication is not enabled")
    );
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_password_cannot_log_in_with_one() {
    let server = Server::start().await;
    let (root, _) = enable(&server).await;
    let add = AuthUserAddRequest {
        options: Some(UserAddOptions { no_password: true }),
        ..user("machine", "ignored")
    };
    server.auth().user_add(with(&root, add)).await.unwrap();
    let change = AuthUserChangePasswordRequest {
        name: "machine".into(),
        password: "ignored".into(),
        ..Default::default()
    };
    server
        .auth()
        .user_change_password(with(&root, change))
        .await
        .unwrap();
    server
        .auth()
        .user_add(with(&root, user("empty", "")))
        .await
        .unwrap();
    for (name, password) in [("machine", "ignored"), ("machine", ""), ("empty", "")] {
        let (code, _) = refusal(login(&server, name, password).await);
        assert_eq!(code, Code::InvalidArgument, "{name}");
    }
    server.stop().await;
}

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

//! Users, roles and passwords.

use super::*;

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

/// etcd's refusals, one after the other.
#[tokio::test]
async fn what_is_refused_about_users_and_roles() {
    let server = Server::start().await;
    let mut auth = server.auth();
    macro_rules! refused {
        ($call:expr, $code:ident, $message:expr) => {
            assert_eq!(refusal($call.await), is(Code::$code, $message));
        };
    }
    let role = |name: &str| AuthRoleAddRequest { name: name.into() };
    let revoke_role = |name: &str, role: &str| AuthUserRevokeRoleRequest {
        name: name.into(),
        role: role.into(),
    };
    refused!(
        auth.auth_enable(AuthEnableRequest {}),
        FailedPrecondition,
        "root user does not exist"
    );
    refused!(
        auth.user_add(user("", "x")),
        InvalidArgument,
        "user name is empty"
    );
    auth.user_add(user("root", "r")).await.unwrap();
    refused!(
        auth.user_add(user("root", "r")),
        FailedPrecondition,
        "user name already exists"
    );
    refused!(
        auth.auth_enable(AuthEnableRequest {}),
        FailedPrecondition,
        "root user does not have root role"
    );
    refused!(auth.role_add(role("")), InvalidArgument, "role name is empty");
    auth.role_add(role("app")).await.unwrap();
    refused!(
        auth.role_add(role("app")),
        FailedPrecondition,
        "role name already exists"
    );
    refused!(
        auth.user_revoke_role(revoke_role("root", "app")),
        FailedPrecondition,
        "role is not granted to the user"
    );
    refused!(
        auth.user_grant_role(user_role("root", "none")),
        FailedPrecondition,
        "role name not found"
    );
    let nothing = AuthRoleGrantPermissionRequest {
        name: "app".into(),
        perm: None,
    };
    refused!(
        auth.role_grant_permission(nothing),
        InvalidArgument,
        "permission not given"
    );
    auth.user_grant_role(user_role("root", "root")).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let root = login(&server, "root", "r").await.unwrap();
    refused!(
        auth.user_revoke_role(with(&root, revoke_role("root", "root"))),
        InvalidArgument,
        "invalid auth management"
    );
    server.stop().await;
}

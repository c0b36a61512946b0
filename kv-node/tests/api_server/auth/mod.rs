//! Users, roles, tokens and permissions, over every way in.

mod accounts;
mod data;
mod services;

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

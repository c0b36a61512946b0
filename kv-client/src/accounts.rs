//! Calls about users, roles, and whether the cluster asks for them. Reads and writes have the usual rules of retrying.

use kv_proto::authpb::Permission;
use kv_proto::etcdserverpb::auth_client::AuthClient;
use kv_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
    AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse,
    AuthRoleListRequest, AuthRoleListResponse, AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse, AuthUserAddRequest,
    AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
    AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
    AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
    AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse,
};

use crate::client::call;
use crate::connection::Channel;
use crate::{Client, Error};

/// Each method with the errors of [`Client::range`] if it reads, and those of [`Client::put`] if it writes.
macro_rules! calls {
    ($($(#[$doc:meta])* $rule:ident $method:ident($request:ty) -> $answer:ty;)*) => {
        /// Users and roles. Errors are those of [`Client::range`] for what only asks, and of [`Client::put`] for the rest.
        impl Client {
            $(
                $(#[$doc])*
                #[allow(clippy::missing_errors_doc, reason = "said once above")]
                pub async fn $method(&self, request: $request) -> Result<$answer, Error> {
                    call!(self, $rule, auth, $method(request))
                }
            )*
        }
    };
}

calls! {
    /// Adds a user, with a password or, by its options, without one.
    write user_add(AuthUserAddRequest) -> AuthUserAddResponse;
    /// Asks which roles a user has.
    read user_get(AuthUserGetRequest) -> AuthUserGetResponse;
    /// Lists the users.
    read user_list(AuthUserListRequest) -> AuthUserListResponse;
    /// Deletes a user.
    write user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
    /// Gives a user another password.
    write user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
    /// Gives a user a role.
    write user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
    /// Takes a role from a user.
    write user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
    /// Adds a role.
    write role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
    /// Asks what a role permits.
    read role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
    /// Lists the roles.
    read role_list(AuthRoleListRequest) -> AuthRoleListResponse;
    /// Deletes a role.
    write role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
    /// Takes a permission from a role.
    write role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
}

impl Client {
    /// Gives a role a permission.
    ///
    /// # Errors
    /// Those of [`Client::put`].
    pub async fn role_grant_permission(
        &self,
        role: &str,
        permission: Permission,
    ) -> Result<AuthRoleGrantPermissionResponse, Error> {
        let request = AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(permission),
        };
        call!(self, write, auth, role_grant_permission(request))
    }

    /// Asks whether the cluster asks for authentication.
    ///
    /// # Errors
    /// Those of [`Client::range`].
    pub async fn auth_status(&self) -> Result<AuthStatusResponse, Error> {
        call!(self, read, auth, auth_status(AuthStatusRequest {}))
    }

    /// Makes the cluster ask for authentication.
    ///
    /// # Errors
    /// Those of [`Client::put`].
    pub async fn auth_enable(&self) -> Result<AuthEnableResponse, Error> {
        call!(self, write, auth, auth_enable(AuthEnableRequest {}))
    }

    /// Lets everybody do everything again.
    ///
    /// # Errors
    /// Those of [`Client::put`].
    pub async fn auth_disable(&self) -> Result<AuthDisableResponse, Error> {
        call!(self, write, auth, auth_disable(AuthDisableRequest {}))
    }
}

fn auth(channel: Channel) -> AuthClient<Channel> {
    let origin = channel.origin.clone();
    AuthClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX)
}

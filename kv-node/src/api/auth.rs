//! etcd's Auth service: users, roles, and tokens for passwords.

use kv_core::{AuthCommand, Command, Permission, PermissionKind, PermissionRange, Request as Asked, Secret};
use kv_proto::{
    authpb,
    etcdserverpb::{self as pb, auth_server::Auth},
};
use tonic::{Request, Response, Status};

use super::{calls::Api, errors::ApiError, metrics::Method, session::Session};

/// The service.
pub(super) struct AuthService(pub(super) Api);

impl AuthService {
    /// Makes a change; answers with the header of all these responses.
    async fn change(
        &self,
        session: &Session,
        command: AuthCommand,
    ) -> Result<Option<pb::ResponseHeader>, ApiError> {
        let (revision, _) = session.propose(Command::Auth(command)).await?;
        Ok(Some(self.0.header(revision)))
    }

    /// Makes sure that this node knows what everybody knows, and that the caller may ask.
    async fn look(
        &self,
        session: &Session,
        asked: Asked<'_>,
    ) -> Result<Option<pb::ResponseHeader>, ApiError> {
        self.0.barrier().await?;
        session.allow(asked).await?;
        Ok(Some(self.0.header(self.0.node().store().revision())))
    }

    async fn authenticate(
        &self,
        request: pb::AuthenticateRequest,
    ) -> Result<pb::AuthenticateResponse, ApiError> {
        self.0.barrier().await?;
        let store = self.0.node().store();
        let login = self
            .0
            .node()
            .authenticator()
            .login(store, request.name, request.password);
        let token = login.await?;
        Ok(pb::AuthenticateResponse {
            header: Some(self.0.header(store.revision())),
            token,
        })
    }

    async fn auth_status(
        &self,
        session: &Session,
        _request: pb::AuthStatusRequest,
    ) -> Result<pb::AuthStatusResponse, ApiError> {
        let header = self.look(session, Asked::Admin).await?;
        let status = |auth: &kv_core::Auth| (auth.is_enabled(), auth.revision());
        let (enabled, auth_revision) = self.0.node().store().auth(status);
        Ok(pb::AuthStatusResponse {
            header,
            enabled,
            auth_revision,
        })
    }

    async fn auth_enable(
        &self,
        session: &Session,
        _request: pb::AuthEnableRequest,
    ) -> Result<pb::AuthEnableResponse, ApiError> {
        let secret = Secret(rand::random());
        let header = self.change(session, AuthCommand::Enable { secret }).await?;
        Ok(pb::AuthEnableResponse { header })
    }

    async fn auth_disable(
        &self,
        session: &Session,
        _request: pb::AuthDisableRequest,
    ) -> Result<pb::AuthDisableResponse, ApiError> {
        let header = self.change(session, AuthCommand::Disable).await?;
        Ok(pb::AuthDisableResponse { header })
    }

    /// A hash that the client sends is not looked at, as in etcd: the password counts.
    async fn user_add(
        &self,
        session: &Session,
        request: pb::AuthUserAddRequest,
    ) -> Result<pb::AuthUserAddResponse, ApiError> {
        self.look(session, Asked::Admin).await?;
        let no_password = request.options.is_some_and(|options| options.no_password);
        let password = if no_password {
            None
        } else {
            self.0.node().authenticator().hash(request.password).await?
        };
        let command = AuthCommand::UserAdd {
            name: request.name,
            password,
            no_password,
        };
        let header = self.change(session, command).await?;
        Ok(pb::AuthUserAddResponse { header })
    }

    async fn user_get(
        &self,
        session: &Session,
        request: pb::AuthUserGetRequest,
    ) -> Result<pb::AuthUserGetResponse, ApiError> {
        let header = self.look(session, Asked::UserGet(&request.name)).await?;
        let roles = |auth: &kv_core::Auth| {
            let user = auth.user(&request.name)?;
            Some(user.roles.iter().cloned().collect())
        };
        let roles = self.0.node().store().auth(roles);
        Ok(pb::AuthUserGetResponse {
            header,
            roles: roles.ok_or(kv_core::AuthError::UserNotFound)?,
        })
    }

    async fn user_list(
        &self,
        session: &Session,
        _request: pb::AuthUserListRequest,
    ) -> Result<pb::AuthUserListResponse, ApiError> {
        let header = self.look(session, Asked::Admin).await?;
        let names = |auth: &kv_core::Auth| auth.user_names().map(str::to_owned).collect();
        Ok(pb::AuthUserListResponse {
            header,
            users: self.0.node().store().auth(names),
        })
    }

    async fn user_delete(
        &self,
        session: &Session,
        request: pb::AuthUserDeleteRequest,
    ) -> Result<pb::AuthUserDeleteResponse, ApiError> {
        let command = AuthCommand::UserDelete { name: request.name };
        let header = self.change(session, command).await?;
        Ok(pb::AuthUserDeleteResponse { header })
    }

    async fn user_change_password(
        &self,
        session: &Session,
        request: pb::AuthUserChangePasswordRequest,
    ) -> Result<pb::AuthUserChangePasswordResponse, ApiError> {
        self.look(session, Asked::Admin).await?;
        let command = AuthCommand::UserChangePassword {
            name: request.name,
            password: self.0.node().authenticator().hash(request.password).await?,
        };
        let header = self.change(session, command).await?;
        Ok(pb::AuthUserChangePasswordResponse { header })
    }

    async fn user_grant_role(
        &self,
        session: &Session,
        request: pb::AuthUserGrantRoleRequest,
    ) -> Result<pb::AuthUserGrantRoleResponse, ApiError> {
        let command = AuthCommand::UserGrantRole {
            user: request.user,
            role: request.role,
        };
        let header = self.change(session, command).await?;
        Ok(pb::AuthUserGrantRoleResponse { header })
    }

    async fn user_revoke_role(
        &self,
        session: &Session,
        request: pb::AuthUserRevokeRoleRequest,
    ) -> Result<pb::AuthUserRevokeRoleResponse, ApiError> {
        let command = AuthCommand::UserRevokeRole {
            user: request.name,
            role: request.role,
        };
        let header = self.change(session, command).await?;
        Ok(pb::AuthUserRevokeRoleResponse { header })
    }

    async fn role_add(
        &self,
        session: &Session,
        request: pb::AuthRoleAddRequest,
    ) -> Result<pb::AuthRoleAddResponse, ApiError> {
        let command = AuthCommand::RoleAdd { name: request.name };
        let header = self.change(session, command).await?;
        Ok(pb::AuthRoleAddResponse { header })
    }

    async fn role_get(
        &self,
        session: &Session,
        request: pb::AuthRoleGetRequest,
    ) -> Result<pb::AuthRoleGetResponse, ApiError> {
        let header = self.look(session, Asked::RoleGet(&request.role)).await?;
        let permissions = self.0.node().store().auth(|auth| auth.permissions(&request.role));
        Ok(pb::AuthRoleGetResponse {
            header,
            perm: permissions?.into_iter().map(told).collect(),
        })
    }

    async fn role_list(
        &self,
        session: &Session,
        _request: pb::AuthRoleListRequest,
    ) -> Result<pb::AuthRoleListResponse, ApiError> {
        let header = self.look(session, Asked::Admin).await?;
        let names = |auth: &kv_core::Auth| auth.role_names().map(str::to_owned).collect();
        Ok(pb::AuthRoleListResponse {
            header,
            roles: self.0.node().store().auth(names),
        })
    }

    async fn role_delete(
        &self,
        session: &Session,
        request: pb::AuthRoleDeleteRequest,
    ) -> Result<pb::AuthRoleDeleteResponse, ApiError> {
        let command = AuthCommand::RoleDelete { name: request.role };
        let header = self.change(session, command).await?;
        Ok(pb::AuthRoleDeleteResponse { header })
    }

    async fn role_grant_permission(
        &self,
        session: &Session,
        request: pb::AuthRoleGrantPermissionRequest,
    ) -> Result<pb::AuthRoleGrantPermissionResponse, ApiError> {
        let command = AuthCommand::RoleGrant {
            role: request.name,
            permission: request.perm.map(granted).transpose()?,
        };
        let header = self.change(session, command).await?;
        Ok(pb::AuthRoleGrantPermissionResponse { header })
    }

    async fn role_revoke_permission(
        &self,
        session: &Session,
        request: pb::AuthRoleRevokePermissionRequest,
    ) -> Result<pb::AuthRoleRevokePermissionResponse, ApiError> {
        let command = AuthCommand::RoleRevoke {
            role: request.role,
            range: PermissionRange {
                key: request.key,
                range_end: request.range_end,
            },
        };
        let header = self.change(session, command).await?;
        Ok(pb::AuthRoleRevokePermissionResponse { header })
    }
}

/// A permission off the wire. etcd keeps a kind that it does not know, and allows nothing by it; here it is
/// refused.
pub(super) fn granted(permission: authpb::Permission) -> Result<Permission, ApiError> {
    use authpb::permission::Type;
    let kind = match Type::try_from(permission.perm_type) {
        Ok(Type::Read) => PermissionKind::Read,
        Ok(Type::Write) => PermissionKind::Write,
        Ok(Type::Readwrite) => PermissionKind::ReadWrite,
        Err(_) => return Err(kv_core::AuthError::InvalidManagement.into()),
    };
    Ok(Permission {
        kind,
        range: PermissionRange {
            key: permission.key,
            range_end: permission.range_end,
        },
    })
}

fn told(permission: Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission {
        perm_type: kind.into(),
        key: permission.range.key,
        range_end: permission.range.range_end,
    }
}

/// One method of the service: counted, and with the session of its request.
macro_rules! methods {
    ($($name:ident($request:ident) -> $response:ident, $method:ident;)*) => {
        #[tonic::async_trait]
        impl Auth for AuthService {
            async fn authenticate(
                &self,
                request: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                let call = self.0.metrics().call(Method::Authenticate);
                call.end(self.authenticate(request.into_inner()).await)
            }

            $(async fn $name(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                let call = self.0.metrics().call(Method::$method);
                let session = self.0.session(&request);
                call.end(AuthService::$name(self, &session, request.into_inner()).await)
            })*
        }
    };
}

methods! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse, AuthEnable;
    auth_disable(AuthDisableRequest) -> AuthDisableResponse, AuthDisable;
    auth_status(AuthStatusRequest) -> AuthStatusResponse, AuthStatus;
    user_add(AuthUserAddRequest) -> AuthUserAddResponse, UserAdd;
    user_get(AuthUserGetRequest) -> AuthUserGetResponse, UserGet;
    user_list(AuthUserListRequest) -> AuthUserListResponse, UserList;
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse, UserDelete;
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse, UserChangePassword;
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse, UserGrantRole;
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse, UserRevokeRole;
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse, RoleAdd;
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse, RoleGet;
    role_list(AuthRoleListRequest) -> AuthRoleListResponse, RoleList;
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse, RoleDelete;
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse, RoleGrantPermission;
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse, RoleRevokePermission;
}

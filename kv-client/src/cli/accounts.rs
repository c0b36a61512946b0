//! `user`, `role` and `auth`: who may do what.

use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use kv_proto::authpb::permission::Type;
use kv_proto::authpb::{Permission, UserAddOptions};
use kv_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleListRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest,
    AuthUserDeleteRequest, AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest,
    AuthUserRevokeRoleRequest, ResponseHeader,
};
use prost::Message;

use super::args::WriteOut;
use super::commands::{Outcome, Session};
use super::exit::{Exit, Failure};
use super::fields::Fields;
use super::forms::Forms;
use super::output::{print, table};
use super::ranges::bounds;
use super::values::bytes_parser;
use super::{fields, json, password, text};
use crate::key_range::ZERO;
use crate::prefix_end;

/// Commands about users.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user; without a password here, it is asked for
    Add {
        /// The name, or NAME:PASSWORD
        #[arg(value_name = "NAME[:PASSWORD]")]
        user: String,
        /// The password
        #[arg(long, value_name = "PASSWORD")]
        new_user_password: Option<String>,
        /// Without a password: only a client certificate can prove who it is
        #[arg(long, conflicts_with = "new_user_password")]
        no_password: bool,
        /// Ask for the password at the terminal; with false, read it from a line of standard input
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        interactive: bool,
    },
    /// Delete a user
    Delete {
        /// The user
        user: String,
    },
    /// Ask which roles a user has
    Get {
        /// The user
        user: String,
        /// And what they permit
        #[arg(long)]
        detail: bool,
    },
    /// List the users
    List,
    /// Change a password
    Passwd {
        /// The user
        user: String,
        /// Ask for the password at the terminal; with false, read it from a line of standard input
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        interactive: bool,
    },
    /// Give a user a role
    GrantRole {
        /// The user
        user: String,
        /// The role
        role: String,
    },
    /// Take a role from a user
    RevokeRole {
        /// The user
        user: String,
        /// The role
        role: String,
    },
}

/// Commands about roles.
#[derive(Clone, Debug, Subcommand)]
pub enum RoleCommand {
    /// Add a role
    Add {
        /// The role
        role: String,
    },
    /// Delete a role
    Delete {
        /// The role
        role: String,
    },
    /// Ask what a role permits
    Get {
        /// The role
        role: String,
    },
    /// List the roles
    List,
    /// Give a role a permission
    GrantPermission {
        /// The role
        role: String,
        /// What is permitted
        #[arg(ignore_case = true)]
        permission: Access,
        /// For which keys.
        #[command(flatten)]
        keys: KeysArgs,
    },
    /// Take a permission from a role
    RevokePermission {
        /// The role
        role: String,
        /// For which keys: as it was given.
        #[command(flatten)]
        keys: KeysArgs,
    },
}

/// Which keys a permission is about.
#[derive(Clone, Debug, clap::Args)]
pub struct KeysArgs {
    /// The key, or the first key of a range
    #[arg(value_parser = bytes_parser())]
    pub key: Bytes,
    /// The key at which the range ends (not part of it)
    #[arg(value_parser = bytes_parser(), conflicts_with_all = ["prefix", "from_key"])]
    pub range_end: Option<Bytes>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// KEY and all keys after it
    #[arg(long)]
    pub from_key: bool,
}

impl KeysArgs {
    fn bounds(&self) -> (Bytes, Bytes) {
        bounds(&self.key, self.range_end.as_ref(), self.prefix, self.from_key)
    }
}

/// What a permission is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Access {
    /// Reading
    Read,
    /// Writing
    Write,
    /// Both
    #[value(name = "readwrite")]
    ReadWrite,
}

/// Commands about authentication.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AuthCommand {
    /// Ask for users and passwords from now on; a user root with the role root must exist
    Enable,
    /// Let everybody do everything again
    Disable,
    /// Ask whether it is enabled
    Status,
}

type Header<'a> = Option<&'a ResponseHeader>;

impl Session {
    /// An answer that only says that it was done.
    fn done(&self, header: Header<'_>, answer: &impl Message, said: String) -> Outcome {
        self.show(
            Forms::new(|| json::bare(header), || said)
                .fields(|| Fields::of(header))
                .protobuf(answer),
        )
    }

    pub(super) async fn user(&self, command: &UserCommand) -> Outcome {
        match command.clone() {
            UserCommand::Add {
                user,
                new_user_password,
                no_password,
                interactive,
            } => {
                self.user_add(user, new_user_password, no_password, interactive)
                    .await
            }
            UserCommand::Delete { user } => {
                let said = format!("User {user} deleted\n");
                let answer = self
                    .client
                    .user_delete(AuthUserDeleteRequest { name: user })
                    .await?;
                self.done(answer.header.as_ref(), &answer, said)
            }
            UserCommand::Get { user, detail } => self.user_get(user, detail).await,
            UserCommand::List => {
                let answer = self.client.user_list(AuthUserListRequest {}).await?;
                let forms = names(answer.header.as_ref(), "users", "USER", &answer.users);
                self.show(forms.protobuf(&answer))
            }
            UserCommand::Passwd { user, interactive } => {
                let request = AuthUserChangePasswordRequest {
                    password: new_password(&user, interactive)?,
                    name: user,
                    ..Default::default()
                };
                let answer = self.client.user_change_password(request).await?;
                self.done(answer.header.as_ref(), &answer, "Password updated\n".to_owned())
            }
            UserCommand::GrantRole { user, role } => {
                let said = format!("Role {role} is granted to user {user}\n");
                let request = AuthUserGrantRoleRequest { user, role };
                let answer = self.client.user_grant_role(request).await?;
                self.done(answer.header.as_ref(), &answer, said)
            }
            UserCommand::RevokeRole { user, role } => {
                let said = format!("Role {role} is revoked from user {user}\n");
                let request = AuthUserRevokeRoleRequest { name: user, role };
                let answer = self.client.user_revoke_role(request).await?;
                self.done(answer.header.as_ref(), &answer, said)
            }
        }
    }

    async fn user_add(
        &self,
        user: String,
        given: Option<String>,
        no_password: bool,
        interactive: bool,
    ) -> Outcome {
        let (name, password) = match (given, user.split_once(':')) {
            (Some(password), _) => (user, password),
            (None, _) if no_password => (user, String::new()),
            (None, Some((name, password))) => (name.to_owned(), password.to_owned()),
            (None, None) => {
                let password = new_password(&user, interactive)?;
                (user, password)
            }
        };
        let said = format!("User {name} created\n");
        let request = AuthUserAddRequest {
            name,
            password,
            options: Some(UserAddOptions { no_password }),
            ..Default::default()
        };
        let answer = self.client.user_add(request).await?;
        self.done(answer.header.as_ref(), &answer, said)
    }

    async fn user_get(&self, user: String, detail: bool) -> Outcome {
        let request = AuthUserGetRequest { name: user.clone() };
        let answer = self.client.user_get(request).await?;
        if detail {
            // Not in JSON, which it would not be.
            let text = |text: String| match self.write_out {
                Some(WriteOut::Json) => Ok(()),
                _ => print(text),
            };
            text(format!("User: {user}\n"))?;
            for role in answer.roles {
                text("\n".to_owned())?;
                self.role_get(role).await?;
            }
            return Ok(Exit::Ok);
        }
        let json = || {
            json::lean([
                ("header", json::header(answer.header.as_ref())),
                ("roles", answer.roles.as_slice().into()),
            ])
        };
        let row = || {
            let mut table = table(["USER", "ROLES"]);
            table.add_row([&user, &answer.roles.join("\n")]);
            format!("{table}\n")
        };
        let lines = || {
            let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
            format!("User: {user}\nRoles:{roles}\n")
        };
        self.show(Forms::new(json, lines).table(row).protobuf(&answer))
    }

    pub(super) async fn role(&self, command: &RoleCommand) -> Outcome {
        match command.clone() {
            RoleCommand::Add { role } => {
                let said = format!("Role {role} created\n");
                let answer = self.client.role_add(AuthRoleAddRequest { name: role }).await?;
                self.done(answer.header.as_ref(), &answer, said)
            }
            RoleCommand::Delete { role } => {
                let said = format!("Role {role} deleted\n");
                let answer = self.client.role_delete(AuthRoleDeleteRequest { role }).await?;
                self.done(answer.header.as_ref(), &answer, said)
            }
            RoleCommand::Get { role } => self.role_get(role).await,
            RoleCommand::List => {
                let answer = self.client.role_list(AuthRoleListRequest {}).await?;
                let header = answer.header.as_ref();
                let forms = names(header, "roles", "ROLE", &answer.roles);
                self.show(
                    forms
                        .fields(|| fields::roles(header, &answer.roles))
                        .protobuf(&answer),
                )
            }
            RoleCommand::GrantPermission {
                role,
                permission,
                keys,
            } => {
                let (key, range_end) = keys.bounds();
                let kind = match permission {
                    Access::Read => Type::Read,
                    Access::Write => Type::Write,
                    Access::ReadWrite => Type::Readwrite,
                };
                let permission = Permission {
                    perm_type: kind.into(),
                    key,
                    range_end,
                };
                let answer = self.client.role_grant_permission(&role, permission).await?;
                self.done(answer.header.as_ref(), &answer, format!("Role {role} updated\n"))
            }
            RoleCommand::RevokePermission { role, keys } => {
                let (key, range_end) = keys.bounds();
                let which = if range_end.is_empty() { "key" } else { "range" };
                let range = range_text(&key, &range_end);
                let said = format!("Permission of {which} {range} is revoked from role {role}\n");
                let request = AuthRoleRevokePermissionRequest { role, key, range_end };
                let answer = self.client.role_revoke_permission(request).await?;
                self.done(answer.header.as_ref(), &answer, said)
            }
        }
    }

    async fn role_get(&self, role: String) -> Outcome {
        let answer = self
            .client
            .role_get(AuthRoleGetRequest { role: role.clone() })
            .await?;
        let json = || {
            let form = |permission: &Permission| {
                json::lean([
                    ("permType", i64::from(permission.perm_type).into()),
                    ("key", json::bytes(&permission.key)),
                    ("range_end", json::bytes(&permission.range_end)),
                ])
            };
            json::lean([
                ("header", json::header(answer.header.as_ref())),
                ("perm", answer.perm.iter().map(form).collect()),
            ])
        };
        let rows = || {
            let mut table = table(["ROLE", "PERMISSION", "KEYS"]);
            for permission in &answer.perm {
                let kind = permission.perm_type().as_str_name().to_lowercase();
                table.add_row([role.clone(), kind, permitted(permission)]);
            }
            format!("{table}\n")
        };
        self.show(
            Forms::new(json, || role_lines(&role, &answer))
                .table(rows)
                .fields(|| fields::role(answer.header.as_ref(), &answer.perm))
                .protobuf(&answer),
        )
    }

    pub(super) async fn auth(&self, command: AuthCommand) -> Outcome {
        match command {
            AuthCommand::Enable => {
                let answer = self.client.auth_enable().await?;
                self.switched(answer.header.as_ref(), "Authentication Enabled\n")
            }
            AuthCommand::Disable => {
                let answer = self.client.auth_disable().await?;
                self.switched(answer.header.as_ref(), "Authentication Disabled\n")
            }
            AuthCommand::Status => {
                let answer = self.client.auth_status().await?;
                let json = || {
                    json::lean([
                        ("header", json::header(answer.header.as_ref())),
                        ("enabled", answer.enabled.into()),
                        ("authRevision", answer.auth_revision.into()),
                    ])
                };
                let row = || {
                    let mut table = table(["ENABLED", "AUTH REVISION"]);
                    table.add_row([answer.enabled.to_string(), answer.auth_revision.to_string()]);
                    format!("{table}\n")
                };
                let lines = || {
                    let (enabled, revision) = (answer.enabled, answer.auth_revision);
                    format!("Authentication Status: {enabled}\nAuthRevision: {revision}\n")
                };
                self.show(Forms::new(json, lines).table(row).protobuf(&answer))
            }
        }
    }

    fn switched(&self, header: Header<'_>, said: &str) -> Outcome {
        self.show(Forms::new(|| json::bare(header), || said.to_owned()))
    }
}

/// The forms of a list of names.
fn names<'a>(
    header: Header<'a>,
    what: &'static str,
    heading: &'static str,
    names: &'a [String],
) -> Forms<'a> {
    let json = move || json::lean([("header", json::header(header)), (what, names.into())]);
    let rows = move || {
        let mut table = table([heading]);
        names.iter().for_each(|name| {
            table.add_row([name]);
        });
        format!("{table}\n")
    };
    let lines = || names.iter().map(|name| format!("{name}\n")).collect();
    Forms::new(json, lines).table(rows)
}

fn new_password(user: &str, interactive: bool) -> Result<String, Failure> {
    if interactive {
        password::ask_new(user)
    } else {
        password::read_line()
    }
}

/// What a role permits, reading and writing apart, as etcdctl prints it.
fn role_lines(role: &str, answer: &AuthRoleGetResponse) -> String {
    let mut out = format!("Role {role}\n");
    for (heading, other) in [("KV Read:", Type::Write), ("KV Write:", Type::Read)] {
        out.push_str(heading);
        out.push('\n');
        for permission in answer
            .perm
            .iter()
            .filter(|permission| permission.perm_type() != other)
        {
            out.push_str(&format!("\t{}\n", permitted(permission)));
        }
    }
    out
}

fn permitted(permission: &Permission) -> String {
    let Permission { key, range_end, .. } = permission;
    let range = range_text(key, range_end);
    if !range_end.is_empty() && &range_end[..] != ZERO && *range_end == prefix_end(key) {
        return format!("{range} (prefix {})", text::key(key));
    }
    range
}

fn range_text(key: &Bytes, range_end: &Bytes) -> String {
    let first = text::key(key);
    match &range_end[..] {
        [] => first.into_owned(),
        ZERO => format!("[{first}, <open ended>"),
        end => format!("[{first}, {})", text::key(end)),
    }
}

//! The methods that are called.

/// A method: its path in the gateway, and in gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Method {
    pub(super) json: &'static str,
    pub(super) service: &'static str,
    pub(super) name: &'static str,
}

const fn method(json: &'static str, service: &'static str, name: &'static str) -> Method {
    Method { json, service, name }
}

pub(super) const RANGE: Method = method("kv/range", "etcdserverpb.KV", "Range");
pub(super) const PUT: Method = method("kv/put", "etcdserverpb.KV", "Put");
pub(super) const DELETE_RANGE: Method = method("kv/deleterange", "etcdserverpb.KV", "DeleteRange");
pub(super) const TXN: Method = method("kv/txn", "etcdserverpb.KV", "Txn");
pub(super) const COMPACT: Method = method("kv/compaction", "etcdserverpb.KV", "Compact");
pub(super) const WATCH: Method = method("watch", "etcdserverpb.Watch", "Watch");
pub(super) const GRANT: Method = method("lease/grant", "etcdserverpb.Lease", "LeaseGrant");
pub(super) const REVOKE: Method = method("lease/revoke", "etcdserverpb.Lease", "LeaseRevoke");
pub(super) const KEEP_ALIVE: Method = method("lease/keepalive", "etcdserverpb.Lease", "LeaseKeepAlive");
pub(super) const TIME_TO_LIVE: Method = method("lease/timetolive", "etcdserverpb.Lease", "LeaseTimeToLive");
pub(super) const LEASES: Method = method("lease/leases", "etcdserverpb.Lease", "LeaseLeases");
pub(super) const LOCK: Method = method("lock/lock", "v3lockpb.Lock", "Lock");
pub(super) const UNLOCK: Method = method("lock/unlock", "v3lockpb.Lock", "Unlock");
pub(super) const CAMPAIGN: Method = method("election/campaign", "v3electionpb.Election", "Campaign");
pub(super) const PROCLAIM: Method = method("election/proclaim", "v3electionpb.Election", "Proclaim");
pub(super) const GET_LEADER: Method = method("election/leader", "v3electionpb.Election", "Leader");
pub(super) const RESIGN: Method = method("election/resign", "v3electionpb.Election", "Resign");
pub(super) const MEMBER_ADD: Method = method("cluster/member/add", "etcdserverpb.Cluster", "MemberAdd");
pub(super) const MEMBER_REMOVE: Method =
    method("cluster/member/remove", "etcdserverpb.Cluster", "MemberRemove");
pub(super) const MEMBER_UPDATE: Method =
    method("cluster/member/update", "etcdserverpb.Cluster", "MemberUpdate");
pub(super) const MEMBER_PROMOTE: Method =
    method("cluster/member/promote", "etcdserverpb.Cluster", "MemberPromote");
pub(super) const MEMBER_LIST: Method = method("cluster/member/list", "etcdserverpb.Cluster", "MemberList");
pub(super) const AUTH_ENABLE: Method = method("auth/enable", "etcdserverpb.Auth", "AuthEnable");
pub(super) const AUTH_DISABLE: Method = method("auth/disable", "etcdserverpb.Auth", "AuthDisable");
pub(super) const AUTH_STATUS: Method = method("auth/status", "etcdserverpb.Auth", "AuthStatus");
pub(super) const AUTHENTICATE: Method = method("auth/authenticate", "etcdserverpb.Auth", "Authenticate");
pub(super) const USER_ADD: Method = method("auth/user/add", "etcdserverpb.Auth", "UserAdd");
pub(super) const USER_GET: Method = method("auth/user/get", "etcdserverpb.Auth", "UserGet");
pub(super) const USER_LIST: Method = method("auth/user/list", "etcdserverpb.Auth", "UserList");
pub(super) const USER_DELETE: Method = method("auth/user/delete", "etcdserverpb.Auth", "UserDelete");
pub(super) const USER_PASSWORD: Method =
    method("auth/user/changepw", "etcdserverpb.Auth", "UserChangePassword");
pub(super) const USER_GRANT: Method = method("auth/user/grant", "etcdserverpb.Auth", "UserGrantRole");
pub(super) const USER_REVOKE: Method = method("auth/user/revoke", "etcdserverpb.Auth", "UserRevokeRole");
pub(super) const ROLE_ADD: Method = method("auth/role/add", "etcdserverpb.Auth", "RoleAdd");
pub(super) const ROLE_GET: Method = method("auth/role/get", "etcdserverpb.Auth", "RoleGet");
pub(super) const ROLE_LIST: Method = method("auth/role/list", "etcdserverpb.Auth", "RoleList");
pub(super) const ROLE_DELETE: Method = method("auth/role/delete", "etcdserverpb.Auth", "RoleDelete");
pub(super) const ROLE_GRANT: Method = method("auth/role/grant", "etcdserverpb.Auth", "RoleGrantPermission");
pub(super) const ROLE_REVOKE: Method =
    method("auth/role/revoke", "etcdserverpb.Auth", "RoleRevokePermission");

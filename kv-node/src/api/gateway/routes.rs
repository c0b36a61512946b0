//! Which path is which method.

use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{DescriptorPool, MethodDescriptor};

/// The beginning of paths after `/v3/`, a service, and the ends of the paths with its methods.
type Service = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// etcd 3.5's paths, and `hashkv` of its later versions.
const TABLE: [Service; 8] = [
    (
        "kv/",
        "etcdserverpb.KV",
        &[
            ("range", "Range"),
            ("put", "Put"),
            ("deleterange", "DeleteRange"),
            ("txn", "Txn"),
            ("compaction", "Compact"),
        ],
    ),
    ("", "etcdserverpb.Watch", &[("watch", "Watch")]),
    (
        "",
        "etcdserverpb.Lease",
        &[
            ("lease/grant", "LeaseGrant"),
            ("lease/revoke", "LeaseRevoke"),
            ("lease/keepalive", "LeaseKeepAlive"),
            ("lease/timetolive", "LeaseTimeToLive"),
            ("lease/leases", "LeaseLeases"),
            ("kv/lease/revoke", "LeaseRevoke"),
            ("kv/lease/timetolive", "LeaseTimeToLive"),
            ("kv/lease/leases", "LeaseLeases"),
        ],
    ),
    (
        "cluster/member/",
        "etcdserverpb.Cluster",
        &[
            ("add", "MemberAdd"),
            ("remove", "MemberRemove"),
            ("update", "MemberUpdate"),
            ("list", "MemberList"),
            ("promote", "MemberPromote"),
        ],
    ),
    (
        "maintenance/",
        "etcdserverpb.Maintenance",
        &[
            ("alarm", "Alarm"),
            ("status", "Status"),
            ("defragment", "Defragment"),
            ("hash", "Hash"),
            ("hashkv", "HashKV"),
            ("snapshot", "Snapshot"),
            ("transfer-leadership", "MoveLeader"),
            ("downgrade", "Downgrade"),
        ],
    ),
    (
        "auth/",
        "etcdserverpb.Auth",
        &[
            ("enable", "AuthEnable"),
            ("disable", "AuthDisable"),
            ("status", "AuthStatus"),
            ("authenticate", "Authenticate"),
            ("user/add", "UserAdd"),
            ("user/get", "UserGet"),
            ("user/list", "UserList"),
            ("user/delete", "UserDelete"),
            ("user/changepw", "UserChangePassword"),
            ("user/grant", "UserGrantRole"),
            ("user/revoke", "UserRevokeRole"),
            ("role/add", "RoleAdd"),
            ("role/get", "RoleGet"),
            ("role/list", "RoleList"),
            ("role/delete", "RoleDelete"),
            ("role/grant", "RoleGrantPermission"),
            ("role/revoke", "RoleRevokePermission"),
        ],
    ),
    (
        "lock/",
        "v3lockpb.Lock",
        &[("lock", "Lock"), ("unlock", "Unlock")],
    ),
    (
        "election/",
        "v3electionpb.Election",
        &[
            ("campaign", "Campaign"),
            ("proclaim", "Proclaim"),
            ("leader", "Leader"),
            ("observe", "Observe"),
            ("resign", "Resign"),
        ],
    ),
];

/// Made once: what is known of the methods is decoded for it, which takes milliseconds.
pub(super) static ROUTES: LazyLock<Routes> = LazyLock::new(Routes::new);

/// The table, with what is known of each method.
pub(super) struct Routes(BTreeMap<String, MethodDescriptor>);

impl Routes {
    fn new() -> Routes {
        let pool = DescriptorPool::decode(kv_proto::FILE_DESCRIPTOR_SET).expect("the build wrote it");
        let mut routes = BTreeMap::new();
        for (prefix, service, methods) in TABLE {
            let service = pool
                .get_service_by_name(service)
                .expect("the table names services");
            for (path, name) in methods {
                let method = service.methods().find(|method| method.name() == *name);
                let method = method.unwrap_or_else(|| panic!("{service:?} has no {name}"));
                let before = routes.insert(format!("{prefix}{path}"), method);
                assert!(before.is_none(), "{prefix}{path} is in the table twice");
            }
        }
        Routes(routes)
    }

    /// All methods, in the order of their paths.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn all(&self) -> impl Iterator<Item = &MethodDescriptor> {
        self.0.values()
    }

    /// The method at a path, which is given without the prefix of all paths.
    pub(super) fn get(&self, path: &str) -> Option<&MethodDescriptor> {
        self.0.get(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_path() {
        let routes = &*ROUTES;
        let pool = routes.0["kv/range"].parent_pool().clone();
        let without: Vec<String> = pool
            .services()
            .filter(|service| service.package_name() != "quorate.peer.v1")
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(|method| !routes.0.values().any(|routed| routed == method))
            .map(|method| method.full_name().to_owned())
            .collect();
        // etcd has no path for it either.
        assert_eq!(without, ["etcdserverpb.KV.RangeStream"]);
    }
}

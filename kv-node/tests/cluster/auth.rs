//! Users and tokens over several nodes.

use kv_proto::etcdserverpb::{
    AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserGrantRoleRequest, AuthenticateRequest,
    PutRequest, RangeRequest, auth_client::AuthClient, kv_client::KvClient,
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::*;

/// A client of one node, with the token of whoever logged in.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
    token: String,
}

impl Client {
    pub(super) fn of(machine: &Machine) -> Client {
        let endpoint = Endpoint::from_shared(format!("http://{}", machine.client)).unwrap();
        Client {
            channel: endpoint.connect_lazy(),
            token: String::new(),
        }
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn with(&self, token: &str) -> Client {
        Client {
            channel: self.channel.clone(),
            token: token.to_owned(),
        }
    }

    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if !self.token.is_empty() {
            request
                .metadata_mut()
                .insert("token", self.token.parse().unwrap());
        }
        request
    }

    pub(super) async fn login(&self, name: &str, password: &str) -> String {
        let request = AuthenticateRequest {
            name: name.into(),
            password: password.into(),
        };
        let answer = self.auth().authenticate(request).await.unwrap();
        answer.into_inner().token
    }

    async fn put(&self) -> Result<(), Code> {
        let put = PutRequest {
            key: "app".into(),
            ..PutRequest::default()
        };
        let answer = KvClient::new(self.channel.clone()).put(self.request(put)).await;
        answer.map(drop).map_err(|status| status.code())
    }

    async fn get(&self) -> Result<(), Code> {
        let range = RangeRequest {
            key: "app".into(),
            ..RangeRequest::default()
        };
        let answer = KvClient::new(self.channel.clone())
            .range(self.request(range))
            .await;
        answer.map(drop).map_err(|status| status.code())
    }

    pub(super) fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    async fn user_add(&self, name: &str, password: &str) -> Result<(), Status> {
        let request = AuthUserAddRequest {
            name: name.into(),
            password: password.into(),
            ..AuthUserAddRequest::default()
        };
        self.auth().user_add(self.request(request)).await.map(drop)
    }

    async fn user_grant_role(&self, user: &str, role: &str) -> Result<(), Status> {
        let request = AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into(),
        };
        self.auth().user_grant_role(self.request(request)).await.map(drop)
    }

    pub(super) async fn grant(&self) {
        let request = AuthRoleGrantPermissionRequest {
            name: "app".into(),
            perm: Some(kv_proto::authpb::Permission {
                perm_type: kv_proto::authpb::permission::Type::Readwrite.into(),
                key: "app".into(),
                ..Default::default()
            }),
        };
        let mut auth = self.auth();
        auth.role_grant_permission(self.request(request)).await.unwrap();
    }

    async fn revoke(&self) {
        let request = AuthRoleRevokePermissionRequest {
            role: "app".into(),
            key: "app".into(),
            ..Default::default()
        };
        let mut auth = self.auth();
        auth.role_revoke_permission(self.request(request)).await.unwrap();
    }
}

pub(super) async fn enable(client: &Client) {
    client.user_add("root", "root's").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("alice", "alice's").await.unwrap();
    let role = AuthRoleAddRequest { name: "app".into() };
    client.auth().role_add(role).await.unwrap();
    client.user_grant_role("alice", "app").await.unwrap();
    client.auth().auth_enable(AuthEnableRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_node_counts_on_all_and_changes_take_effect_in_order() {
    let root_dir = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..3)
        .map(|i| Machine::new(root_dir.path(), &format!("n{i}")))
        .collect();
    let nodes = static_cluster(&machines).await;
    let clients: Vec<Client> = machines.iter().map(Client::of).collect();
    // Whoever asks first waits for the election.
    nodes[0].put("first", "").await;
    enable(&clients[0]).await;

    let root = clients[1].login("root", "root's").await;
    let alice = clients[2].login("alice", "alice's").await;
    for round in 0..6 {
        let admin = clients[round % 3].with(&root);
        admin.grant().await;
        for client in &clients {
            let client = client.with(&alice);
            assert_eq!((client.put().await, client.get().await), (Ok(()), Ok(())));
        }
        admin.revoke().await;
        for client in &clients {
            let client = client.with(&alice);
            let denied = Err(Code::PermissionDenied);
            assert_eq!((client.put().await, client.get().await), (denied, denied));
        }
    }
    clients[0].with(&root).grant().await;
    // A new password ends the token everywhere, and the new one works everywhere at once.
    let change = AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "another".into(),
        ..Default::default()
    };
    let admin = clients[0].with(&root);
    let changed = admin.auth().user_change_password(admin.request(change)).await;
    changed.unwrap();
    for client in &clients {
        let old = client.with(&alice);
        assert_eq!(old.get().await, Err(Code::Unauthenticated));
        assert_eq!(old.put().await, Err(Code::Unauthenticated));
    }
    let alice = clients[1].login("alice", "another").await;
    for client in &clients {
        assert_eq!(client.with(&alice).put().await, Ok(()));
        assert_eq!(client.put().await, Err(Code::InvalidArgument));
    }

    // Neither users nor tokens are lost when all nodes are.
    for up in nodes {
        up.stop().await;
    }
    let nodes = static_cluster(&machines).await;
    let clients: Vec<Client> = machines.iter().map(Client::of).collect();
    nodes[2].put("first", "").await;
    for client in &clients {
        assert_eq!(client.with(&alice).put().await, Ok(()));
        assert_eq!(client.get().await, Err(Code::InvalidArgument));
    }
    for up in nodes {
        up.stop().await;
    }
}

/// Users and roles are part of a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_later_knows_the_users() {
    let root_dir = tempfile::tempdir().unwrap();
    let machines: Vec<Machine> = (0..2)
        .map(|i| Machine::new(root_dir.path(), &format!("n{i}")))
        .collect();
    let first = start(machines[0].config("n0", dynamic(&machines[..1], 1))).await;
    first.put("first", "").await;
    let client = Client::of(&machines[0]);
    enable(&client).await;
    let root = client.login("root", "root's").await;
    client.with(&root).grant().await;
    let alice = client.login("alice", "alice's").await;
    // Far beyond `snapshot_count`: the log no longer reaches back.
    for i in 0..400 {
        first.put("filler", &i.to_string()).await;
    }
    until("a purged log", || first.node.wal().purged().is_some()).await;
    let join = Bootstrap::Dynamic {
        join: vec![machines[0].peer.clone()],
        expect: None,
    };
    let late = start(machines[1].config("n1", join)).await;
    let there = Client::of(&machines[1]);
    assert_eq!(there.with(&alice).get().await, Ok(()));
    assert_eq!(there.with(&alice).put().await, Ok(()));
    assert_eq!(there.get().await, Err(Code::InvalidArgument));
    late.stop().await;
    first.stop().await;
}

//! What clients are told when a change was on its way while the cluster changed under it.

use kv_node::auth::TokenKind;
use kv_proto::etcdserverpb::{
    AuthUserChangePasswordRequest, AuthenticateRequest, MemberAddRequest, PutRequest,
    cluster_client::ClusterClient, kv_client::KvClient,
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::{Code, Status};

use super::{
    auth::{Client, enable},
    switches::{Passage, Switches, leader_of, port, start_switched},
    *,
};

/// Three nodes behind switches, one of which leads.
struct Cluster {
    machines: Vec<Machine>,
    switches: Switches,
    nodes: Vec<Up>,
    leader: usize,
    _root: tempfile::TempDir,
}

impl Cluster {
    async fn start(election_timeout_ms: u64) -> Cluster {
        let root = tempfile::tempdir().unwrap();
        let machines: Vec<Machine> = (0..3)
            .map(|i| Machine::new(root.path(), &format!("n{i}")))
            .collect();
        let switches = Switches::default();
        let list = static_list(&machines);
        let start = |i: usize| {
            let config = Config {
                election_timeout_ms,
                ..machines[i].config(&format!("n{i}"), list.clone())
            };
            start_switched(config, &switches, port(&machines[i]))
        };
        let nodes = futures::future::join_all((0..3).map(start)).await;
        until("a leader", || leader_of(&nodes, None).is_some()).await;
        let leader = leader_of(&nodes, None).unwrap();
        nodes[leader].put("first", "").await;
        // Nobody puts anything into the log any more of its own accord.
        let members = || nodes[leader].node.members();
        until("all announced", || {
            members().iter().all(|member| !member.client_urls.is_empty())
        })
        .await;
        Cluster {
            leader,
            machines,
            switches,
            nodes,
            _root: root,
        }
    }

    fn follower(&self) -> usize {
        (self.leader + 1) % 3
    }

    fn port(&self, at: usize) -> u16 {
        port(&self.machines[at])
    }

    fn client(&self, at: usize) -> Client {
        Client::of(&self.machines[at])
    }

    async fn stop(self) {
        for up in self.nodes {
            up.stop().await;
        }
    }
}

/// Writes what alice may write.
async fn put(client: Client) -> Result<(), Status> {
    let request = client.request(PutRequest {
        key: "app".into(),
        ..PutRequest::default()
    });
    KvClient::new(client.channel()).put(request).await.map(drop)
}

fn told(result: Result<(), Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn unavailable(message: &str) -> (Code, String) {
    (Code::Unavailable, message.to_owned())
}

/// A follower that has not heard of the new password takes the old token, and the command that it passes on comes
/// after the change.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_change_while_a_command_is_on_its_way() {
    // No election in between, although the follower hears nothing.
    let cluster = Cluster::start(3000).await;
    let (leader, follower) = (cluster.client(cluster.leader), cluster.client(cluster.follower()));
    enable(&leader).await;
    let root = leader.with(&leader.login("root", "root's").await);
    root.grant().await;
    let alice = follower.with(&follower.login("alice", "alice's").await);
    put(alice.clone()).await.unwrap();

    let (from, to) = (cluster.port(cluster.leader), cluster.port(cluster.follower()));
    cluster
        .switches
        .set(move |one, other| match (one, other) == (from, to) {
            true => Passage::Still,
            false => Passage::Open,
        });
    let request = AuthUserChangePasswordRequest {
        name: "alice".into(),
        password: "another".into(),
        ..Default::default()
    };
    root.auth()
        .user_change_password(root.request(request))
        .await
        .unwrap();
    let old = "etcdserver: revision of auth store is old";
    assert_eq!(
        told(put(alice.clone()).await),
        (Code::InvalidArgument, old.to_owned())
    );
    cluster.switches.heal();
    let token = "etcdserver: invalid auth token";
    until_told(&alice, (Code::Unauthenticated, token.to_owned())).await;
    cluster.stop().await;
}

/// Asks until the answer is the one that comes once the node has caught up.
async fn until_told(client: &Client, expected: (Code, String)) {
    let deadline = Instant::now() + DEADLINE;
    while told(put(client.clone()).await) != expected {
        assert!(Instant::now() < deadline, "never {expected:?}");
    }
}

impl Cluster {
    /// What the leader's client is told of a change whose entry is in the leader's log, and in no other, when another one
    /// leads.
    async fn told_by_a_leader_that_is_replaced(
        self,
        change: impl Future<Output = Result<(), Status>> + Send + 'static,
    ) -> (Code, String) {
        let wal = self.nodes[self.leader].node.wal().clone();
        let (leader, last) = (self.port(self.leader), wal.last());
        self.switches.set(move |from, to| {
            let is_cut = (from == leader || to == leader) && wal.last() > last;
            if is_cut { Passage::Still } else { Passage::Open }
        });
        let asked = tokio::spawn(change);
        let others = || leader_of(&self.nodes, Some(self.leader)).is_some();
        until("another leader", others).await;
        self.switches.heal();
        let told = told(asked.await.unwrap());
        self.stop().await;
        told
    }
}

/// It may be that the next leader has what a leader took, and it may be that it has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_replaced_does_not_know_what_became_of_a_write() {
    let cluster = Cluster::start(300).await;
    let write = put(cluster.client(cluster.leader));
    assert_eq!(
        cluster.told_by_a_leader_that_is_replaced(write).await,
        unavailable("etcdserver: request timed out, possibly due to previous leader failure")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_replaced_does_not_know_what_became_of_a_change_of_members() {
    let cluster = Cluster::start(300).await;
    let mut members = ClusterClient::new(cluster.client(cluster.leader).channel());
    let add = async move {
        let add = MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
            is_learner: true,
        };
        members.member_add(add).await.map(drop)
    };
    assert_eq!(
        cluster.told_by_a_leader_that_is_replaced(add).await,
        unavailable("etcdserver: request timed out")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_loses_the_leader_does_not_know_what_became_of_a_write() {
    let cluster = Cluster::start(3000).await;
    let client = cluster.client(cluster.follower());
    put(client.clone()).await.unwrap();
    let (leader, follower) = (cluster.port(cluster.leader), cluster.port(cluster.follower()));
    // The leader takes what comes, and cannot commit it.
    let silence = move |from, _| match from == leader {
        true => Passage::Still,
        false => Passage::Open,
    };
    cluster.switches.set(silence);
    let written = tokio::spawn(put(client));
    let node = &cluster.nodes[cluster.leader].node;
    until("it is with the leader", || node.pending_proposals() > 0).await;
    cluster
        .switches
        .set(move |from, to| match (from, to) == (follower, leader) {
            true => Passage::Broken,
            false => silence(from, to),
        });
    assert_eq!(
        told(written.await.unwrap()),
        unavailable("etcdserver: request timed out, possibly due to connection lost")
    );
    cluster.switches.heal();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_only_verifies_tokens_makes_none() {
    let root = tempfile::tempdir().unwrap();
    let machine = Machine::new(root.path(), "n0");
    let pub_key = root.path().join("key.pub");
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(&pub_key, pair.public_key_pem()).unwrap();
    let tokens = TokenOptions {
        kind: TokenKind::Jwt {
            sign_method: "ES256".to_owned(),
            pub_key: Some(pub_key),
            priv_key: None,
            ttl: Duration::from_secs(60),
        },
        ..TokenOptions::default()
    };
    let list = static_list(std::slice::from_ref(&machine));
    let up = start(Config {
        tokens,
        ..machine.config("n0", list)
    })
    .await;
    up.put("first", "").await;
    let client = Client::of(&machine);
    enable(&client).await;
    let login = AuthenticateRequest {
        name: "alice".into(),
        password: "alice's".into(),
    };
    let refused = client.auth().authenticate(login).await.map(drop);
    let text = "quorate: this node verifies tokens but makes none: its --auth-token has no priv-key";
    assert_eq!(told(refused), (Code::FailedPrecondition, text.to_owned()));
    up.stop().await;
}

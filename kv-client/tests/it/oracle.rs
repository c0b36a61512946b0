//! The library against etcd itself, where that is installed (`scripts/oracle`).

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kv_client::{Client, Config, Credentials, Error, LeaseLoss, WatchItem, prefix_end};
use kv_proto::authpb::Permission;
use kv_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, CompactionRequest, PutRequest,
    RangeRequest, WatchCreateRequest,
};
use kv_proto::mvccpb::event::EventType;
use tempfile::TempDir;
use tonic::Code;

/// The directory with etcd's programs.
pub(crate) fn programs() -> Option<PathBuf> {
    let programs = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/etcd-3.5.1"));
    if programs.join("etcd").exists() {
        return Some(programs);
    }
    eprintln!("skipped: etcd is not installed (scripts/oracle installs it)");
    None
}

/// A cluster of one etcd. Killed when dropped.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) endpoint: String,
    _data: TempDir,
}

impl Etcd {
    /// None, with a word on standard error, where etcd is not installed.
    pub(crate) async fn start() -> Option<Etcd> {
        Etcd::start_with(&[]).await
    }

    pub(crate) async fn start_with(flags: &[&str]) -> Option<Etcd> {
        let programs = programs()?;
        loop {
            // Again where somebody took one of the ports meanwhile.
            if let Some(etcd) = Etcd::spawn(&programs, flags).once_ready().await {
                return Some(etcd);
            }
        }
    }

    fn spawn(programs: &Path, flags: &[&str]) -> Etcd {
        let data = TempDir::new().unwrap();
        let [client, peer] = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        });
        let child = Command::new(programs.join("etcd"))
            .arg("--data-dir")
            .arg(data.path())
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--log-level",
                "error",
            ])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Etcd {
            child,
            endpoint: client,
            _data: data,
        }
    }

    /// Waits until it has a leader; none if it ended instead.
    async fn once_ready(mut self) -> Option<Etcd> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.client().range(get("k")).await {
            if self.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "etcd is not there: {error}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(self)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(Config::new([&self.endpoint])).unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn watches() {
    let Some(etcd) = Etcd::start().await else { return };
    let client = etcd.client();
    let prefix = WatchCreateRequest {
        key: "a/".into(),
        range_end: prefix_end(b"a/"),
        prev_kv: true,
        ..Default::default()
    };
    let mut watch = client.watch(prefix.clone()).await.unwrap();
    assert_eq!(watch.created_revision(), 1);
    for value in ["1", "2"] {
        client.put(put("a/k", value)).await.unwrap();
    }
    client.put(put("b", "elsewhere")).await.unwrap();
    let mut values = Vec::new();
    while values.len() < 2 {
        let Some(Ok(WatchItem::Events { events, .. })) = watch.next().await else {
            panic!("events")
        };
        for event in events {
            assert_eq!(event.r#type(), EventType::Put);
            let previous = event.prev_kv.map(|kv| kv.value);
            values.push((previous, event.kv.unwrap().value));
        }
    }
    assert_eq!(values, [(None, "1".into()), (Some("1".into()), "2".into())]);
    assert_eq!(watch.next_revision(), 4);
    watch.request_progress();
    let progress = watch.next().await.unwrap().unwrap();
    assert_eq!(progress, WatchItem::Progress { revision: 4 });

    let request = CompactionRequest {
        revision: 3,
        physical: false,
    };
    client.compact(request).await.unwrap();
    let past = WatchCreateRequest {
        start_revision: 2,
        ..prefix
    };
    let mut watch = client.watch(past).await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Compacted { revision: 3 }), "{error:?}");
}

#[tokio::test]
async fn leases_locks_and_elections() {
    let Some(etcd) = Etcd::start().await else { return };
    let client = etcd.client();
    let mut first = client.lease(3).await.unwrap();
    let second = client.lease(60).await.unwrap();
    assert_eq!(client.lease_leases().await.unwrap().leases.len(), 2);

    let held = client.lock(&first, b"l").await.unwrap();
    assert_eq!(held.key(), &format!("l/{:x}", first.id()));
    let mut waiting = Box::pin(client.lock(&second, b"l"));
    tokio::select! {
        biased;
        _ = &mut waiting => panic!("held twice"),
        renewed = first.renewed() => assert_eq!(renewed.unwrap(), 3),
    }
    let before = held.revision();
    held.unlock().await.unwrap();
    let held = waiting.await.unwrap();
    assert!(held.revision() > before);

    let leading = client.campaign(&first, b"e", "one".into()).await.unwrap();
    let mut observed = client.observe(b"e");
    assert_eq!(observed.next().await.unwrap().value, "one");
    leading.proclaim("uno".into()).await.unwrap();
    assert_eq!(observed.next().await.unwrap().value, "uno");
    let candidate = client.campaign(&second, b"e", "two".into());
    let (candidate, resigned) = tokio::join!(candidate, leading.resign());
    resigned.unwrap();
    assert_eq!(observed.next().await.unwrap().value, "two");
    candidate.unwrap().resign().await.unwrap();

    let id = first.id();
    client.lease_revoke(id).await.unwrap();
    assert_eq!(first.lost().await, LeaseLoss::Ended);
    let error = client.lock(&first, b"l").await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost(LeaseLoss::Ended)), "{error:?}");
    assert!(client.keep_alive(id).await.is_err());
    assert_eq!(client.lease_time_to_live(id, true).await.unwrap().ttl, -1);
    second.revoke().await.unwrap();
    assert_eq!(client.range(get("l")).await.unwrap().count, 0);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_lost_in_time() {
    let Some(etcd) = Etcd::start().await else { return };
    let lease = etcd.client().lease(2).await.unwrap();
    let granted = tokio::time::Instant::now();
    drop(etcd);
    assert_eq!(lease.lost().await, LeaseLoss::Unconfirmed);
    assert!(
        lease.is_lost() && granted.elapsed() <= Duration::from_secs(3),
        "{:?}",
        granted.elapsed()
    );
}

#[tokio::test]
async fn a_token_is_fetched_and_fetched_again() {
    let Some(etcd) = Etcd::start_with(&["--auth-token-ttl", "1"]).await else {
        return;
    };
    let open = etcd.client();
    for (name, password) in [("root", "r"), ("reader", "s")] {
        let request = AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        open.user_add(request).await.unwrap();
        let name = name.to_owned();
        open.role_add(AuthRoleAddRequest { name: name.clone() })
            .await
            .unwrap();
        let grant = AuthUserGrantRoleRequest {
            user: name.clone(),
            role: name,
        };
        open.user_grant_role(grant).await.unwrap();
    }
    let permission = Permission {
        key: "k".into(),
        ..Default::default()
    };
    open.role_grant_permission("reader", permission).await.unwrap();
    let with = |name: &str, password: &str| {
        let credentials = Credentials {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let config = Config {
            credentials: Some(credentials),
            ..Config::new([&etcd.endpoint])
        };
        Client::new(config).unwrap()
    };
    let (root, reader) = (with("root", "r"), with("reader", "s"));
    // Known before authentication is enabled, and asked for a token afterwards.
    root.put(put("k", "v")).await.unwrap();
    open.auth_enable().await.unwrap();
    root.put(put("k", "w")).await.unwrap();
    assert!(root.auth_status().await.unwrap().enabled);

    let refused = |result: Result<_, Error>| match result {
        Err(Error::Rejected { code, message }) => (code, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(reader.range(get("k")).await.unwrap().count, 1);
    assert_eq!(
        refused(reader.range(get("l")).await),
        (Code::PermissionDenied, "etcdserver: permission denied".to_owned())
    );
    assert_eq!(
        refused(open.range(get("k")).await),
        (Code::InvalidArgument, "etcdserver: user name is empty".to_owned())
    );
    let wrong = "etcdserver: authentication failed, invalid user ID or password";
    assert_eq!(refused(with("root", "x").range(get("k")).await).1, wrong);
    let denied = WatchCreateRequest {
        key: "l".into(),
        ..Default::default()
    };
    assert!(matches!(
        reader.watch(denied).await,
        Err(Error::Rejected {
            code: Code::PermissionDenied,
            ..
        })
    ));

    // A change makes every token old.
    let request = AuthRoleAddRequest {
        name: "another".to_owned(),
    };
    root.role_add(request).await.unwrap();
    assert_eq!(reader.range(get("k")).await.unwrap().count, 1);
    // And so does time.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let watch = WatchCreateRequest {
        key: "k".into(),
        ..Default::default()
    };
    let mut watch = reader.watch(watch).await.unwrap();
    root.put(put("k", "x")).await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(WatchItem::Events { .. }))));
    root.auth_disable().await.unwrap();
    assert_eq!(open.range(get("k")).await.unwrap().count, 1);
}

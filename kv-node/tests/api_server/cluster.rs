//! etcd's services for the members and for upkeep, on a cluster of one.

use kv_proto::etcdserverpb as pb;
use tonic::{Code, Status};

use crate::harness::Server;

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
    let status = result.unwrap_err();
    (status.code(), status.message().to_owned())
}

fn failed(text: &str) -> (Code, String) {
    (Code::FailedPrecondition, text.to_owned())
}

fn add(url: &str, is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest {
        peer_ur_ls: vec![url.to_owned()],
        is_learner,
    }
}

#[tokio::test]
async fn members_are_changed_and_refused_as_etcd_does() {
    let server = Server::start().await;
    let mut cluster = server.cluster();
    let own = server.node.members().remove(0);
    let not_enough = (
        Code::Unknown,
        "etcdserver: re-configuration failed due to not enough started members".to_owned(),
    );
    let not_found = (Code::NotFound, "etcdserver: member not found".to_owned());
    let bad = (
        Code::InvalidArgument,
        "etcdserver: given member URLs are invalid".to_owned(),
    );
    assert_eq!(refusal(cluster.member_add(add("bla", false)).await), bad);
    let exists = failed("etcdserver: Peer URLs already exists");
    assert_eq!(
        refusal(cluster.member_add(add(&own.peer_urls[0], false)).await),
        exists
    );
    let remove = |id| pb::MemberRemoveRequest { id };
    assert_eq!(refusal(cluster.member_remove(remove(own.id)).await), not_enough);
    assert_eq!(refusal(cluster.member_remove(remove(77)).await), not_found);
    let promote = |id| pb::MemberPromoteRequest { id };
    assert_eq!(refusal(cluster.member_promote(promote(77)).await), not_found);
    assert_eq!(
        refusal(cluster.member_promote(promote(own.id)).await),
        failed("etcdserver: can only promote a learner member")
    );

    let learner = cluster
        .member_add(add("http://127.0.0.1:1", true))
        .await
        .unwrap()
        .into_inner();
    let member = learner.member.unwrap();
    assert_eq!((member.name.as_str(), member.is_learner), ("", true));
    assert_eq!(
        (member.peer_ur_ls.as_slice(), learner.members.len()),
        (&["http://127.0.0.1:1".to_owned()][..], 2)
    );
    assert_eq!(
        refusal(cluster.member_promote(promote(member.id)).await),
        failed("etcdserver: can only promote a learner member which is in sync with leader")
    );
    assert_eq!(
        refusal(cluster.member_add(add("http://127.0.0.1:2", true)).await),
        failed("etcdserver: too many learner members in cluster")
    );
    let update = |id, url: &str| pb::MemberUpdateRequest {
        id,
        peer_ur_ls: vec![url.to_owned()],
    };
    assert_eq!(
        refusal(cluster.member_update(update(77, "http://127.0.0.1:3")).await),
        not_found
    );
    assert_eq!(
        refusal(cluster.member_update(update(member.id, &own.peer_urls[0])).await),
        exists
    );
    assert_eq!(
        refusal(cluster.member_update(update(member.id, "bla")).await),
        bad
    );
    let updated = cluster
        .member_update(update(member.id, "http://127.0.0.1:3"))
        .await
        .unwrap()
        .into_inner();
    let moved = updated
        .members
        .iter()
        .find(|other| other.id == member.id)
        .unwrap();
    assert_eq!(moved.peer_ur_ls, ["http://127.0.0.1:3"]);
    let left = cluster
        .member_remove(remove(member.id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(left.members.len(), 1);

    // A voter that has not started keeps the next one out, but not the cluster from working.
    let voter = cluster
        .member_add(add("http://127.0.0.1:4", false))
        .await
        .unwrap()
        .into_inner();
    assert!(!voter.member.as_ref().unwrap().is_learner);
    assert_eq!(
        refusal(cluster.member_add(add("http://127.0.0.1:5", false)).await),
        not_enough
    );
    let target_id = voter.member.as_ref().unwrap().id;
    let mut maintenance = server.maintenance();
    assert_eq!(
        refusal(maintenance.move_leader(pb::MoveLeaderRequest { target_id }).await),
        failed("etcdserver: bad leader transferee"),
        "it has no vote yet, and could not take over"
    );
    let put = pb::PutRequest {
        key: "still".into(),
        ..Default::default()
    };
    server.kv().put(put).await.unwrap();
    cluster
        .member_remove(remove(voter.member.unwrap().id))
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn without_a_quorum_nothing_changes() {
    let server = Server::start_without_quorum().await;
    let refused = refusal(server.cluster().member_add(add("http://127.0.0.1:1", true)).await);
    assert_eq!(refused, (Code::Unavailable, "etcdserver: no leader".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn upkeep() {
    let server = Server::start().await;
    let mut maintenance = server.maintenance();
    let own = server.node.identity().member_id;
    let to = |target_id| pb::MoveLeaderRequest { target_id };
    maintenance.move_leader(to(own)).await.unwrap();
    assert_eq!(
        refusal(maintenance.move_leader(to(77)).await),
        failed("etcdserver: bad leader transferee")
    );
    maintenance.defragment(pb::DefragmentRequest {}).await.unwrap();
    let hash = maintenance
        .hash(pb::HashRequest {})
        .await
        .unwrap()
        .into_inner()
        .hash;
    let same = maintenance
        .hash_kv(pb::HashKvRequest::default())
        .await
        .unwrap()
        .into_inner()
        .hash;
    assert_eq!(hash, same);

    use pb::downgrade_request::DowngradeAction;
    let downgrade = |action: i32, version: &str| pb::DowngradeRequest {
        action,
        version: version.to_owned(),
    };
    let invalid = |text: &str| (Code::InvalidArgument, text.to_owned());
    for action in [DowngradeAction::Validate, DowngradeAction::Enable] {
        for version in ["3.4", "3.4.0", "9.9.9"] {
            let refused = refusal(maintenance.downgrade(downgrade(action.into(), version)).await);
            assert_eq!(refused, invalid("etcdserver: invalid downgrade target version"));
        }
        let refused = refusal(maintenance.downgrade(downgrade(action.into(), "bla")).await);
        assert_eq!(
            refused,
            invalid("etcdserver: wrong downgrade target version format")
        );
    }
    let refused = refusal(
        maintenance
            .downgrade(downgrade(DowngradeAction::Cancel.into(), ""))
            .await,
    );
    assert_eq!(refused, failed("etcdserver: no inflight downgrade job"));
    let refused = refusal(maintenance.downgrade(downgrade(9, "")).await);
    assert_eq!(refused, (Code::Unknown, "etcdserver: unknown method".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn alarms_refuse_what_etcds_do() {
    let server = Server::start().await;
    let mut maintenance = server.maintenance();
    let member_id = server.node.identity().member_id;
    let ask = |action: pb::alarm_request::AlarmAction, alarm: pb::AlarmType| pb::AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    use pb::{AlarmType::*, alarm_request::AlarmAction::*};
    let put = || pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    let delete = || pb::DeleteRangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    let mut alarm = async |action, kind| {
        maintenance
            .alarm(ask(action, kind))
            .await
            .unwrap()
            .into_inner()
            .alarms
    };
    let member = |kind: pb::AlarmType| pb::AlarmMember {
        member_id,
        alarm: kind.into(),
    };

    assert_eq!(alarm(Get, None).await, []);
    assert_eq!(alarm(Deactivate, Nospace).await, [], "nothing to end is no error");
    assert_eq!(alarm(Activate, Nospace).await, [member(Nospace)]);
    assert_eq!(alarm(Activate, Nospace).await, [member(Nospace)]);
    let full = (
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded".to_owned(),
    );
    assert_eq!(refusal(server.kv().put(put()).await), full);
    server.kv().delete_range(delete()).await.unwrap();
    let status = server
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.errors, [format!("memberID:{member_id} alarm:NOSPACE ")]);
    assert_eq!(server.get("/health").await.json()["reason"], "ALARM NOSPACE");
    assert_eq!(
        server.get("/health?exclude=NOSPACE").await.json()["health"],
        "true"
    );

    assert_eq!(alarm(Activate, Corrupt).await, [member(Corrupt)]);
    assert_eq!(alarm(Get, None).await, [member(Nospace), member(Corrupt)]);
    assert_eq!(alarm(Get, Corrupt).await, [member(Corrupt)]);
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster".to_owned());
    assert_eq!(refusal(server.kv().put(put()).await), corrupt);
    assert_eq!(refusal(server.kv().delete_range(delete()).await), corrupt);
    let range = pb::RangeRequest {
        key: "a".into(),
        ..Default::default()
    };
    server.kv().range(range).await.unwrap();

    assert_eq!(alarm(Activate, None).await, [], "no alarm is meant");
    assert_eq!(alarm(Deactivate, Corrupt).await, [member(Corrupt)]);
    assert_eq!(alarm(Deactivate, Nospace).await, [member(Nospace)]);
    assert_eq!(alarm(Get, None).await, []);
    server.kv().put(put()).await.unwrap();
    server.stop().await;
}

/// What a leader answers that its followers have left, before it knows that it leads no more.
#[tokio::test]
async fn a_leader_that_is_being_left() {
    let mut servers = Server::start_three_impatient().await;
    let at = servers.iter().position(Server::leads).unwrap();
    let leader = servers.swap_remove(at);
    let (one, other) = (servers.pop().unwrap(), servers.pop().unwrap());
    let put = || pb::PutRequest {
        key: "a".into(),
        ..Default::default()
    };
    leader.kv().put(put()).await.unwrap();
    let gone = one.node.identity().member_id;
    one.stop().await;
    let add = || pb::MemberAddRequest {
        peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
        is_learner: false,
    };
    let unhealthy = (Code::Unavailable, "etcdserver: unhealthy cluster".to_owned());
    let mut cluster = leader.cluster();
    let refused = loop {
        // It answers until it has not for some time.
        let added = cluster.member_add(add()).await;
        match added {
            Err(status) => break status,
            Ok(added) => {
                let id = added.into_inner().member.unwrap().id;
                cluster
                    .member_remove(pb::MemberRemoveRequest { id })
                    .await
                    .unwrap();
            }
        }
    };
    assert_eq!((refused.code(), refused.message().to_owned()), unhealthy);
    let left = pb::MemberRemoveRequest {
        id: other.node.identity().member_id,
    };
    assert_eq!(refusal(cluster.member_remove(left).await), unhealthy);

    other.stop().await;
    assert!(leader.leads());
    // It may have been executed: that is for the client to find out.
    let timed_out = (Code::Unavailable, "etcdserver: request timed out".to_owned());
    assert_eq!(refusal(leader.kv().put(put()).await), timed_out);
    let moved = leader
        .maintenance()
        .move_leader(pb::MoveLeaderRequest { target_id: gone })
        .await;
    assert_eq!(
        refusal(moved),
        (
            Code::Unavailable,
            "etcdserver: request timed out, leader transfer took too long".to_owned()
        )
    );
    leader.stop().await;
}

#[tokio::test]
async fn there_is_an_end_to_alarms() {
    let server = Server::start().await;
    let mut maintenance = server.maintenance();
    let mut raise = async |member_id| {
        let request = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id,
            alarm: pb::AlarmType::Nospace.into(),
        };
        maintenance.alarm(request).await
    };
    for member_id in 1..=kv_core::ALARMS_MAX as u64 {
        raise(member_id).await.unwrap();
    }
    let beyond = refusal(raise(u64::MAX).await);
    assert_eq!(
        beyond,
        (Code::ResourceExhausted, "quorate: too many alarms".to_owned())
    );
    server.stop().await;
}

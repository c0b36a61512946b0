//! Serving: the APIs, and what runs beside them.

use std::{sync::Arc, time::Duration};

use super::Running;
use crate::{
    alarms, api,
    blocking::may_wait,
    bootstrap::control::{self, ControlClient, MemberRequest, Speaks},
    compaction, corruption,
    lease::expire::Expiry,
    membership::{Announced, Refused},
    node::{Ids, Node},
    raft::{network::Network, peer_service::PeerService},
    space::FreeBytes,
    switch::Front,
    upkeep,
};

/// What a running node needs of its surroundings.
pub(super) struct Around {
    pub(super) network: Network,
    pub(super) client: ControlClient,
    pub(super) free_bytes: FreeBytes,
}

impl Running {
    /// Puts the APIs in place and starts what runs beside them.
    pub(super) fn serve(&self, node: &Node, around: Around, join: bool) {
        let Around {
            network,
            client,
            free_bytes,
        } = around;
        let inner = &node.inner;
        let Ids {
            cluster_id,
            member_id,
        } = inner.ids;
        let peer = PeerService::new(
            inner.raft.clone(),
            inner.store.clone(),
            inner.proposer.clone(),
            inner.read_index.clone(),
            inner.heard.clone(),
            inner.space.clone(),
            self.stop_peers.clone(),
        );
        self.peers.set(Front {
            path: "/quorate.peer.v1.Peer/",
            grpc: peer.into_server(cluster_id, member_id),
            rest: control::router(self.control.clone())
                .merge(corruption::router(cluster_id, inner.store.clone())),
        });
        let membership = inner.membership.clone();
        assert!(
            self.control.members.set(Arc::new(membership.clone())).is_ok(),
            "a node starts once"
        );
        let member = self.local.lock().seen().member;
        let request = MemberRequest {
            speaks: Speaks::OURS,
            cluster_id,
            node_id: member_id,
            member,
            join,
        };
        let announced = Announced {
            membership: membership.clone(),
            request,
            local: self.local.clone(),
            bootstrap: self.config.bootstrap.clone(),
            heard: inner.heard.clone(),
        };
        let (refused, local) = (inner.refused.clone(), self.local.clone());
        self.background(node, async move {
            let why = announced.keep().await;
            if why == Refused::Removed
                && let Err(error) = may_wait(|| local.lock().update(|identity| identity.removed = true))
            {
                tracing::warn!(%error, "the removal is not noted");
            }
            refused.send_replace(Some(why));
        });
        self.background(node, membership.pilot());
        let dir = self.config.data_dir.clone();
        self.background(node, inner.space.clone().watch(dir, free_bytes));
        self.background(node, alarms::run(node.clone()));
        if let Some(retention) = self.config.retention {
            self.background(node, compaction::run(node.clone(), retention));
        }
        let checks = self.config.corruption_checks;
        self.background(node, corruption::run(node.clone(), client, checks));
        self.background(node, upkeep::sweep(inner.store.clone()));
        let expiry = Expiry {
            store: inner.store.clone(),
            clock: inner.clock.clone(),
            leadership: inner.leadership.clone(),
            read_index: inner.read_index.clone(),
            proposer: inner.proposer.clone(),
        };
        self.background(node, expiry.run());
        let election = Duration::from_millis(self.config.election_timeout_ms);
        self.background(node, upkeep::notice_no_leader(node.clone(), election));
        self.background(node, upkeep::count_leader_changes(inner.raft.clone()));
        self.background(
            node,
            upkeep::remember_members(inner.raft.clone(), network, self.local.clone()),
        );
        self.clients.set(api::client_port(node.clone()));
        tracing::info!(
            cluster_id = format!("{cluster_id:x}"),
            member_id = format!("{member_id:x}"),
            name = self.config.name,
            clients = self.config.client_urls.join(","),
            "serving"
        );
    }

    fn background(&self, node: &Node, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop_peers.clone();
        node.inner.background.spawn(async move {
            tokio::select! { () = task => {}, () = stop.cancelled() => {} }
        });
    }
}

//! Makes the cluster know this node under its present name and addresses, and finds out when it is no longer
//! wanted: a member that was removed hears nothing more from the others, so it has to ask.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::Membership;
use crate::{
    blocking::may_wait,
    bootstrap::{
        Bootstrap,
        control::{ControlClient, Local, MemberAnswer, MemberRequest},
    },
    raft::leader::{Heard, Leader},
};

/// Pause before a node that is not in yet asks again.
const ANNOUNCE_PAUSE: Duration = Duration::from_millis(250);
/// How long a node hears nothing of a leader before it asks whether it is still a member.
const SILENCE: Duration = Duration::from_secs(2);

/// Why the cluster does not want this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It was a member once.
    Removed,
    /// It cannot become one.
    Never(String),
}

/// Keeps this node announced.
pub struct Announced {
    /// Of a running node.
    pub membership: Membership,
    /// What it says of itself.
    pub request: MemberRequest,
    /// Where the members were last seen.
    pub local: Arc<Mutex<Local>>,
    /// Where others may be, if none of these is left.
    pub bootstrap: Bootstrap,
    /// When a leader was last heard.
    pub heard: Heard,
}

impl Announced {
    /// Announces the node at its start, and again whenever there is no leader for a while; returns why it
    /// is refused, if it ever is.
    pub async fn keep(mut self) -> Refused {
        let (mut round, mut stranger, mut is_known) = (0usize, None, false);
        loop {
            if is_known {
                let told = self.membership.look_again.notified();
                let is_told = tokio::time::timeout(SILENCE, told).await.is_ok();
                let leads = self.membership.leadership.current() == Leader::Here;
                if !is_told && (leads || (self.is_listed() && self.heard.ago() < SILENCE)) {
                    continue;
                }
            }
            if self.request.join && self.membership.member(self.request.node_id).is_some() {
                self.note_admission();
            }
            match self.once(round).await {
                Ok(MemberAnswer::Done) => {
                    is_known = true;
                    self.note_admission();
                }
                Ok(MemberAnswer::Refused(why)) => return Refused::Never(why),
                Ok(MemberAnswer::Removed) => return Refused::Removed,
                Ok(MemberAnswer::OtherCluster(other)) => {
                    if stranger.replace(other) != Some(other) {
                        tracing::error!(
                            ours = format!("{:x}", self.request.cluster_id),
                            theirs = format!("{other:x}"),
                            "a peer's address belongs to another cluster: if this is the wrong data directory, give the node its own (--data-dir)"
                        );
                    }
                }
                Ok(MemberAnswer::Leader(_)) => {}
                Err(error) => tracing::debug!(error, "not announced yet"),
            }
            round += 1;
            tokio::time::sleep(ANNOUNCE_PAUSE).await;
        }
    }

    async fn once(&self, round: usize) -> Result<MemberAnswer, String> {
        let at = match self.membership.leadership.current() {
            Leader::Here => return Ok(self.membership.admit(self.request.clone()).await),
            Leader::There(_, leader) => leader.peer_urls.first().cloned(),
            Leader::Unknown => self.somebody(round).await,
        };
        let at = at.ok_or("no leader and nobody to ask")?;
        let client = &self.membership.client;
        match ask(client, &at, &self.request).await? {
            MemberAnswer::Leader(Some(leader)) => {
                let at = leader.peer_urls.first().ok_or("the leader has no address")?;
                ask(client, at, &self.request).await
            }
            other => Ok(other),
        }
    }

    /// From now on, whoever does not know this node has removed it.
    fn note_admission(&mut self) {
        self.request.join = false;
        if let Err(error) = may_wait(|| self.local.lock().update(|identity| identity.joining = false)) {
            tracing::warn!(%error, "that this node is a member is not noted");
        }
    }

    /// Whether the cluster knows this node, and its zone, which a leader of an older release leaves out. Addresses
    /// are told at the start alone: a client may change them ahead of the node.
    fn is_listed(&self) -> bool {
        let listed = self.membership.member(self.request.node_id);
        listed.is_some_and(|listed| listed.zone == self.request.member.zone)
    }

    /// One of the other members after the other, and whoever is where this node was told to look when it started: while it
    /// was cut off, all the members that it knew may have been replaced.
    async fn somebody(&self, round: usize) -> Option<String> {
        let members = may_wait(|| self.local.lock().identity().members.clone());
        let others = members.into_iter().filter(|(id, _)| *id != self.request.node_id);
        let mut urls: Vec<String> = others.flat_map(|(_, member)| member.peer_urls).collect();
        urls.extend(self.bootstrap.places().await);
        urls.get(round.checked_rem(urls.len())?).cloned()
    }
}

async fn ask(client: &ControlClient, at: &str, request: &MemberRequest) -> Result<MemberAnswer, String> {
    client
        .members(at, request)
        .await
        .map_err(|error| error.to_string())
}

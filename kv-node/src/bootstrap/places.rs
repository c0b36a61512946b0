//! Places that clients made in a cluster for nodes to come (`member add`), and the nodes that take them.
//!
//! A place has its id before its node exists. The node takes the id over, once and for all: it claims the
//! place by the random id that it made for itself at its first start, the leader writes the claim into the
//! membership, and only then does the node store its new id and make a log under it. A node that lost its
//! data has another random id, so that it cannot take the place again.

use std::collections::BTreeMap;

use super::{
    BootstrapError,
    agree::Seen,
    control::{ControlClient, MemberAnswer, MemberRequest, Speaks},
};
use crate::{identity::Identity, raft::types::Member};

/// The place made for a node: not taken yet, or by this node, which stopped before it knew.
pub(super) fn find(members: &BTreeMap<u64, Member>, own: &Identity, member: &Member) -> Option<u64> {
    if own.log_created {
        return None;
    }
    let is_ours = |place: &Member| match place.is_started() {
        true => place.claim == own.node_id,
        false => place.shares_url(&member.peer_urls),
    };
    members
        .iter()
        .find(|(_, place)| is_ours(place))
        .map(|(id, _)| *id)
}

/// Asks for a place; `false`: nobody leads right now, or it is no longer there.
///
/// # Errors
/// When another node has it.
pub(super) async fn claim(
    client: &ControlClient,
    cluster_id: u64,
    id: u64,
    own: &Seen,
    members: &BTreeMap<u64, Member>,
) -> Result<bool, BootstrapError> {
    let member = Member {
        claim: own.node_id,
        ..own.member.clone()
    };
    let request = MemberRequest {
        speaks: Speaks::OURS,
        cluster_id,
        node_id: id,
        member,
        join: false,
    };
    let others = members.iter().filter(|(other, _)| **other != id);
    let mut urls: Vec<String> = others.flat_map(|(_, member)| member.peer_urls.clone()).collect();
    let mut asked = 0;
    while let Some(url) = urls.get(asked).cloned() {
        asked += 1;
        match client.members(&url, &request).await {
            Ok(MemberAnswer::Done) => return Ok(true),
            Ok(MemberAnswer::Refused(why)) => return Err(BootstrapError::PlaceRefused(why)),
            Ok(MemberAnswer::Removed) => return Ok(false),
            Ok(MemberAnswer::Leader(Some(leader))) => {
                // Each address is asked once.
                let leads = leader.peer_urls.into_iter().filter(|url| !urls.contains(url));
                urls.extend(leads.collect::<Vec<_>>());
            }
            Ok(MemberAnswer::Leader(None) | MemberAnswer::OtherCluster(_)) => {}
            Err(error) => tracing::debug!(url, %error, "not asked"),
        }
    }
    Ok(false)
}

/// Takes the id of a place that was claimed.
pub(super) fn take(identity: &mut Identity, place: u64) {
    (identity.claim, identity.node_id) = (identity.node_id, place);
}

//! Carries out what [`super::agree`] decides, and the static way.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    BootstrapError, Start, StaticIds,
    agree::{self, Ballot, Seen, Step},
    control::{ControlClient, Local},
    discover::{self, Answers},
    places,
};
use crate::raft::types::Member;

/// Pause between two rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(150);

/// Tells `/readyz` and the log what a node that is not up yet waits for.
pub type Progress = watch::Sender<String>;

/// Says it once, however often it is the case.
fn say(progress: &Progress, what: String) {
    progress.send_if_modified(|current| {
        let news = *current != what;
        if news {
            tracing::info!("{what}");
            *current = what;
        }
        news
    });
}

/// Looks, at a restart, whether this data directory belongs where the flags put it: `urls` are the peers that
/// the flags name. Peers that do not answer are no hindrance.
///
/// # Errors
/// When one of them is of another cluster, or is this very member, running elsewhere.
pub async fn check_company(
    local: &Arc<Mutex<Local>>,
    client: &ControlClient,
    urls: &[String],
) -> Result<(), BootstrapError> {
    let own = local.lock().hello();
    for (url, hello) in discover::ask_each(client, urls).await? {
        let (ours, theirs) = (own.seen.cluster_id, hello.seen.cluster_id);
        if let (Some(ours), Some(theirs)) = (ours, theirs)
            && ours != theirs
        {
            return Err(BootstrapError::OtherCluster { url, ours, theirs });
        }
        if hello.seen.node_id == own.seen.node_id && hello.instance != own.instance {
            let name = hello.seen.member.name;
            return Err(BootstrapError::RunsElsewhere { url, name });
        }
    }
    Ok(())
}

/// The static way: founds the listed cluster once a majority of the list answers and none of them
/// knows this node from an earlier life.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn found_static(
    local: &Arc<Mutex<Local>>,
    client: &ControlClient,
    ids: StaticIds,
    progress: &Progress,
) -> Result<Start, BootstrapError> {
    let urls: Vec<String> = ids
        .members
        .values()
        .flat_map(|member| member.peer_urls.clone())
        .collect();
    let majority = ids.members.len() / 2 + 1;
    loop {
        let answers = discover::ask_all(client, &urls, ids.node_id).await?;
        refuse_other_backup(&answers, local.lock().identity().restored.clone())?;
        refuse_second_life(&answers, &ids)?;
        let found = 1 + answers.keys().filter(|id| ids.members.contains_key(id)).count();
        if found >= majority {
            local.lock().update(|identity| {
                identity.cluster_id = Some(ids.cluster_id);
                identity.members = ids.members.clone();
            })?;
            return Ok(Start::Found(ids.members));
        }
        say(
            progress,
            format!("waiting for a majority of --initial-cluster: {found} of {majority} nodes found"),
        );
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// Founders with different data would make different clusters, each of a part of the list.
fn refuse_other_backup(answers: &Answers, ours: Option<String>) -> Result<(), BootstrapError> {
    match answers.values().find(|(_, hello)| hello.restored != ours) {
        Some((url, hello)) => Err(BootstrapError::OtherBackup {
            url: url.clone(),
            ours,
            theirs: hello.restored.clone(),
        }),
        None => Ok(()),
    }
}

/// A member that has announced itself has promised things to the others; with its data gone it must
/// not come back under the same id, not even when it was removed.
fn refuse_second_life(answers: &Answers, ids: &StaticIds) -> Result<(), BootstrapError> {
    let (name, node_id) = (ids.members[&ids.node_id].name.clone(), ids.node_id);
    for (_, hello) in answers.values() {
        if hello.seen.cluster_id != Some(ids.cluster_id) {
            continue;
        }
        match hello.members.get(&node_id) {
            Some(member) if member.client_urls.is_empty() => {}
            Some(_) => return Err(BootstrapError::AlreadyBootstrapped { name, node_id }),
            // Whoever founded the cluster knew all of the list.
            None => return Err(BootstrapError::RemovedBefore { name, node_id }),
        }
    }
    Ok(())
}

/// The dynamic way: founds a cluster with others, or joins the one there is.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn found_or_join(
    local: &Arc<Mutex<Local>>,
    client: &ControlClient,
    join: &[String],
    expect: Option<usize>,
    progress: &Progress,
) -> Result<Start, BootstrapError> {
    loop {
        let own = local.lock().seen();
        let (urls, unknown) = discover::resolve(join).await;
        let answers = discover::ask_all(client, &urls, own.node_id).await?;
        refuse_two_clusters(&answers)?;
        let seen: BTreeMap<u64, Seen> = answers
            .iter()
            .map(|(id, (_, hello))| (*id, hello.seen.clone()))
            .collect();
        let step = match expect {
            Some(expect) => agree::next_step(&own, &seen, expect),
            None => join_only(&seen, join),
        };
        match step {
            Step::Join { cluster_id } => {
                let members = members_of(&answers, cluster_id);
                let place = places::find(&members, local.lock().identity(), &own.member);
                if let Some(id) = place
                    && !places::claim(client, cluster_id, id, &own, &members).await?
                {
                    say(
                        progress,
                        format!(
                            "waiting for the cluster to confirm the place {id:x} that was made for this node"
                        ),
                    );
                    tokio::time::sleep(ROUND_PAUSE).await;
                    continue;
                }
                let mut local = local.lock();
                // Unless this node has agreed to a ballot meanwhile.
                if local.identity().ballot == own.ballot {
                    local.update(|identity| {
                        (identity.cluster_id, identity.ballot) = (Some(cluster_id), None);
                        identity.members = members;
                        if let Some(place) = place {
                            places::take(identity, place);
                        }
                    })?;
                    return Ok(Start::Join);
                }
            }
            Step::Write(founders) => write_ballot(local, founders)?,
            Step::Ask(ids) => {
                ask(client, &own.ballot, &answers, &ids).await;
            }
            Step::LetGo => local.lock().update(|identity| identity.ballot = None)?,
            Step::Found => {
                if let Some(start) = founded(local, &own)? {
                    return Ok(start);
                }
            }
            Step::Wait(mut what) => {
                if !unknown.is_empty() {
                    what += &format!("; no address is known for {} (--join)", unknown.join(", "));
                }
                say(progress, what);
                tokio::time::sleep(ROUND_PAUSE).await;
            }
        }
    }
}

/// Which of two clusters is meant is not for a node to guess.
fn refuse_two_clusters(answers: &Answers) -> Result<(), BootstrapError> {
    let mut members = answers
        .values()
        .filter_map(|(url, hello)| hello.seen.cluster_id.map(|cluster_id| (cluster_id, url)));
    let Some((first, url)) = members.next() else {
        return Ok(());
    };
    match members.find(|(other, _)| *other != first) {
        Some((second, other_url)) => Err(BootstrapError::TwoClusters {
            first,
            url: url.clone(),
            second,
            other_url: other_url.clone(),
        }),
        None => Ok(()),
    }
}

fn join_only(seen: &BTreeMap<u64, Seen>, join: &[String]) -> Step {
    match seen.values().find_map(|other| other.cluster_id) {
        Some(cluster_id) => Step::Join { cluster_id },
        None => Step::Wait(format!(
            "no member of a cluster answers at {} (--join)",
            join.join(", ")
        )),
    }
}

/// Whoever of the cluster answered, with what each knows of the others.
fn members_of(answers: &Answers, cluster_id: u64) -> BTreeMap<u64, Member> {
    let of_cluster = answers
        .values()
        .filter(|(_, hello)| hello.seen.cluster_id == Some(cluster_id));
    let mut members = BTreeMap::new();
    for (_, hello) in of_cluster {
        members.extend(hello.members.clone());
        members.insert(hello.seen.node_id, hello.seen.member.clone());
    }
    members
}

/// Unless another node's ballot was agreed to meanwhile.
fn write_ballot(local: &Arc<Mutex<Local>>, founders: BTreeMap<u64, Member>) -> Result<(), BootstrapError> {
    let mut local = local.lock();
    if local.identity().ballot.is_none() {
        let author = local.identity().node_id;
        let ballot = Ballot {
            author,
            cluster_id: rand::random::<u64>().max(1),
            founders,
        };
        local.update(|identity| identity.hold(ballot))?;
    }
    Ok(())
}

async fn ask(client: &ControlClient, ballot: &Option<Ballot>, answers: &Answers, ids: &[u64]) {
    let Some(ballot) = ballot else { return };
    for id in ids {
        let (url, _) = &answers[id];
        if let Err(error) = client.agree(url, ballot).await {
            tracing::debug!(url, %error, "not asked");
        }
    }
    tokio::time::sleep(ROUND_PAUSE).await;
}

/// Unless this node has changed its mind since it said `own` of itself.
fn founded(local: &Arc<Mutex<Local>>, own: &Seen) -> Result<Option<Start>, BootstrapError> {
    let mut local = local.lock();
    let Some(ballot) = own
        .ballot
        .clone()
        .filter(|ballot| local.identity().ballot.as_ref() == Some(ballot))
    else {
        return Ok(None);
    };
    tracing::info!(
        cluster_id = format!("{:x}", ballot.cluster_id),
        "all founders agree"
    );
    local.update(|identity| {
        identity.cluster_id = Some(ballot.cluster_id);
        identity.members = ballot.founders.clone();
    })?;
    Ok(Some(Start::Found(ballot.founders)))
}

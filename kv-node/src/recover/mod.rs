//! A cluster that lost its quorum for good: what the survivors' data directories hold, and a new cluster made of the
//! best of them. Offline: the nodes are stopped.
//!
//! | file | what |
//! | --- | --- |
//! | `survivor` | what a data directory holds |
//! | `verdict` | which one is the best, what may be lost with the others, and when to refuse: decisions alone |
//! | `rebuild` | the new member's data directory |
//! | this one | the command |
//!
//! The data of the best directory and every entry of its log become the data of a member that founds a new cluster,
//! under new ids of cluster and member: whoever of the old cluster comes back later is a stranger to it. The directories
//! of the survivors are opened as their nodes would open them; what they hold does not change.

mod rebuild;
mod survivor;
mod verdict;

use std::{
    collections::BTreeSet,
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
    time::SystemTime,
};

use anyhow::{Context, bail, ensure};

use survivor::Survivor;
use verdict::{Loss, Verdict};

/// Arguments of `recover`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Data directories of the members that survive; their nodes are stopped
    #[arg(required = true, value_name = "DATA-DIR")]
    pub survivors: Vec<PathBuf>,
    /// Members that are gone for good, by name or id
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub lost: Vec<String>,
    /// An empty data directory for the member of the new cluster; without it, nothing is made
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// What a person types to confirm.
const CONFIRMATION: &str = "recover";

/// Shows what the survivors hold and what may be lost; on confirmation, makes a new cluster of the best.
///
/// # Errors
/// When a directory cannot be read, a quorum could come back, or the new directory cannot be made.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut held = Vec::new();
    for path in &args.survivors {
        let opened = survivor::Opened::open(path).with_context(|| path.display().to_string())?;
        print!("{}", describe(&opened.survivor));
        held.push(opened);
    }
    let survivors: Vec<&Survivor> = held.iter().map(|opened| &opened.survivor).collect();
    let lost: BTreeSet<String> = args.lost.iter().cloned().collect();
    let Verdict { best, loss } = verdict::judge(&survivors, &lost)?;
    print!("\n{}", explain(survivors[best], &loss));
    let Some(into) = &args.into else {
        println!("\nNothing was changed. To make a new cluster of it, name an empty directory with --into.");
        return Ok(());
    };
    ensure!(
        std::fs::read_dir(into).map_or(true, |mut entries| entries.next().is_none()),
        "{} is not empty: name an empty directory, or one that does not exist, with --into",
        into.display()
    );
    if !args.yes {
        confirm()?;
    }
    let made = rebuild::rebuild(&held[best], into)?;
    println!(
        "\nMade member {name} ({id:x}) of the new cluster {cluster:x} in {dir}, at revision {revision}.\n\
         Start it there with the flags of {name}. Empty the data directories of all other nodes and let them join it\n\
         (--join). Members of the old cluster that come back with their data are strangers to the new one.",
        name = made.name,
        id = made.node_id,
        cluster = made.cluster_id,
        dir = into.display(),
        revision = made.revision,
    );
    Ok(())
}

fn confirm() -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    ensure!(
        stdin.is_terminal(),
        "nobody is there to confirm: read what may be lost, then run it again with --yes"
    );
    print!("\nType {CONFIRMATION:?} to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    if answer.trim() != CONFIRMATION {
        bail!("nothing was changed");
    }
    Ok(())
}

fn describe(survivor: &Survivor) -> String {
    let Survivor {
        path,
        name,
        node_id,
        cluster_id,
        term,
        last,
        applied,
        revision,
        written,
        configs,
        members,
    } = survivor;
    let names = |ids: &mut dyn Iterator<Item = &u64>| {
        let name = |id: &u64| match members.get(id) {
            Some(member) if member.is_started() => member.name.clone(),
            _ => format!("{id:x}"),
        };
        let mut names: Vec<String> = ids.map(name).collect();
        names.sort();
        names.join(" ")
    };
    let voters: Vec<String> = configs.iter().map(|config| names(&mut config.iter())).collect();
    let votes = |id: &&u64| configs.iter().any(|config| config.contains(*id));
    let learners = match names(&mut members.keys().filter(|id| !votes(id))) {
        none if none.is_empty() => none,
        learners => format!("; learners: {learners}"),
    };
    let ago = SystemTime::now()
        .duration_since(*written)
        .unwrap_or_default()
        .as_secs();
    format!(
        "{path}\n  member {name} ({node_id:x}) of cluster {cluster_id:x}\n  term {term}; log up to entry {last_index} of term {last_term}, last written {ago} s ago\n  \
         applied up to entry {applied}, revision {revision}\n  voters: {voters}{learners}\n",
        path = path.display(),
        last_index = last.index,
        last_term = last.term,
        voters = voters.join(" → "),
    )
}

fn explain(best: &Survivor, loss: &Loss) -> String {
    let mut text = format!(
        "The best is {} ({}).\n\
         Kept: every write in its log, up to entry {}.\n",
        best.name,
        best.path.display(),
        best.last.index
    );
    if loss.unacknowledged > 0 {
        text += &format!(
            "Perhaps more than was acknowledged: the last {} of these entries may be writes whose outcome no client knows.\n",
            loss.unacknowledged
        );
    }
    if loss.deciders.is_empty() {
        text += "Lost: nothing that was acknowledged.\n";
    } else {
        text += &format!(
            "Lost: writes that were acknowledged without it, by {}, after its last entry. How many is not to be known.\n",
            loss.deciders.join(", ")
        );
    }
    if !loss.unseen.is_empty() {
        text += &format!(
            "Not looked at: {}. If one of them has its data, give its directory, too: it may hold more.\n",
            loss.unseen.join(", ")
        );
    }
    text
}

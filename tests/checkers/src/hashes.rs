//! Nodes that hold the same revisions hold the same.

use std::collections::BTreeMap;

use crate::history::{Record, Reply};
use crate::{Check, Verdict};

pub(crate) fn check(history: &[Record]) -> Option<Check> {
    let mut by_revisions: BTreeMap<(u64, u64), Vec<(&Record, u64)>> = BTreeMap::new();
    let mut checked = 0;
    for record in history {
        if let Some(Reply::Hash {
            hash,
            revision,
            compact_revision,
        }) = record.answer().map(|answer| &answer.reply)
        {
            by_revisions
                .entry((*compact_revision, *revision))
                .or_default()
                .push((record, *hash));
            checked += 1;
        }
    }
    let differ = by_revisions.values().find_map(|hashes| {
        let (first, hash) = hashes.first()?;
        let (other, _) = hashes.iter().find(|(_, other)| other != hash)?;
        Some(format!("the same revisions have two hashes:\n{first}\n{other}"))
    });
    let two_nodes = |hashes: &Vec<(&Record, u64)>| {
        hashes
            .iter()
            .any(|(record, _)| record.endpoint != hashes[0].0.endpoint)
    };
    let verdict = match differ {
        Some(explanation) => Verdict::Violation { explanation },
        None if by_revisions.values().any(two_nodes) => Verdict::Ok,
        None => Verdict::Undecided {
            why: "no two nodes were asked for the hash of the same revisions".into(),
        },
    };
    (checked > 0).then(|| Check {
        checker: "nodes hold the same".into(),
        checked,
        of: "hashes".into(),
        verdict,
    })
}

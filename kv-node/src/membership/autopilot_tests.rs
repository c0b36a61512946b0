use proptest::prelude::*;

use super::*;
use crate::raft::types::Member;

const LONG: Duration = Duration::from_secs(600);

/// Members as words, `kind[zone]`: `v` a voter, `V` one that a client added, `l` a learner that joined by itself and has
/// caught up, `b` one that is behind, `w` a learner that a client wants to vote, `s` one that a client wants to stay, `p`
/// a place that nobody has taken; `!` behind it: silent for the whole of `--reap-after`, `?`: since just now, `=N`: has
/// the address of member N.
fn roster(words: &str) -> Roster {
    let place = |(id, word): (usize, &str)| {
        let kind = word.chars().next().unwrap();
        let (word, address) = word.split_once('=').unwrap_or((word, ""));
        let silent_for = match word.chars().last() {
            Some('!') => Some(LONG),
            Some('?') => Some(Duration::from_secs(6)),
            _ => None,
        };
        let id = id as u64;
        let member = Member {
            name: if kind == 'p' {
                String::new()
            } else {
                format!("n{id}")
            },
            peer_urls: vec![format!("http://n{}:2380", address.parse().unwrap_or(id))],
            standing: match kind {
                'V' | 'w' | 'p' => Standing::Voter,
                's' => Standing::Learner,
                _ => Standing::Joined,
            },
            zone: word[1..].trim_end_matches(['!', '?']).to_owned(),
            ..Member::default()
        };
        let place = Place {
            member,
            votes: matches!(kind, 'v' | 'V'),
            answers: silent_for.is_none() && kind != 'p',
            is_in_sync: kind != 'b',
            same_for: silent_for.unwrap_or_default(),
        };
        (id, place)
    };
    Roster {
        places: words.split_whitespace().enumerate().map(place).collect(),
        learners_max: 1,
        policy: Policy {
            min_voters: 3,
            max_voters: 5,
            reap_after: Some(LONG),
        },
    }
}

fn promote(ids: &[u64]) -> Option<Action> {
    let ids = ids.iter().copied().collect();
    Some(Action::Promote { ids })
}

#[test]
fn decisions() {
    let replace = |id, by| Some(Action::Replace { id, by });
    let remove = |id| Some(Action::Remove { id });
    for (members, expected) in [
        ("v v v", None),
        // Learners become voters in pairs, up to the most.
        ("v l", None),
        ("v l l", promote(&[1, 2])),
        ("v v l", promote(&[2])),
        ("v v v l l l", promote(&[3, 4])),
        ("v v v l b", None),
        ("v v v l l?", None),
        ("v v v v v l l", None),
        ("v v v w", promote(&[3])),
        ("v v v w l", promote(&[3, 4])),
        ("v v v s s", None),
        // A silent voter has time to come back; then the learner takes its place.
        ("v v v? l", None),
        ("v v v! l", replace(2, 3)),
        ("v v v! b", None),
        ("v v v! s", None),
        ("v v V! l", replace(2, 3)),
        // Without a learner it is removed, where enough are left.
        ("v v v!", None),
        ("v v v v!", remove(3)),
        ("v v v v! v!", remove(3)),
        ("v v v v! p", remove(3)),
        // Not while others are silent, too.
        ("v v v v! v?", None),
        ("v v? v! l", None),
        ("v v v! v! v! l", None),
        // Learners that are gone.
        ("v v v l!", remove(3)),
        ("v v v s!", None),
        ("v v v p", None),
        // One that lost its data is replaced by itself, at once.
        ("v v v? l=2", replace(2, 3)),
        ("v v v? b=2", None),
        ("v v v l=2", None),
        ("v v v! l l=2", replace(2, 4)),
        ("v v v l? l=3", remove(3)),
        // Zones.
        ("va vb vb! la lb lc", replace(2, 5)),
        ("va la lb", promote(&[1, 2])),
        ("va la la lb lb lc", promote(&[1, 3, 4, 5])),
        ("va vb vc la lb lc", promote(&[3, 4])),
    ] {
        assert_eq!(roster(members).decide(), expected, "{members}");
    }
}

#[test]
fn why_a_member_stays() {
    for (members, id, expected) in [
        ("v v v!", 2, Kept::TooFewVoters),
        ("v v? v! l", 2, Kept::QuorumInDoubt),
        ("v v v p", 3, Kept::OfAClient),
        ("v v v s!", 3, Kept::OfAClient),
    ] {
        assert_eq!(roster(members).fate(id), Err(expected), "{members}");
    }
    let mut off = roster("v v v! l");
    off.policy.reap_after = None;
    assert_eq!((off.decide(), off.fate(2)), (None, Err(Kept::ReapingIsOff)));
}

#[test]
fn who_wants_to_go_is_replaced_or_leaves_enough() {
    for (members, id, expected) in [
        ("v v v", 2, Err(Refusal::TooFewVoters)),
        ("v v v l", 2, Ok(Action::Replace { id: 2, by: 3 })),
        ("v v v l", 3, Ok(Action::Remove { id: 3 })),
        ("v v v v", 0, Ok(Action::Remove { id: 0 })),
        ("v v v? v?", 0, Err(Refusal::Unhealthy)),
        ("v v v", 7, Err(Refusal::NotFound)),
    ] {
        assert_eq!(roster(members).leave(id), expected, "{members}");
    }
}

#[test]
fn whom_a_client_removes_is_replaced_where_that_can_be() {
    for (members, id, expected) in [
        ("v v v! l", 2, Action::Replace { id: 2, by: 3 }),
        ("v v v", 2, Action::Remove { id: 2 }),
        ("v v v s", 2, Action::Remove { id: 2 }),
        ("v v v l l", 3, Action::Remove { id: 3 }),
    ] {
        assert_eq!(roster(members).removal(id), expected, "{members}");
    }
}

/// What a decision makes of the members.
fn apply(roster: &mut Roster, action: &Action) {
    match action {
        Action::Promote { ids } => {
            for id in ids {
                roster.places.get_mut(id).unwrap().votes = true;
            }
        }
        Action::Replace { id, by } => {
            roster.places.remove(id);
            roster.places.get_mut(by).unwrap().votes = true;
        }
        Action::Remove { id } => drop(roster.places.remove(id)),
    }
}

fn any_roster() -> impl Strategy<Value = Roster> {
    let word = (
        "[vvvvVlllbwsp]",
        "[abc]?",
        "[!?]?",
        prop::option::weighted(0.2, 0u8..8),
    )
        .prop_map(|(kind, zone, silent, double)| {
            let double = double.map(|of| format!("={of}")).unwrap_or_default();
            format!("{kind}{zone}{silent}{double}")
        });
    (prop::collection::vec(word, 1..9), 1usize..6, 1usize..8).prop_map(|(words, min, max)| {
        // The leader answers itself.
        let mut roster = roster(&format!("v {}", words.join(" ")));
        roster.policy.min_voters = min;
        roster.policy.max_voters = max;
        roster
    })
}

proptest! {
    #[test]
    fn never_costs_anything_and_comes_to_rest(roster in any_roster()) {
        let mut roster = roster;
        for _ in 0..20 {
            let before = roster.clone();
            let Some(action) = before.decide() else { return Ok(()) };
            apply(&mut roster, &action);
            let votes = |roster: &Roster| roster.voters().map(|(id, _)| id).collect::<BTreeSet<u64>>();
            let (old, new) = (votes(&before), votes(&roster));
            for id in old.difference(&new) {
                prop_assert!(!before.places[id].answers, "{id} answers: {action:?}");
                prop_assert!(before.is_due(*id), "{id} is not due: {action:?}");
            }
            for id in new.difference(&old) {
                let place = &before.places[id];
                prop_assert!(place.answers && place.is_in_sync, "{id} is not ready: {action:?}");
                prop_assert!(place.member.standing != Standing::Learner, "{id} was to stay a learner");
            }
            if let Action::Promote { ids } = &action {
                let unasked = ids.iter().any(|id| before.places[id].member.standing == Standing::Joined);
                prop_assert!(!unasked || new.len() % 2 == 1 && new.len() <= before.policy.max_voters);
                continue;
            }
            // Fewer voters only down to the least, and never fewer that may fail.
            prop_assert!(new.len() >= old.len() || new.len() >= before.policy.min_voters, "{action:?}");
            prop_assert!(roster.failure_tolerance() >= before.failure_tolerance(), "{action:?}");
            let is_in_doubt = before.failure_tolerance() < 0
                || before.voters().any(|(id, place)| !place.answers && !before.is_due(id));
            prop_assert!(!is_in_doubt || new == old, "the quorum was in doubt: {action:?}");
            prop_assert!(old.difference(&new).count() <= 1 && new.difference(&old).count() <= 1);
        }
        prop_assert!(false, "no end of changes: {roster:?}");
    }
}

//! Partitions: who does not hear whom.

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use crate::fault::What;
use crate::kind::View;

/// Nodes without which a ring has no two that are apart.
pub(crate) const RING_NODES_MIN: usize = 4;

/// The shape of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shape {
    /// The leader, and as many as are no majority with it, apart from all others
    Symmetric,
    /// The others do not hear the leader, or it does not hear them
    OneWay,
    /// Two halves with one node between them that is connected to both
    Bridge,
    /// Each node is connected to two others only
    Ring,
}

impl Shape {
    /// Any shape that so many nodes can have.
    pub(crate) fn any(nodes: usize, rng: &mut StdRng) -> Shape {
        let shapes = [Shape::Symmetric, Shape::OneWay, Shape::Bridge, Shape::Ring];
        let fits = if nodes < RING_NODES_MIN {
            &shapes[..3]
        } else {
            &shapes[..]
        };
        fits.choose(rng).copied().unwrap_or(Shape::Symmetric)
    }

    /// A partition of this shape.
    pub(crate) fn between(self, view: &View, rng: &mut StdRng) -> What {
        let mut others: Vec<String> = view
            .nodes
            .iter()
            .filter(|node| **node != view.leader)
            .cloned()
            .collect();
        others.shuffle(rng);
        let leader = view.leader.clone();
        let minority = (view.nodes.len() - 1) / 2;
        let (words, silences) = match self {
            Shape::Symmetric => {
                let with_it = rng.random_range(1..=minority.max(1)) - 1;
                let apart: Vec<String> = others.drain(..with_it).chain([leader]).collect();
                (
                    format!("{} apart from the others", apart.join(" and ")),
                    both_ways(&apart, &others),
                )
            }
            Shape::OneWay if rng.random() => {
                let words = format!("{leader}, the leader, not heard by the others");
                (words, one_way(&[leader], &others))
            }
            Shape::OneWay => {
                let words = format!("the others not heard by {leader}, the leader,");
                (words, one_way(&others, &[leader]))
            }
            Shape::Bridge => {
                let bridge = others.pop().unwrap_or_default();
                let apart: Vec<String> = others.drain(..minority - 1).chain([leader]).collect();
                let words = format!(
                    "{} apart from {}, with {bridge} between them",
                    apart.join(" and "),
                    others.join(" and ")
                );
                (words, both_ways(&apart, &others))
            }
            Shape::Ring => {
                let ring: Vec<String> = others.into_iter().chain([leader]).collect();
                (format!("a ring of {}", ring.join(", ")), apart_in_ring(&ring))
            }
        };
        What::Partition {
            shape: words,
            silences,
        }
    }
}

fn one_way(from: &[String], to: &[String]) -> Vec<(String, String)> {
    let pairs = from
        .iter()
        .flat_map(|from| to.iter().map(move |to| (from.clone(), to.clone())));
    pairs.collect()
}

fn both_ways(some: &[String], others: &[String]) -> Vec<(String, String)> {
    [one_way(some, others), one_way(others, some)].concat()
}

/// All pairs that are no neighbours.
fn apart_in_ring(ring: &[String]) -> Vec<(String, String)> {
    let count = ring.len();
    let is_apart = |a: usize, b: usize| a != b && (a + 1) % count != b && (b + 1) % count != a;
    let mut pairs = Vec::new();
    for (a, from) in ring.iter().enumerate() {
        let apart = ring.iter().enumerate().filter(|(b, _)| is_apart(a, *b));
        pairs.extend(apart.map(|(_, to)| (from.clone(), to.clone())));
    }
    pairs
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    fn silences(shape: Shape, nodes: usize, seed: u64) -> BTreeSet<(String, String)> {
        let view = View {
            nodes: (1..=nodes).map(|i| format!("n{i}")).collect(),
            leader: "n1".to_owned(),
        };
        match shape.between(&view, &mut StdRng::seed_from_u64(seed)) {
            What::Partition { silences, .. } => silences.into_iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    /// How many nodes a node both hears and is heard by.
    fn connected(silences: &BTreeSet<(String, String)>, nodes: usize, node: &str) -> usize {
        let others = (1..=nodes).map(|i| format!("n{i}")).filter(|other| other != node);
        let silent = |from: &str, to: &str| silences.contains(&(from.to_owned(), to.to_owned()));
        others
            .filter(|other| !silent(node, other) && !silent(other, node))
            .count()
    }

    #[test]
    fn the_side_of_the_leader_is_no_majority() {
        for seed in 0..50 {
            for nodes in 3..=7 {
                let silences = silences(Shape::Symmetric, nodes, seed);
                let side = connected(&silences, nodes, "n1") + 1;
                assert!(side * 2 < nodes, "{side} of {nodes}");
                assert_eq!(silences.len(), 2 * side * (nodes - side));
            }
        }
    }

    #[test]
    fn a_bridge_is_connected_to_all_and_everybody_to_it() {
        for seed in 0..50 {
            for nodes in 3..=7 {
                let silences = silences(Shape::Bridge, nodes, seed);
                let whole =
                    (1..=nodes).filter(|i| connected(&silences, nodes, &format!("n{i}")) == nodes - 1);
                assert_eq!(whole.count(), 1, "{silences:?}");
            }
        }
    }

    #[test]
    fn in_a_ring_everybody_has_two_neighbours() {
        for nodes in RING_NODES_MIN..=7 {
            let silences = silences(Shape::Ring, nodes, 1);
            for i in 1..=nodes {
                assert_eq!(connected(&silences, nodes, &format!("n{i}")), 2);
            }
        }
    }

    #[test]
    fn one_way_is_one_way() {
        for seed in 0..10 {
            let silences = silences(Shape::OneWay, 3, seed);
            assert_eq!(silences.len(), 2);
            assert!(
                silences
                    .iter()
                    .all(|(from, to)| !silences.contains(&(to.clone(), from.clone())))
            );
        }
    }
}

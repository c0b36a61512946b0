//! Which cluster is served: only nodes of one cluster id may share a pool, or clients would see two
//! different stores in turn.
//!
//! The first id that a seed's node reports wins. It holds while a backend with it is known; then the
//! next one is chosen. A node is judged before its first check counts, so that one of another cluster
//! never gets a request.

use parking_lot::Mutex;

use crate::backend::Backend;

/// The id of the cluster that is served, once one is known.
#[derive(Debug, Default)]
pub struct Cluster {
    id: Mutex<Option<u64>>,
}

impl Cluster {
    /// The id that is served.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        *self.id.lock()
    }

    /// Takes in what a node reports, and judges it; true if that is news. A seed's node settles the id
    /// if there is none yet. An id of 0 is none.
    pub fn reported(&self, backend: &Backend, id: u64, is_seed: bool) -> bool {
        let mut served = self.id.lock();
        let news = backend.set_cluster_id(id);
        if served.is_none() && is_seed && id != 0 {
            *served = Some(id);
            tracing::info!(backend = %backend.addr, cluster_id = %format_args!("{id:x}"), "cluster chosen");
        }
        judge(backend, *served, news) || news
    }

    /// Gives up an id that no backend reports any more, chooses that of a seed, and judges all; true if
    /// another cluster is served from now on. `backends` yields each with whether a seed leads to it.
    pub fn settle<'a>(&self, backends: impl Iterator<Item = (&'a Backend, bool)> + Clone) -> bool {
        let mut served = self.id.lock();
        let before = *served;
        if served.is_none_or(|id| !backends.clone().any(|(b, _)| b.cluster_id() == Some(id))) {
            *served = backends
                .clone()
                .find_map(|(b, is_seed)| b.cluster_id().filter(|_| is_seed));
            if let (true, Some(id)) = (*served != before, *served) {
                tracing::info!(cluster_id = %format_args!("{id:x}"), "cluster chosen");
            }
        }
        for (backend, _) in backends {
            judge(backend, *served, false);
        }
        *served != before
    }
}

/// Bars a node of another cluster, or admits it again; true if that changed its state.
fn judge(backend: &Backend, served: Option<u64>, news: bool) -> bool {
    let (reported, served) = match (backend.cluster_id(), served) {
        (Some(reported), Some(served)) if reported != served => (reported, served),
        _ => return backend.set_foreign(false),
    };
    let changed = backend.set_foreign(true);
    if changed || news {
        tracing::warn!(
            backend = %backend.addr,
            cluster_id = %format_args!("{reported:x}"),
            served = %format_args!("{served:x}"),
            "wrong cluster: the node gets no requests"
        );
    }
    changed
}

//! How requests that arrive together come to go on together.
//!
//! What has a price for each round, and not for each request, is worth waiting for all that is there already. The first
//! of many requests wakes the task that makes the rounds, which would run before the others have been read from their
//! connections: a round for one, and all others in the next.

use tokio::sync::mpsc;

/// How often all tasks get their turn that are ready: once those of connections, which read requests, and once those
/// of the requests, which put them into the queue.
const TURNS: usize = 2;

/// Waits for something in a queue, and takes with it what the node has been sent by then, up to `max` in all; `false`
/// when the queue is closed. Does not wait for anything else: with an idle node it costs a few microseconds.
pub(crate) async fn gather<T>(queue: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, max: usize) -> bool {
    if queue.recv_many(batch, max).await == 0 {
        return false;
    }
    settle().await;
    while batch.len() < max
        && let Ok(next) = queue.try_recv()
    {
        batch.push(next);
    }
    true
}

/// Lets those tasks run that are ready to put something into a queue.
pub(crate) async fn settle() {
    for _ in 0..TURNS {
        // tokio looks for what has arrived before it comes back to a task that yields.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    /// Connections that become readable at once, each of which starts a task for its request.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_arrives_together_is_taken_together() {
        let (sender, mut queue) = mpsc::channel(8);
        let (readable, _) = broadcast::channel::<()>(1);
        for request in 0..8 {
            let (sender, mut readable) = (sender.clone(), readable.subscribe());
            tokio::spawn(async move {
                readable.recv().await.unwrap();
                tokio::spawn(async move { sender.send(request).await.unwrap() });
            });
        }
        drop(sender);
        let taken = tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut batch = Vec::new();
            while gather(&mut queue, &mut batch, 5).await {
                taken.push(batch.len());
                batch.clear();
            }
            taken
        });
        // Once all of them wait.
        tokio::spawn(async move {
            settle().await;
            readable.send(()).unwrap();
        });
        assert_eq!(taken.await.unwrap(), [5, 3]);
    }
}

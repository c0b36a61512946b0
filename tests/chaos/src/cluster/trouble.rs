//! What a fault does to single nodes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::rngs::StdRng;

use super::{Body, Cluster, Home, PAUSE, Part, SERVES_WITHIN, STOP_WITHIN, State, asker, damage, own};

impl Cluster {
    /// SIGKILL.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name)?;
        node.state = State::Down;
        match &mut node.body {
            Body::Process(own) => own.process.kill().await,
            Body::Container(container) => container.kill(),
            Body::Demo(child) => child.kill(STOP_WITHIN).await,
        }
    }

    /// SIGTERM, and waits for its end.
    pub(crate) async fn terminate(&mut self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name)?;
        node.state = State::Down;
        let stopped = match &mut node.body {
            Body::Process(own) => own.process.terminate(STOP_WITHIN).await,
            Body::Container(container) => container.terminate(STOP_WITHIN.as_secs()),
            Body::Demo(child) => child.terminate(STOP_WITHIN).await,
        };
        stopped.with_context(|| format!("stopping {name}"))
    }

    /// Starts a node that is down.
    pub(crate) fn start_node(&mut self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name)?;
        node.state = State::Up;
        match &mut node.body {
            Body::Process(own) if own.process.is_started() => Ok(()),
            Body::Process(own) => own.process.start(),
            Body::Container(container) => {
                container.start()?;
                self.moved(name)
            }
            // The demo does.
            Body::Demo(_) => Ok(()),
        }
    }

    /// SIGSTOP or SIGCONT.
    pub(crate) fn set_paused(&mut self, name: &str, paused: bool) -> anyhow::Result<()> {
        let node = self.node(name)?;
        node.state = if paused { State::Paused } else { State::Up };
        match &mut node.body {
            Body::Process(own) => own.process.set_paused(paused),
            Body::Container(container) => container.set_paused(paused),
            Body::Demo(child) => child.set_paused(paused),
        }
    }

    /// Takes a container off its networks; the opposite is [`Cluster::reconnect`].
    pub(crate) fn disconnect(&mut self, name: &str) -> anyhow::Result<()> {
        match &mut self.node(name)?.body {
            Body::Container(container) => container.disconnect(),
            Body::Process(_) | Body::Demo(_) => {
                bail!("processes have no network that they could be taken off")
            }
        }
    }

    /// Puts a container back on its networks.
    pub(crate) fn reconnect(&mut self, name: &str) -> anyhow::Result<()> {
        if let Body::Container(container) = &mut self.node(name)?.body
            && container.reconnect()?
        {
            self.moved(name)?;
        }
        Ok(())
    }

    /// Takes notice of a container's new address.
    fn moved(&mut self, name: &str) -> anyhow::Result<()> {
        let node = self.node(name)?;
        if let Body::Container(container) = &node.body {
            node.client_url = container.client_url()?;
            node.client = asker(&node.client_url)?;
        }
        self.publish();
        Ok(())
    }

    /// Undoes whatever an interrupted fault has left: packets pass, disks have room, clocks are right, all nodes run.
    pub(crate) fn undo_all(&mut self) -> anyhow::Result<()> {
        if let Home::Own(site) = &self.home {
            site.drop_only(&BTreeSet::new(), 0)?;
        }
        for name in self.names() {
            self.reconnect(&name)?;
            let node = self.node(&name)?;
            if let Body::Process(own) = &node.body {
                own.disk.as_ref().map_or(Ok(()), |disk| disk.set_full(false))?;
                own.clock.as_ref().map_or(Ok(()), |clock| clock.set_offset(0))?;
            }
            match node.state {
                State::Up => {}
                State::Paused => self.set_paused(&name, false)?,
                State::Down => self.start_node(&name)?,
            }
        }
        Ok(())
    }

    /// Lets nodes lose these packets, each from the first to the second, and a part of all others; nothing else.
    pub(crate) fn drop_packets(&self, silences: &[(String, String)], loss_percent: u8) -> anyhow::Result<()> {
        let Home::Own(site) = &self.home else {
            bail!("only a cluster of its own loses single packets");
        };
        let number = |name: &str| {
            let node = self.nodes.iter().find(|node| node.name == name);
            node.and_then(own::number)
                .with_context(|| format!("there is no node {name}"))
        };
        let silences = silences.iter().map(|(from, to)| Ok((number(from)?, number(to)?)));
        site.drop_only(&silences.collect::<anyhow::Result<_>>()?, loss_percent)
    }

    /// Moves a node's wall clock off by so many seconds.
    pub(crate) fn set_clock(&mut self, name: &str, offset_s: i64) -> anyhow::Result<()> {
        let clock = self.node(name)?.own()?.clock.as_ref();
        clock
            .context("the node has no clock of its own")?
            .set_offset(offset_s)
    }

    /// Lets a node's writes wait for so long.
    pub(crate) async fn freeze_disk(&mut self, name: &str, time: Duration) -> anyhow::Result<()> {
        let disk = self.node(name)?.own()?.disk.as_ref();
        disk.context("the node has no disk of its own")?
            .freeze(time)
            .await
    }

    /// Takes all room on a node's disk, or gives it back.
    pub(crate) fn set_disk_full(&mut self, name: &str, full: bool) -> anyhow::Result<()> {
        let disk = self.node(name)?.own()?.disk.as_ref();
        disk.context("the node has no disk of its own")?.set_full(full)
    }

    /// Flips bits in the files of a node that is down; says which.
    pub(crate) fn damage(
        &mut self,
        name: &str,
        part: Part,
        bits: u32,
        rng: &mut StdRng,
    ) -> anyhow::Result<String> {
        let node = self.node(name)?;
        assert!(node.state == State::Down, "files are damaged offline");
        let own = node.own()?;
        let flipped = (0..bits).map(|_| damage::flip(&own.data_dir, part, rng));
        Ok(flipped.collect::<anyhow::Result<Vec<_>>>()?.join(", "))
    }

    /// Starts a node whose files were damaged: it refuses, and an empty one takes its place; or it serves, and must hold
    /// what the others hold. Says which.
    pub(crate) async fn start_damaged(&mut self, name: &str) -> anyhow::Result<String> {
        self.start_node(name)?;
        let started = Instant::now();
        loop {
            let node = self.node(name)?;
            if let Some(status) = node.own()?.process.ended_by_itself() {
                ensure!(
                    status.code().is_some(),
                    "it was to refuse its files, and died instead: {status}"
                );
                node.state = State::Down;
                self.remove_node(name).await?;
                self.add_node().await?;
                return Ok("it refused its files, and an empty node took its place".to_owned());
            }
            match node.serves().await {
                Ok(()) => break,
                Err(refusal) if started.elapsed() > SERVES_WITHIN => {
                    bail!("neither refused nor served: {refusal}")
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.holds_the_same(name).await?;
        Ok("it serves, and holds the same as the others".to_owned())
    }

    /// Compares a node with the others at a revision that it has; whoever does not answer is asked again.
    async fn holds_the_same(&self, name: &str) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            match self.hashes_at_revision_of(name).await {
                Ok((revision, hashes)) => {
                    let same = hashes.windows(2).all(|pair| pair[0].1 == pair[1].1);
                    ensure!(
                        same,
                        "after the files of {name} were damaged, the nodes differ at revision {revision}: {hashes:x?}"
                    );
                    return Ok(());
                }
                Err(error) if started.elapsed() > SERVES_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// The newest revision of a node, and the hash of every node at it.
    async fn hashes_at_revision_of(&self, name: &str) -> anyhow::Result<(i64, Vec<(&str, u32)>)> {
        let node = self.nodes.iter().find(|node| node.name == name);
        let status = node.context("no such node")?.status().await;
        let header = status.context("it does not tell its revision")?.header;
        let revision = header.context("an answer without a header")?.revision;
        let mut hashes = Vec::new();
        for node in &self.nodes {
            let answer = node.client.hash_kv(&node.client_url, revision).await;
            let answer = answer.with_context(|| format!("no hash from {}", node.name))?;
            hashes.push((node.name.as_str(), answer.hash));
        }
        Ok((revision, hashes))
    }
}

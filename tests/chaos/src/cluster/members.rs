//! Changes of members.

use std::time::Instant;

use anyhow::{Context, bail, ensure};
use kv_proto::etcdserverpb::{Member, MemberAddRequest};

use super::{Body, CHANGE_WITHIN, Cluster, Home, PAUSE, STOP_WITHIN};

impl Cluster {
    /// Adds a member and starts its node; it may be no voter yet. Returns its name.
    pub(crate) async fn add_node(&mut self) -> anyhow::Result<String> {
        let node = match &mut self.home {
            Home::Own(site) => {
                let mut node = site.further_node(&self.nodes)?;
                self.announce(&node.own()?.peer_url.clone()).await?;
                if let Home::Own(site) = &self.home {
                    site.start_beside(&mut node, &self.nodes)?;
                }
                node
            }
            Home::Compose(project) => project.add(&self.nodes)?,
            Home::Demo => bail!("a demo has the nodes that it has"),
        };
        let name = node.name.clone();
        self.nodes.push(node);
        self.publish();
        Ok(name)
    }

    /// Asks for a new member until there is one with this address.
    async fn announce(&self, peer_url: &str) -> anyhow::Result<()> {
        let client = self.client()?;
        self.change_members(|| async {
            if self
                .members()
                .await?
                .iter()
                .any(|member| member.peer_ur_ls.iter().any(|url| url == peer_url))
            {
                return Ok(());
            }
            let request = MemberAddRequest {
                peer_ur_ls: vec![peer_url.to_owned()],
                is_learner: false,
            };
            Ok(client.member_add(request).await.map(drop)?)
        })
        .await
        .with_context(|| format!("adding the member at {peer_url}"))
    }

    /// Removes a member and waits until its node has stopped by itself; its data is deleted.
    pub(crate) async fn remove_node(&mut self, name: &str) -> anyhow::Result<()> {
        let client = self.client()?;
        self.change_members(|| async {
            match self.members().await?.iter().find(|member| member.name == name) {
                None => Ok(()),
                Some(member) => Ok(client.member_remove(member.id).await.map(drop)?),
            }
        })
        .await
        .with_context(|| format!("removing the member {name}"))?;
        let index = self.nodes.iter().position(|node| node.name == name);
        let mut node = self
            .nodes
            .remove(index.with_context(|| format!("there is no node {name}"))?);
        self.publish();
        match &mut node.body {
            Body::Process(own) => {
                if own.process.is_started() {
                    let ended = own.process.wait(STOP_WITHIN).await;
                    ended.with_context(|| format!("{name} was removed, and should stop by itself"))?;
                }
                std::fs::remove_dir_all(&own.data_dir)
                    .with_context(|| format!("cannot remove {}", own.data_dir.display()))
            }
            // It would be started again and again.
            Body::Container(container) => container.remove(),
            Body::Demo(_) => Ok(()),
        }
    }

    /// Repeats something about members until it is done: a change may be refused while another one is going on.
    async fn change_members<F>(&self, attempt: impl Fn() -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let started = Instant::now();
        loop {
            match attempt().await {
                Ok(()) => return Ok(()),
                Err(refusal) if started.elapsed() > CHANGE_WITHIN => return Err(refusal),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits until every node serves, and of our own every one has its vote: the next fault is one on a whole cluster.
    pub(crate) async fn is_whole(&mut self) -> anyhow::Result<()> {
        self.serves().await?;
        if !self.is_own() {
            return Ok(());
        }
        self.change_members(|| async {
            let members = self.members().await?;
            let learners = members.iter().filter(|member| member.is_learner).count();
            ensure!(
                learners == 0 && members.len() == self.nodes.len(),
                "{} nodes, and {} members with {learners} learners among them",
                self.nodes.len(),
                members.len()
            );
            Ok(())
        })
        .await
        .context("waiting until every node is a voter")
    }

    /// The members, as the quorum knows them.
    pub(crate) async fn members(&self) -> anyhow::Result<Vec<Member>> {
        Ok(self.client()?.member_list(true).await?.members)
    }
}

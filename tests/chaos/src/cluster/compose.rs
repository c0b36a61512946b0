//! A cluster that Docker Compose runs: the project of the current directory, as a user has it.
//!
//! Its nodes find each other by name, so one is added by asking Compose for one more. Containers are reached at their own
//! addresses, which may change when they are started or connected again.

use anyhow::{Context, bail, ensure};

use super::command::run;
use super::node::{Body, Node, State, asker};

/// The service whose containers are nodes.
const SERVICE: &str = "kv-node";
/// The port on which a container serves clients.
const CLIENT_PORT: u16 = 2379;

/// The project.
pub(crate) struct Project {
    compose: Vec<String>,
}

/// One node's container.
pub(crate) struct Container {
    id: String,
    /// The networks that it was taken off.
    left: Vec<String>,
}

impl Project {
    /// The project of this directory.
    pub(crate) fn here() -> anyhow::Result<Project> {
        let known = [vec!["docker", "compose"], vec!["docker-compose"]];
        let answers = |compose: &Vec<&str>| run(&[compose.as_slice(), &["version"]].concat()).is_ok();
        let compose = known.into_iter().find(answers);
        let compose = compose.context("neither `docker compose` nor `docker-compose` is installed")?;
        Ok(Project {
            compose: compose.into_iter().map(str::to_owned).collect(),
        })
    }

    fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let line: Vec<&str> = self.compose.iter().map(String::as_str).collect();
        run(&[line.as_slice(), arguments].concat())
    }

    /// The containers of all nodes; they must be there.
    pub(crate) fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let ids = self.compose(&["ps", "-q", SERVICE])?;
        let of = |id: &str| Container {
            id: id.to_owned(),
            left: Vec::new(),
        };
        let containers: Vec<Container> = ids.lines().map(of).collect();
        if containers.is_empty() {
            bail!(
                "no {SERVICE} runs here: start the cluster with `docker compose up -d`, where its docker-compose.yml is"
            );
        }
        Ok(containers)
    }

    /// One more node than these.
    pub(crate) fn add(&self, nodes: &[Node]) -> anyhow::Result<Node> {
        let scale = format!("{SERVICE}={}", nodes.len() + 1);
        self.compose(&[
            "up",
            "-d",
            "--no-build",
            "--no-recreate",
            "--scale",
            &scale,
            SERVICE,
        ])?;
        let is_known = |container: &Container| {
            nodes
                .iter()
                .any(|node| matches!(&node.body, Body::Container(known) if known.id == container.id))
        };
        let new = self
            .containers()?
            .into_iter()
            .find(|container| !is_known(container));
        node(new.context("Compose was asked for one more node, and made none")?)
    }
}

/// A node that runs in a container.
pub(crate) fn node(container: Container) -> anyhow::Result<Node> {
    let client_url = container.client_url()?;
    Ok(Node {
        // The member has its name from the container's host name.
        name: container.inspect("{{.Config.Hostname}}")?,
        client: asker(&client_url)?,
        client_url,
        body: Body::Container(container),
        state: State::Up,
    })
}

impl Container {
    fn inspect(&self, format: &str) -> anyhow::Result<String> {
        run(&["docker", "inspect", "--format", format, &self.id])
    }

    /// `http://…` for clients.
    pub(crate) fn client_url(&self) -> anyhow::Result<String> {
        let addresses = self.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}")?;
        let address = addresses.split_whitespace().next();
        let address = address.with_context(|| format!("container {} has no address", self.id))?;
        Ok(format!("http://{address}:{CLIENT_PORT}"))
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        run(&["docker", "kill", &self.id])?;
        run(&["docker", "wait", &self.id]).map(drop)
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn terminate(&self, within_s: u64) -> anyhow::Result<()> {
        run(&["docker", "stop", "-t", &within_s.to_string(), &self.id])?;
        let code = run(&["docker", "wait", &self.id])?;
        ensure!(code == "0", "it was asked to stop, and ended with {code}");
        Ok(())
    }

    /// Starts it again.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        run(&["docker", "start", &self.id]).map(drop)
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn set_paused(&self, paused: bool) -> anyhow::Result<()> {
        let what = if paused { "pause" } else { "unpause" };
        run(&["docker", what, &self.id]).map(drop)
    }

    /// Removes it with its data.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        run(&["docker", "rm", "-f", "-v", &self.id]).map(drop)
    }

    /// Takes it off all of its networks.
    pub(crate) fn disconnect(&mut self) -> anyhow::Result<()> {
        let networks = self.inspect("{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}")?;
        for network in networks.split_whitespace() {
            run(&["docker", "network", "disconnect", network, &self.id])?;
            self.left.push(network.to_owned());
        }
        Ok(())
    }

    /// Puts it back on the networks that it was taken off, under the name that the others look for; whether there were any.
    pub(crate) fn reconnect(&mut self) -> anyhow::Result<bool> {
        let left = std::mem::take(&mut self.left);
        for network in &left {
            run(&[
                "docker", "network", "connect", "--alias", SERVICE, network, &self.id,
            ])?;
        }
        Ok(!left.is_empty())
    }
}

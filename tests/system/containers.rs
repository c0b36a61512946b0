//! The whole system in containers, from the files that a user has: Dockerfile and docker-compose.yml.
//!
//! Runs wherever docker answers. With CI=true it must run; elsewhere it says that it was skipped, and why. The binary in
//! the image is the one under test, so that nothing is compiled twice; QUORATE_CONTAINER_BUILD=source compiles it in the
//! builder stage instead, as `docker compose up --build` does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use kv_client::{Client, Config};

use crate::harness::{Browser, Load, Outcome, StateHash, eventually, free_ports};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Longest wait for containers to be healthy, or for a name to be accepted.
const WITHIN: Duration = Duration::from_secs(90);
/// How long a member is silent before it is given up: a person's default is minutes.
const REAP_AFTER: &str = "5s";
/// How soon the balancer sends no more to nodes that were taken away.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(1);
/// Clients that write meanwhile.
const CLIENTS: usize = 4;
/// A container's host name is the beginning of its id.
const HOST_NAME_LENGTH: usize = 12;

/// Runs a command and returns its standard output; panics with all that it said if it fails.
fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(
        status.success(),
        "{command:?} ended with {status}:\n{stdout}\n{stderr}"
    );
    stdout.trim().to_owned()
}

fn docker(args: &[&str]) -> String {
    run(Command::new("docker").args(args))
}

fn succeeds(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Why the test cannot run here.
fn obstacle() -> Option<&'static str> {
    if !succeeds("docker", &["version"]) {
        return Some("docker does not answer");
    }
    match compose() {
        None => Some("neither docker-compose nor docker compose is installed"),
        Some(_) => None,
    }
}

/// The installed Docker Compose, of whichever generation; QUORATE_COMPOSE names another one.
fn compose() -> Option<Vec<String>> {
    if let Ok(named) = std::env::var("QUORATE_COMPOSE") {
        return Some(named.split_whitespace().map(str::to_owned).collect());
    }
    if succeeds("docker", &["compose", "version"]) {
        return Some(vec!["docker".to_owned(), "compose".to_owned()]);
    }
    succeeds("docker-compose", &["version"]).then(|| vec!["docker-compose".to_owned()])
}

/// A project of its own name, image and ports; taken down with its volumes and image at the end, however that comes.
struct Project {
    name: String,
    image: String,
    compose: Vec<String>,
    http_port: u16,
}

impl Project {
    fn up(compose: Vec<String>) -> Project {
        let name = format!("quorate-test-{}", std::process::id());
        let image = format!("{name}:latest");
        let project = Project {
            name,
            image,
            compose,
            http_port: free_ports(2),
        };
        build(&project.image);
        project.compose(&["up", "-d", "--no-build"]);
        project
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.compose[0]);
        command
            .args(&self.compose[1..])
            .args(["-p", &self.name])
            .args(args)
            .current_dir(ROOT)
            .env("QUORATE_IMAGE", &self.image)
            .env("QUORATE_REAP_AFTER", REAP_AFTER)
            .env("QUORATE_HTTP_PORT", self.http_port.to_string())
            .env("QUORATE_KV_PORT", (self.http_port + 1).to_string());
        command
    }

    fn compose(&self, args: &[&str]) -> String {
        run(&mut self.command(args))
    }

    /// Ids of a service's containers, running or not.
    fn containers(&self, service: &str) -> Vec<String> {
        self.compose(&["ps", "-q", service])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a service has `count` containers and its own health check calls each of them healthy.
    async fn healthy(&self, service: &str, count: usize) {
        eventually(
            &format!("{count} healthy containers of {service}"),
            WITHIN,
            || async {
                let states: Vec<String> = self
                    .containers(service)
                    .iter()
                    .map(|id| docker(&["inspect", "--format", "{{.State.Health.Status}}", id]))
                    .collect();
                match states.len() == count && states.iter().all(|state| state == "healthy") {
                    true => Ok(()),
                    false => Err(format!("{states:?}")),
                }
            },
        )
        .await;
    }

    /// Container id and client endpoint of every node; containers are reachable from their host.
    fn nodes(&self) -> Vec<(String, String)> {
        let endpoint = |id: String| (id.clone(), format!("http://{}:2379", address(&id)));
        self.containers("kv-node").into_iter().map(endpoint).collect()
    }

    fn scale(&self, nodes: usize) {
        let scale = format!("kv-node={nodes}");
        self.compose(&["up", "-d", "--no-build", "--no-recreate", "--scale", &scale]);
    }

    /// Waits until these are the voters, and nobody else is a member.
    async fn voters_are(&self, nodes: &[(String, String)]) {
        let client = Client::new(Config::new(nodes.iter().map(|(_, endpoint)| endpoint.clone()))).unwrap();
        let mut expected: Vec<&str> = nodes.iter().map(|(id, _)| &id[..HOST_NAME_LENGTH]).collect();
        expected.sort_unstable();
        eventually("the members are the containers", WITHIN, || async {
            let list = client
                .member_list(true)
                .await
                .map_err(|error| error.to_string())?;
            let voters = list.members.iter().filter(|member| !member.is_learner);
            let mut names: Vec<&str> = voters.map(|member| member.name.as_str()).collect();
            names.sort_unstable();
            match names == expected && list.members.len() == expected.len() {
                true => Ok(()),
                false => Err(format!("{names:?} of {}, not {expected:?}", list.members.len())),
            }
        })
        .await;
    }

    /// Waits until the balancer sends requests to `count` nodes.
    async fn balancer_has(&self, count: usize, within: Duration) {
        let stats = format!(
            "http://{}:8404/stats.json",
            address(&self.containers("loadbalancer")[0])
        );
        eventually(&format!("{count} nodes at the balancer"), within, || async {
            let answer = reqwest::get(&stats).await.map_err(|error| error.to_string())?;
            let stats: serde_json::Value = answer.json().await.map_err(|error| error.to_string())?;
            let pools = stats["pools"].as_array().ok_or("no pools")?;
            let nodes = pools.iter().find(|pool| pool["kind"] == "node");
            match &nodes.ok_or("no pool of nodes")?["usable"] {
                usable if *usable == count => Ok(()),
                usable => Err(format!("{usable} are usable")),
            }
        })
        .await;
    }

    async fn leader(&self) -> String {
        let nodes = self.nodes();
        let client = Client::new(Config::new(nodes.iter().map(|(_, endpoint)| endpoint.clone()))).unwrap();
        eventually("a leader", WITHIN, || async {
            for (id, endpoint) in &nodes {
                if let Ok(status) = client.status(endpoint).await
                    && status
                        .header
                        .is_some_and(|header| header.member_id == status.leader)
                {
                    return Ok(id.clone());
                }
            }
            Err("no node leads".to_owned())
        })
        .await
    }

    /// The state of every node, once all of them are at one revision.
    async fn hashes(&self) -> Vec<StateHash> {
        let nodes = self.nodes();
        let client = Client::new(Config::new(nodes.iter().map(|(_, endpoint)| endpoint.clone()))).unwrap();
        eventually("all nodes at one revision", WITHIN, || async {
            let mut hashes = Vec::new();
            for (id, endpoint) in &nodes {
                let answer = client
                    .hash_kv(endpoint, 0)
                    .await
                    .map_err(|error| format!("{id}: {error}"))?;
                hashes.push(StateHash {
                    revision: answer.header.ok_or("no header")?.revision,
                    hash: answer.hash,
                });
            }
            match hashes.iter().all(|hash| hash.revision == hashes[0].revision) {
                true => Ok(hashes),
                false => Err(format!("{hashes:?}")),
            }
        })
        .await
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(logs) = self.command(&["logs", "--no-color", "--tail", "60"]).output()
        {
            eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        let mut remove = Command::new("docker");
        remove.args(["image", "rm", "-f", &self.image]);
        let mut prune = Command::new("docker");
        prune.args([
            "image",
            "prune",
            "-f",
            "--filter",
            "label=quorate-builder=quorate",
        ]);
        for mut command in [
            self.command(&["down", "-v", "--remove-orphans", "-t", "2"]),
            remove,
            prune,
        ] {
            // A test that fails must not hide its reason behind another panic.
            if !command.output().is_ok_and(|output| output.status.success()) {
                eprintln!("could not clean up: {command:?}");
            }
        }
    }
}

/// Where a container is, on the only network that it is in.
fn address(id: &str) -> String {
    let address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    docker(&["inspect", "--format", address, id])
}

/// Builds the image, from the sources or around the binary under test.
fn build(image: &str) {
    let source = std::env::var("QUORATE_CONTAINER_BUILD").is_ok_and(|how| how == "source");
    step(
        if source {
            "base images, and the image from the sources"
        } else {
            "base image, and the image"
        },
        || {
            run(
                Command::new(Path::new(ROOT).join("scripts/base-images")).arg(if source {
                    "both"
                } else {
                    "runtime"
                }),
            );
            if source {
                docker(&["build", "-q", "-t", image, ROOT]);
                return;
            }
            let context = tempfile::tempdir().unwrap();
            let place: PathBuf = context.path().join("quorate");
            std::fs::copy(env!("CARGO_BIN_EXE_quorate"), &place).unwrap();
            // Debug information is most of it, and nobody needs it in the image. Without strip it is only larger.
            let _ = Command::new("strip").arg("--strip-debug").arg(&place).output();
            std::fs::copy(
                Path::new(ROOT).join("Dockerfile"),
                context.path().join("Dockerfile"),
            )
            .unwrap();
            let arguments = [
                "--build-arg",
                "BUILDER=debian:bookworm-slim",
                "--build-arg",
                "PREBUILT=quorate",
            ];
            run(Command::new("docker")
                .args(["build", "-q", "-t", image])
                .args(arguments)
                .arg(context.path()));
            docker(&["run", "--rm", image, "--version"]);
        },
    );
}

/// Runs one step and prints how long it took.
fn step<T>(what: &str, action: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = action();
    println!("{what}: {:.1} s", started.elapsed().as_secs_f64());
    result
}

/// Registers as a person does who tries again until it works.
async fn register_in_the_end(browser: &Browser, name: &str) {
    let started = Instant::now();
    let mut unsure = false;
    eventually(&format!("registering {name}"), WITHIN, || {
        let was_unsure = std::mem::replace(&mut unsure, true);
        async move {
            match browser.register(name).await {
                Outcome::Registered => Ok(()),
                Outcome::Taken if was_unsure => Ok(()),
                Outcome::Taken => panic!("{name:?} is taken, and nobody took it"),
                Outcome::TryAgain(problem) => Err(problem),
            }
        }
    })
    .await;
    println!("registered {name} after {:.1} s", started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_keep_names_through_kill_scale_and_restart() {
    if let Some(reason) = obstacle() {
        assert!(
            !std::env::var("CI").is_ok_and(|ci| ci == "true"),
            "the container test must run in CI, and cannot: {reason}"
        );
        eprintln!("SKIPPED: the container test, because {reason}");
        return;
    }
    let project = Project::up(compose().expect("no obstacle was found"));
    project.healthy("kv-node", 3).await;
    project.healthy("loadbalancer", 1).await;
    project.healthy("webapp", 2).await;
    let browser = Browser::new(format!("http://127.0.0.1:{}", project.http_port));
    register_in_the_end(&browser, "Ada").await;

    let leader = project.leader().await;
    docker(&["kill", &leader]);
    register_in_the_end(&browser, "Grace").await;

    let load = Load::start(&format!("127.0.0.1:{}", project.http_port + 1), CLIENTS);
    project.scale(5);
    project.healthy("kv-node", 5).await;
    project.voters_are(&project.nodes()).await;
    register_in_the_end(&browser, "Barbara").await;

    project.scale(3);
    project.balancer_has(3, FOLLOWS_WITHIN).await;
    project.voters_are(&project.nodes()).await;

    let wiped = project.leader().await;
    docker(&["rm", "--force", "--volumes", &wiped]);
    project.scale(3);
    project.healthy("kv-node", 3).await;
    project.voters_are(&project.nodes()).await;
    load.stop().await;

    project.compose(&["restart", "-t", "20"]);
    project.healthy("kv-node", 3).await;
    let names = eventually("the names", WITHIN, || browser.names()).await;
    assert_eq!(names, ["Barbara", "Grace", "Ada"], "newest first");
    let hashes = project.hashes().await;
    assert_eq!(hashes.len(), 3);
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "the nodes differ: {hashes:?}"
    );
}

/// What the builder stage does not get it cannot compile, and only a build from the sources would tell.
#[test]
fn the_builder_stage_gets_every_crate() {
    let read = |file| std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
    let (workspace, context) = (read("Cargo.toml"), read(".dockerignore"));
    let members = workspace
        .lines()
        .find_map(|line| line.strip_prefix("members = ["))
        .expect("the members of the workspace stand on one line");
    for member in members.trim_end_matches(']').split(", ") {
        let included = format!("!{}", member.trim_matches('"'));
        assert!(
            context.lines().any(|line| line == included),
            ".dockerignore lacks {included}"
        );
    }
}

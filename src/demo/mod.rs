//! `quorate demo`: a whole system on one machine, as child processes of one command.
//!
//! It promises that every child it started is gone when it ends, in whatever way it ends; that a child which dies
//! is named and started again; and that it touches nothing outside its data directory. What the children do is
//! theirs: the demo only passes them etcd-style flags and asks their `/readyz`.

mod child;
mod data;
mod plan;
mod ports;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use child::{Event, Stop, Supervisor, What};
use data::{DataDir, Shape};
use plan::{BASE_PORT_MAX, BASE_PORT_MIN, ChildSpec, NODES_MAX, Ports, Role};

/// Longest that everything may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A child that died this often before it was ever ready will not become so: the demo gives up.
const FAILED_STARTS_MAX: u32 = 3;
/// Time between SIGTERM and SIGKILL of one child. The balancer gives requests in flight 10 s.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// Interrupts that come sooner after the first are still the first: some senders signal process and group.
const SECOND_INTERRUPT_AFTER: Duration = Duration::from_millis(500);
/// Events that wait to be printed; a supervisor waits when there are more.
const EVENTS_MAX: usize = 64;

/// Arguments of `quorate demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    // The help names the limits, which are constants.
    #[arg(long, default_value_t = 3, help = format!("Number of storage nodes, 1 to {NODES_MAX}"), value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,
    /// Where the nodes keep their data, for the next start too
    #[arg(long, value_name = "DIR", default_value = "./quorate-data")]
    data_dir: PathBuf,
    /// Keep the data in a temporary directory that is removed at the end
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    #[arg(long, help = base_port_help(), value_name = "PORT", value_parser = clap::value_parser!(u16).range(i64::from(BASE_PORT_MIN)..=i64::from(BASE_PORT_MAX)))]
    base_port: Option<u16>,
}

fn base_port_help() -> String {
    format!(
        "Move all ports, PORT from {BASE_PORT_MIN} to {BASE_PORT_MAX}: balancer on PORT (key-value), PORT+1 (web), \
         PORT+2 (stats), web apps on PORT+3 and PORT+4, node I on PORT+10*I (clients) and the next (peers)"
    )
}

/// Runs the demo until `shutdown` completes; a second request while it stops kills what is left.
pub(crate) async fn run(
    args: Args,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<ExitCode> {
    let ports = Ports::new(args.nodes, args.base_port);
    refuse_taken_ports(&ports)?;
    let shape = Shape {
        nodes: args.nodes,
        base_port: args.base_port,
    };
    let data = Arc::new(if args.ephemeral {
        DataDir::ephemeral()?
    } else {
        DataDir::open(&args.data_dir, shape)?
    });
    let mut demo = Demo::start(ports, data)?;
    let mut shutdown = std::pin::pin!(shutdown);
    let outcome = tokio::select! {
        outcome = demo.watch() => outcome,
        () = &mut shutdown => {
            println!("\nStopping (Ctrl-C again kills what is left).");
            Ok(())
        }
    };
    demo.stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn refuse_taken_ports(ports: &Ports) -> anyhow::Result<()> {
    let refused = ports::refused(&plan::children(ports, std::path::Path::new("")));
    if refused.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
    bail!(
        "{}\nnothing was started; use other ports with --base-port PORT",
        lines.join("\n")
    );
}

/// Completes when a person loses patience.
async fn second_interrupt() {
    tokio::time::sleep(SECOND_INTERRUPT_AFTER).await;
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()) {
        Ok(mut interrupt) => drop(interrupt.recv().await),
        // Without it, the grace of each child still ends the waiting.
        Err(_) => std::future::pending().await,
    }
}

struct Demo {
    ports: Ports,
    data: Arc<DataDir>,
    children: Vec<ChildState>,
    events: mpsc::Receiver<Event>,
    supervisors: Vec<Supervised>,
    started: Instant,
    announced: bool,
}

struct ChildState {
    spec: ChildSpec,
    pid: Option<u32>,
    ready: bool,
    failed_starts: u32,
}

struct Supervised {
    role: Role,
    stop: watch::Sender<Stop>,
    task: tokio::task::JoinHandle<()>,
}

impl Demo {
    fn start(ports: Ports, data: Arc<DataDir>) -> anyhow::Result<Demo> {
        let binary = std::env::current_exe().context("cannot find this program's own file")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        let plan = plan::children(&ports, data.path());
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let mut supervisors = Vec::with_capacity(plan.len());
        for (index, spec) in plan.iter().enumerate() {
            let (stop, stopped) = watch::channel(Stop::No);
            let supervisor = Supervisor {
                index,
                spec: spec.clone(),
                binary: binary.clone(),
                data: Arc::clone(&data),
                http: http.clone(),
                events: sender.clone(),
                stop: stopped,
                grace: STOP_GRACE,
            };
            supervisors.push(Supervised {
                role: spec.role,
                stop,
                task: tokio::spawn(supervisor.run()),
            });
        }
        let children = plan
            .into_iter()
            .map(|spec| ChildState {
                spec,
                pid: None,
                ready: false,
                failed_starts: 0,
            })
            .collect();
        Ok(Demo {
            ports,
            data,
            children,
            events,
            supervisors,
            started: Instant::now(),
            announced: false,
        })
    }

    /// Prints what happens to the children; ends only with an error.
    async fn watch(&mut self) -> anyhow::Result<()> {
        report::starting(&self.children, &self.data);
        let deadline = self.started + READY_WITHIN;
        loop {
            let event = if self.announced {
                self.events.recv().await
            } else {
                match tokio::time::timeout_at(deadline.into(), self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Err(self.not_ready()),
                }
            };
            let event = event.context("all supervisors ended")?;
            self.note(event)?;
            if !self.announced && self.children.iter().all(|child| child.ready) {
                self.announced = true;
                let pids: Vec<Option<u32>> = self.children.iter().map(|child| child.pid).collect();
                report::ready(&self.ports, &pids, &self.data, self.started.elapsed()).await;
            }
        }
    }

    fn note(&mut self, Event { child, what }: Event) -> anyhow::Result<()> {
        let announced = self.announced;
        let child = &mut self.children[child];
        report::event(&child.spec.name, child.pid, &what, announced);
        let failed = match what {
            What::Started { pid } => {
                child.pid = Some(pid);
                false
            }
            What::Ready { .. } => {
                child.ready = true;
                false
            }
            What::Died { death, .. } => {
                (child.pid, child.ready) = (None, announced && child.ready);
                // A process that was killed from outside has nothing to say about it.
                if death.status.code().is_some() {
                    report::log_tail(&self.data.log_path(&child.spec.name), death.log_from);
                }
                !death.was_ready
            }
            What::NotStarted { .. } => true,
            What::Killed => false,
        };
        if failed && !child.ready {
            child.failed_starts += 1;
            if child.failed_starts >= FAILED_STARTS_MAX {
                let log = self.data.log_path(&child.spec.name);
                bail!(
                    "{} cannot be started; its log is {}",
                    child.spec.name,
                    log.display()
                );
            }
        }
        Ok(())
    }

    fn not_ready(&self) -> anyhow::Error {
        let late: Vec<&ChildState> = self.children.iter().filter(|child| !child.ready).collect();
        for child in &late {
            let log = self.data.log_path(&child.spec.name);
            eprintln!("the end of {}:", log.display());
            report::log_tail(&log, 0);
        }
        let names: Vec<&str> = late.iter().map(|child| child.spec.name.as_str()).collect();
        anyhow::anyhow!(
            "not ready within {} s: {}",
            READY_WITHIN.as_secs(),
            names.join(", ")
        )
    }

    /// Stops web apps, then the balancer, then the nodes: whoever asks stops before whoever answers.
    async fn stop(self) -> anyhow::Result<()> {
        let Demo {
            children,
            mut events,
            supervisors,
            data,
            ..
        } = self;
        let mut again = std::pin::pin!(second_interrupt());
        let printer = tokio::spawn(async move {
            while let Some(Event { child, what }) = events.recv().await {
                if matches!(what, What::Killed) {
                    report::event(&children[child].spec.name, children[child].pid, &what, true);
                }
            }
        });
        let mut rest = supervisors;
        let mut now = false;
        for role in [Role::Web, Role::Balancer, Role::Node] {
            let (stage, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|child| child.role == role);
            rest = later;
            let mut stopping = JoinSet::new();
            let stops: Vec<watch::Sender<Stop>> = stage
                .into_iter()
                .map(|child| {
                    stopping.spawn(child.task);
                    child
                        .stop
                        .send_replace(if now { Stop::Now } else { Stop::Politely });
                    child.stop
                })
                .collect();
            loop {
                tokio::select! {
                    joined = stopping.join_next() => if joined.is_none() { break },
                    () = &mut again, if !now => {
                        now = true;
                        for stop in &stops {
                            stop.send_replace(Stop::Now);
                        }
                    }
                }
            }
        }
        printer.await.context("the printer of events failed")?;
        if data.is_ephemeral() {
            println!("Stopped; the data is removed.");
        } else {
            println!("Stopped; the data is kept in {}.", report::short(data.path()));
        }
        Ok(())
    }
}

//! A machine of the cluster: disks that outlive its processes, and the process on it, if one runs.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use kv_node::{
    auth::TokenOptions,
    bootstrap::Bootstrap,
    corruption::Checks,
    identity::{DataDir, StoredIdentity},
    membership::autopilot::Policy,
    node::{Config, Env, Limits, Node},
    running::Running,
};
use kv_store::{Store, sim::SimDir};
use kv_wal::{
    Drive, Driven, Wal,
    sim::{Crash, Fault as DiskFault, SimDisk},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    net::{Host, Net, Ports, Process},
    plan::{Cluster, JOINERS_MAX},
    promise::Promise,
    random::Random,
    trace::Trace,
    verdict::Verdict,
};

/// Small, so that segments end and go during a run.
const SEGMENT_BYTES: u64 = 64 << 10;
const RECORD_BYTES_MAX: usize = 24 << 10;
/// How often the store brings what is applied into its engine.
const STORE_PACE: Duration = Duration::from_millis(20);
/// Pause before a full log is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// A machine.
pub struct Machine {
    /// Its number.
    pub host: Host,
    net: Arc<Net>,
    trace: Arc<Trace>,
    verdict: Arc<Verdict>,
    cluster: Cluster,
    log: SimDisk,
    promise: Arc<Promise>,
    store: SimDir,
    /// Handed on from boot to boot, so that what is left of a process does not write it.
    identity: StoredIdentity,
    disk: Arc<DiskPace>,
    boot: u64,
    up: Option<Up>,
    /// A process is on its way out: nothing starts before it is gone.
    is_stopping: Arc<AtomicBool>,
    /// It was removed from the cluster: it does not start again.
    pub is_removed: bool,
}

/// How slow a disk is.
struct DiskPace {
    random: Mutex<Random>,
    sync_ms_max: AtomicU64,
    /// While it is frozen.
    frozen: AtomicU64,
    thawed: Notify,
}

/// The process.
struct Up {
    node: Arc<Mutex<Option<Node>>>,
    wal: Arc<Mutex<Option<Wal>>>,
    killed: CancellationToken,
    stop: oneshot::Sender<How>,
    task: JoinHandle<()>,
}

enum How {
    Abruptly,
    Orderly,
}

/// What becomes of the disks of a machine whose process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The kernel has everything.
    Process,
    /// What was not synced is lost or torn, by this seed.
    Power(u64),
}

impl Machine {
    /// A machine with empty disks.
    pub fn new(
        host: Host,
        net: Arc<Net>,
        trace: Arc<Trace>,
        verdict: Arc<Verdict>,
        cluster: Cluster,
        seed: u64,
    ) -> Machine {
        let disk = DiskPace {
            random: Mutex::new(Random::of(seed, &format!("disk {host}"))),
            sync_ms_max: AtomicU64::new(cluster.sync_ms_max),
            frozen: AtomicU64::new(0),
            thawed: Notify::new(),
        };
        Machine {
            host,
            net,
            trace,
            verdict,
            cluster,
            log: SimDisk::new(),
            promise: Arc::default(),
            store: SimDir::new(),
            identity: StoredIdentity::default(),
            disk: Arc::new(disk),
            boot: 0,
            up: None,
            is_stopping: Arc::default(),
            is_removed: false,
        }
    }

    /// The node, once it has started.
    pub fn node(&self) -> Option<Node> {
        self.up.as_ref()?.node.lock().clone()
    }

    /// Whether a process runs.
    pub fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// Starts a process, unless one runs.
    pub fn start(&mut self, founders: usize) {
        if self.up.is_some() || self.is_removed || self.is_stopping.load(Ordering::Relaxed) {
            return;
        }
        self.boot += 1;
        let process = Process {
            host: self.host,
            boot: self.boot,
        };
        self.trace.say(format_args!("node {} starts", self.host));
        let identity = self.identity.lock().clone();
        self.identity = Arc::new(Mutex::new(identity));
        let config = config(self.host, founders, &self.cluster);
        let running = match Running::without_ports(config, DataDir::in_memory(self.identity.clone())) {
            Ok(running) => running,
            Err(error) => return self.refused(&error),
        };
        let ports = Ports {
            peers: running.peers(),
            clients: running.clients(),
        };
        self.net.attach(process, ports);
        let (killed, node, wal) = (CancellationToken::new(), Arc::default(), Arc::default());
        let env = self.env(process, killed.clone(), Arc::clone(&wal));
        let (stop, stopped) = oneshot::channel();
        let life = Life {
            running,
            env,
            node: Arc::clone(&node),
            stopped,
            verdict: self.verdict.clone(),
            net: self.net.clone(),
            process,
        };
        self.up = Some(Up {
            node,
            wal,
            killed,
            stop,
            task: tokio::spawn(life.run()),
        });
    }

    fn refused(&mut self, error: &anyhow::Error) {
        if error.to_string().contains("was removed from its cluster") {
            self.is_removed = true;
        } else {
            self.verdict
                .violated(format!("node {} does not start: {error:#}", self.host));
        }
    }

    fn env(&self, process: Process, killed: CancellationToken, opened: Arc<Mutex<Option<Wal>>>) -> Env {
        let (log, store, pace) = (self.log.mount(), self.store.clone(), self.disk.clone());
        let started = Instant::now();
        let drift_ppm = self.cluster.drift_ppm.get(self.host).copied().unwrap_or(0);
        let trace = self.trace.clone();
        let (host, promise, verdict) = (self.host, self.promise.clone(), self.verdict.clone());
        Env {
            log: Arc::new(move |_, options| {
                let requested = Arc::new(Notify::new());
                let asked = requested.clone();
                let options = kv_wal::Options {
                    segment_bytes: SEGMENT_BYTES,
                    max_record_bytes: RECORD_BYTES_MAX,
                    cache_bytes: 8 << 10,
                    full_retry: Duration::ZERO,
                    drive: Drive::Caller,
                    on_request: Some(Arc::new(move || asked.notify_one())),
                    ..options
                };
                let (wal, found) = Wal::open(log.clone(), options)?;
                *opened.lock() = Some(wal.clone());
                if let Err(what) = promise.is_kept(&wal) {
                    verdict.violated(format!("node {host} {what}"));
                }
                let driving = drive_log(
                    wal.clone(),
                    promise.clone(),
                    requested,
                    pace.clone(),
                    killed.clone(),
                );
                tokio::spawn(driving);
                Ok((wal, found))
            }),
            store: Arc::new(move |_, cluster_id| {
                let options = kv_store::Options {
                    cluster_id: Some(cluster_id),
                    cache_bytes: 64 << 10,
                    drive: kv_store::Drive::Caller,
                    ..kv_store::Options::default()
                };
                Ok(Store::open_simulated(&store, options)?)
            }),
            dial: self.net.dial(process),
            carry: Some(self.net.carry(process)),
            free_bytes: Arc::new(|_| Ok(u64::MAX)),
            unix_time: Arc::new(move || Duration::from_nanos(1_700_000_000_000_000_000 + trace.now_ns())),
            monotonic: Arc::new(move || {
                let passed_ns = started.elapsed().as_nanos() as i128;
                let drifted_ns = passed_ns + passed_ns * i128::from(drift_ppm) / 1_000_000;
                Duration::from_nanos(drifted_ns as u64)
            }),
        }
    }

    /// Ends the process without a word, if one runs.
    pub fn crash(&mut self, ending: Ending) {
        let Some(up) = self.up.take() else { return };
        self.trace
            .say(format_args!("node {} dies: {ending:?}", self.host));
        let process = Process {
            host: self.host,
            boot: self.boot,
        };
        self.net.detach(process, ending == Ending::Process);
        up.killed.cancel();
        let wal = up.wal.lock().take();
        if let Some(wal) = &wal {
            self.promise.falls_due(wal);
        }
        match ending {
            Ending::Process => {
                self.log.crash(Crash::KeepAll);
                self.store.crash(usize::MAX);
            }
            Ending::Power(chance) => {
                let mut random = Random::new(chance ^ self.host as u64);
                if let Some(wal) = wal.filter(|_| random.percent(70)) {
                    // In the middle of a batch.
                    let operation = self.log.operations() + 1 + random.below(4);
                    self.log.fail_at(operation, DiskFault::PowerOff);
                    wal.drive();
                }
                self.log.crash(match random.below(4) {
                    0 => Crash::LoseAll,
                    1 => Crash::KeepAll,
                    _ => Crash::Random(random.next()),
                });
                let unsynced = self.store.unsynced() as u64;
                self.store.crash(random.below(unsynced + 1) as usize);
            }
        }
        // What a process had written of its identity it had synced; what is left of it writes no more.
        let identity = self.identity.lock().clone();
        self.identity = Arc::new(Mutex::new(identity));
        // The task may have ended by itself.
        let _ = up.stop.send(How::Abruptly);
    }

    /// Stops the process as an operator does; whoever calls waits for it with the handle.
    pub fn stop(&mut self) -> Option<JoinHandle<()>> {
        let up = self.up.take()?;
        self.trace.say(format_args!("node {} stops", self.host));
        let _ = up.stop.send(How::Orderly);
        let (killed, task) = (up.killed, up.task);
        let is_stopping = self.is_stopping.clone();
        is_stopping.store(true, Ordering::Relaxed);
        Some(tokio::spawn(async move {
            // It ends as it likes; that it did not panic is watched elsewhere.
            let _ = task.await;
            killed.cancel();
            is_stopping.store(false, Ordering::Relaxed);
        }))
    }

    /// Syncs take up to so long from now on, beyond what they do anyway.
    pub fn slow_disk(&self, by_ms: u64) {
        let sync_ms_max = self.cluster.sync_ms_max + by_ms;
        self.disk.sync_ms_max.store(sync_ms_max, Ordering::Relaxed);
    }

    /// The disk stands still.
    pub fn freeze_disk(&self) {
        self.disk.frozen.fetch_add(1, Ordering::Relaxed);
    }

    /// It goes on.
    pub fn thaw_disk(&self) {
        self.disk.frozen.fetch_sub(1, Ordering::Relaxed);
        self.disk.thawed.notify_waiters();
    }
}

impl DiskPace {
    async fn sync(&self) {
        let sync_ms_max = self.sync_ms_max.load(Ordering::Relaxed);
        let sync = Duration::from_millis(self.random.lock().among(0..sync_ms_max + 1));
        sleep(sync).await;
        while self.frozen.load(Ordering::Relaxed) > 0 {
            self.thawed.notified().await;
        }
    }
}

/// What the log's thread does elsewhere.
async fn drive_log(
    wal: Wal,
    promise: Arc<Promise>,
    requested: Arc<Notify>,
    pace: Arc<DiskPace>,
    killed: CancellationToken,
) {
    let driving = async {
        loop {
            requested.notified().await;
            pace.sync().await;
            loop {
                match wal.drive() {
                    Driven::Worked => {}
                    Driven::Idle => {
                        promise.given(&wal);
                        break;
                    }
                    Driven::Full => sleep(FULL_RETRY).await,
                    Driven::Failed => return,
                }
            }
        }
    };
    tokio::select! { biased; () = killed.cancelled() => {}, () = driving => {} }
}

/// A process from its start to its end.
struct Life {
    running: Running,
    env: Env,
    node: Arc<Mutex<Option<Node>>>,
    stopped: oneshot::Receiver<How>,
    verdict: Arc<Verdict>,
    net: Arc<Net>,
    process: Process,
}

impl Life {
    async fn run(self) {
        let Life {
            mut running,
            env,
            node: shared,
            mut stopped,
            verdict,
            net,
            process,
        } = self;
        let host = process.host;
        let started = tokio::select! {
            biased;
            _ = &mut stopped => {
                net.detach(process, true);
                return running.abandon(None).await;
            }
            started = running.start(env) => started,
        };
        let node = match started {
            Ok(node) => node,
            Err(error) => {
                verdict.violated(format!("node {host} does not start: {error:#}"));
                return running.abandon(None).await;
            }
        };
        *shared.lock() = Some(node.clone());
        let how = tokio::select! {
            biased;
            how = &mut stopped => how,
            () = bring_into_engine(node.store().clone()) => Ok(How::Abruptly),
            why = node.failed() => {
                verdict.node_failed(host, &why);
                // As the program does.
                Ok(How::Orderly)
            }
        };
        *shared.lock() = None;
        match how {
            Ok(How::Orderly) => {
                running.stop(&node).await;
                net.detach(process, true);
            }
            Ok(How::Abruptly) | Err(_) => running.abandon(Some(node)).await,
        }
    }
}

/// What the store's thread does elsewhere.
async fn bring_into_engine(store: Store) {
    loop {
        sleep(STORE_PACE).await;
        // A store that fails says so where it is applied to.
        while let Ok(true) = store.drive() {}
    }
}

fn config(host: Host, founders: usize, cluster: &Cluster) -> Config {
    let joins = host >= founders;
    // Whoever adds a node tells it of all there may be: its founders may have been removed by then.
    let known = if joins { founders + JOINERS_MAX } else { founders };
    let members = (0..known).map(|member| (format!("n{member}"), vec![Net::peer_url(member)]));
    Config {
        name: format!("n{host}"),
        data_dir: PathBuf::from("/simulated"),
        listen_client: Vec::new(),
        client_urls: vec![format!("http://10.0.0.{}:2379", host + 1)],
        listen_peer: Vec::new(),
        peer_urls: vec![Net::peer_url(host)],
        tls: Default::default(),
        bootstrap: Bootstrap::Static {
            members: members.collect(),
            token: "simulation".to_owned(),
            existing: joins,
        },
        zone: String::new(),
        autopilot: Policy {
            reap_after: None,
            ..Policy::default()
        },
        leave_on_terminate: false,
        max_learners: 2,
        quota_bytes: 1 << 30,
        retention: None,
        corruption_checks: Checks {
            at_start: true,
            interval: Some(Duration::from_secs(60)),
        },
        heartbeat_interval_ms: cluster.heartbeat_ms,
        election_timeout_ms: cluster.election_ms,
        snapshot_count: cluster.snapshot_count,
        watch_progress_interval: Duration::from_secs(60),
        limits: Limits {
            max_request_bytes: RECORD_BYTES_MAX / 2,
            max_txn_ops: 16,
            request_timeout: Duration::from_secs(5),
        },
        tokens: TokenOptions::default(),
    }
}

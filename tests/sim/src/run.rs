//! One run: a cluster, clients, the faults of the plan, and then peace, in which everything must come back.

use std::{sync::Arc, time::Duration};

use kv_node::membership::rules::Change;
use parking_lot::Mutex;
use quorate_checkers::history::{self, Keys, Record, Request};
use tokio::{
    sync::Mutex as AsyncMutex,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clients::{Client, History},
    host::{Ending, Machine},
    invariants::Invariants,
    net::{Host, Net},
    plan::{Fault, JOINERS_MAX, Plan},
    random::Random,
    tenants,
    trace::Trace,
    verdict::Verdict,
    watchers::{Seen, Watcher},
    wire::is_write,
};

/// The cluster must lead within so long of its start, and answer everybody within so long of the last fault.
const SETTLE: Duration = Duration::from_secs(60);
/// Numbers of clients by what they do.
const TENANTS: u32 = 100;
const WATCHERS: u32 = 200;
const COMPACTOR: u32 = 800;
const READER: u32 = 900;
/// A power cut that is to come after a write waits no longer for one.
const NEXT_WRITE: Duration = Duration::from_secs(2);
/// Each watch must have seen the last write within so long.
const LAST_EVENT: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The trace, as a number.
    pub trace: u64,
    /// How many things happened in it.
    pub notes: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Operations of clients, and how many were executed.
    pub operations: u64,
    /// Those that were certainly executed.
    pub acknowledged: u64,
    /// Faults of the plan.
    pub faults: u64,
    /// Power cuts among them, by node.
    pub power_cuts: u64,
    /// What was found wrong; nothing, if all is well.
    pub violations: Vec<String>,
}

impl Outcome {
    /// Of a run that ended without saying anything.
    pub fn died(how: &str) -> Outcome {
        Outcome {
            violations: vec![format!("the run died: {how}")],
            ..Outcome::default()
        }
    }
}

type Cluster = Arc<AsyncMutex<Vec<Machine>>>;

/// The run of a plan.
pub struct Run {
    plan: Plan,
    trace: Arc<Trace>,
    verdict: Arc<Verdict>,
    net: Arc<Net>,
    cluster: Cluster,
    history: History,
    /// Where clients go.
    serving: Arc<Mutex<Vec<Host>>>,
}

impl Run {
    /// Nothing runs yet. Must be called inside the simulation's runtime.
    pub fn new(plan: Plan, shown: bool) -> Run {
        let trace = Arc::new(Trace::new(shown));
        let verdict = Verdict::new(trace.clone());
        let random = Random::of(plan.seed, "network");
        let net = Net::new(trace.clone(), random, plan.cluster.weather.clone());
        let machine = |host| {
            let (net, trace, verdict) = (net.clone(), trace.clone(), verdict.clone());
            Machine::new(host, net, trace, verdict, plan.cluster.clone(), plan.seed)
        };
        let machines = (0..plan.cluster.nodes + JOINERS_MAX).map(machine).collect();
        Run {
            cluster: Arc::new(AsyncMutex::new(machines)),
            serving: Arc::new(Mutex::new((0..plan.cluster.nodes).collect())),
            history: History::default(),
            trace,
            verdict,
            net,
            plan,
        }
    }

    /// Runs it to its end.
    pub async fn play(self) -> (Outcome, Vec<Record>) {
        let founders = self.plan.cluster.nodes;
        for machine in self.cluster.lock().await.iter_mut().take(founders) {
            machine.start(founders);
        }
        if self.settle("the start").await {
            let invariants = Invariants::new(self.cluster.clone(), self.verdict.clone());
            let looking = tokio::spawn(invariants.clone().watch());
            let enough = CancellationToken::new();
            let (mut watchers, seen) = self.watchers(&enough);
            self.rough_time().await;
            if self.come_back().await {
                self.last_event(&seen).await;
            }
            enough.cancel();
            while watchers.join_next().await.is_some() {}
            looking.abort();
            invariants.look(true).await;
        }
        let history = std::mem::take(&mut *self.history.lock());
        (self.outcome(&history), history)
    }

    /// Load and faults.
    async fn rough_time(&self) {
        let begin = Instant::now();
        let (mut clients, enough) = (JoinSet::new(), CancellationToken::new());
        for number in 0..self.plan.load.clients {
            clients.spawn(self.client(number as u32).until(&enough).run());
        }
        for number in 0..self.plan.load.tenants {
            clients.spawn(tenants::live(self.client(TENANTS + number as u32).until(&enough)));
        }
        if self.plan.load.compaction_ms_max > 0 {
            clients.spawn(self.client(COMPACTOR).until(&enough).compact());
        }
        let mut faults = JoinSet::new();
        for scheduled in &self.plan.faults {
            let at = begin + Duration::from_millis(scheduled.at_ms);
            let (run, fault) = (self.hand(), scheduled.fault.clone());
            faults.spawn(async move {
                sleep_until(at).await;
                run.strike(fault).await;
            });
        }
        sleep_until(begin + Duration::from_secs(self.plan.duration_s)).await;
        // Those that began last for as long as they were to.
        while faults.join_next().await.is_some() {}
        enough.cancel();
        while clients.join_next().await.is_some() {}
    }

    fn client(&self, number: u32) -> Client {
        Client::new(
            number,
            self.net.clone(),
            self.trace.clone(),
            self.plan.seed,
            self.history.clone(),
            self.plan.load.clone(),
            self.serving.clone(),
        )
    }

    fn hand(&self) -> Hand {
        Hand {
            founders: self.plan.cluster.nodes,
            seed: self.plan.seed,
            trace: self.trace.clone(),
            verdict: self.verdict.clone(),
            net: self.net.clone(),
            cluster: self.cluster.clone(),
            history: self.history.clone(),
            serving: self.serving.clone(),
        }
    }

    /// All that is not removed runs, and every node answers with everything that was written.
    async fn come_back(&self) -> bool {
        self.trace.say(format_args!("peace"));
        for machine in self.cluster.lock().await.iter_mut().take(self.plan.cluster.nodes) {
            machine.start(self.plan.cluster.nodes);
        }
        self.settle("the last fault").await
    }

    /// Watches of all keys, and of one.
    fn watchers(&self, enough: &CancellationToken) -> (JoinSet<()>, Seen) {
        let (mut watchers, seen) = (JoinSet::new(), Seen::default());
        for number in 0..self.plan.load.watchers {
            let keys = match number {
                0 => Keys::Prefix(String::new()),
                1 => Keys::Prefix("r/".to_owned()),
                _ => Keys::Key("r/0".to_owned()),
            };
            let client = self.client(WATCHERS + number as u32).until(enough);
            watchers.spawn(Watcher::new(client, keys, seen.clone(), enough.clone()).run());
        }
        (watchers, seen)
    }

    /// One more write, that every watch must see.
    async fn last_event(&self, seen: &Seen) {
        let mut writer = self.client(READER + 1);
        let request = Request::Put {
            key: "r/0".to_owned(),
            value: writer.value(),
            lease: None,
        };
        let node = self
            .serving
            .lock()
            .iter()
            .copied()
            .find(|node| !self.verdict.was_removed(*node));
        let history::Outcome::Ok(written) = writer.ask(node.unwrap_or(0), request).await else {
            return self
                .verdict
                .violated("the last write fails, without any fault".to_owned());
        };
        let give_up = Instant::now() + LAST_EVENT;
        for number in 0..self.plan.load.watchers {
            let watch = u64::from(WATCHERS) + number;
            while seen
                .lock()
                .get(&watch)
                .is_none_or(|seen| *seen < written.revision)
            {
                if Instant::now() > give_up {
                    return self
                        .verdict
                        .violated(format!("watch {watch} has not seen the last write"));
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Waits until every member answers a linearizable read.
    async fn settle(&self, since: &str) -> bool {
        let give_up = Instant::now() + SETTLE;
        let mut reader = self.client(READER);
        let mut left: Vec<Host> = self.serving.lock().clone();
        while let Some(&node) = left.first() {
            let answers = matches!(reader.ask(node, read_all()).await, history::Outcome::Ok(_));
            let is_removed = self.cluster.lock().await[node].is_removed || self.verdict.was_removed(node);
            if answers || is_removed {
                left.remove(0);
            } else if Instant::now() > give_up {
                let after_s = SETTLE.as_secs();
                self.verdict
                    .violated(format!("node {node} does not answer {after_s} s after {since}"));
                return false;
            } else {
                sleep(Duration::from_millis(100)).await;
            }
        }
        true
    }

    fn outcome(&self, history: &[Record]) -> Outcome {
        let (trace, notes) = self.trace.hash();
        let acknowledged = history.iter().filter(|record| record.answer().is_some()).count() as u64;
        let power_cuts = self.plan.faults.iter().map(|scheduled| match &scheduled.fault {
            Fault::PowerCut { nodes, .. } => nodes.len() as u64,
            _ => 0,
        });
        Outcome {
            seed: self.plan.seed,
            trace,
            notes,
            simulated_ms: self.trace.now_ns() / 1_000_000,
            operations: history.len() as u64,
            acknowledged,
            faults: self.plan.faults.len() as u64,
            power_cuts: power_cuts.sum(),
            violations: self.verdict.all(),
        }
    }
}

fn read_all() -> Request {
    Request::Read {
        keys: Keys::Prefix("r/".to_owned()),
        serializable: false,
        revision: None,
    }
}

/// What brings faults about.
struct Hand {
    founders: usize,
    seed: u64,
    trace: Arc<Trace>,
    verdict: Arc<Verdict>,
    net: Arc<Net>,
    cluster: Cluster,
    history: History,
    serving: Arc<Mutex<Vec<Host>>>,
}

impl Hand {
    async fn strike(&self, fault: Fault) {
        self.trace.say(format_args!("fault: {fault:?}"));
        let lasting = fault.duration();
        match fault {
            Fault::Cut { links, .. } => {
                self.net.cut(&links);
                sleep(lasting).await;
                self.net.heal(&links);
            }
            Fault::Kill { node, .. } => self.crash(&[node], Ending::Process, lasting).await,
            Fault::PowerCut {
                nodes,
                chance,
                after_write,
                ..
            } => {
                if after_write {
                    self.next_write().await;
                }
                self.crash(&nodes, Ending::Power(chance), lasting).await;
            }
            Fault::Restart { node, .. } => {
                let stopped = self.cluster.lock().await[node].stop();
                if let Some(stopped) = stopped {
                    // It waits for what it waits for, not longer.
                    let _ = stopped.await;
                    sleep(lasting).await;
                    self.cluster.lock().await[node].start(self.founders);
                }
            }
            Fault::Freeze { node, .. } => {
                self.net.freeze(node);
                self.cluster.lock().await[node].freeze_disk();
                sleep(lasting).await;
                self.cluster.lock().await[node].thaw_disk();
                self.net.thaw(node);
            }
            Fault::SlowDisk { node, by_ms, .. } => {
                self.cluster.lock().await[node].slow_disk(by_ms);
                sleep(lasting).await;
                self.cluster.lock().await[node].slow_disk(0);
            }
            Fault::Weather { weather, .. } => {
                let storm = self.net.storm(weather);
                sleep(lasting).await;
                self.net.calm(storm);
            }
            Fault::Reset { node } => self.net.reset(node),
            Fault::Transfer { to } => self.transfer(to).await,
            Fault::Join { node } => {
                self.cluster.lock().await[node].start(self.founders);
                self.serving.lock().push(node);
            }
            Fault::Remove { node } => self.remove(node).await,
        }
    }

    /// Waits until a client has heard that a write is done; not for long, as there may be none.
    async fn next_write(&self) {
        let give_up = Instant::now() + NEXT_WRITE;
        let mut seen = self.history.lock().len();
        while Instant::now() < give_up {
            sleep(Duration::from_millis(1)).await;
            let history = self.history.lock();
            let mut new = history[seen..].iter();
            if new.any(|record| is_write(&record.request) && record.answer().is_some()) {
                return;
            }
            seen = history.len();
        }
    }

    async fn crash(&self, nodes: &[Host], ending: Ending, lasting: Duration) {
        for &node in nodes {
            self.cluster.lock().await[node].crash(ending);
        }
        sleep(lasting).await;
        for &node in nodes {
            // A node that has not joined yet has nothing to come back to.
            if self.serving.lock().contains(&node) {
                self.cluster.lock().await[node].start(self.founders);
            }
        }
    }

    async fn transfer(&self, to: Host) {
        let (leader, to) = {
            let cluster = self.cluster.lock().await;
            let nodes = || cluster.iter().filter_map(Machine::node);
            let leader = nodes().find(|node| node.leader() == Some(node.identity().member_id));
            let to = cluster[to].node().map(|node| node.identity().member_id);
            (leader, to)
        };
        if let (Some(leader), Some(to)) = (leader, to)
            && leader.identity().member_id != to
        {
            leader
                .transfer_leader(to, Instant::now() + Duration::from_secs(2))
                .await;
        }
    }

    async fn remove(&self, node: Host) {
        let mut random = Random::of(self.seed, &format!("remove {node}"));
        let (asked, id) = {
            let cluster = self.cluster.lock().await;
            let nodes: Vec<_> = cluster.iter().filter_map(Machine::node).collect();
            let id = cluster[node].node().map(|node| node.identity().member_id);
            (
                nodes
                    .get(random.below(nodes.len().max(1) as u64) as usize)
                    .cloned(),
                id,
            )
        };
        if let (Some(asked), Some(id)) = (asked, id) {
            self.verdict.may_be_removed(node);
            let deadline = Instant::now() + Duration::from_secs(10);
            let changed = asked.change_members(Change::Remove { id }, deadline).await;
            self.trace.say(format_args!(
                "removal of node {node}: {:?}",
                changed.map(|changed| changed.id)
            ));
        }
    }
}

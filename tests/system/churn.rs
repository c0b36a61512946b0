//! Members that come, go, die and lose their disks under load, one after the other, on real processes.
//!
//! `QUORATE_CHURN=500 cargo test --workspace --test system churn -- --nocapture` makes 500 changes;
//! `QUORATE_CHURN_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kv_client::{AutopilotMember, Client, Config};
use kv_proto::etcdserverpb::{PutRequest, RangeRequest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::harness::{Process, eventually, free_ports};

/// Changes of a short run.
const CHANGES: usize = 8;
/// Machines; three to all of them run.
const MACHINES: u16 = 6;
const FOUNDERS: usize = 3;
/// Longest that the cluster may take to come to rest after a change: a dead member is given up meanwhile.
const REST_WITHIN: Duration = Duration::from_secs(90);
/// Longest that a process may take to end.
const END_WITHIN: Duration = Duration::from_secs(30);
/// Longest time without a write: an election on a busy machine, compiled without optimisation.
const GAP_MAX: Duration = Duration::from_secs(10);

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    /// One that does not run is started.
    Join,
    /// A client removes a member.
    Remove,
    /// A node is told to stop, and leaves.
    Leave,
    /// A node is killed and started again.
    Restart,
    /// A node is killed, and comes back without its data.
    Wipe,
    /// A node is killed, and does not come back.
    Die,
}

struct Machine {
    process: Process,
    runs: bool,
    endpoint: String,
    dir: PathBuf,
}

struct Fleet {
    machines: Vec<Machine>,
    client: Client,
    dir: tempfile::TempDir,
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

impl Fleet {
    async fn found() -> Fleet {
        let dir = tempfile::tempdir().unwrap();
        let first = free_ports(2 * MACHINES);
        let join: Vec<String> = (0..MACHINES)
            .map(|i| format!("127.0.0.1:{}", first + 2 * i + 1))
            .collect();
        let machine = |i: u16| {
            let name = format!("n{i}");
            let (client, peer) = (url(first + 2 * i), url(first + 2 * i + 1));
            let data = dir.path().join(&name);
            let flags = [
                ("--name", name.clone()),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--listen-peer-urls", peer),
                ("--join", join.join(",")),
                ("--bootstrap-expect", FOUNDERS.to_string()),
                ("--reap-after", "8s".to_owned()),
                ("--snapshot-count", "200".to_owned()),
            ];
            let flags = flags.iter().map(|(flag, value)| format!("{flag}={value}"));
            let mut args = vec!["node".to_owned(), "--leave-on-terminate".to_owned()];
            args.extend(flags);
            Machine {
                process: Process::prepared(&name, dir.path(), args),
                runs: false,
                endpoint: client,
                dir: data,
            }
        };
        let machines: Vec<Machine> = (0..MACHINES).map(machine).collect();
        let endpoints: Vec<String> = machines.iter().map(|machine| machine.endpoint.clone()).collect();
        let mut fleet = Fleet {
            machines,
            client: Client::new(Config::new(endpoints)).unwrap(),
            dir,
        };
        for i in 0..FOUNDERS {
            fleet.start(i);
        }
        fleet.at_rest().await;
        fleet
    }

    fn start(&mut self, i: usize) {
        self.machines[i].process.start_again();
        self.machines[i].runs = true;
    }

    fn running(&self) -> Vec<usize> {
        (0..self.machines.len())
            .filter(|i| self.machines[*i].runs)
            .collect()
    }

    /// Waits until the members are those that run, all well, and as many vote as can.
    async fn at_rest(&mut self) {
        let started = Instant::now();
        while let Err(why) = self.is_at_rest().await {
            assert!(started.elapsed() < REST_WITHIN, "not at rest: {why}");
            for machine in self.machines.iter_mut().filter(|machine| machine.runs) {
                machine.process.check();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_at_rest(&self) -> Result<(), String> {
        let mut expected = BTreeSet::new();
        for i in self.running() {
            let status = self.client.status(&self.machines[i].endpoint).await;
            let header = status
                .map_err(|error| error.to_string())?
                .header
                .ok_or("no header")?;
            expected.insert((format!("n{i}"), format!("{:x}", header.member_id)));
        }
        let report = self.client.autopilot().await.map_err(|error| error.to_string())?;
        let named = |member: &AutopilotMember| (member.name.clone(), member.id.clone());
        let members: BTreeSet<(String, String)> = report.members.iter().map(named).collect();
        let learners = report
            .members
            .iter()
            .filter(|member| member.role == "learner")
            .count();
        let voters = report.members.len() - learners;
        // A learner that could vote would, but for an even number or the most voters.
        let all_vote = learners == 0 || voters == 5 || (learners == 1 && voters % 2 == 1);
        match report.healthy && members == expected && all_vote {
            true => Ok(()),
            false => Err(format!("{report:?}, expected {expected:?}")),
        }
    }

    /// Each running node has the same data.
    async fn equal(&self) {
        eventually("equal hashes", REST_WITHIN, || async {
            let mut hashes = BTreeMap::new();
            for i in self.running() {
                let answer = self.client.hash_kv(&self.machines[i].endpoint, 0).await;
                let answer = answer.map_err(|error| format!("n{i}: {error}"))?;
                hashes.insert(i, (answer.hash_revision, answer.hash));
            }
            let distinct: BTreeSet<_> = hashes.values().collect();
            match distinct.len() {
                1 => Ok(()),
                _ => Err(format!("{hashes:?}")),
            }
        })
        .await;
    }

    /// What may happen now, one voter at least to spare.
    fn possible(&self) -> Vec<Change> {
        let running = self.running().len();
        let mut possible = vec![Change::Restart, Change::Wipe];
        if running < self.machines.len() {
            possible.extend([Change::Join, Change::Join]);
        }
        if running > FOUNDERS {
            possible.extend([Change::Remove, Change::Leave, Change::Die]);
        }
        possible
    }

    async fn make(&mut self, change: Change, at: usize) {
        let name = format!("n{at}");
        match change {
            Change::Join => self.start(at),
            Change::Remove => {
                let members = self.client.member_list(true).await.unwrap().members;
                let member = members.iter().find(|member| member.name == name).unwrap();
                self.client.member_remove(member.id).await.unwrap();
                self.machines[at].process.ends_by_itself(END_WITHIN).await;
                self.gone(at);
            }
            Change::Leave => {
                let status = self.machines[at].process.terminate(END_WITHIN).await;
                assert!(status.success(), "{status}");
                // It comes back with the directory that it left.
                self.machines[at].runs = false;
            }
            Change::Restart => {
                self.machines[at].process.kill();
                self.start(at);
            }
            Change::Wipe => {
                self.machines[at].process.kill();
                self.gone(at);
                self.start(at);
            }
            Change::Die => {
                self.machines[at].process.kill();
                self.gone(at);
            }
        }
    }

    fn gone(&mut self, at: usize) {
        self.machines[at].runs = false;
        std::fs::remove_dir_all(&self.machines[at].dir).unwrap();
    }
}

/// Writes one key after the other, and knows which were acknowledged.
struct Load {
    /// Held by whoever wants silence.
    gate: Arc<Mutex<()>>,
    written: Arc<AtomicUsize>,
    longest: Arc<Mutex<Duration>>,
    stop: Arc<AtomicBool>,
    writer: JoinHandle<()>,
}

impl Load {
    fn start(client: Client) -> Load {
        let (gate, written, longest): (Arc<Mutex<()>>, Arc<AtomicUsize>, Arc<Mutex<Duration>>) =
            Default::default();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (gate, written, longest, stop) =
                (gate.clone(), written.clone(), longest.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let _going = gate.lock().await;
                    let request = PutRequest {
                        key: format!("churn/{:08}", written.load(Ordering::Relaxed)).into(),
                        value: vec![7; 200].into(),
                        ..Default::default()
                    };
                    let began = Instant::now();
                    // An unknown outcome is written again: the same once more.
                    while client.put(request.clone()).await.is_err() {}
                    written.fetch_add(1, Ordering::Relaxed);
                    let mut longest = longest.lock().await;
                    *longest = longest.max(began.elapsed());
                }
            })
        };
        Load {
            gate,
            written,
            longest,
            stop,
            writer,
        }
    }

    /// The longest write since the last time.
    async fn gap(&self) -> Duration {
        std::mem::take(&mut *self.longest.lock().await)
    }

    async fn end(self, client: &Client) {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await.unwrap();
        let written = self.written.load(Ordering::Relaxed);
        let request = RangeRequest {
            key: "churn/".into(),
            range_end: "churn0".into(),
            count_only: true,
            ..Default::default()
        };
        let found = client.range(request).await.unwrap().count;
        assert_eq!(found as usize, written, "acknowledged writes are lost");
        println!("{written} writes, all there");
    }
}

fn from_environment<T: std::str::FromStr>(name: &str, default: T) -> T {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| {
        value.parse().unwrap_or_else(|_| panic!("{name}={value}"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_under_load() {
    let changes = from_environment("QUORATE_CHURN", CHANGES);
    let seed = from_environment("QUORATE_CHURN_SEED", rand::random());
    println!("{changes} changes, QUORATE_CHURN_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::found().await;
    let load = Load::start(fleet.client.clone());
    let mut gaps: BTreeMap<Change, Vec<Duration>> = BTreeMap::new();
    let began = Instant::now();
    for n in 0..changes {
        let possible = fleet.possible();
        let change = possible[random.random_range(0..possible.len())];
        let choice: Vec<usize> = (0..fleet.machines.len())
            .filter(|i| fleet.machines[*i].runs != (change == Change::Join))
            .collect();
        let at = choice[random.random_range(0..choice.len())];
        let started = Instant::now();
        fleet.make(change, at).await;
        fleet.at_rest().await;
        let gap = load.gap().await;
        println!(
            "{n}: {change:?} n{at}: {} ms without a write, {} ms to rest",
            gap.as_millis(),
            started.elapsed().as_millis()
        );
        assert!(gap < GAP_MAX, "no write for {gap:?}");
        gaps.entry(change).or_default().push(gap);
        let _silence = load.gate.lock().await;
        fleet.equal().await;
    }
    for (change, mut gaps) in gaps {
        gaps.sort();
        let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
        println!(
            "{change:?}: {} times, without a write {median:?} in the median, {longest:?} at most",
            gaps.len()
        );
    }
    println!("{changes} changes in {:?}", began.elapsed());
    load.end(&fleet.client).await;
    drop(fleet.machines);
    drop(fleet.dir);
}

//! Quorate against a real etcd: both are asked the same, over gRPC and over JSON, and must answer the same.
//!
//! Sequences of requests are made by proptest. Both stores live through a hundred of them; each sequence starts
//! with every key deleted, and speaks of revisions from there on (`+1` is the first write of the sequence),
//! so that it does not see what was before. Some are about members, and some about users, who ask with
//! their tokens. Only the ids of cluster and members, tokens, and Raft's term are not compared.
//!
//! The etcd is what `scripts/oracle` has installed; where there is none, the test says so and passes, except in
//! CI. `QUORATE_SEQUENCES` and `QUORATE_SEED` make it longer, or another one: a long run is
//! `QUORATE_SEQUENCES=20000 cargo test -p kv-node --test api_server differential`.
//!
//! Where the two differ by intention, docs/etcd-compatibility.md says why, and no such request is made here.

mod methods;
mod oracle;
mod requests;
mod services;
mod side;
mod watches;
mod wire;

use std::{
    cell::{Cell, RefCell},
    fmt::{Debug, Display},
    time::Duration,
};

use proptest::{
    prop_oneof,
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use tokio::{runtime::Runtime, time::timeout};

pub(crate) use self::oracle::{Etcd, program};
use self::{
    requests::{Step, data, steps},
    side::Side,
    watches::{Last, Watches, finish},
    wire::{BROKEN, Wire},
};
use crate::harness::Server;

/// Sequences of a short run.
const SEQUENCES: u32 = 120;
/// Then both begin anew: etcd gets slower with each member that it has removed.
const SEQUENCES_OF_A_PAIR: u32 = 100;
/// etcd 3.5.1 sometimes answers nobody any more once members have come and gone. What it does not answer for so long is
/// not compared; another sequence is, with new servers.
const ETCD_MAX: Duration = Duration::from_secs(15);
/// Quorate has no such excuse.
const QUORATE_MAX: Duration = Duration::from_secs(60);
/// How often watches are asked what was: etcd 3.5.1 may send the past before it has noted that previous values are
/// wanted, and then leaves them out.
const PAST_ASKED_MAX: usize = 3;

fn number(name: &str, default: u32) -> u32 {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

fn runner() -> TestRunner {
    let config = Config {
        cases: number("QUORATE_SEQUENCES", SEQUENCES),
        failure_persistence: None,
        max_shrink_iters: 300,
        // Sequences that etcd does not answer.
        max_global_rejects: 2 + number("QUORATE_SEQUENCES", SEQUENCES) / 100,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number("QUORATE_SEED", 0).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// What happens in a sequence.
#[derive(Clone, Debug)]
struct Sequence {
    /// What it begins with, always the same.
    before: Vec<Step>,
    steps: Vec<Step>,
    /// Those from before the steps on, and those of the past; none where not everybody may write.
    watches: Option<(Watches, Watches)>,
}

fn sequence() -> impl Strategy<Value = Sequence> {
    let data = (steps(data(), &[None]), watches::live(), watches::past());
    let data = data.prop_map(|(steps, live, past)| Sequence {
        before: Vec::new(),
        steps,
        watches: Some((live, past)),
    });
    let members = steps(services::members(), &[None]).prop_map(|steps| Sequence {
        before: Vec::new(),
        steps,
        watches: None,
    });
    let users = steps(services::users(), &services::USERS).prop_map(|steps| Sequence {
        before: services::users_before(),
        steps,
        watches: None,
    });
    prop_oneof![8 => data, 1 => members, 2 => users]
}

/// The two, side by side.
struct Pair {
    etcd: Side,
    quorate: Side,
    /// How many sequences they have been through.
    sequences: u32,
    server: Server,
    _oracle: Etcd,
}

/// Why a sequence came to no end.
enum Stop {
    /// What was asked and answered, up to the first difference.
    Difference(String),
    /// The etcd no longer answers: nothing is known of the sequence.
    Silence,
}

impl Pair {
    /// Both new; none where there is no etcd.
    async fn start() -> Option<Pair> {
        let oracle = Etcd::start()?;
        let server = Server::start().await;
        oracle.answers().await;
        Some(Pair {
            etcd: Side::new(Wire::to(&oracle.address)),
            quorate: Side::new(Wire::to(&server.address)),
            sequences: 0,
            server,
            _oracle: oracle,
        })
    }

    /// Does the same with both.
    async fn both<'a, T>(&'a self, ask: impl AsyncFn(&'a Side) -> T) -> Result<(T, T), Stop> {
        match tokio::join!(
            timeout(ETCD_MAX, ask(&self.etcd)),
            timeout(QUORATE_MAX, ask(&self.quorate))
        ) {
            (Ok(etcd), Ok(quorate)) => Ok((etcd, quorate)),
            (_, Err(_)) => panic!("Quorate does not answer"),
            (Err(_), Ok(_)) => Err(Stop::Silence),
        }
    }

    /// Both with an empty store.
    async fn reset(&mut self) -> Result<(), Stop> {
        let (etcd, quorate) = tokio::join!(timeout(ETCD_MAX, self.etcd.reset()), self.quorate.reset());
        quorate.unwrap_or_else(|refusal| panic!("{refusal}"));
        match etcd {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) if !is_silence(&refusal) => panic!("etcd: {refusal}"),
            _ => Err(Stop::Silence),
        }
    }

    /// Runs a sequence from an empty store.
    async fn run(&mut self, sequence: &Sequence) -> Result<(), Stop> {
        self.sequences += 1;
        self.reset().await?;
        let mut transcript = Transcript::default();
        let Some((live, past)) = &sequence.watches else {
            return self.ask(sequence, &mut transcript).await;
        };
        let (theirs, ours) = self.both(async |side| live.open(side).await).await?;
        self.ask(sequence, &mut transcript).await?;
        let (last, our_last) = self.both(async |side| finish(side).await).await?;
        transcript.compare(&"last", (last, our_last))?;
        let Ok(theirs) = timeout(ETCD_MAX, theirs.close(last)).await else {
            return Err(Stop::Silence);
        };
        transcript.compare(live, (theirs, ours.close(last).await))?;
        self.past(&past.before(last), last, &mut transcript).await
    }

    /// Compares what watches tell of the past, which they may be asked again.
    async fn past(&self, watches: &Watches, last: Last, transcript: &mut Transcript) -> Result<(), Stop> {
        let mut asked = 0;
        loop {
            let both = self.both(async |side| watches.open(side).await.close(last).await);
            let (etcd, quorate) = both.await?;
            asked += 1;
            if etcd == quorate || asked == PAST_ASKED_MAX {
                return transcript.compare(watches, (etcd, quorate));
            }
        }
    }

    async fn ask(&self, sequence: &Sequence, transcript: &mut Transcript) -> Result<(), Stop> {
        for step in sequence.before.iter().chain(&sequence.steps) {
            let answers = self.both(async |side| side.ask(step).await).await?;
            transcript.compare(step, answers)?;
        }
        Ok(())
    }
}

/// Whether an answer of etcd's says that it has none.
fn is_silence(answer: &str) -> bool {
    answer.contains("etcdserver: request timed out") || answer.contains(BROKEN)
}

/// What was asked and answered.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn compare<T: Display + PartialEq>(
        &mut self,
        asked: &impl Debug,
        (etcd, quorate): (T, T),
    ) -> Result<(), Stop> {
        if etcd != quorate {
            let etcd = etcd.to_string();
            if is_silence(&etcd) {
                return Err(Stop::Silence);
            }
            let asked = format!("{}{asked:?}", self.0);
            return Err(Stop::Difference(format!(
                "\n{asked}\netcd    {etcd}\nQuorate {quorate}"
            )));
        }
        self.0 += &format!("{asked:?}\n        {etcd}\n");
        Ok(())
    }
}

/// Takes one sequence after the other, with new servers now and then.
struct Comparison {
    runtime: Runtime,
    pair: RefCell<Option<Pair>>,
    compared: Cell<u32>,
}

impl Comparison {
    fn take(&self, sequence: &Sequence) -> Result<(), TestCaseError> {
        let kept = self.pair.borrow_mut().take();
        let (pair, outcome) = self.runtime.block_on(async {
            let mut pair = match kept {
                Some(pair) if pair.sequences < SEQUENCES_OF_A_PAIR => pair,
                worn => {
                    stop(worn).await;
                    Pair::start().await.expect("there was an etcd before")
                }
            };
            let outcome = pair.run(sequence).await;
            if !matches!(outcome, Err(Stop::Silence)) {
                return (Some(pair), outcome);
            }
            stop(Some(pair)).await;
            (None, outcome)
        });
        *self.pair.borrow_mut() = pair;
        match outcome {
            Ok(()) => {
                self.compared.set(self.compared.get() + 1);
                if self.compared.get().is_multiple_of(500) {
                    eprintln!("{} sequences without a difference", self.compared.get());
                }
                Ok(())
            }
            Err(Stop::Difference(transcript)) => Err(TestCaseError::fail(transcript)),
            Err(Stop::Silence) => {
                eprintln!("etcd no longer answers; one sequence more, with new servers: {sequence:?}");
                Err(TestCaseError::reject("etcd no longer answers"))
            }
        }
    }
}

async fn stop(pair: Option<Pair>) {
    if let Some(pair) = pair {
        pair.server.stop().await;
    }
}

#[test]
fn the_same_answers_as_etcd() {
    let runtime = Runtime::new().unwrap();
    let Some(pair) = runtime.block_on(Pair::start()) else {
        return;
    };
    let comparison = Comparison {
        runtime,
        pair: RefCell::new(Some(pair)),
        compared: Cell::new(0),
    };
    let outcome = runner().run(&sequence(), |sequence| comparison.take(&sequence));
    comparison.runtime.block_on(stop(comparison.pair.take()));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(transcript, _)) => panic!("{transcript}"),
        Err(error) => panic!("{error}"),
    }
}

//! Quorate against a real etcd: both are asked the same, over gRPC and over JSON, and must answer the same.
//!
//! Sequences of requests are made by proptest. Both stores live through the whole run; each sequence starts
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
    cell::RefCell,
    fmt::{Debug, Display},
};

use proptest::{
    prop_oneof,
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use tokio::runtime::Runtime;

pub(crate) use self::oracle::{Etcd, program};
use self::{
    requests::{Step, data, steps},
    side::Side,
    watches::{Watches, finish},
    wire::Wire,
};
use crate::harness::Server;

/// Sequences of a short run.
const SEQUENCES: u32 = 120;

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
}

impl Pair {
    /// Does the same with both.
    async fn both<'a, T>(&'a self, ask: impl AsyncFn(&'a Side) -> T) -> (T, T) {
        tokio::join!(ask(&self.etcd), ask(&self.quorate))
    }

    /// Runs a sequence from an empty store.
    ///
    /// # Errors
    /// What was asked and answered, up to the first difference.
    async fn run(&mut self, sequence: &Sequence) -> Result<(), String> {
        tokio::join!(self.etcd.reset(), self.quorate.reset());
        let mut transcript = Transcript::default();
        let Some((live, past)) = &sequence.watches else {
            return self.ask(sequence, &mut transcript).await;
        };
        let (theirs, ours) = self.both(async |side| live.open(side).await).await;
        self.ask(sequence, &mut transcript).await?;
        let (last, our_last) = self.both(async |side| finish(side).await).await;
        transcript.compare(&"last", (last, our_last))?;
        transcript.compare(live, tokio::join!(theirs.close(last), ours.close(last)))?;
        let past = past.before(last);
        let seen = self
            .both(async |side| past.open(side).await.close(last).await)
            .await;
        transcript.compare(&past, seen)
    }

    async fn ask(&self, sequence: &Sequence, transcript: &mut Transcript) -> Result<(), String> {
        for step in sequence.before.iter().chain(&sequence.steps) {
            let answers = self.both(async |side| side.ask(step).await).await;
            transcript.compare(step, answers)?;
        }
        Ok(())
    }
}

/// What was asked and answered.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn compare<T: Display + PartialEq>(
        &mut self,
        asked: &impl Debug,
        (etcd, quorate): (T, T),
    ) -> Result<(), String> {
        if etcd != quorate {
            return Err(format!(
                "\n{}{asked:?}\netcd    {etcd}\nQuorate {quorate}",
                self.0
            ));
        }
        self.0 += &format!("{asked:?}\n        {etcd}\n");
        Ok(())
    }
}

#[test]
fn the_same_answers_as_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let pair = runtime.block_on(async {
        etcd.answers().await;
        RefCell::new(Pair {
            etcd: Side::new(Wire::to(&etcd.address)),
            quorate: Side::new(Wire::to(&server.address)),
        })
    });
    let outcome = runner().run(&sequence(), |sequence| {
        let mut pair = pair.borrow_mut();
        runtime.block_on(pair.run(&sequence)).map_err(TestCaseError::fail)
    });
    runtime.block_on(server.stop());
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(transcript, _)) => panic!("{transcript}"),
        Err(error) => panic!("{error}"),
    }
}

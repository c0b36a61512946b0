//! Quorate against a real etcd: both are asked the same, over gRPC and over JSON, and must answer the same.
//!
//! Sequences of requests are made by proptest. Both stores live through the whole run; each sequence starts
//! with every key deleted, and speaks of revisions from there on (`+1` is the first write of the sequence),
//! so that it does not see what was before. Only the cluster's ids and Raft's term are not compared.
//!
//! The etcd is what `scripts/oracle` has installed; where there is none, the test says so and passes, except in
//! CI. `QUORATE_SEQUENCES` and `QUORATE_SEED` make it longer, or another one: a long run is
//! `QUORATE_SEQUENCES=20000 cargo test -p kv-node --test api_server differential`.
//!
//! Where the two differ by intention, docs/etcd-compatibility.md says why, and no such request is made here.

mod oracle;
mod requests;
mod side;
mod watches;
mod wire;

use std::{
    cell::RefCell,
    fmt::{Debug, Display},
};

use proptest::{
    collection::vec,
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};
use tokio::runtime::Runtime;

pub(crate) use self::oracle::Etcd;
use self::{
    requests::{Step, step},
    side::Side,
    watches::{Watches, finish},
    wire::Wire,
};
use crate::harness::Server;

/// Sequences of a short run.
const SEQUENCES: u32 = 120;
/// Requests in a sequence.
const STEPS_MAX: usize = 14;

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
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&number("QUORATE_SEED", 0).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// What happens in a sequence.
type Sequence = (Watches, Vec<Step>, Watches);

fn sequence() -> impl Strategy<Value = Sequence> {
    (watches::live(), vec(step(), 1..STEPS_MAX), watches::past())
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
    async fn run(&mut self, (live, steps, past): &Sequence) -> Result<(), String> {
        tokio::join!(self.etcd.reset(), self.quorate.reset());
        let mut transcript = Transcript::default();
        let (theirs, ours) = self.both(async |side| live.open(side).await).await;
        for step in steps {
            let answers = self.both(async |side| side.ask(step).await).await;
            transcript.compare(step, answers)?;
        }
        let (last, our_last) = self.both(async |side| finish(side).await).await;
        transcript.compare(&"last", (last, our_last))?;
        transcript.compare(live, tokio::join!(theirs.close(last), ours.close(last)))?;
        let past = past.before(last);
        let seen = self
            .both(async |side| past.open(side).await.close(last).await)
            .await;
        transcript.compare(&past, seen)
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

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

use std::cell::RefCell;

use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner},
};

use self::{
    oracle::Etcd,
    requests::{Step, step},
    side::Side,
};
use crate::harness::Server;

/// Sequences of a short run.
const SEQUENCES: u32 = 300;
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

/// The two, side by side.
struct Pair {
    etcd: Side,
    quorate: Side,
}

impl Pair {
    /// Asks both; the answers where they differ, else one line for the transcript.
    async fn ask(&self, step: &Step) -> Result<String, String> {
        let (theirs, ours) = tokio::join!(self.etcd.ask(step), self.quorate.ask(step));
        if theirs == ours {
            Ok(format!("{step:?}\n        {ours}\n"))
        } else {
            Err(format!("{step:?}\netcd    {theirs}\nQuorate {ours}\n"))
        }
    }

    /// Runs a sequence from an empty store.
    async fn run(&mut self, steps: &[Step]) -> Result<(), String> {
        tokio::join!(self.etcd.reset(), self.quorate.reset());
        let mut transcript = String::from("\n");
        for step in steps {
            match self.ask(step).await {
                Ok(line) => transcript.push_str(&line),
                Err(difference) => return Err(transcript + &difference),
            }
        }
        Ok(())
    }
}

#[test]
fn the_same_answers_as_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start());
    let pair = runtime.block_on(async {
        RefCell::new(Pair {
            etcd: Side::new(&etcd.address).await,
            quorate: Side::new(&server.address).await,
        })
    });
    let outcome = runner().run(&vec(step(), 1..STEPS_MAX), |steps| {
        let mut pair = pair.borrow_mut();
        runtime.block_on(pair.run(&steps)).map_err(TestCaseError::fail)
    });
    runtime.block_on(server.stop());
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(transcript, _)) => panic!("{transcript}"),
        Err(error) => panic!("{error}"),
    }
}

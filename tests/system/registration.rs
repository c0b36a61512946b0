//! The product's main promise, end to end: a name that the page has confirmed is there for good.

use std::time::{Duration, Instant};

use crate::harness::{Browser, Outcome, StateHash, System, eventually};

/// Longest that registering may stay impossible after the leader was killed, in an unoptimised build on a machine that
/// runs other things: the figure of the product, one second, is measured by the failover bench.
const FAILOVER_WITHIN: Duration = Duration::from_secs(15);

/// Registers as a person does who tries again until it works; an attempt whose outcome was unknown may have stored
/// the name, so that a later one finds it taken by oneself.
async fn register_in_the_end(browser: &Browser, name: &str) {
    let mut unsure = false;
    let started = Instant::now();
    loop {
        match browser.register(name).await {
            Outcome::Registered => return,
            Outcome::Taken if unsure => return,
            Outcome::Taken => panic!("{name:?} is taken, and nobody took it"),
            Outcome::TryAgain(problem) => {
                unsure = true;
                assert!(
                    started.elapsed() < FAILOVER_WITHIN,
                    "{name:?} is still refused: {problem}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_survive_the_leader_and_a_restart_of_everything() {
    let mut system = System::start(3).await;
    let browser = system.browser();

    assert_eq!(browser.register("Ada Lovelace").await, Outcome::Registered);
    assert_eq!(
        browser.register("ada lovelace").await,
        Outcome::Taken,
        "names are compared without case"
    );

    let leader = system.leader().await;
    system.nodes[leader].kill();
    let killed = Instant::now();
    register_in_the_end(&browser, "Grace Hopper").await;
    println!(
        "registered again {} ms after the leader was killed",
        killed.elapsed().as_millis()
    );
    assert_eq!(
        browser.names().await.unwrap(),
        ["Grace Hopper", "Ada Lovelace"],
        "newest first"
    );

    system.restart_all().await;
    let names = eventually("the list of names", FAILOVER_WITHIN, || browser.names()).await;
    assert_eq!(names, ["Grace Hopper", "Ada Lovelace"]);
    register_in_the_end(&browser, "Barbara Liskov").await;
    assert_eq!(browser.names().await.unwrap().len(), 3);

    let hashes: Vec<StateHash> = system.hashes().await;
    assert!(
        hashes[0].revision > 3,
        "three names are more than one revision: {hashes:?}"
    );
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "the nodes differ: {hashes:?}"
    );
    for node in 0..3 {
        let names = system.keys_on(node, webapp::keys::BY_NAME).await;
        assert_eq!(names.len(), 3, "on n{}: {names:?}", node + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_who_register_one_name_at_once_one_wins() {
    let system = System::start(3).await;
    for round in 0..5 {
        let name = format!("contested {round}");
        let browsers: Vec<Browser> = (0..4).map(|_| system.browser()).collect();
        let attempts = browsers.into_iter().map(|browser| {
            let name = name.clone();
            tokio::spawn(async move { browser.register(&name).await })
        });
        let mut won = 0;
        for attempt in attempts.collect::<Vec<_>>() {
            match attempt.await.unwrap() {
                Outcome::Registered => won += 1,
                Outcome::Taken => {}
                Outcome::TryAgain(problem) => panic!("{name}: {problem}"),
            }
        }
        assert_eq!(won, 1, "{name}");
    }
}

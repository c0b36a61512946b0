//! Web apps that come and go, and pages that stay open.

use std::time::{Duration, Instant};

use crate::harness::{Browser, Listener, Outcome, System, eventually};

/// Longest that a page may wait for a new name, in an unoptimised build on a machine that runs other things; a second
/// is the figure of the product.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
/// Longest until a web app that has come or gone is known: a dead one stays for its lease of 5 s.
const KNOWN_WITHIN: Duration = Duration::from_secs(20);

/// Registers, trying again where a page says so, and waits until every listener was told: this name, once, and no
/// other.
async fn register_and_hear(browser: &Browser, listeners: &mut [Listener], name: &str) {
    let registering = async { while let Outcome::TryAgain(_) = browser.register(name).await {} };
    tokio::time::timeout(SHOWN_WITHIN, registering)
        .await
        .unwrap_or_else(|_| panic!("{name} is not registered"));
    let registered = Instant::now();
    for listener in listeners {
        let heard = tokio::time::timeout(SHOWN_WITHIN, listener.next()).await;
        assert_eq!(heard.unwrap_or_else(|_| panic!("{name} is not shown")), [name]);
    }
    println!(
        "{name} shown {:?} after its registration was seen",
        registered.elapsed()
    );
}

/// Waits until the balancer knows so many web apps, and uses them all.
async fn web_apps(system: &System, count: usize) {
    eventually(&format!("{count} web apps"), KNOWN_WITHIN, || async {
        match system.web_apps().await? {
            (known, usable) if known == count && usable == count as u64 => Ok(()),
            (known, usable) => Err(format!("{usable} of {known} usable")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_pages_show_every_name_once_whatever_dies() {
    let mut system = System::start(3).await;
    web_apps(&system, 2).await;
    let browser = system.browser();
    // The balancer gives each page another instance in turn.
    let mut pages = Vec::new();
    for _ in 0..4 {
        pages.push(browser.listen().await);
    }
    register_and_hear(&browser, &mut pages, "Ada").await;

    let leader = system.leader().await;
    system.nodes[leader].kill();
    register_and_hear(&browser, &mut pages, "Grace").await;

    // Pages of a web app that dies go on at the other one; it is known to be gone when its lease has ended.
    system.web[0].kill();
    register_and_hear(&browser, &mut pages, "Barbara").await;
    web_apps(&system, 1).await;
    register_and_hear(&browser, &mut pages, "Frances").await;

    // One that comes is found by itself.
    system.web[0].start_again();
    web_apps(&system, 2).await;
    register_and_hear(&browser, &mut pages, "Katherine").await;
}

//! Whether a backend may be given requests: a pure state machine over check results and request
//! outcomes. Time comes in as an argument, so that the rules are tested without waiting.
//!
//! Two judges, each with its own memory:
//! * the **active check** moves a backend between `Up` and `Down` after `rise` or `fall` equal results
//!   in a row (the very first result decides at once);
//! * **requests** eject it for a while that doubles with each repetition: at once when no connection
//!   could be made, and after `eject_after` failures in a row otherwise.
//!
//! An answer that a request got, or a rise of the check, ends an ejection early.

use std::time::{Duration, Instant};

/// An ejection that ended this long ago no longer makes the next one longer.
const FORGIVE_AFTER: Duration = Duration::from_secs(30);

/// The numbers by which a backend is judged.
#[derive(Debug, Clone, Copy)]
pub struct Thresholds {
    /// Good checks in a row that bring a backend back.
    pub rise: u32,
    /// Bad checks in a row that take it out.
    pub fall: u32,
    /// Failed requests in a row that eject it.
    pub eject_after: u32,
    /// Length of the first ejection; each further one lasts twice as long.
    pub eject_base: Duration,
    /// The longest ejection.
    pub eject_max: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            rise: 2,
            fall: 2,
            eject_after: 5,
            eject_base: Duration::from_secs(1),
            eject_max: Duration::from_secs(30),
        }
    }
}

/// What a backend is at a moment, as it is shown and as it decides who gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Found, and not checked yet.
    Unchecked,
    /// Takes requests.
    Up,
    /// Fails its checks.
    Down,
    /// Passes its checks, but requests to it failed: rests for a while.
    Ejected,
    /// No longer listed anywhere: finishes what it has, gets nothing new.
    Draining,
    /// A node of another cluster than the one served here: gets nothing.
    #[serde(rename = "wrong cluster")]
    WrongCluster,
}

impl State {
    /// The word for pages, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Unchecked => "unchecked",
            State::Up => "up",
            State::Down => "down",
            State::Ejected => "ejected",
            State::Draining => "draining",
            State::WrongCluster => "wrong cluster",
        }
    }
}

/// How a request to a backend failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No connection: nobody is there.
    Connect,
    /// The connection broke, or the answer was the backend's own failure (500, 502).
    Request,
}

/// The judgement on one backend.
#[derive(Debug)]
pub struct Health {
    thresholds: Thresholds,
    checked: Option<bool>,
    draining: bool,
    foreign: bool,
    /// Check results in a row that contradict `checked`.
    contrary: u32,
    /// Failed requests in a row.
    failures: u32,
    ejections: u32,
    /// End of the running or of the last ejection.
    ejected_until: Option<Instant>,
    shown: State,
    since: Instant,
}

impl Health {
    /// A backend found at `now`, not checked yet.
    #[must_use]
    pub fn new(thresholds: Thresholds, now: Instant) -> Self {
        Health {
            thresholds,
            checked: None,
            draining: false,
            foreign: false,
            contrary: 0,
            failures: 0,
            ejections: 0,
            ejected_until: None,
            shown: State::Unchecked,
            since: now,
        }
    }

    /// The state at `now`, and since when it holds.
    pub fn state(&mut self, now: Instant) -> (State, Instant) {
        if let Some(until) = self.ejected_until
            && until <= now
            && self.shown == State::Ejected
        {
            self.show(until);
        }
        (self.shown, self.since)
    }

    /// The end of the running or of the last ejection.
    #[must_use]
    pub fn ejected_until(&self) -> Option<Instant> {
        self.ejected_until
    }

    /// Takes in the result of a check; true if that changed the state.
    pub fn checked(&mut self, good: bool, now: Instant) -> bool {
        let needed = if good {
            self.thresholds.rise
        } else {
            self.thresholds.fall
        };
        match self.checked {
            Some(current) if current == good => self.contrary = 0,
            Some(_) if self.contrary + 1 < needed => self.contrary += 1,
            before => {
                self.contrary = 0;
                self.checked = Some(good);
                if good && before.is_some() {
                    self.ejected_until = self.ejected_until.map(|until| until.min(now));
                    self.failures = 0;
                }
            }
        }
        self.show(now)
    }

    /// Takes in that a request got an answer.
    pub fn succeeded(&mut self, now: Instant) -> bool {
        self.failures = 0;
        self.ejected_until = self.ejected_until.map(|until| until.min(now));
        self.show(now)
    }

    /// Takes in that a request failed; true if that changed the state.
    pub fn failed(&mut self, fault: Fault, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if fault == Fault::Connect || self.failures >= self.thresholds.eject_after {
            self.eject(now);
        }
        self.show(now)
    }

    fn eject(&mut self, now: Instant) {
        match self.ejected_until {
            // Requests that were under way when it was ejected say nothing new.
            Some(until) if until > now => return,
            Some(until) if now.duration_since(until) > FORGIVE_AFTER => self.ejections = 0,
            _ => {}
        }
        let factor = 2u32.saturating_pow(self.ejections);
        let rest = self
            .thresholds
            .eject_base
            .saturating_mul(factor)
            .min(self.thresholds.eject_max);
        self.ejected_until = Some(now + rest);
        self.ejections = self.ejections.saturating_add(1);
        self.failures = 0;
    }

    /// How often it was ejected within the memory of the back-off.
    #[must_use]
    pub fn ejections(&self) -> u32 {
        self.ejections
    }

    /// Marks that it is no longer listed, or listed again.
    pub fn set_draining(&mut self, draining: bool, now: Instant) -> bool {
        self.draining = draining;
        self.show(now)
    }

    /// Marks that it belongs to another cluster, or to the right one again.
    pub fn set_foreign(&mut self, foreign: bool, now: Instant) -> bool {
        if self.foreign == foreign {
            return false;
        }
        self.foreign = foreign;
        self.show(now)
    }

    fn show(&mut self, now: Instant) -> bool {
        let ejected = self.ejected_until.is_some_and(|until| until > now);
        let state = match self.checked {
            _ if self.draining => State::Draining,
            _ if self.foreign => State::WrongCluster,
            Some(false) => State::Down,
            _ if ejected => State::Ejected,
            Some(true) => State::Up,
            None => State::Unchecked,
        };
        let changed = state != self.shown;
        if changed {
            self.shown = state;
            self.since = now;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    fn up(start: Instant) -> Health {
        let mut health = Health::new(Thresholds::default(), start);
        health.checked(true, start);
        health
    }

    #[test]
    fn first_check_decides_and_later_ones_need_a_row() {
        let t = Instant::now();
        let mut health = Health::new(Thresholds::default(), t);
        assert_eq!(health.state(t).0, State::Unchecked);
        assert!(health.checked(true, t));
        assert_eq!(health.state(t).0, State::Up);
        assert!(!health.checked(false, after(t, 500)));
        assert!(!health.checked(true, after(t, 1000)));
        assert!(!health.checked(false, after(t, 1500)));
        assert!(health.checked(false, after(t, 2000)));
        assert_eq!(health.state(after(t, 2000)), (State::Down, after(t, 2000)));
        assert!(!health.checked(true, after(t, 2500)));
        assert!(health.checked(true, after(t, 3000)));
        assert_eq!(health.state(after(t, 3000)).0, State::Up);
    }

    #[test]
    fn refused_connection_ejects_at_once_and_longer_each_time() {
        let t = Instant::now();
        let mut health = up(t);
        let mut now = t;
        let mut rests = Vec::new();
        for _ in 0..7 {
            health.failed(Fault::Connect, now);
            let until = health.ejected_until().expect("ejected");
            rests.push((until - now).as_secs());
            assert_eq!(health.state(now).0, State::Ejected);
            now = until;
            assert_eq!(health.state(now).0, State::Up);
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30]);
        now += FORGIVE_AFTER + Duration::from_millis(1);
        health.failed(Fault::Connect, now);
        assert_eq!(health.ejected_until().map(|u| (u - now).as_secs()), Some(1));
    }

    #[test]
    fn late_failures_do_not_lengthen_a_running_ejection() {
        let t = Instant::now();
        let mut health = up(t);
        for _ in 0..20 {
            health.failed(Fault::Connect, t);
        }
        assert_eq!(health.ejected_until(), Some(after(t, 1000)));
        assert_eq!(health.ejections(), 1);
    }

    #[test]
    fn failures_must_be_in_a_row() {
        let t = Instant::now();
        let mut health = up(t);
        for _ in 0..4 {
            assert!(!health.failed(Fault::Request, t));
        }
        health.succeeded(t);
        for _ in 0..4 {
            assert!(!health.failed(Fault::Request, t));
        }
        assert!(health.failed(Fault::Request, t));
        assert_eq!(health.state(t).0, State::Ejected);
    }

    #[test]
    fn an_answer_or_a_rise_ends_an_ejection() {
        let t = Instant::now();
        let mut health = up(t);
        health.failed(Fault::Connect, t);
        assert!(health.succeeded(t));
        assert_eq!(health.state(t).0, State::Up);

        health.failed(Fault::Connect, t);
        health.checked(false, t);
        health.checked(false, t);
        assert_eq!(health.state(t).0, State::Down);
        health.checked(true, t);
        assert!(health.checked(true, t));
        assert_eq!(health.state(t).0, State::Up);
    }

    #[test]
    fn a_node_of_another_cluster_is_that_whatever_its_checks_say() {
        let t = Instant::now();
        let mut health = Health::new(Thresholds::default(), t);
        assert!(health.set_foreign(true, t));
        assert!(!health.checked(true, t));
        assert_eq!(health.state(t).0, State::WrongCluster);
        assert!(!health.set_foreign(true, t));
        assert!(health.set_foreign(false, t));
        assert_eq!(health.state(t).0, State::Up);
    }

    #[test]
    fn draining_covers_everything_else() {
        let t = Instant::now();
        let mut health = up(t);
        assert!(health.set_draining(true, t));
        health.failed(Fault::Connect, t);
        assert_eq!(health.state(t).0, State::Draining);
        health.succeeded(t);
        assert!(health.set_draining(false, t));
        assert_eq!(health.state(t).0, State::Up);
    }
}

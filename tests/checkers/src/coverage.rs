//! Whether the run shows anything: enough answered operations, and some during every fault.

use crate::{Check, Record, Settings, Verdict};

pub(crate) fn check(history: &[Record], settings: &Settings) -> Check {
    let answered = history.iter().filter(|record| record.answer().is_some()).count() as u64;
    let few = (answered < settings.operations_min).then(|| {
        format!(
            "only {answered} operations were answered, and below {} a run shows nothing",
            settings.operations_min
        )
    });
    let idle = settings.faults.iter().filter_map(|fault| {
        let during = |record: &&Record| record.start_ns < fault.end_ns && record.end_ns > fault.start_ns;
        history
            .iter()
            .find(during)
            .is_none()
            .then(|| format!("nobody asked anything during the fault \"{}\"", fault.what))
    });
    let why: Vec<String> = few.into_iter().chain(idle).collect();
    Check {
        checker: "the run is not trivial".into(),
        checked: settings.faults.len() as u64,
        of: "faults".into(),
        verdict: if why.is_empty() {
            Verdict::Ok
        } else {
            Verdict::Undecided { why: why.join("\n") }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Fault, Outcome, Reply, Request};

    fn put(start_ns: u64, end_ns: u64) -> Record {
        Record {
            client: 1,
            endpoint: "n1".into(),
            start_ns,
            end_ns,
            request: Request::Put {
                key: "k".into(),
                value: start_ns.to_string(),
                lease: None,
            },
            outcome: Outcome::Ok(Answer {
                revision: 2,
                reply: Reply::Put,
            }),
        }
    }

    fn settings(operations_min: u64, fault: (u64, u64)) -> Settings {
        let fault = Fault {
            what: "n2 killed".into(),
            start_ns: fault.0,
            end_ns: fault.1,
        };
        Settings {
            operations_min,
            faults: vec![fault],
            strangers: false,
        }
    }

    #[test]
    fn a_run_with_operations_during_its_fault_shows_something() {
        assert_eq!(
            check(&[put(1, 5), put(6, 9)], &settings(2, (4, 5))).verdict,
            Verdict::Ok
        );
    }

    #[test]
    fn a_short_run_and_one_that_is_idle_during_a_fault_show_nothing() {
        let Verdict::Undecided { why } = check(&[put(1, 5), put(6, 9)], &settings(3, (5, 6))).verdict else {
            panic!("accepted");
        };
        assert_eq!(
            why,
            "only 2 operations were answered, and below 3 a run shows nothing\n\
             nobody asked anything during the fault \"n2 killed\""
        );
    }
}

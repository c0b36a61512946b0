//! Whether the demo's ports are free, asked before anything is started.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use super::plan::ChildSpec;

/// A port of the plan that cannot be listened on.
#[derive(Debug)]
pub(crate) struct Refused {
    port: u16,
    wanted_by: String,
    error: io::Error,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => write!(f, "port {} is taken ({})", self.port, self.wanted_by),
            _ => write!(
                f,
                "port {} cannot be used ({}): {}",
                self.port, self.wanted_by, self.error
            ),
        }
    }
}

/// The ports that are not free, each with who wanted it.
pub(crate) fn refused(children: &[ChildSpec]) -> Vec<Refused> {
    let mut refused = Vec::new();
    for child in children {
        for (port, purpose) in &child.ports {
            if let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)) {
                let wanted_by = format!("wanted by {} for {purpose}", child.name);
                refused.push(Refused {
                    port: *port,
                    wanted_by,
                    error,
                });
            }
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::demo::plan::{Ports, children};

    #[test]
    fn a_taken_port_is_named_with_who_wanted_it() {
        // Not one that the system gives out by itself: it might give it to somebody else once it is free again.
        let (port, taken) = (9_000..10_000)
            .find_map(|port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?)))
            .unwrap();
        let mut plan = children(&Ports::new(1, None), Path::new("/data"));
        plan.truncate(1);
        plan[0].ports = vec![(port, "its clients")];
        let text = refused(&plan).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            text,
            [format!("port {port} is taken (wanted by n1 for its clients)")]
        );
        drop(taken);
        assert!(refused(&plan).is_empty(), "free again");
    }
}

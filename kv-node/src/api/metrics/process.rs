//! What the operating system knows of this process, under Prometheus's usual names.
//!
//! Read from `/proc` at each scrape; where it cannot be read, a metric keeps its last value.

use std::fs;

use metrics::{Gauge, describe_gauge, gauge};

/// Ticks of `utime` and `stime` in a second: fixed on Linux towards programs, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// Handles of the process's metrics.
pub(super) struct Gauges {
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    cpu: Gauge,
}

impl Gauges {
    pub(super) fn new() -> Gauges {
        Gauges {
            resident: gauge!("process_resident_memory_bytes"),
            virtual_memory: gauge!("process_virtual_memory_bytes"),
            open_fds: gauge!("process_open_fds"),
            max_fds: gauge!("process_max_fds"),
            cpu: gauge!("process_cpu_seconds_total"),
        }
    }

    /// Reads them anew.
    pub(super) fn set(&self) {
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            set(&self.resident, kib_field(&status, "VmRSS:"));
            set(&self.virtual_memory, kib_field(&status, "VmSize:"));
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            set(&self.max_fds, soft_limit(&limits, "Max open files"));
        }
        if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
            set(&self.cpu, cpu_seconds(&stat));
        }
        // Reading the directory opens one more.
        set(
            &self.open_fds,
            fs::read_dir("/proc/self/fd")
                .ok()
                .map(|fds| fds.count().saturating_sub(1) as f64),
        );
    }
}

pub(super) fn describe() {
    describe_gauge!("process_resident_memory_bytes", "Memory in use.");
    describe_gauge!("process_virtual_memory_bytes", "Address space in use.");
    describe_gauge!("process_open_fds", "Open file descriptors.");
    describe_gauge!("process_max_fds", "How many file descriptors may be open.");
    describe_gauge!("process_cpu_seconds_total", "User and system time spent.");
}

fn set(gauge: &Gauge, value: Option<f64>) {
    if let Some(value) = value {
        gauge.set(value);
    }
}

fn kib_field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    limits
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The command, in parentheses, may hold anything: fields are counted from the last one on.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc() {
        assert_eq!(
            kib_field("VmSize:\t  20 kB\nVmRSS:\t   3 kB\n", "VmRSS:"),
            Some(3072.0)
        );
        assert_eq!(kib_field("VmSize:\t  20 kB\n", "VmRSS:"), None);
        let limits = "Max processes  5  6  processes\nMax open files            1024                 4096                 files\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(
            soft_limit("Max open files  unlimited unlimited", "Max open files"),
            None
        );
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 9";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(kib_field(&status, "VmRSS:").unwrap() > 100_000.0);
        assert!(
            soft_limit(
                &fs::read_to_string("/proc/self/limits").unwrap(),
                "Max open files"
            )
            .is_none_or(|max| max > 0.0)
        );
        assert!(cpu_seconds(&fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }
}

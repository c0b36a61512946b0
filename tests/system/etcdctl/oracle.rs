//! Where the real etcd is.

use std::path::PathBuf;

/// Where `scripts/oracle` puts etcd 3.5.1, etcdctl and etcdutl.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/etcd-3.5.1"))
}

/// Whether it is installed. In CI it must be; elsewhere the test says that it is left out.
pub(crate) fn is_here() -> bool {
    let here = dir().join("etcdctl").exists();
    if !here {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is missing: scripts/test setup installs it",
            dir().display()
        );
        eprintln!(
            "skipped: no etcd in {} (scripts/oracle installs it)",
            dir().display()
        );
    }
    here
}

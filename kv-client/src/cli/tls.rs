//! The flags of TLS, named as etcdctl's.

use std::path::PathBuf;

use crate::Tls;

/// Certificates. With one of these, endpoints without a scheme are taken for https.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub struct TlsArgs {
    /// CAs of servers [default: those of this system]
    #[arg(long, global = true, value_name = "FILE", env = "ETCDCTL_CACERT")]
    pub cacert: Option<PathBuf>,
    /// Certificate to show to servers
    #[arg(
        id = "tls_cert",
        long = "cert",
        global = true,
        value_name = "FILE",
        env = "ETCDCTL_CERT"
    )]
    pub cert: Option<PathBuf>,
    /// Its key
    #[arg(
        id = "tls_key",
        long = "key",
        global = true,
        value_name = "FILE",
        env = "ETCDCTL_KEY"
    )]
    pub key: Option<PathBuf>,
    /// Take whatever certificate a server shows; for tests only
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY")]
    pub insecure_skip_tls_verify: bool,
}

impl TlsArgs {
    /// What the flags say.
    #[must_use]
    pub fn config(&self) -> Tls {
        Tls {
            ca: self.cacert.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure_skip_verify: self.insecure_skip_tls_verify,
        }
    }
}

//! What a client is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use kv_tls::{ClientFiles, ClientTls, Flags};

use crate::{Credentials, Error};

/// Where to connect, and how long to wait.
#[derive(Clone, Debug)]
pub struct Config {
    /// Each `host:port`, `http://host:port` or `https://host:port`. The first one is tried first.
    pub endpoints: Vec<String>,
    /// The longest wait for one TCP connection, and for any connection at all where every endpoint refuses.
    pub dial_timeout: Duration,
    /// The longest that one call takes, all its attempts together.
    pub request_timeout: Duration,
    /// Who the client is, where the cluster asks for authentication.
    pub credentials: Option<Credentials>,
    /// Certificates.
    pub tls: Tls,
}

/// Certificates of a client. With any of this set, TLS is spoken with endpoints that do not say `http://`; with an
/// `https://` endpoint and nothing set, the CAs of the system are trusted. Files are read again when they change.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The CAs of servers; none: those of the system.
    pub ca: Option<PathBuf>,
    /// The client's certificate, for servers that want one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Take whatever certificate a server has: whoever is in between can read and change everything.
    pub insecure_skip_verify: bool,
}

impl Tls {
    pub(crate) fn is_wanted(&self) -> bool {
        self.insecure_skip_verify || self.ca.is_some() || self.cert.is_some() || self.key.is_some()
    }

    /// Reads the files.
    pub(crate) fn load(&self) -> Result<ClientTls, Error> {
        let files = ClientFiles {
            ca: self.ca.clone(),
            cert: self.cert.clone(),
            key: self.key.clone(),
            insecure_skip_verify: self.insecure_skip_verify,
            flags: Flags {
                cert: "--cert",
                key: "--key",
                ca: "--cacert",
                client_auth: "",
            },
        };
        ClientTls::load(files).map_err(|error| Error::Tls {
            message: error.to_string(),
        })
    }
}

impl Config {
    /// The longest wait for a connection unless told otherwise.
    pub const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
    /// The longest that a call takes unless told otherwise.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// These endpoints with the default timeouts.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Config {
        Config {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            dial_timeout: Self::DIAL_TIMEOUT,
            request_timeout: Self::REQUEST_TIMEOUT,
            credentials: None,
            tls: Tls::default(),
        }
    }
}

//! etcd's flags of TLS, and what is made of them.

use std::path::PathBuf;

use anyhow::ensure;
use kv_tls::{ClientFiles, ClientTls, Flags, ServerFiles, ServerTls, TlsError};

use crate::urls::Listen;

const CLIENT_FLAGS: Flags = Flags {
    cert: "--cert-file",
    key: "--key-file",
    ca: "--trusted-ca-file",
    client_auth: "--client-cert-auth",
};
const PEER_FLAGS: Flags = Flags {
    cert: "--peer-cert-file",
    key: "--peer-key-file",
    ca: "--peer-trusted-ca-file",
    client_auth: "--peer-client-cert-auth",
};

/// Flags of TLS.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// Certificate for clients, for https:// in --listen-client-urls; files are read again when they change
    #[arg(long, env = "QUORATE_CERT_FILE", value_name = "FILE")]
    pub cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "QUORATE_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// CAs of clients; with it, each client must show a certificate of theirs
    #[arg(long, env = "QUORATE_TRUSTED_CA_FILE", value_name = "FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Clients must show a certificate
    #[arg(
        long,
        env = "QUORATE_CLIENT_CERT_AUTH",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub client_cert_auth: bool,
    /// Certificate towards other members, as server and as client
    #[arg(long, env = "QUORATE_PEER_CERT_FILE", value_name = "FILE")]
    pub peer_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, env = "QUORATE_PEER_KEY_FILE", value_name = "FILE")]
    pub peer_key_file: Option<PathBuf>,
    /// CAs of members; with it, each member must show a certificate of theirs
    #[arg(long, env = "QUORATE_PEER_TRUSTED_CA_FILE", value_name = "FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Members must show a certificate
    #[arg(
        long,
        env = "QUORATE_PEER_CLIENT_CERT_AUTH",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true"
    )]
    pub peer_client_cert_auth: bool,
}

/// The files of a node's TLS.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Towards clients.
    pub client: Option<ServerFiles>,
    /// Towards members that connect.
    pub peer: Option<ServerFiles>,
    /// Towards members that are connected to.
    pub dial: Option<ClientFiles>,
}

impl TlsArgs {
    /// The files, held against where the node listens.
    ///
    /// # Errors
    /// When a file is missing that others, or an https URL, need; the text names the flags.
    pub fn config(&self, client: &[Listen], peer: &[Listen], peer_urls: &[&str]) -> anyhow::Result<Tls> {
        let clients = ServerFiles::of_flags(
            CLIENT_FLAGS,
            self.cert_file.as_ref(),
            self.key_file.as_ref(),
            self.trusted_ca_file.as_ref(),
            self.client_cert_auth,
        )?;
        let peers = ServerFiles::of_flags(
            PEER_FLAGS,
            self.peer_cert_file.as_ref(),
            self.peer_key_file.as_ref(),
            self.peer_trusted_ca_file.as_ref(),
            self.peer_client_cert_auth,
        )?;
        fits(client, clients.is_some(), "--listen-client-urls", CLIENT_FLAGS)?;
        fits(peer, peers.is_some(), "--listen-peer-urls", PEER_FLAGS)?;
        let dials = peers.is_some() || peer_urls.iter().any(|url| url.trim().starts_with("https://"));
        Ok(Tls {
            client: clients,
            dial: dials.then(|| ClientFiles {
                ca: self.peer_trusted_ca_file.clone(),
                cert: self.peer_cert_file.clone(),
                key: self.peer_key_file.clone(),
                insecure_skip_verify: false,
                flags: PEER_FLAGS,
            }),
            peer: peers,
        })
    }
}

/// As in etcd, https needs a certificate, and a certificate without https is only worth a warning.
fn fits(listen: &[Listen], has_files: bool, flag: &str, flags: Flags) -> anyhow::Result<()> {
    let Flags { cert, key, .. } = flags;
    for Listen { address, http, https } in listen {
        ensure!(
            has_files || !https,
            "{flag}: https://{address} needs a certificate: give {cert} and {key}"
        );
        if *http && has_files {
            tracing::warn!(
                "{flag}: http://{address} is without TLS, although there is a certificate ({cert})"
            );
        }
    }
    Ok(())
}

/// What the files contained.
#[derive(Clone, Default)]
pub struct Loaded {
    /// Takes clients' connections.
    pub client: Option<ServerTls>,
    /// Takes members' connections.
    pub peer: Option<ServerTls>,
    /// Connects to members.
    pub dial: Option<ClientTls>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be used; the text names flag and file.
    pub fn load(&self) -> Result<Loaded, TlsError> {
        Ok(Loaded {
            client: self.client.clone().map(ServerTls::load).transpose()?,
            peer: self.peer.clone().map(ServerTls::load).transpose()?,
            dial: self.dial.clone().map(ClientTls::load).transpose()?,
        })
    }
}

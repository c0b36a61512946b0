//! The flags of TLS, towards backends and towards clients.

use std::path::PathBuf;

use kv_tls::{ClientFiles, ClientTls, Flags, ServerFiles, ServerTls, TlsError};

use crate::seed::Seed;

const BACKEND: Flags = Flags {
    cert: "--backend-cert",
    key: "--backend-key",
    ca: "--backend-cacert",
    client_auth: "",
};
const LISTEN: Flags = Flags {
    cert: "--cert-file",
    key: "--key-file",
    ca: "--trusted-ca-file",
    client_auth: "--client-cert-auth",
};

/// Flags of TLS.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsArgs {
    /// CAs of backends, for https:// in --seed and in the member list [default: those of this system].
    #[arg(long, value_name = "FILE", env = "QUORATE_BACKEND_CACERT")]
    pub backend_cacert: Option<PathBuf>,
    /// Certificate to show to backends. It must have no common name: with authentication by certificate, every
    /// client would be taken for that user.
    #[arg(long, value_name = "FILE", env = "QUORATE_BACKEND_CERT")]
    pub backend_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", env = "QUORATE_BACKEND_KEY")]
    pub backend_key: Option<PathBuf>,
    /// Certificate for clients, who then must speak TLS.
    #[arg(long, value_name = "FILE", env = "QUORATE_CERT_FILE")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", env = "QUORATE_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// CAs of clients; with it, each client must show a certificate of theirs.
    #[arg(long, value_name = "FILE", env = "QUORATE_TRUSTED_CA_FILE")]
    pub trusted_ca_file: Option<PathBuf>,
}

impl TlsArgs {
    /// What backends are spoken to with, if any may speak TLS.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn backends(&self, seeds: &[Seed], web_seeds: &[Seed]) -> Result<Option<ClientTls>, TlsError> {
        let files = [&self.backend_cacert, &self.backend_cert, &self.backend_key];
        let is_wanted =
            files.iter().any(|file| file.is_some()) || seeds.iter().chain(web_seeds).any(|seed| seed.tls);
        if !is_wanted {
            return Ok(None);
        }
        if let Some(cert) = &self.backend_cert {
            kv_tls::without_common_name(BACKEND.cert, cert)?;
        }
        let files = ClientFiles {
            ca: self.backend_cacert.clone(),
            cert: self.backend_cert.clone(),
            key: self.backend_key.clone(),
            insecure_skip_verify: false,
            flags: BACKEND,
        };
        ClientTls::load(files).map(Some)
    }

    /// What clients are spoken to with, if that is TLS.
    ///
    /// # Errors
    /// When a file cannot be used.
    pub fn listeners(&self) -> Result<Option<ServerTls>, TlsError> {
        let (cert, key) = (self.cert_file.as_ref(), self.key_file.as_ref());
        let files = ServerFiles::of_flags(LISTEN, cert, key, self.trusted_ca_file.as_ref(), false)?;
        files.map(ServerTls::load).transpose()
    }
}

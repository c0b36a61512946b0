//! The side that is connected to.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ServerConfig, crypto::CryptoProvider, pki_types::CertificateDer, server::WebPkiClientVerifier};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Flags, HANDSHAKE_TIMEOUT, TlsError, error::explain, files, reload::Reloading};

/// The first byte of every TLS connection: a record of the handshake (RFC 8446, 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// What a client is told that speaks HTTP where TLS is spoken; in the words that Go's servers use, for
/// people search for them.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// The files of a server.
#[derive(Debug, Clone)]
pub struct ServerFiles {
    /// The certificate and its chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CAs of clients. Where there is one, clients must show a certificate (etcd's rule).
    pub trusted_ca: Option<PathBuf>,
    /// Their flags.
    pub flags: Flags,
}

impl ServerFiles {
    /// What flags say: none if no file is named.
    ///
    /// # Errors
    /// When one of the files is missing that the others need.
    pub fn of_flags(
        flags: Flags,
        cert: Option<&PathBuf>,
        key: Option<&PathBuf>,
        trusted_ca: Option<&PathBuf>,
        client_auth: bool,
    ) -> Result<Option<ServerFiles>, TlsError> {
        let pair = files::both(flags, cert, key)?;
        if client_auth && trusted_ca.is_none() {
            return Err(TlsError::NoClientCa {
                auth_flag: flags.client_auth,
                ca_flag: flags.ca,
            });
        }
        match pair {
            Some((cert, key)) => Ok(Some(ServerFiles {
                cert: cert.to_owned(),
                key: key.to_owned(),
                trusted_ca: trusted_ca.cloned(),
                flags,
            })),
            None if client_auth || trusted_ca.is_some() => Err(TlsError::Half {
                given: if client_auth { flags.client_auth } else { flags.ca },
                missing: flags.cert,
            }),
            None => Ok(None),
        }
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let flags = self.flags;
        let (chain, key) = files::pair(flags, &self.cert, &self.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Refused {
                flag: flags.cert,
                source,
            })?;
        let builder = match &self.trusted_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(verifier(flags.ca, ca, &provider)?),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|source| refused(source, flags, &self.cert, &self.key))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// A key that does not fit, or another refusal.
pub(crate) fn refused(source: rustls::Error, flags: Flags, cert: &Path, key: &Path) -> TlsError {
    match source {
        rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
            cert_flag: flags.cert,
            cert: cert.to_owned(),
            key_flag: flags.key,
            key: key.to_owned(),
        },
        source => TlsError::Refused {
            flag: flags.cert,
            source,
        },
    }
}

fn verifier(
    flag: &'static str,
    ca: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let roots = Arc::new(files::roots(flag, ca)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| TlsError::Content {
            flag,
            path: ca.to_owned(),
            what: error.to_string(),
        })
}

/// Who a client is, by the certificate that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject's common name; empty where it has none.
    pub common_name: Arc<str>,
}

impl PeerCertificate {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> PeerCertificate {
        let subject = X509Certificate::from_der(certificate).ok().map(|(_, parsed)| {
            // The last one counts where there are several, as in etcd.
            let name = parsed.subject().iter_common_name().last();
            name.and_then(|name| name.as_str().ok())
                .unwrap_or_default()
                .to_owned()
        });
        PeerCertificate {
            common_name: subject.unwrap_or_default().into(),
        }
    }
}

/// Takes TLS connections.
#[derive(Clone)]
pub struct ServerTls(Arc<Reloading<ServerConfig>>);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: ServerFiles) -> Result<ServerTls, TlsError> {
        let paths = [Some(&files.cert), Some(&files.key), files.trusted_ca.as_ref()];
        let paths = paths.into_iter().flatten().cloned().collect();
        Ok(ServerTls(Arc::new(Reloading::new(paths, move || files.load())?)))
    }

    /// Does the handshake, within [`HANDSHAKE_TIMEOUT`]. With who the client is, where clients must say.
    ///
    /// # Errors
    /// When the client does not speak TLS (if it speaks HTTP it is told so), or the handshake fails.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let handshake = async {
            if !begins_tls(&stream).await? {
                return Err(turn_away(stream).await);
            }
            let acceptor = TlsAcceptor::from(self.0.current());
            acceptor
                .accept(stream)
                .await
                .map_err(|error| io::Error::other(explain(&error)))
        };
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "no TLS handshake in time",
                ));
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.map(PeerCertificate::of);
        Ok((stream, peer))
    }
}

/// Whether a connection begins with a TLS handshake: waits for its first byte, for at most
/// [`HANDSHAKE_TIMEOUT`], and leaves it unread.
///
/// # Errors
/// Those of the socket; `UnexpectedEof` if it was closed without a byte.
pub async fn begins_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let peeked = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first)).await;
    match peeked.map_err(|_| io::ErrorKind::TimedOut)?? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] == HANDSHAKE_RECORD),
    }
}

async fn turn_away(mut stream: TcpStream) -> io::Error {
    // Read first: closing a socket with unread bytes would reset it, and the answer with it.
    let mut head = [0; 4096];
    let _ = stream.try_read(&mut head);
    let _ = stream.write_all(PLAIN_ANSWER).await;
    let _ = stream.shutdown().await;
    io::Error::new(io::ErrorKind::InvalidData, "the client does not speak TLS")
}

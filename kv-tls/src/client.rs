//! The side that connects.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Flags, HANDSHAKE_TIMEOUT, TlsError,
    error::{explain, is_tls},
    files,
    reload::Reloading,
    server::refused,
};

/// The files of a client.
#[derive(Debug, Clone)]
pub struct ClientFiles {
    /// The CAs of servers; none: those of the system.
    pub ca: Option<PathBuf>,
    /// The client's own certificate and its chain, for servers that want one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whether any certificate of a server is taken, whoever signed it, for whatever host. Whoever is in
    /// between can then read and change everything.
    pub insecure_skip_verify: bool,
    /// Their flags.
    pub flags: Flags,
}

/// The protocol that a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
}

struct Configs {
    http2: Arc<ClientConfig>,
    http1: Arc<ClientConfig>,
}

impl ClientFiles {
    fn load(&self) -> Result<Configs, TlsError> {
        let flags = self.flags;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Refused {
                flag: flags.ca,
                source,
            })?;
        let builder = if self.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        } else {
            builder.with_root_certificates(match &self.ca {
                Some(ca) => files::roots(flags.ca, ca)?,
                None => files::system_roots(flags.ca)?,
            })
        };
        let mut config = match files::both(flags, self.cert.as_ref(), self.key.as_ref())? {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let (chain, private) = files::pair(flags, cert, key)?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|source| refused(source, flags, cert, key))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let http2 = Arc::new(config.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Configs {
            http2,
            http1: Arc::new(config),
        })
    }
}

/// Makes TLS connections.
#[derive(Clone)]
pub struct ClientTls(Arc<Reloading<Configs>>);

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn load(files: ClientFiles) -> Result<ClientTls, TlsError> {
        let paths = [&files.ca, &files.cert, &files.key];
        let paths = paths.into_iter().flatten().cloned().collect();
        Ok(ClientTls(Arc::new(Reloading::new(paths, move || files.load())?)))
    }

    /// Does the handshake with the server that `host` names (a name, or an address without brackets), within
    /// [`HANDSHAKE_TIMEOUT`].
    ///
    /// With TLS 1.3 a server looks at the client's certificate after this side is done: see [`crate::heard()`].
    ///
    /// # Errors
    /// When the handshake fails or the server is not who it should be; the text says what to do about it.
    pub async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        alpn: Alpn,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{host:?} is not a host name"),
            )
        })?;
        let configs = self.0.current();
        let config = match alpn {
            Alpn::Http2 => &configs.http2,
            Alpn::Http1 => &configs.http1,
        };
        let handshake = TlsConnector::from(config.clone()).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) if is_tls(&error) => Err(io::Error::other(format!("TLS: {}", explain(&error)))),
            Ok(Err(error)) => Err(io::Error::new(error.kind(), explain(&error))),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no TLS handshake in time",
            )),
        }
    }
}

/// Takes whatever certificate a server shows. It must still hold the certificate's key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

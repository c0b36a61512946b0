//! What can be wrong with certificates, in words that say what to do.

use std::{io, path::PathBuf};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why files cannot be used. Each text names the flag.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of certificate and key is missing.
    #[error("{given} needs {missing} beside it")]
    Half {
        /// The flag that was given.
        given: &'static str,
        /// The flag that was not.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("{flag} {}: {source}", path.display())]
    Read {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not contain what it should.
    #[error("{flag} {}: {what}", path.display())]
    Content {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A key that is not the certificate's.
    #[error("{key_flag} {} is not the key of {cert_flag} {}", key.display(), cert.display())]
    KeyMismatch {
        /// Flag of the certificate.
        cert_flag: &'static str,
        /// The certificate.
        cert: PathBuf,
        /// Flag of the key.
        key_flag: &'static str,
        /// The key.
        key: PathBuf,
    },
    /// Without a file of CAs those of the system are meant, and there are none.
    #[error("this system has no CA certificates: name those to trust with {0}")]
    NoSystemRoots(&'static str),
    /// Clients are to show certificates, but whose?
    #[error("{auth_flag} needs {ca_flag}, the CAs whose clients are let in")]
    NoClientCa {
        /// The flag that was given.
        auth_flag: &'static str,
        /// The flag that was not.
        ca_flag: &'static str,
    },
    /// A combination that the TLS library refuses.
    #[error("{flag}: {source}")]
    Refused {
        /// The flag.
        flag: &'static str,
        /// Why.
        source: Error,
    },
}

/// The reason of a failed handshake or connection, in words.
pub fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(find_tls_error) {
        Some(tls) => explain_tls(tls),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed during the TLS handshake".to_owned()
        }
        None => error.to_string(),
    }
}

fn find_tls_error<'e>(error: &'e (dyn std::error::Error + Send + Sync + 'static)) -> Option<&'e Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An io::Error does not name the error that it carries as its source, but that one's.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn explain_tls(error: &Error) -> String {
    use CertificateError as Bad;
    let text = match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the other side's certificate is not from a CA that is trusted here"
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the other side's certificate has expired"
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "the other side's certificate is not valid yet"
        }
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            return format!("the other side's certificate is for another host: {error}");
        }
        Error::InvalidCertificate(_) => return format!("the other side's certificate is refused: {error}"),
        Error::NoCertificatesPresented => "the client showed no certificate",
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "the other side does not speak TLS",
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the other side wants a client certificate"
        }
        Error::AlertReceived(AlertDescription::UnknownCA) => {
            "the other side does not trust the CA of our certificate"
        }
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            "the other side says that our certificate has expired"
        }
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied,
        ) => "the other side refuses our certificate, or wants one",
        other => return other.to_string(),
    };
    text.to_owned()
}

/// Whether an error is of TLS, and not of the network beneath.
pub(crate) fn is_tls(error: &io::Error) -> bool {
    error.get_ref().and_then(find_tls_error).is_some()
}

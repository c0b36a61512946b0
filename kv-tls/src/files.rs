//! PEM files.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{Error as PemError, PemObject},
    },
};

use crate::{PeerCertificate, TlsError};

/// The flags that name the files, for errors.
#[derive(Debug, Clone, Copy)]
pub struct Flags {
    /// Certificate.
    pub cert: &'static str,
    /// Its key.
    pub key: &'static str,
    /// The CAs that are trusted.
    pub ca: &'static str,
    /// Whether clients must show a certificate; empty where that is no question.
    pub client_auth: &'static str,
}

/// Certificate and key, each with its flag.
pub(crate) type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Either both files or none.
pub(crate) fn both<'p>(
    flags: Flags,
    cert: Option<&'p PathBuf>,
    key: Option<&'p PathBuf>,
) -> Result<Option<(&'p Path, &'p Path)>, TlsError> {
    let half = |given, missing| Err(TlsError::Half { given, missing });
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        (Some(_), None) => half(flags.cert, flags.key),
        (None, Some(_)) => half(flags.key, flags.cert),
    }
}

/// A certificate with its chain, and its key.
pub(crate) fn pair(flags: Flags, cert: &Path, key: &Path) -> Result<Pair, TlsError> {
    let chain = certificates(flags.cert, cert)?;
    let bytes = read(flags.key, key)?;
    let key =
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| content(flags.key, key, "key", &error))?;
    Ok((chain, key))
}

/// The CAs of a file.
pub(crate) fn roots(flag: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(flag, path)? {
        store.add(certificate).map_err(|error| TlsError::Content {
            flag,
            path: path.to_owned(),
            what: format!("not a CA certificate: {error}"),
        })?;
    }
    Ok(store)
}

/// The CAs of the system.
pub(crate) fn system_roots(flag: &'static str) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(TlsError::NoSystemRoots(flag));
    }
    Ok(store)
}

/// Refuses a certificate with a common name: etcd takes that for a user, and whoever speaks for others must be
/// none.
///
/// # Errors
/// When there is one, or the file cannot be read.
pub fn without_common_name(flag: &'static str, path: &Path) -> Result<(), TlsError> {
    let chain = certificates(flag, path)?;
    match chain.first().map(PeerCertificate::of) {
        Some(own) if !own.common_name.is_empty() => Err(TlsError::Content {
            flag,
            path: path.to_owned(),
            what: format!(
                "it has the common name {:?}, and every client would be taken for that user: issue one without",
                own.common_name
            ),
        }),
        _ => Ok(()),
    }
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(flag, path)?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| content(flag, path, "certificate", &error))?;
    if all.is_empty() {
        return Err(content(flag, path, "certificate", &PemError::NoItemsFound));
    }
    Ok(all)
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source: io::Error| TlsError::Read {
        flag,
        path: path.to_owned(),
        source,
    };
    std::fs::read(path).map_err(failed)
}

fn content(flag: &'static str, path: &Path, kind: &str, error: &PemError) -> TlsError {
    let what = match error {
        PemError::NoItemsFound => format!("no {kind} in PEM form in it"),
        other => format!("no {kind} in PEM form: {other}"),
    };
    TlsError::Content {
        flag,
        path: path.to_owned(),
        what,
    }
}

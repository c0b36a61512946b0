//! Certificates for tests, made on the spot.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate authority that writes what it issues into a directory.
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What a certificate is to say. It is for `localhost` and `127.0.0.1`, for servers and clients.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The common name; none where empty.
    pub common_name: &'a str,
    /// Another host in place of `localhost` and `127.0.0.1`.
    pub host: Option<&'a str>,
    /// Whether it ended yesterday.
    pub expired: bool,
}

impl Authority {
    /// An authority called `name`, which keeps its files in `dir`.
    ///
    /// # Panics
    /// When a file cannot be written: it is for tests.
    #[must_use]
    #[expect(clippy::unwrap_used)]
    pub fn new(dir: &Path, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        let authority = Authority {
            dir: dir.to_owned(),
            name: name.to_owned(),
            issuer: Issuer::new(params, key),
        };
        std::fs::write(authority.cert(), certificate.pem()).unwrap();
        authority
    }

    /// The file of its own certificate.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// Issues a certificate into files that begin with `name`, over any that are there.
    ///
    /// # Panics
    /// When a file cannot be written: it is for tests.
    #[expect(clippy::unwrap_used)]
    pub fn issue(&self, name: &str, wanted: Wanted<'_>) -> Pair {
        let key = KeyPair::generate().unwrap();
        let hosts = match wanted.host {
            Some(host) => vec![host.to_owned()],
            None => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !wanted.common_name.is_empty() {
            params
                .distinguished_name
                .push(DnType::CommonName, wanted.common_name);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        params.not_before = (now - 2 * day).into();
        params.not_after = if wanted.expired { now - day } else { now + day }.into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let pair = Pair {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}-key.pem")),
        };
        std::fs::write(&pair.cert, certificate.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

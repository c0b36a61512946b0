//! JSON Web Tokens with etcd's claims: `username`, `revision` and `exp`.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{Bearer, VerifyOnly};

/// Why tokens cannot be made or read as `--auth-token` says.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    /// A method that is not offered.
    #[error(
        "sign-method={0}: use one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
    )]
    Method(String),
    /// No key to verify with.
    #[error("sign-method={method} needs {option}=FILE")]
    NoKey {
        /// The method.
        method: String,
        /// The option.
        option: &'static str,
    },
    /// A file that cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file that holds no key for the method.
    #[error("{}: no key for {method}: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The method.
        method: String,
        /// Why.
        error: jsonwebtoken::errors::Error,
    },
    /// The two keys do not belong together.
    #[error("pub-key does not verify what priv-key signs")]
    Mismatch,
}

/// The keys and the algorithm.
#[derive(Clone)]
pub struct Jwt {
    algorithm: Algorithm,
    sign: Option<EncodingKey>,
    verify: DecodingKey,
    validation: Validation,
    ttl: Duration,
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwt({:?})", self.algorithm)
    }
}

#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    /// Seconds since 1970.
    exp: u64,
}

impl Jwt {
    /// Reads the keys. Without a private key, tokens are only verified.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub fn open(
        method: &str,
        pub_key: Option<&Path>,
        priv_key: Option<&Path>,
        ttl: Duration,
    ) -> Result<Jwt, JwtError> {
        let algorithm: Algorithm = method.parse().map_err(|_| JwtError::Method(method.to_owned()))?;
        let needed = |path: Option<&Path>, option| {
            let path = path.map(Path::to_owned);
            path.ok_or_else(|| JwtError::NoKey {
                method: method.to_owned(),
                option,
            })
        };
        let bad = |path: &Path, error| JwtError::Key {
            path: path.to_owned(),
            method: method.to_owned(),
            error,
        };
        let (sign, verify) = if let Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 = algorithm {
            let secret = read(&needed(priv_key, "priv-key")?)?;
            (
                Some(EncodingKey::from_secret(&secret)),
                DecodingKey::from_secret(&secret),
            )
        } else {
            let path = needed(pub_key, "pub-key")?;
            let verify = decoding(algorithm, &read(&path)?).map_err(|error| bad(&path, error))?;
            let sign = match priv_key {
                None => None,
                Some(path) => Some(encoding(algorithm, &read(path)?).map_err(|error| bad(path, error))?),
            };
            (sign, verify)
        };
        let mut validation = Validation::new(algorithm);
        // The time is ours, see `verify`.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let jwt = Jwt {
            algorithm,
            sign,
            verify,
            validation,
            ttl,
        };
        jwt.check_pair()?;
        Ok(jwt)
    }

    /// Finds out at the start that keys do not fit, and not at the first login.
    fn check_pair(&self) -> Result<(), JwtError> {
        let probe = Bearer {
            name: "probe".into(),
            revision: 1,
        };
        match self.issue(&probe, Duration::ZERO) {
            Err(VerifyOnly) if self.sign.is_none() => Ok(()),
            Ok(token) if self.verify(token.as_bytes(), Duration::ZERO) == Some(probe) => Ok(()),
            _ => Err(JwtError::Mismatch),
        }
    }

    pub(super) fn issue(&self, bearer: &Bearer, now: Duration) -> Result<String, VerifyOnly> {
        let claims = Claims {
            username: bearer.name.clone(),
            revision: bearer.revision,
            exp: (now + self.ttl).as_secs(),
        };
        let key = self.sign.as_ref().ok_or(VerifyOnly)?;
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, key).map_err(|_| VerifyOnly)
    }

    pub(super) fn verify(&self, token: &[u8], now: Duration) -> Option<Bearer> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation).ok()?;
        let Claims {
            username,
            revision,
            exp,
        } = decoded.claims;
        (exp > now.as_secs()).then_some(Bearer {
            name: username,
            revision,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, JwtError> {
    std::fs::read(path).map_err(|error| JwtError::Io {
        path: path.to_owned(),
        error,
    })
}

fn encoding(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<EncodingKey> {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    }
}

fn decoding(algorithm: Algorithm, pem: &[u8]) -> jsonwebtoken::errors::Result<DecodingKey> {
    match algorithm {
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};

    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A pair of keys as files: private, public.
    fn pair(dir: &Path, name: &str, algorithm: &'static SignatureAlgorithm) -> [PathBuf; 2] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let paths = [dir.join(format!("{name}.pem")), dir.join(format!("{name}.pub"))];
        std::fs::write(&paths[0], pair.serialize_pem()).unwrap();
        std::fs::write(&paths[1], pair.public_key_pem()).unwrap();
        paths
    }

    #[test]
    fn tokens_of_each_kind_of_key() {
        let dir = tempfile::tempdir().unwrap();
        let [ec, ec_pub] = pair(dir.path(), "ec", &PKCS_ECDSA_P256_SHA256);
        let [ed, ed_pub] = pair(dir.path(), "ed", &PKCS_ED25519);
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "not to be told").unwrap();
        let bearer = Bearer {
            name: "alice".into(),
            revision: 7,
        };
        for (method, public, private) in [
            ("HS256", None, &secret),
            ("ES256", Some(&ec_pub), &ec),
            ("EdDSA", Some(&ed_pub), &ed),
        ] {
            let open = |private| Jwt::open(method, public.map(|path| &**path), private, TTL).unwrap();
            let jwt = open(Some(&**private));
            let token = jwt.issue(&bearer, at(100)).unwrap();
            let verify = |token: &str, now| jwt.verify(token.as_bytes(), at(now));
            assert_eq!(verify(&token, 159), Some(bearer.clone()), "{method}");
            assert_eq!(verify(&token, 160), None, "{method}");
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let other = format!("{signed}.{}", signature.chars().rev().collect::<String>());
            assert_eq!(verify(&other, 100), None, "{method}");
            if public.is_some() {
                let only_reads = open(None);
                assert_eq!(only_reads.verify(token.as_bytes(), at(100)), Some(bearer.clone()));
                assert_eq!(only_reads.issue(&bearer, at(100)), Err(VerifyOnly));
            }
        }
    }

    /// An attacker chooses what the header says: neither `none`, nor an HMAC with the public key, counts.
    #[test]
    fn the_algorithm_is_not_for_the_token_to_choose() {
        let dir = tempfile::tempdir().unwrap();
        let [private, public] = pair(dir.path(), "ec", &PKCS_ECDSA_P256_SHA256);
        let jwt = Jwt::open("ES256", Some(&public), Some(&private), TTL).unwrap();
        let forger = Jwt::open("HS256", None, Some(&public), TTL).unwrap();
        let root = Bearer {
            name: "root".into(),
            revision: 1,
        };
        let forged = forger.issue(&root, at(100)).unwrap();
        assert_eq!(jwt.verify(forged.as_bytes(), at(100)), None);
        let unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJ1c2VybmFtZSI6InJvb3QiLCJyZXZpc2lvbiI6MSwiZXhwIjo5OTk5OTk5OTk5fQ.";
        assert_eq!(jwt.verify(unsigned.as_bytes(), at(100)), None);
    }

    #[test]
    fn mistakes_are_told_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let [ec, ec_pub] = pair(dir.path(), "ec", &PKCS_ECDSA_P256_SHA256);
        let [_, other_pub] = pair(dir.path(), "other", &PKCS_ECDSA_P256_SHA256);
        let missing = dir.path().join("missing");
        for (method, public, private, expected) in [
            ("RS1", Some(&ec_pub), Some(&ec), "sign-method=RS1: use one of"),
            ("ES256", None, Some(&ec), "needs pub-key=FILE"),
            ("HS256", None, None, "needs priv-key=FILE"),
            ("ES256", Some(&missing), Some(&ec), "missing: No such file"),
            ("RS256", Some(&ec_pub), Some(&ec), "no key for RS256"),
            ("ES256", Some(&other_pub), Some(&ec), "does not verify"),
        ] {
            let opened = Jwt::open(method, public.map(|p| &**p), private.map(|p| &**p), TTL);
            let error = opened.unwrap_err().to_string();
            assert!(error.contains(expected), "{method}: {error}");
        }
    }
}

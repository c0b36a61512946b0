//! `--auth-token` as etcd spells it: `simple`, or `jwt,pub-key=…,priv-key=…,sign-method=…,ttl=…`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{
    Tokens, duration,
    jwt::{Jwt, JwtError},
};

/// How long a JWT lasts unless `ttl` says otherwise, as in etcd.
const JWT_TTL: Duration = Duration::from_secs(300);

/// What kind of tokens a node makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKind {
    /// Its own.
    Simple,
    /// JSON Web Tokens.
    Jwt {
        /// The name of the algorithm, as in `RS256`.
        sign_method: String,
        /// PEM of the public key.
        pub_key: Option<PathBuf>,
        /// PEM of the private key, or the secret itself for the HS methods.
        priv_key: Option<PathBuf>,
        /// How long a token lasts.
        ttl: Duration,
    },
}

/// How a node makes and reads tokens. All nodes of a cluster need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOptions {
    /// The kind.
    pub kind: TokenKind,
    /// How long a simple token lasts.
    pub simple_ttl: Duration,
    /// Whether the common name of a client's certificate says which user it is, where it shows no token.
    pub client_certificates: bool,
}

impl Default for TokenOptions {
    fn default() -> Self {
        TokenOptions {
            kind: TokenKind::Simple,
            simple_ttl: Duration::from_secs(300),
            client_certificates: false,
        }
    }
}

/// What is wrong with `--auth-token`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenOptionsError {
    /// Neither `simple` nor `jwt`.
    #[error("{0:?} is neither simple nor jwt,sign-method=…")]
    Kind(String),
    /// An option that is not `name=value`, or that jwt does not have.
    #[error("{0:?} is none of sign-method=…, pub-key=…, priv-key=…, ttl=…")]
    Option(String),
    /// jwt without the one option that has no default.
    #[error("jwt needs sign-method=…, as in jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE")]
    NoMethod,
    /// A `ttl` that is no duration.
    #[error("ttl={0:?} is no duration like 5m")]
    Ttl(String),
}

impl TokenKind {
    /// Reads the flag.
    ///
    /// # Errors
    /// See [`TokenOptionsError`].
    pub fn parse(flag: &str) -> Result<TokenKind, TokenOptionsError> {
        let mut words = flag.split(',');
        match words.next() {
            Some("simple") if flag == "simple" => return Ok(TokenKind::Simple),
            Some("jwt") => {}
            _ => return Err(TokenOptionsError::Kind(flag.to_owned())),
        }
        let mut options = BTreeMap::new();
        for word in words {
            let pair = word.split_once('=');
            let known = |name: &str| ["sign-method", "pub-key", "priv-key", "ttl"].contains(&name);
            match pair {
                Some((name, value)) if known(name) => options.insert(name, value),
                _ => return Err(TokenOptionsError::Option(word.to_owned())),
            };
        }
        let ttl = match options.get("ttl") {
            None => JWT_TTL,
            Some(text) => duration::parse(text)
                .filter(|ttl| !ttl.is_zero())
                .ok_or_else(|| TokenOptionsError::Ttl((*text).to_owned()))?,
        };
        Ok(TokenKind::Jwt {
            sign_method: (*options.get("sign-method").ok_or(TokenOptionsError::NoMethod)?).to_owned(),
            pub_key: options.get("pub-key").map(PathBuf::from),
            priv_key: options.get("priv-key").map(PathBuf::from),
            ttl,
        })
    }
}

impl TokenOptions {
    /// Reads the keys that are named.
    ///
    /// # Errors
    /// See [`JwtError`].
    pub fn open(&self) -> Result<Tokens, JwtError> {
        match &self.kind {
            TokenKind::Simple => Ok(Tokens::Simple { ttl: self.simple_ttl }),
            TokenKind::Jwt {
                sign_method,
                pub_key,
                priv_key,
                ttl,
            } => {
                let jwt = Jwt::open(sign_method, pub_key.as_deref(), priv_key.as_deref(), *ttl)?;
                Ok(Tokens::Jwt(Box::new(jwt)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_etcds_flag() {
        assert_eq!(TokenKind::parse("simple"), Ok(TokenKind::Simple));
        let jwt = TokenKind::parse("jwt,pub-key=a.pub,priv-key=a.pem,sign-method=RS256,ttl=10m");
        let expected = TokenKind::Jwt {
            sign_method: "RS256".into(),
            pub_key: Some("a.pub".into()),
            priv_key: Some("a.pem".into()),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(jwt, Ok(expected));
        for (flag, expected) in [
            ("", "neither simple nor jwt"),
            ("simple,ttl=5m", "neither simple nor jwt"),
            ("jwt", "needs sign-method"),
            ("jwt,sign-method=RS256,ttl=soon", "is no duration"),
            ("jwt,sign-method=RS256,key=a", "\"key=a\" is none of"),
        ] {
            let error = TokenKind::parse(flag).unwrap_err().to_string();
            assert!(error.contains(expected), "{flag}: {error}");
        }
    }
}

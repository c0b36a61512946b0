//! The token that a client shows where the cluster asks for authentication.
//!
//! A token is fetched with the first call that needs one, serves every endpoint, and is fetched again when a server
//! says that it is no longer valid. Such an answer excludes execution, so the call is then sent once more.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use kv_proto::etcdserverpb::AuthenticateRequest;
use kv_proto::etcdserverpb::auth_client::AuthClient;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::classify::{Failure, Kind};
use crate::connection::Channel;

/// A user and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What is known about the token.
#[derive(Clone)]
enum Token {
    /// None was fetched yet, or the last one is no longer valid.
    Missing,
    /// The cluster does not ask for authentication.
    NotNeeded,
    Valid(HeaderValue),
}

/// The credentials of a client, and the token that they bought.
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    token: Mutex<Token>,
    /// Held while fetching, so that many calls wait for one token.
    fetching: tokio::sync::Mutex<()>,
}

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>) -> Auth {
        Auth {
            credentials,
            token: Mutex::new(Token::Missing),
            fetching: tokio::sync::Mutex::new(()),
        }
    }

    /// The channel with the token for it, which is fetched through it where there is none yet. Whatever goes wrong,
    /// the call itself was not sent.
    pub(crate) async fn sign(&self, channel: Channel, deadline: Instant) -> Result<Channel, Failure> {
        let Some(credentials) = &self.credentials else {
            return Ok(channel);
        };
        if let Some(token) = self.known() {
            return Ok(channel.with_token(token));
        }
        let fetch = async {
            let _only_one = self.fetching.lock().await;
            match self.known() {
                Some(token) => Ok(token),
                None => self.fetch(credentials, &channel).await,
            }
        };
        let token = timeout_at(deadline, fetch)
            .await
            .unwrap_or_else(|_| Err(not_authenticated("no answer in time")))?;
        Ok(channel.with_token(token))
    }

    /// Gives up the token if this failure says that it is worth nothing; whether a new one may help.
    pub(crate) fn is_outdated(&self, failure: &Failure) -> bool {
        OUTDATED.contains(&failure.message.as_str()) && self.give_up()
    }

    /// Gives up the token; whether there will be another.
    pub(crate) fn give_up(&self) -> bool {
        self.set(Token::Missing);
        self.credentials.is_some()
    }

    /// What is to be shown, if that is known: none is also an answer.
    fn known(&self) -> Option<Option<HeaderValue>> {
        match &*self.token.lock().unwrap_or_else(PoisonError::into_inner) {
            Token::Missing => None,
            Token::NotNeeded => Some(None),
            Token::Valid(token) => Some(Some(token.clone())),
        }
    }

    fn set(&self, token: Token) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    async fn fetch(
        &self,
        credentials: &Credentials,
        channel: &Channel,
    ) -> Result<Option<HeaderValue>, Failure> {
        let request = AuthenticateRequest {
            name: credentials.name.clone(),
            password: credentials.password.clone(),
        };
        let origin = channel.origin.clone();
        match AuthClient::with_origin(channel.clone(), origin)
            .authenticate(request)
            .await
        {
            Ok(answer) => {
                let token = HeaderValue::from_bytes(answer.get_ref().token.as_bytes());
                let mut token = token.map_err(|_| not_authenticated("a token that cannot be sent"))?;
                token.set_sensitive(true);
                self.set(Token::Valid(token.clone()));
                Ok(Some(token))
            }
            Err(status) if status.message() == NOT_ENABLED => {
                self.set(Token::NotNeeded);
                Ok(None)
            }
            Err(status) => {
                let failure = Failure::from(status);
                Err(match failure.kind {
                    Kind::Lost | Kind::Faulty => not_authenticated(&failure.message),
                    _ => failure,
                })
            }
        }
    }
}

/// etcd's answers to a token that is too old, or that is missing because authentication was enabled meanwhile.
const OUTDATED: [&str; 3] = [
    "etcdserver: invalid auth token",
    "etcdserver: revision of auth store is old",
    "etcdserver: user name is empty",
];

/// etcd's answer where there is nothing to authenticate for.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// No token, so that the call was not sent: another endpoint, or a little later, may do.
fn not_authenticated(why: &str) -> Failure {
    Failure {
        kind: Kind::NoLeader,
        code: Code::Unavailable,
        message: format!("no token: {why}"),
    }
}

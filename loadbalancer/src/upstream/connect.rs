//! Connecting to a backend, within a time limit, with TLS where the backend wants it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kv_tls::{Alpn, ClientTls, Connector, Stream};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// Why no connection could be made. Cheap to copy: all that wait for one attempt share its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The system said why.
    #[error("cannot connect: {0}")]
    Io(io::ErrorKind),
    /// Nothing happened in time.
    #[error("cannot connect within {0:?}")]
    Timeout(Duration),
    /// There was a connection, but no TLS on it, or with somebody else. The health check says why.
    #[error("cannot connect: the TLS handshake failed")]
    Tls,
    /// There was a connection, but no HTTP on it.
    #[error("cannot connect: the HTTP/2 handshake failed")]
    Handshake,
}

/// Where a backend is, and what it takes to speak with it.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Its address.
    pub addr: SocketAddr,
    /// With TLS: certificates, and the name that the backend's must be for.
    pub tls: Option<(ClientTls, String)>,
}

impl From<SocketAddr> for Dial {
    /// Without TLS.
    fn from(addr: SocketAddr) -> Dial {
        Dial { addr, tls: None }
    }
}

impl Dial {
    /// Connects with Nagle's algorithm off: small frames must not wait for acknowledgements.
    pub(super) async fn connect(&self, alpn: Alpn, limit: Duration) -> Result<Stream, ConnectError> {
        let attempt = async {
            let stream = self.tcp().await.map_err(|error| ConnectError::Io(error.kind()))?;
            self.secure(stream, alpn).await.map_err(|_| ConnectError::Tls)
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout(limit)),
        }
    }

    /// The TCP connection alone.
    ///
    /// # Errors
    /// The system's.
    pub async fn tcp(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// TLS on a TCP connection, where the backend wants it.
    ///
    /// # Errors
    /// Why it failed, in words.
    pub async fn secure(&self, stream: TcpStream, alpn: Alpn) -> io::Result<Stream> {
        Ok(match &self.tls {
            None => Stream::Plain(stream),
            Some((tls, name)) => Stream::Tls(Box::new(tls.connect(stream, name, alpn).await?)),
        })
    }

    /// A channel that connects with its first call; none if the address makes no URL.
    #[must_use]
    pub fn channel(&self, timeout: Duration) -> Option<Channel> {
        let (scheme, tls, server_name) = match self.tls.clone() {
            None => ("http", None, None),
            Some((tls, name)) => ("https", Some(tls), Some(name)),
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.addr)).ok()?;
        let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
        Some(endpoint.connect_with_connector_lazy(Connector {
            tls,
            alpn: Alpn::Http2,
            server_name,
        }))
    }
}

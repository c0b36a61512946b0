//! A TCP connection within a time limit.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// Why no connection could be made. Cheap to copy: all that wait for one attempt share its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The system said why.
    #[error("cannot connect: {0}")]
    Io(io::ErrorKind),
    /// Nothing happened in time.
    #[error("cannot connect within {0:?}")]
    Timeout(Duration),
    /// There was a connection, but no HTTP on it.
    #[error("cannot connect: the HTTP/2 handshake failed")]
    Handshake,
}

/// Connects with Nagle's algorithm off: small frames must not wait for acknowledgements.
pub(super) async fn connect(addr: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
    let attempt = async {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result.map_err(|e: io::Error| ConnectError::Io(e.kind())),
        Err(_) => Err(ConnectError::Timeout(limit)),
    }
}

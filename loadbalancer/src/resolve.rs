//! Names to addresses: the seam through which tests change what a name means.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;

/// A name that takes longer than this to resolve keeps the addresses that it had.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Looks names up.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host, with the port.
    ///
    /// # Errors
    /// When the name is unknown, or nobody can say.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let lookup = tokio::net::lookup_host((host, port));
            Ok(tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await??.collect())
        })
    }
}

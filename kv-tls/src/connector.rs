//! Connecting to a URL: what tonic's channels connect with.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::{Alpn, ClientTls, Stream};

/// Connects to `http` and `https` URLs.
#[derive(Debug, Clone)]
pub struct Connector {
    /// For `https`; without it such URLs are refused.
    pub tls: Option<ClientTls>,
    /// The protocol that connections are for.
    pub alpn: Alpn,
    /// The name that the server's certificate must be for, if it is not the URL's host.
    pub server_name: Option<String>,
}

impl Connector {
    /// A connection to the URL's host and port, with Nagle's algorithm off.
    ///
    /// # Errors
    /// When there is none, or the server is not who it should be.
    pub async fn connect(&self, url: &Uri) -> io::Result<Stream> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {what}"));
        let https = url.scheme_str() == Some("https");
        let host = url.host().ok_or_else(|| invalid("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let tls = match (https, &self.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            (true, None) => return Err(invalid("no certificates are configured for https")),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let name = self.server_name.as_deref().unwrap_or(host);
        Ok(match tls {
            None => Stream::Plain(stream),
            Some(tls) => Stream::Tls(Box::new(tls.connect(stream, name, self.alpn).await?)),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(&url).await.map(TokioIo::new) })
    }
}

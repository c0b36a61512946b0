//! TLS of every program: certificate files, streams, and connecting.
//!
//! Promises: TLS 1.2 or newer, with one implementation (rustls over aws-lc-rs); files that change are
//! read again without a restart, and a new set that does not fit together leaves the old one in use; a
//! mistake in the files is told at the start, with the flag and the file; a handshake ends within
//! [`HANDSHAKE_TIMEOUT`].
//!
//! Leaves to its caller: flags and their names, and what to do with who the other side is
//! ([`PeerCertificate`]).

mod client;
mod connector;
mod error;
mod files;
mod heard;
mod reload;
mod server;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;

use std::time::Duration;

pub use client::{Alpn, ClientFiles, ClientTls};
pub use connector::Connector;
pub use error::{TlsError, explain};
pub use files::{Flags, without_common_name};
pub use heard::{Heard, heard};
pub use server::{PeerCertificate, ServerFiles, ServerTls, begins_tls};
pub use stream::Stream;
pub use tokio_rustls::server::TlsStream as ServerTlsStream;

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

//! The etcd v3 wire types and services, and the protocol between Quorate's nodes.
//!
//! Everything here is generated at build time from `proto/`. `bytes` fields are [`bytes::Bytes`],
//! so that a value is shared and not copied on its way from the socket to the log.

pub mod codec;

/// etcd's key-value record.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd's services and their messages.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The protocol between nodes.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod peer {
    tonic::include_proto!("quorate.peer.v1");
}

//! The etcd v3 wire types and services, and the protocol between Quorate's nodes.
//!
//! Everything here is generated at build time from `proto/`. `bytes` fields are [`bytes::Bytes`],
//! so that a value is shared and not copied on its way from the socket to the log.

pub mod body;
pub mod codec;

/// The same descriptions as data, an encoded `FileDescriptorSet`: for whoever handles messages by name.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("descriptors");

/// etcd's permissions.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// etcd's key-value record, and what a watch tells of it.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// etcd's services and their messages.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// etcd's Lock service.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// etcd's Election service.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// The protocol between nodes.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
pub mod peer {
    tonic::include_proto!("quorate.peer.v1");
}

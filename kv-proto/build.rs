//! Compiles the .proto files with protox, in Rust, so that no machine needs protoc.

use std::{env, fs, path::Path};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/etcd/auth.proto",
        "proto/etcd/election.proto",
        "proto/etcd/kv.proto",
        "proto/etcd/lock.proto",
        "proto/etcd/rpc.proto",
        "proto/quorate/peer.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    fs::write(
        Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}

//! What a fuzzer or its twin asks of the frames of peers and of the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::{Command, Outcome, Response};
use kv_store::SnapshotHeader;
use kv_wal::Position;
use openraft::{
    EntryPayload, Membership,
    raft::{
        AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
        VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    log_store::{decode_entry, encode_entry},
    propose::{Attempt, ProposeError},
    state_machine::RaftPoint,
    types::{Entry, LogId, Member, Payload, Proposal, SnapshotMeta, StoredMembership, TypeConfig, Vote},
};
use crate::{
    codec,
    fuzz::{again, apply, commands},
};

/// What a frame may hold, by the first byte of an input.
const FRAMES: [fn(&[u8]); 13] = [
    |frame| {
        with(frame, |request: AppendEntriesRequest<TypeConfig>| {
            append(&request)
        })
    },
    |frame| with(frame, |_: VoteRequest<TypeConfig>| {}),
    |frame| with(frame, |_: TransferLeaderRequest<TypeConfig>| {}),
    |frame| with(frame, |_: (Vote, SnapshotMeta, SnapshotHeader)| {}),
    |frame| with(frame, |_: StreamAppendResult<TypeConfig>| {}),
    |frame| with(frame, |_: VoteResponse<TypeConfig>| {}),
    |frame| with(frame, |_: SnapshotResponse<TypeConfig>| {}),
    |frame| with(frame, |_: Attempt| {}),
    |frame| with(frame, |command: Command| apply(&command)),
    |frame| with(frame, |_: RaftPoint| {}),
    |frame| with(frame, |_: Vote| {}),
    |frame| with(frame, |_: SnapshotHeader| {}),
    logged,
];

/// Reads these bytes, but the first, as a frame of the kind that the first one says; as they are, and with their
/// checksum made right.
///
/// # Panics
/// Where a value comes out that cannot be sent on, kept, or applied.
pub fn frame(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    let read = FRAMES[usize::from(*kind) % FRAMES.len()];
    read(bytes);
    read(&codec::seal(bytes.get(codec::HEADER_BYTES..).unwrap_or(bytes)));
}

/// Frames of every kind.
pub fn frame_seeds() -> Vec<Vec<u8>> {
    let id = LogId::new_term_index(3, 17);
    let vote = Vote::new_committed(3, 2);
    let membership = StoredMembership::new(Some(id), members());
    let meta = SnapshotMeta {
        last_log_id: Some(id),
        last_membership: membership.clone(),
    };
    let point = RaftPoint {
        last_applied: Some(id),
        membership,
    };
    let header = SnapshotHeader {
        format: 2,
        cluster_id: Some(7),
        index: 17,
        raft: codec::encode(&point).expect("it is small"),
        revision: 9,
        compacted: -1,
        bytes_estimate: 1 << 20,
    };
    let request = AppendEntriesRequest::<TypeConfig> {
        vote,
        prev_log_id: Some(id),
        entries: entries(),
        leader_commit: Some(id),
    };
    let answer: StreamAppendResult<TypeConfig> = Err(StreamAppendError::Conflict(id));
    let outcome = Outcome {
        revision: 9,
        result: Ok(Response::Txn {
            succeeded: true,
            responses: vec![(9, Response::Put { prev_kv: None }), (0, Response::LeaseRevoke)],
        }),
    };
    let mut seeds = vec![
        seed(0, &request),
        seed(1, &VoteRequest::<TypeConfig>::new(vote, Some(id))),
        seed(2, &TransferLeaderRequest::<TypeConfig>::new(vote, 2, Some(id))),
        seed(3, &(vote, meta, header.clone())),
        seed(4, &answer),
        seed(5, &VoteResponse::<TypeConfig>::new(vote, Some(id), true)),
        seed(6, &SnapshotResponse::<TypeConfig> { vote }),
        seed(7, &Attempt::Done(outcome)),
        seed(7, &Attempt::Failed(ProposeError::LeaderLost)),
        seed(9, &point),
        seed(10, &vote),
        seed(11, &header),
    ];
    seeds.extend(commands().iter().map(|command| seed(8, command)));
    for entry in entries() {
        let entry = encode_entry(&entry).expect("it is small");
        seeds.push([&[12], &entry.payload[..]].concat());
    }
    seeds
}

fn seed(kind: u8, value: &impl Serialize) -> Vec<u8> {
    [&[kind], &codec::encode(value).expect("it is small")[..]].concat()
}

fn members() -> Membership<u64, Member> {
    let member = |name: &str| Member {
        name: name.to_owned(),
        peer_urls: vec![format!("http://{name}:2380")],
        client_urls: vec![format!("http://{name}:2379")],
        zone: "z1".to_owned(),
        ..Member::default()
    };
    let nodes: BTreeMap<u64, Member> = [(1, member("a")), (2, member("b"))].into();
    Membership::new(vec![[1].into(), [1, 2].into()], nodes).expect("all voters have nodes")
}

fn entries() -> Vec<Entry> {
    let payloads = [
        Payload::Blank,
        Payload::Normal(Proposal::new(&commands()[0]).expect("it is small")),
        Payload::Membership(members()),
    ];
    let entry = |(index, payload)| Entry {
        log_id: LogId::new_term_index(3, index),
        payload,
    };
    (18..).zip(payloads).map(entry).collect()
}

/// Reads a frame, and does with its value what is done with every value, and what is done with this one.
fn with<T: Serialize + DeserializeOwned>(frame: &[u8], take: impl Fn(T)) {
    match codec::decode(frame) {
        Ok(value) => {
            again(&value);
            take(value);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Entries of a leader go into the log, and come back from there.
fn append(request: &AppendEntriesRequest<TypeConfig>) {
    assert!(!request.to_string().is_empty());
    for entry in &request.entries {
        let written = encode_entry(entry).expect("it is small");
        let read = decode_entry(written).expect("it was encoded here");
        assert_eq!(&read, entry);
        command_in(entry);
    }
}

/// The payload of a record in the log. A frame in it stands behind the kind of the entry.
fn logged(payload: &[u8]) {
    let entry = kv_wal::Entry {
        position: Position::new(3, 17),
        payload: Bytes::copy_from_slice(payload),
    };
    match decode_entry(entry) {
        Ok(entry) => command_in(&entry),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn command_in(entry: &Entry) {
    if let EntryPayload::Normal(proposal) = &entry.payload
        && let Ok(command) = proposal.command()
    {
        apply(&command);
    }
}

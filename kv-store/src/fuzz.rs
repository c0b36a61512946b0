//! What a fuzzer or its twin asks of whatever reads stored bytes: the engine's pairs, snapshots, `CURRENT`.

use std::{ops::Bound, path::Path};

use bytes::Bytes;
use kv_core::{Caller, Command, Compact, DeleteRange, LeaseGrant, Op, Outcome, Put, Range, SortTarget, Txn};
use quorate_fuzzing::{join, pieces};

use crate::{
    Drive, HistoryLimits, Options, SnapshotHeader, Store,
    block::Block,
    codec::{self, Key, take_bytes, take_i64, take_varint},
    engine::{Batch, KeyRange},
    home::{self, FIRST},
    meta::{FactTally, Meta, Tally},
    sim::SimDir,
    snapshot::{CHUNK_HEAD_BYTES, FACTS, FORMAT, RECORDS, TRAILER, seal_chunk},
};

/// Bytes of a chunk, about: so few that there are several.
const CHUNK_BYTES: usize = 200;
const EVERYTHING: KeyRange<'static> = (Bound::Unbounded, Bound::Unbounded);

fn options() -> Options {
    Options {
        cache_bytes: 64 << 10,
        drive: Drive::Caller,
        ..Options::default()
    }
}

/// Opens a store whose engine holds these pairs, as they are, and with checksums and tallies made right.
///
/// The parts of the input are key and value by turns.
///
/// # Panics
/// Where a store opens that cannot be read, written, or sent.
pub fn engine(input: &[u8]) {
    let parts: Vec<Bytes> = pieces(input).into_iter().map(Bytes::copy_from_slice).collect();
    let pairs: Vec<(Bytes, Bytes)> = parts
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect();
    open(&pairs);
    open(&seal_pairs(pairs));
}

/// Takes in a snapshot of these parts, the header and then the chunks, as they are, and with their numbers and
/// checksums and their end made right.
///
/// # Panics
/// Where one is taken in that cannot be read, written, or sent.
pub fn snapshot(input: &[u8]) {
    let mut parts = pieces(input).into_iter();
    let Some(header) = parts.next().and_then(read_header) else {
        return;
    };
    let chunks: Vec<Bytes> = parts.map(Bytes::copy_from_slice).collect();
    install(&header, &chunks);
    install(&header, &seal_chunks(&header, &chunks));
}

/// Reads these bytes as `CURRENT`, as they are, and with their checksum made right.
///
/// # Panics
/// Where they are taken for what this release would not write.
pub fn current(input: &[u8]) {
    let check = |text: &[u8]| match home::parse(Path::new("d"), text) {
        Ok(current) => assert_eq!(home::text(current).as_bytes(), text),
        Err(error) => assert!(!error.to_string().is_empty()),
    };
    check(input);
    let body = String::from_utf8_lossy(input);
    let body = body.rsplit_once("checksum ").map_or(&body[..], |(body, _)| body);
    check(format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes())).as_bytes());
}

/// The pairs of stores.
pub fn engine_seeds() -> Vec<Vec<u8>> {
    let pairs = |(_, dir): (Store, SimDir)| {
        let engine = dir.engine(FIRST.generation);
        let pairs = engine.scan(EVERYTHING).map(|pair| pair.expect("it is in memory"));
        join(pairs.flat_map(|(key, value)| [key, value]))
    };
    histories().map(pairs).into()
}

/// The snapshots of stores.
pub fn snapshot_seeds() -> Vec<Vec<u8>> {
    let parts = |(store, _): (Store, SimDir)| {
        let view = store.snapshot().expect("nothing fails in memory");
        let chunks = view
            .chunks(CHUNK_BYTES)
            .map(|chunk| chunk.expect("nothing fails in memory"));
        join([write_header(view.header()).into()].into_iter().chain(chunks))
    };
    histories().map(parts).into()
}

/// What `CURRENT` may say.
pub fn current_seeds() -> Vec<Vec<u8>> {
    let later = home::Current {
        generation: 12,
        durable_index: 34_567,
    };
    [FIRST, later]
        .map(|current| home::text(current).into_bytes())
        .into()
}

/// Stores with nothing in them; with keys, superseded values and deletions; with leases and users; compacted.
fn histories() -> [(Store, SimDir); 4] {
    let put = |key: &str, value: &str, lease| {
        Command::Put(Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease,
            ..Put::default()
        })
    };
    let delete = |key: &str| {
        Command::DeleteRange(DeleteRange {
            key: key.to_owned().into(),
            ..DeleteRange::default()
        })
    };
    let grant = |id| {
        Command::LeaseGrant(LeaseGrant {
            id,
            ttl_s: 60,
            now_ms: 5_000,
        })
    };
    let both = Command::Txn(Txn {
        success: vec![
            Op::Put(Put {
                key: "a".into(),
                ..Put::default()
            }),
            Op::Put(Put {
                key: "c".into(),
                value: "3".into(),
                ..Put::default()
            }),
        ],
        ..Txn::default()
    });
    let keys = vec![
        put("a", "1", 0),
        put("b", "two", 0),
        both,
        delete("a"),
        put("a", "again", 0),
    ];
    let facts = vec![
        grant(7),
        grant(-9),
        put("leased", "x", 7),
        Command::Auth(kv_core::AuthCommand::RoleAdd { name: "r".into() }),
        Command::Auth(kv_core::AuthCommand::UserAdd {
            name: "root".into(),
            password: Some(kv_core::PasswordHash("hash".into())),
            no_password: false,
        }),
    ];
    let compacted = [
        keys.clone(),
        vec![Command::Compact(Compact { revision: 5 }), delete("b")],
    ]
    .concat();
    [Vec::new(), keys, facts, compacted].map(|commands| {
        let dir = SimDir::new();
        let store = Store::open_simulated(&dir, options()).expect("an empty directory");
        for (index, command) in (1..).zip(commands) {
            let applied = store.apply(&[(index, Some(command))], Bytes::from_static(b"raft"));
            applied.expect("nothing fails in memory");
        }
        store.sync().expect("nothing fails in memory");
        (store, dir)
    })
}

fn open(pairs: &[(Bytes, Bytes)]) {
    let dir = SimDir::new();
    let mut batch = Batch::default();
    for (key, value) in pairs {
        batch.put(key.clone(), value.clone());
    }
    let engine = dir.engine(FIRST.generation);
    engine.batch(&batch).expect("nothing fails in memory");
    engine.sync().expect("nothing fails in memory");
    match Store::open_simulated(&dir, options()) {
        Ok(store) => {
            exercise(&store);
            // What was written may have gone beyond the last numbers that are taken back.
            let last = store.applied().map_or(0, |point| point.index);
            let is_beyond = last > u64::MAX / 2 || store.revision() > i64::MAX / 2;
            drop(store);
            match Store::open_simulated(&dir, options()) {
                Ok(_) => {}
                Err(error) => assert!(is_beyond, "a store that was written to opens: {error}"),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Makes all checksums right, and the tallies those of what is there.
fn seal_pairs(mut pairs: Vec<(Bytes, Bytes)>) -> Vec<(Bytes, Bytes)> {
    pairs.sort();
    pairs.dedup_by(|later, first| later.0 == first.0);
    let (mut tally, mut facts) = (Tally::default(), FactTally::default());
    let mut meta = None;
    for (key, value) in &mut pairs {
        let payload = value.slice(codec::ENVELOPE_BYTES.min(value.len())..);
        *value = codec::seal(key, &payload);
        match Key::from_bytes(key) {
            Ok(Key::Fact(key)) => facts.add(key, &payload),
            Ok(Key::Block(_)) => {
                let records = Block::decode(key, value).expect("it was sealed");
                let revisions = records.records().map_while(|entry| Some(entry.ok()?.0));
                revisions.for_each(|at| tally.add(at));
            }
            Ok(Key::Meta) => meta = Some(value),
            Err(_) => {}
        }
    }
    if let Some(value) = meta
        && let Ok(found) = Meta::decode(value)
    {
        *value = Meta {
            tally,
            facts,
            ..found
        }
        .encode();
    }
    pairs
}

fn write_header(header: &SnapshotHeader) -> Vec<u8> {
    let numbers = [header.revision, header.compacted, header.index.cast_signed()];
    let numbers = numbers.map(i64::to_le_bytes).concat();
    [
        &[header.cluster_id.unwrap_or(0) as u8],
        &numbers[..],
        &header.raft,
    ]
    .concat()
}

fn read_header(part: &[u8]) -> Option<SnapshotHeader> {
    let (&[cluster_id], rest) = part.split_first_chunk()?;
    let (revision, rest) = rest.split_first_chunk()?;
    let (compacted, rest) = rest.split_first_chunk()?;
    let (index, raft) = rest.split_first_chunk()?;
    Some(SnapshotHeader {
        format: FORMAT,
        cluster_id: (cluster_id > 0).then_some(cluster_id.into()),
        index: u64::from_le_bytes(*index),
        raft: Bytes::copy_from_slice(raft),
        revision: i64::from_le_bytes(*revision),
        compacted: i64::from_le_bytes(*compacted),
        bytes_estimate: 0,
    })
}

/// Chunks of these kinds and payloads, as far as there is a trailer, whose counts and hash are theirs.
fn seal_chunks(header: &SnapshotHeader, chunks: &[Bytes]) -> Vec<Bytes> {
    let mut hasher = header.hasher();
    let (mut facts, mut records) = (0, 0);
    let mut sealed = Vec::new();
    for (number, chunk) in (0..).zip(chunks) {
        let kind = chunk.first().copied().unwrap_or(TRAILER);
        let payload = chunk
            .get(CHUNK_HEAD_BYTES + codec::ENVELOPE_BYTES..)
            .unwrap_or_default();
        if kind == TRAILER {
            break;
        }
        facts += if kind == FACTS {
            count(payload, take_fact)
        } else {
            0
        };
        records += if kind == RECORDS {
            count(payload, take_record)
        } else {
            0
        };
        let chunk = seal_chunk(kind, number, payload);
        hasher.update(&chunk);
        sealed.push(chunk);
    }
    let mut trailer = Vec::new();
    codec::put_varint(&mut trailer, facts);
    codec::put_varint(&mut trailer, records);
    trailer.extend_from_slice(hasher.finalize().as_bytes());
    sealed.push(seal_chunk(TRAILER, sealed.len() as u64, &trailer));
    sealed
}

fn count(mut payload: &[u8], take: fn(&mut &[u8]) -> Result<(), codec::Damage>) -> u64 {
    let mut count = 0;
    while !payload.is_empty() && take(&mut payload).is_ok() {
        count += 1;
    }
    count
}

fn take_fact(payload: &mut &[u8]) -> Result<(), codec::Damage> {
    for _ in ["key", "value"] {
        let length = take_varint(payload)?;
        take_bytes(payload, length)?;
    }
    Ok(())
}

fn take_record(payload: &mut &[u8]) -> Result<(), codec::Damage> {
    take_i64(payload)?;
    take_i64(payload)?;
    let length = take_varint(payload)?;
    take_bytes(payload, length).map(|_| ())
}

fn install(header: &SnapshotHeader, chunks: &[Bytes]) {
    let store = Store::in_memory(options()).expect("an empty store");
    let prepared = (|| {
        let mut install = store.begin_install(header.clone())?;
        chunks.iter().try_for_each(|chunk| install.push(chunk))?;
        install.finish()
    })();
    match prepared {
        Ok(prepared) => {
            store.install(prepared).expect("the store is empty");
            exercise(&store);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Does with a store whatever is done with one: it was found to be whole, so nothing may fail.
fn exercise(store: &Store) {
    let before = hash(store);
    read(store);
    let sent = Store::in_memory(options()).expect("an empty store");
    send(store, &sent);
    assert_eq!(hash(&sent), before, "what is sent is what is here");
    write(store);
    read(store);
}

fn hash(store: &Store) -> (i64, i64, Option<u32>) {
    let hashed = store.hash_kv(0).expect("what is stored is whole");
    (hashed.revision, hashed.compacted, Some(hashed.hash))
}

fn read(store: &Store) {
    for sort_target in [SortTarget::Key, SortTarget::Value] {
        // From the empty key on, which no validated command writes.
        let range = Range {
            key: Bytes::new(),
            range_end: Bytes::from_static(b"\0"),
            sort_target,
            ..Range::default()
        };
        let found = store
            .range_by(&Caller::Node, &range)
            .expect("what is stored is whole");
        assert_eq!(found.result.kvs.len(), store.keys());
    }
    let limits = HistoryLimits {
        bytes_max: 1 << 20,
        records_max: 10_000,
    };
    let history = store.history(store.compacted().max(1), |_| true, limits);
    let history = history.expect("what is stored is whole");
    let writes = history
        .records
        .iter()
        .map(|(at, record)| (&record.key()[..], at.main));
    store.previous(writes).expect("what is stored is whole");
}

fn send(from: &Store, to: &Store) {
    let view = from.snapshot().expect("what is stored is whole");
    let mut install = to
        .begin_install(view.header().clone())
        .expect("the other store is empty");
    for chunk in view.chunks(CHUNK_BYTES) {
        let chunk = chunk.expect("what is stored is whole");
        install.push(&chunk).expect("what is sent is whole");
    }
    let prepared = install.finish().expect("what is sent is whole");
    to.install(prepared).expect("the other store is empty");
}

/// Writes, compacts and sweeps.
fn write(store: &Store) {
    let apply = |command: Command| -> Outcome {
        let index = store.applied().map_or(1, |point| point.index + 1);
        let applied = store.apply(&[(index, Some(command.by(Caller::Node)))], Bytes::new());
        let mut applied = applied.expect("what is stored is whole");
        applied.outcomes.pop().expect("one command has one outcome")
    };
    let everything = DeleteRange {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        prev_kv: true,
    };
    let put = Put {
        key: Bytes::from_static(b"a"),
        prev_kv: true,
        ..Put::default()
    };
    apply(Command::Put(put.clone()));
    apply(Command::DeleteRange(everything));
    apply(Command::Put(put));
    let leases: Vec<i64> = store.with_state(|state| state.leases().collect());
    apply(Command::LeaseExpire(kv_core::LeaseExpire {
        ids: leases,
        now_ms: u64::MAX,
    }));
    apply(Command::Compact(Compact {
        revision: store.revision(),
    }));
    while store.sweep_step().expect("what is stored is whole") {}
    store.sync().expect("what is stored is whole");
}

#[cfg(test)]
mod tests {
    use quorate_fuzzing::twin;

    #[test]
    fn engine() {
        twin("store", super::engine_seeds(), super::engine);
    }

    #[test]
    fn snapshot() {
        twin("snapshot", super::snapshot_seeds(), super::snapshot);
    }

    #[test]
    fn current() {
        twin("current", super::current_seeds(), super::current);
    }
}

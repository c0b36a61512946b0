//! The directory of a store: which generation of the data is the live one.
//!
//! ```text
//! <dir>/LOCK              held while a process has the store open
//! <dir>/CURRENT           names the live generation, and how much of it has been made durable
//! <dir>/generation-N/     an engine
//! ```
//!
//! `CURRENT` changes by an atomic rename, synced before and after: a crash leaves the old text or
//! the new one. Generations it does not name were abandoned and are removed at the next open.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    engine::{Engine, EngineError, MemEngine, SledEngine, SledOptions},
    error::OpenError,
    sim::SimDir,
};

/// The version of the whole format: layout, keys, records.
const FORMAT: u32 = 2;

/// What `CURRENT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Current {
    /// The live generation.
    pub(crate) generation: u64,
    /// The applied index that was synced in it, 0 at first.
    pub(crate) durable_index: u64,
}

pub(crate) const FIRST: Current = Current {
    generation: 1,
    durable_index: 0,
};

/// Where generations live.
#[derive(Debug)]
pub(crate) enum Home {
    /// Nowhere: they are gone when they are dropped.
    Memory,
    /// In a directory.
    Disk(DiskHome),
    /// In a simulated directory.
    Simulated(SimDir),
}

/// An open store directory.
#[derive(Debug)]
pub(crate) struct DiskHome {
    dir: PathBuf,
    sled: SledOptions,
    current: Mutex<Current>,
    /// Unlocked when it is closed.
    _lock: File,
}

/// One generation's place. Its files go when it is dropped and was marked as abandoned.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    dir: Option<PathBuf>,
    abandoned: AtomicBool,
}

impl Generation {
    fn in_memory(number: u64, abandoned: bool) -> Generation {
        Generation {
            number,
            dir: None,
            abandoned: abandoned.into(),
        }
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    fn keep(&self) {
        self.abandoned.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir
            && self.is_abandoned()
            && let Err(error) = fs::remove_dir_all(dir)
        {
            // The next open removes what is left.
            tracing::warn!(dir = %dir.display(), "cannot remove an old generation: {error}");
        }
    }
}

impl Home {
    /// Opens a directory, makes it if it is missing, and clears abandoned generations away.
    pub(crate) fn open(dir: &Path, sled: SledOptions) -> Result<Home, OpenError> {
        let failed = |error: io::Error| open_error(dir, error.into());
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("LOCK"))
            .map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked { dir: dir.to_owned() },
            TryLockError::Error(error) => failed(error),
        })?;
        let current = match fs::read(dir.join("CURRENT")) {
            Ok(text) => parse(dir, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !generations(dir).map_err(failed)?.is_empty() {
                    let reason = "there is data, but no file CURRENT that says what is valid".into();
                    return Err(OpenError::Damaged {
                        dir: dir.to_owned(),
                        reason,
                    });
                }
                write(dir, FIRST).map_err(failed)?;
                FIRST
            }
            Err(error) => return Err(failed(error)),
        };
        for (number, path) in generations(dir).map_err(failed)? {
            if number != current.generation {
                tracing::info!(dir = %path.display(), "removing an abandoned generation");
                fs::remove_dir_all(path).map_err(failed)?;
            }
        }
        Ok(Home::Disk(DiskHome {
            dir: dir.to_owned(),
            sled,
            current: Mutex::new(current),
            _lock: lock,
        }))
    }

    /// What `CURRENT` says.
    pub(crate) fn current(&self) -> Current {
        match self {
            Home::Memory => FIRST,
            Home::Disk(home) => *home.current.lock(),
            Home::Simulated(dir) => dir.current(),
        }
    }

    /// Opens the live generation's engine.
    pub(crate) fn open_live(&self) -> Result<(Arc<dyn Engine>, Generation), OpenError> {
        let number = self.current().generation;
        let home = match self {
            Home::Memory => {
                return Ok((
                    Arc::new(MemEngine::default()),
                    Generation::in_memory(number, false),
                ));
            }
            Home::Simulated(dir) => return Ok((dir.engine(number), Generation::in_memory(number, false))),
            Home::Disk(home) => home,
        };
        let dir = home.generation_dir(number);
        let engine = SledEngine::open(&dir, &home.sled).map_err(|error| open_error(&home.dir, error))?;
        home.sync_dir()
            .map_err(|error| open_error(&home.dir, error.into()))?;
        Ok((
            Arc::new(engine),
            Generation {
                number,
                dir: Some(dir),
                abandoned: false.into(),
            },
        ))
    }

    /// Makes an engine for a generation that is not live yet. Abandoned until [`Home::switch`].
    pub(crate) fn create_next(&self) -> Result<(Arc<dyn Engine>, Generation), EngineError> {
        let home = match self {
            Home::Memory => return Ok((Arc::new(MemEngine::default()), Generation::in_memory(0, true))),
            Home::Simulated(dir) => {
                let number = dir.next_generation();
                return Ok((dir.engine(number), Generation::in_memory(number, true)));
            }
            Home::Disk(home) => home,
        };
        let last = generations(&home.dir)?
            .into_iter()
            .map(|(number, _)| number)
            .max();
        let number = last.unwrap_or(0).max(home.current.lock().generation) + 1;
        let dir = home.generation_dir(number);
        // Marked as abandoned before anything is there, so that a failure leaves nothing behind.
        let generation = Generation {
            number,
            dir: Some(dir.clone()),
            abandoned: true.into(),
        };
        fs::create_dir(&dir)?;
        let engine = SledEngine::open(&dir, &home.sled)?;
        home.sync_dir()?;
        Ok((Arc::new(engine), generation))
    }

    /// Makes a generation the live one, with that index durable in it.
    pub(crate) fn switch(&self, to: &Generation, durable_index: u64) -> Result<(), EngineError> {
        let next = Current {
            generation: to.number,
            durable_index,
        };
        match self {
            Home::Memory => {}
            Home::Simulated(dir) => dir.set_current(next)?,
            Home::Disk(home) => {
                let mut current = home.current.lock();
                write(&home.dir, next)?;
                *current = next;
            }
        }
        to.keep();
        Ok(())
    }

    /// Records that an index is durable in a generation, unless that is no longer the live one.
    pub(crate) fn record_durable(&self, of: &Generation, durable_index: u64) -> Result<(), EngineError> {
        let newer = |current: Current| {
            let is_newer = current.generation == of.number && current.durable_index < durable_index;
            is_newer.then_some(Current {
                durable_index,
                ..current
            })
        };
        match self {
            Home::Memory => {}
            Home::Simulated(dir) => {
                if let Some(next) = newer(dir.current()) {
                    dir.set_current(next)?;
                }
            }
            Home::Disk(home) => {
                let mut current = home.current.lock();
                if let Some(next) = newer(*current) {
                    write(&home.dir, next)?;
                    *current = next;
                }
            }
        }
        Ok(())
    }
}

impl DiskHome {
    fn generation_dir(&self, number: u64) -> PathBuf {
        self.dir.join(format!("generation-{number}"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// What an engine's failure to open says about the store.
pub(crate) fn open_error(dir: &Path, error: EngineError) -> OpenError {
    let dir = dir.to_owned();
    match error {
        EngineError::Locked(_) => OpenError::Locked { dir },
        EngineError::NotWritable(reason) => OpenError::NotWritable { dir, reason },
        EngineError::NoSpace { free_bytes, .. } => OpenError::NoSpace { dir, free_bytes },
        EngineError::Corrupt(reason) | EngineError::Stopped(reason) => OpenError::Damaged { dir, reason },
        EngineError::Io(reason) | EngineError::SpaceRanOut(reason) => OpenError::Io { dir, reason },
    }
}

/// Renames a store directory to the first free `<dir>.damaged-N`.
pub(crate) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let name = dir
        .file_name()
        .ok_or_else(|| io::Error::other("the directory has no name"))?;
    let mut number = 1;
    loop {
        let mut aside = name.to_owned();
        aside.push(format!(".damaged-{number}"));
        let aside = parent.join(aside);
        if !aside.try_exists()? {
            fs::rename(dir, &aside)?;
            File::open(parent)?.sync_all()?;
            return Ok(aside);
        }
        number += 1;
    }
}

/// The generations present, by number.
fn generations(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("generation-")?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    Ok(found)
}

pub(crate) fn text(current: Current) -> String {
    let Current {
        generation,
        durable_index,
    } = current;
    let body = format!("quorate store {FORMAT}\ngeneration {generation}\ndurable {durable_index}\n");
    let crc = crc32c::crc32c(body.as_bytes());
    format!("{body}checksum {crc:08x}\n")
}

fn write(dir: &Path, current: Current) -> io::Result<()> {
    let temporary = dir.join("CURRENT.new");
    let mut file = File::create(&temporary)?;
    file.write_all(text(current).as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, dir.join("CURRENT"))?;
    File::open(dir)?.sync_all()
}

pub(crate) fn parse(dir: &Path, bytes: &[u8]) -> Result<Current, OpenError> {
    let damaged = || OpenError::Damaged {
        dir: dir.to_owned(),
        reason: "the file CURRENT is damaged".into(),
    };
    let found = std::str::from_utf8(bytes).map_err(|_| damaged())?;
    let (body, checksum) = found.rsplit_once("checksum ").ok_or_else(damaged)?;
    let crc = u32::from_str_radix(checksum.trim_end(), 16).map_err(|_| damaged())?;
    if crc != crc32c::crc32c(body.as_bytes()) {
        return Err(damaged());
    }
    let mut lines = body.lines();
    let mut field = |name: &str| {
        lines
            .next()
            .and_then(|line| line.strip_prefix(name)?.parse::<u64>().ok())
    };
    let format = field("quorate store ").ok_or_else(damaged)?;
    if format > u64::from(FORMAT) {
        let found = u32::try_from(format).unwrap_or(u32::MAX);
        return Err(OpenError::NewerVersion {
            dir: dir.to_owned(),
            found,
            known: FORMAT,
        });
    }
    if format < u64::from(FORMAT) {
        return Err(OpenError::Damaged {
            dir: dir.to_owned(),
            reason: format!("it has format {format}, which is no longer read"),
        });
    }
    let current = Current {
        generation: field("generation ").ok_or_else(damaged)?,
        durable_index: field("durable ").ok_or_else(damaged)?,
    };
    // Byte for byte what this version writes: a flipped bit is never read past.
    if found != text(current) {
        return Err(damaged());
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_comes_back_and_flips_are_found() {
        let dir = Path::new("d");
        let current = Current {
            generation: 12,
            durable_index: 34_567,
        };
        let text = text(current);
        assert_eq!(parse(dir, text.as_bytes()).expect("parses"), current);
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone().into_bytes();
                flipped[at] ^= 1 << bit;
                let result = parse(dir, &flipped);
                assert!(
                    matches!(result, Err(OpenError::Damaged { .. })),
                    "byte {at} bit {bit}: {result:?}"
                );
            }
        }
        assert!(parse(dir, &text.as_bytes()[..text.len() / 2]).is_err());
        assert!(parse(dir, b"").is_err());
    }

    #[test]
    fn a_newer_format_is_named() {
        let body = "quorate store 7\nsomething else\n";
        let text = format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()));
        let result = parse(Path::new("d"), text.as_bytes());
        assert!(matches!(
            result,
            Err(OpenError::NewerVersion {
                found: 7,
                known: 2,
                ..
            })
        ));
    }
}

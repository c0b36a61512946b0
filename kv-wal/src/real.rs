//! A directory of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::disk::{Disk, DiskFile};

/// How much room of a removed file is given back at once, and the pause after it. A disk that is told of every block that
/// is free (mount option `discard`) does nothing else meanwhile: for 50 to 100 ms after a segment of 64 MiB.
const GIVEN_BACK_BYTES: u64 = 4 << 20;
const GIVE_BACK_PAUSE: Duration = Duration::from_millis(50);
/// With more files than this waiting, there is no pause: a log that is written as fast as that must not fill its disk with
/// what it has removed.
const GIVING_BACK_MAX: usize = 16;

/// A directory of the operating system. Nothing else may write to it; keeping a second process out is left
/// to whoever owns the data directory.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
    removed: Arc<Removed>,
}

impl RealDisk {
    /// The directory at `path`, made if it is missing.
    ///
    /// # Errors
    /// It cannot be made or synced.
    pub fn new(path: impl AsRef<Path>) -> io::Result<RealDisk> {
        let directory = path.as_ref().to_path_buf();
        if !directory.is_dir() {
            fs::create_dir_all(&directory)?;
            // The new name must survive a power cut, or acknowledged entries go with it.
            let parent = directory.parent().filter(|p| !p.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(RealDisk {
            directory,
            removed: Arc::default(),
        })
    }

    fn file(&self, file: File) -> Arc<dyn DiskFile> {
        Arc::new(RealFile {
            file,
            removed: Arc::clone(&self.removed),
        })
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.directory.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        Ok(self.file(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.directory.join(name))?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.directory.join(from), self.directory.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.directory.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// The files that were removed: a thread gives their room back, bit by bit.
#[derive(Debug, Default)]
struct Removed {
    queue: OnceLock<mpsc::Sender<File>>,
    /// Files whose room is not all given back.
    waiting: Arc<AtomicUsize>,
}

impl Removed {
    /// Gives back the room of a file that has no name any more, and that nobody else has open.
    fn give_back(&self, file: File) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Without the thread the file is closed here, and its room is free.
        drop(self.queue.get_or_init(|| self.start()).send(file));
    }

    fn start(&self) -> mpsc::Sender<File> {
        let (queue, files) = mpsc::channel::<File>();
        let waiting = Arc::clone(&self.waiting);
        let started = thread::Builder::new()
            .name("wal-removal".to_string())
            .spawn(move || {
                for file in files {
                    let too_many = waiting.load(Ordering::Relaxed) > GIVING_BACK_MAX;
                    shorten(&file, if too_many { Duration::ZERO } else { GIVE_BACK_PAUSE });
                    drop(file);
                    waiting.fetch_sub(1, Ordering::Relaxed);
                }
            });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread gives back the room of removed segments: they go at one stroke");
        }
        queue
    }
}

/// Shortens a file until there is no more left of it than is given back at once.
fn shorten(file: &File, pause: Duration) {
    let mut bytes = file.metadata().map_or(0, |metadata| metadata.len());
    while bytes > GIVEN_BACK_BYTES {
        bytes -= GIVEN_BACK_BYTES;
        if let Err(error) = file.set_len(bytes) {
            tracing::warn!(%error, "a removed segment goes at one stroke");
            return;
        }
        thread::sleep(pause);
    }
}

struct RealFile {
    file: File,
    removed: Arc<Removed>,
}

impl Drop for RealFile {
    fn drop(&mut self) {
        let is_removed = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.nlink() == 0 && metadata.len() > GIVEN_BACK_BYTES);
        if is_removed && let Ok(file) = self.file.try_clone() {
            self.removed.give_back(file);
        }
    }
}

impl DiskFile for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let allocated = loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Err(Errno::INTR) => {}
                // A file system without allocation gets a sparse file: a full disk is met at the write.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => break self.file.set_len(size),
                done => break done.map_err(io::Error::from),
            }
        };
        allocated.inspect_err(|_| {
            // What it has got are the last free blocks of a full disk.
            if let Err(error) = self.file.set_len(0) {
                tracing::warn!(%error, "a half-allocated segment keeps its room");
            }
        })
    }

    fn clear(&self, range: Range<u64>) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; 64 << 10];
        for offset in range.clone().step_by(ZEROS.len()) {
            let count = (range.end - offset).min(ZEROS.len() as u64);
            self.file.write_all_at(&ZEROS[..count as usize], offset)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const BYTES: u64 = 4 * GIVEN_BACK_BYTES + 1;

    #[test]
    fn the_room_of_a_removed_file_is_given_back_when_nobody_reads_it_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        let file = disk.create("segment").unwrap();
        file.allocate(BYTES).unwrap();
        file.write_all_at(b"end", BYTES - 3).unwrap();
        let room = File::open(dir.path().join("segment")).unwrap();
        let reader = Arc::clone(&file);
        disk.remove("segment").unwrap();
        drop(file);
        let mut end = [0; 3];
        reader.read_exact_at(&mut end, BYTES - 3).unwrap();
        assert_eq!(&end, b"end");
        drop(reader);
        let until = Instant::now() + Duration::from_secs(30);
        while room.metadata().unwrap().len() > GIVEN_BACK_BYTES {
            assert!(Instant::now() < until, "{:?}", room.metadata());
            thread::sleep(GIVE_BACK_PAUSE);
        }
    }

    #[test]
    fn a_file_that_has_a_name_keeps_its_room() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path()).unwrap();
        disk.create("segment").unwrap().allocate(BYTES).unwrap();
        assert!(disk.removed.queue.get().is_none());
        assert_eq!(disk.open("segment").unwrap().size().unwrap(), BYTES);
    }
}

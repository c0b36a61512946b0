//! A directory of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::disk::{Disk, DiskFile};

/// A directory of the operating system. Nothing else may write to it; keeping a second process out is left
/// to whoever owns the data directory.
#[derive(Debug)]
pub struct RealDisk {
    directory: PathBuf,
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
        Ok(RealDisk { directory })
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
        Ok(Arc::new(RealFile { file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.directory.join(name))?;
        Ok(Arc::new(RealFile { file }))
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

struct RealFile {
    file: File,
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
        loop {
            match fallocate(&self.file, FallocateFlags::empty(), 0, size) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => continue,
                // A file system without allocation gets a sparse file: a full disk is met at the write.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.file.set_len(size),
                Err(error) => return Err(error.into()),
            }
        }
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

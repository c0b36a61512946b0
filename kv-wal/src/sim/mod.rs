//! A disk in memory that can lose power, fail, fill up, and flip bits.
//!
//! It keeps apart what programs see and what is durable. [`SimDisk::crash`] throws away what was never
//! synced, whole or in parts: writes are lost, cut short, or torn by sectors of 512 bytes, each on its own;
//! names that were created, moved or removed without a sync of the directory may or may not have been. The
//! same calls and the same [`Crash`] always give the same disk.
//!
//! A sync that fails behaves like Linux: the data stays visible, the next sync succeeds, and still the data
//! never reaches the disk.

mod file;
mod names;
mod random;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile};
use file::FileData;
use names::{NameChange, Names};
use random::Random;

/// What becomes of unsynced changes when the power fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All of them are lost.
    LoseAll,
    /// All of them reached the disk: also what a killed process leaves behind.
    KeepAll,
    /// Each is kept, lost, cut short, or torn by sectors, as this seed decides.
    Random(u64),
}

/// What happens at an operation of choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power fails while it is under way; nothing works until [`SimDisk::crash`].
    PowerOff,
    /// It fails with this error. Of a write, the first half is done.
    Error(io::ErrorKind),
}

/// The disk. Clones are the same disk; [`SimDisk::fork`] makes another.
///
/// Give a program that is to die in a crash a [`SimDisk::mount`] of it: threads of its that still run must
/// not reach the disk of the next boot.
#[derive(Clone, Default)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
    /// Works only until the next crash after this many.
    boot: Option<u64>,
}

#[derive(Clone, Default)]
struct World {
    names: Names,
    files: BTreeMap<u64, FileData>,
    next_file: u64,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    capacity_bytes: Option<u64>,
    refuse_writes: bool,
    power_off: bool,
    /// Handles from before a crash are dead.
    boot: u64,
}

impl SimDisk {
    /// An empty disk without limits.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// A copy that goes its own way.
    pub fn fork(&self) -> SimDisk {
        let world = self.world.lock().clone();
        SimDisk {
            world: Arc::new(Mutex::new(world)),
            boot: None,
        }
    }

    /// The same disk until it crashes; dead from then on.
    pub fn mount(&self) -> Arc<SimDisk> {
        let boot = self.world.lock().boot;
        Arc::new(SimDisk {
            world: Arc::clone(&self.world),
            boot: Some(boot),
        })
    }

    /// The disk, if this handle still works.
    fn running(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world.lock();
        if self.boot.is_some_and(|boot| boot != world.boot) {
            return Err(power_is_off());
        }
        world.powered()?;
        Ok(world)
    }

    /// How many operations have changed or synced something; failed ones count.
    pub fn operations(&self) -> u64 {
        self.world.lock().operations
    }

    /// Plans a fault for the operation after `operations` of them, counted from the beginning.
    pub fn fail_at(&self, operation: u64, fault: Fault) {
        self.world.lock().faults.insert(operation, fault);
    }

    /// The power fails and comes back. Open handles are dead, planned faults are forgotten.
    pub fn crash(&self, crash: Crash) {
        self.world.lock().crash(crash);
    }

    /// Room for all files together; `None`: without limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world.lock().capacity_bytes = bytes;
    }

    /// Makes every write meet a full disk, also into allocated room, as on a copy-on-write file system.
    pub fn refuse_writes(&self, refuse: bool) {
        self.world.lock().refuse_writes = refuse;
    }

    /// Turns a bit around, on the disk and in what programs see. `false`: there is no such bit.
    pub fn flip_bit(&self, name: &str, bit: u64) -> bool {
        let mut world = self.world.lock();
        let Some(id) = world.names.get(name) else {
            return false;
        };
        world.files.get_mut(&id).is_some_and(|file| file.flip(bit))
    }

    /// Shortens a file, durably, as somebody with the wrong tool might.
    pub fn cut_file(&self, name: &str, size: u64) {
        let mut world = self.world.lock();
        if let Some(id) = world.names.get(name)
            && let Some(file) = world.files.get_mut(&id)
        {
            file.cut(size as usize);
        }
    }

    /// What programs see of a file.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world.lock();
        world
            .files
            .get(&world.names.get(name)?)
            .map(|file| file.visible().to_vec())
    }
}

impl World {
    /// Counts an operation. `Ok(Some(fault))`: it happens, but not as it should.
    fn operation(&mut self) -> io::Result<Option<Fault>> {
        self.powered()?;
        self.operations += 1;
        let fault = self.faults.remove(&self.operations);
        self.power_off = fault == Some(Fault::PowerOff);
        Ok(fault)
    }

    fn powered(&self) -> io::Result<()> {
        if self.power_off {
            Err(power_is_off())
        } else {
            Ok(())
        }
    }

    fn file(&mut self, boot: u64, id: u64) -> io::Result<&mut FileData> {
        if boot != self.boot {
            return Err(power_is_off());
        }
        self.files
            .get_mut(&id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room_left(&self) -> u64 {
        let used: u64 = self
            .names
            .all()
            .filter_map(|id| self.files.get(&id))
            .map(FileData::size)
            .sum();
        self.capacity_bytes
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(used))
    }

    fn room_for(&self, more_bytes: u64) -> io::Result<()> {
        if more_bytes > self.room_left() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    /// A change of names, which always happens as a whole or not at all.
    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        match self.operation()? {
            None => self.names.apply(change),
            Some(Fault::PowerOff) => {
                self.names.apply(change)?;
                Err(power_is_off())
            }
            Some(Fault::Error(kind)) => Err(kind.into()),
        }
    }

    fn crash(&mut self, crash: Crash) {
        self.boot += 1;
        self.power_off = false;
        self.faults.clear();
        let mut random = Random::new(crash);
        self.names.crash(crash, &mut random);
        for file in self.files.values_mut() {
            file.crash(crash, &mut random);
        }
        let named: Vec<u64> = self.names.all().collect();
        self.files.retain(|id, _| named.contains(id));
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let world = self.running()?;
        Ok(world.names.list())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.running()?;
        if world.names.get(name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.next_file += 1;
        let id = world.next_file;
        world.files.insert(id, FileData::default());
        world.change_names(NameChange::Create {
            name: name.to_string(),
            id,
        })?;
        Ok(Arc::new(SimFile {
            world: Arc::clone(&self.world),
            boot: world.boot,
            id,
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.running()?;
        let id = world.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile {
            world: Arc::clone(&self.world),
            boot: world.boot,
            id,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.running()?;
        let id = world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.change_names(NameChange::Rename {
            from: from.to_string(),
            to: to.to_string(),
            id,
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.running()?.change_names(NameChange::Remove {
            name: name.to_string(),
        })
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.running()?;
        match world.operation()? {
            None => {
                world.names.sync();
                Ok(())
            }
            Some(Fault::PowerOff) => Err(power_is_off()),
            Some(Fault::Error(kind)) => Err(kind.into()),
        }
    }
}

/// An open file of a [`SimDisk`].
struct SimFile {
    world: Arc<Mutex<World>>,
    boot: u64,
    id: u64,
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.world.lock().file(self.boot, self.id)?.size())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        world.powered()?;
        let visible = world.file(self.boot, self.id)?.visible();
        let bytes = visible
            .get(offset as usize..)
            .and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let size = world.file(self.boot, self.id)?.size();
        let fault = world.operation()?;
        let full = world.refuse_writes.then_some(io::ErrorKind::StorageFull);
        let room = world.room_for((offset + data.len() as u64).saturating_sub(size));
        let file = world.file(self.boot, self.id)?;
        match (fault, full) {
            (Some(Fault::PowerOff), _) => {
                file.write(data, offset);
                Err(power_is_off())
            }
            (Some(Fault::Error(kind)), _) | (None, Some(kind)) => {
                file.write(&data[..data.len() / 2], offset);
                Err(kind.into())
            }
            (None, None) => {
                room?;
                file.write(data, offset);
                Ok(())
            }
        }
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        let mut world = self.world.lock();
        let more = size.saturating_sub(world.file(self.boot, self.id)?.size());
        let fault = world.operation()?;
        let room = world.room_for(more);
        let left = world.room_left();
        let file = world.file(self.boot, self.id)?;
        match fault {
            Some(Fault::PowerOff) => {
                file.allocate(size);
                Err(power_is_off())
            }
            Some(Fault::Error(kind)) => Err(kind.into()),
            None => {
                if room.is_err() {
                    // Like ext4: what is left is taken, and then there is not enough.
                    file.allocate(left);
                }
                room?;
                file.allocate(size);
                Ok(())
            }
        }
    }

    /// Changes nothing, and sees to it that there was nothing.
    fn clear(&self, range: Range<u64>) -> io::Result<()> {
        let mut world = self.world.lock();
        world.powered()?;
        let visible = world.file(self.boot, self.id)?.visible();
        let cleared = visible.get(range.start as usize..range.end as usize);
        let is_zero = cleared.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        assert!(is_zero, "what was written is cleared, or what is not allocated");
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.world.lock();
        world.file(self.boot, self.id)?;
        let fault = world.operation()?;
        let file = world.file(self.boot, self.id)?;
        match fault {
            Some(Fault::PowerOff) => Err(power_is_off()),
            Some(Fault::Error(kind)) => {
                file.forget_unsynced();
                Err(kind.into())
            }
            None => {
                file.sync();
                Ok(())
            }
        }
    }
}

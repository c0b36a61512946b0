//! The golden suite of `Engine`: each script in `tests/engine/` runs on both engines, and both must
//! answer what it says.

use std::{error::Error, fmt::Write as _, ops::Bound};

use bytes::Bytes;
use goldenscript::{Argument, Command, Context};
use kv_store::{Batch, Engine, MemEngine, SledEngine, SledOptions};

struct Runner {
    engine: Option<Box<dyn Engine>>,
    /// The directory of an engine that can be opened again.
    dir: Option<tempfile::TempDir>,
}

impl Runner {
    fn mem() -> Self {
        Self {
            engine: Some(Box::new(MemEngine::default())),
            dir: None,
        }
    }

    fn sled() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut runner = Self {
            engine: None,
            dir: Some(dir),
        };
        runner.open();
        runner
    }

    fn open(&mut self) {
        if let Some(dir) = &self.dir {
            self.engine = None;
            let engine = SledEngine::open(dir.path(), &SledOptions::default()).expect("opens");
            self.engine = Some(Box::new(engine));
        }
    }

    fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("open")
    }

    fn batch(&self, command: &Command) -> Batch {
        let mut batch = Batch::default();
        for arg in &command.args {
            match arg {
                Argument::KeyValue(key, value) => batch.put(bytes(key), bytes(value)),
                Argument::Positional(key) => batch.delete(bytes(key)),
                other => panic!("no write: {other}"),
            }
        }
        batch
    }

    /// `count` pairs with keys of four digits and values of `size` bytes in one batch.
    fn fill(&self, command: &Command) -> Result<(), Box<dyn Error>> {
        let mut args = command.consume_args();
        let count: usize = args.take_key("count").ok_or("count?")?.parse()?;
        let size: usize = args.take_key("size").ok_or("size?")?.parse()?;
        args.reject_next()?;
        let mut batch = Batch::default();
        for i in 0..count {
            batch.put(Bytes::from(format!("{i:04}")), Bytes::from(vec![b'x'; size]));
        }
        Ok(self.engine().batch(&batch)?)
    }

    /// `scan` prints every pair of the range, `count` a summary of them, `last` the last one.
    fn range(&self, command: &Command) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let (from, to) = (args.take_key("from"), args.take_key("to"));
        let (after, through) = (args.take_key("after"), args.take_key("through"));
        args.reject_next()?;
        let lower = bound(from, after);
        let upper = bound(through, to);
        let pairs = match command.name.as_str() {
            "last" => self.engine().last((lower, upper))?.into_iter().collect(),
            _ => self
                .engine()
                .scan((lower, upper))
                .collect::<Result<Vec<_>, _>>()?,
        };
        let mut out = String::new();
        if command.name == "count" {
            assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0), "in key order");
            let bytes: usize = pairs.iter().map(|(_, value)| value.len()).sum();
            writeln!(out, "{} pairs, {bytes} bytes of values", pairs.len())?;
        } else {
            for (key, value) in pairs {
                writeln!(out, "{}={}", key.escape_ascii(), value.escape_ascii())?;
            }
        }
        Ok(out)
    }
}

/// The bytes a script writes: `\xNN` is one byte, so that keys need not be text.
fn bytes(text: &str) -> Bytes {
    Bytes::from(
        text.chars()
            .map(|c| u8::try_from(u32::from(c)).expect("Latin-1"))
            .collect::<Vec<u8>>(),
    )
}

fn bound<'a>(included: Option<&'a str>, excluded: Option<&'a str>) -> Bound<&'a [u8]> {
    match (included, excluded) {
        (Some(key), _) => Bound::Included(key.as_bytes()),
        (None, Some(key)) => Bound::Excluded(key.as_bytes()),
        (None, None) => Bound::Unbounded,
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        match command.name.as_str() {
            "batch" => self.engine().batch(&self.batch(command))?,
            "fill" => self.fill(command)?,
            "sync" => self.engine().sync()?,
            "reopen" => self.open(),
            "scan" | "count" | "last" => return self.range(command),
            "get" => {
                let key = command.consume_args().next_pos().ok_or("key?")?;
                return Ok(match self.engine().get(&bytes(key))? {
                    Some(value) => format!("{}\n", value.escape_ascii()),
                    None => "none\n".to_owned(),
                });
            }
            other => return Err(format!("unknown command {other}").into()),
        }
        Ok(String::new())
    }
}

macro_rules! golden {
    ($($script:ident),*) => { $(mod $script {
        use super::*;
        #[test]
        fn mem() {
            goldenscript::run(&mut Runner::mem(), concat!("tests/engine/", stringify!($script))).expect("runs");
        }
        #[test]
        fn sled() {
            goldenscript::run(&mut Runner::sled(), concat!("tests/engine/", stringify!($script))).expect("runs");
        }
    })* };
}

golden!(points, scans, batches);

//! `snapshot save|status|restore`: a backup fetched, looked at, and put where a new cluster begins with it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use kv_backup::{BackupError, Hash, Manifest, RESTORE_FILE};
use serde_json::json;

use super::args::{GlobalArgs, WriteOut};
use super::commands::Outcome;
use super::exit::{Exit, Failure};
use super::fields::Fields;
use super::output::{print, table};
use crate::Client;

/// Commands about backups.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Fetch a backup of everything from the first endpoint, and check it
    Save {
        /// Where to keep it; what is there is replaced once the backup is whole
        file: PathBuf,
    },
    /// Check a backup and print what it is of
    Status {
        /// The backup
        file: PathBuf,
    },
    /// Make a data directory of which a new cluster is started
    #[command(after_help = RESTORE_HELP)]
    Restore {
        /// The backup
        file: PathBuf,
        /// The directory, which must be empty or not exist yet
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
    },
}

const RESTORE_HELP: &str = "\
Restore the same file for every member, each into its own directory, and start them as a new cluster:
  kv-node --name n1 --data-dir DIR --initial-cluster n1=http://HOST1:2380,n2=http://HOST2:2380,...
The cluster gets a new id; members that start without the backup, or with another one, are refused.";

/// A backup that was checked.
struct Checked {
    manifest: Manifest,
    hash: Hash,
    bytes: u64,
}

/// Runs one of the commands.
pub(super) async fn run(global: &GlobalArgs, command: &SnapshotCommand) -> Outcome {
    match command {
        SnapshotCommand::Save { file } => {
            let checked = save(global, file).await?;
            // Standard output is for what a script reads.
            eprintln!("Snapshot saved at {}", file.display());
            show(global, &checked)
        }
        SnapshotCommand::Status { file } => show(global, &check(file)?),
        SnapshotCommand::Restore { file, data_dir } => restore(file, data_dir),
    }
}

async fn save(global: &GlobalArgs, file: &Path) -> Result<Checked, Failure> {
    let client = Client::new(global.config())?;
    let endpoint = global.endpoints.first().map_or("", String::as_str);
    let mut parts = client.snapshot(endpoint).await?;
    let new = beside(file, "part");
    let written = |error| unwritable(&new, &error);
    let mut out = BufWriter::new(File::create(&new).map_err(written)?);
    let progress = progress();
    while let Some(part) = parts.part().await? {
        out.write_all(&part.blob).map_err(written)?;
        progress.inc(part.blob.len() as u64);
        progress.set_length(progress.position() + part.remaining_bytes);
    }
    progress.finish_and_clear();
    let out = out
        .into_inner()
        .map_err(|error| unwritable(&new, error.error()))?;
    out.sync_all().map_err(written)?;
    // What was written is read: what the disk holds counts.
    let checked = check(&new)?;
    put_in_place(&new, file)?;
    Ok(checked)
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bytes} of about {total_bytes}  {binary_bytes_per_sec}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn check(file: &Path) -> Result<Checked, Failure> {
    let failed = |error: BackupError| {
        let what = format!("{}: {error}", file.display());
        Failure::new(
            Exit::Other,
            what,
            "fetch a backup with snapshot save, and keep it as it is",
        )
    };
    let input = File::open(file).map_err(|error| failed(error.into()))?;
    let (manifest, hash, bytes) = kv_backup::check(BufReader::new(input)).map_err(failed)?;
    Ok(Checked {
        manifest,
        hash,
        bytes,
    })
}

fn show(global: &GlobalArgs, checked: &Checked) -> Outcome {
    let Checked {
        manifest,
        hash,
        bytes,
    } = checked;
    match global.write_out.unwrap_or(WriteOut::Table) {
        WriteOut::Json => {
            let line = json!({
                "hash": hash.to_string(),
                "revision": manifest.revision,
                "totalKey": manifest.keys,
                "totalSize": bytes,
                "version": manifest.release,
            });
            print(format!("{line}\n"))?;
        }
        WriteOut::Fields => {
            let fields = Fields::default()
                .plain("Hash", hash)
                .plain("Revision", manifest.revision)
                .plain("Keys", manifest.keys)
                .plain("Size", bytes);
            print(fields.into_string())?;
        }
        WriteOut::Simple | WriteOut::Protobuf => print(format!(
            "{hash}, {}, {}, {bytes}\n",
            manifest.revision, manifest.keys
        ))?,
        WriteOut::Table => {
            let mut table = table(["HASH", "REVISION", "KEYS", "BYTES", "RELEASE"]);
            table.add_row([
                hash.to_string(),
                manifest.revision.to_string(),
                manifest.keys.to_string(),
                bytes.to_string(),
                manifest.release.clone(),
            ]);
            print(format!("{table}\n"))?;
        }
    }
    Ok(Exit::Ok)
}

fn restore(file: &Path, data_dir: &Path) -> Outcome {
    let in_dir = |error: io::Error| unwritable(data_dir, &error);
    fs::create_dir_all(data_dir).map_err(in_dir)?;
    if fs::read_dir(data_dir).map_err(in_dir)?.next().is_some() {
        return Err(Failure::usage(
            format!("{} is not empty", data_dir.display()),
            "name a directory that is empty or does not exist yet, with --data-dir",
        ));
    }
    let place = data_dir.join(RESTORE_FILE);
    let new = beside(&place, "part");
    fs::copy(file, &new).map_err(|error| unwritable(&new, &error))?;
    let checked = check(&new).inspect_err(|_| drop(fs::remove_file(&new)))?;
    File::open(&new)
        .and_then(|copy| copy.sync_all())
        .map_err(|error| unwritable(&new, &error))?;
    put_in_place(&new, &place)?;
    print(format!(
        "{} begins with revision {} ({} keys). Restore the same file for every member, then start them:\n  \
         kv-node --name NAME --data-dir {} --initial-cluster NAME=http://HOST:2380,...\n",
        data_dir.display(),
        checked.manifest.revision,
        checked.manifest.keys,
        data_dir.display()
    ))?;
    Ok(Exit::Ok)
}

/// A name for what is not whole yet.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Gives a file its name at once, so that a power cut leaves the old one or the whole new one.
fn put_in_place(new: &Path, file: &Path) -> Result<(), Failure> {
    let renamed = fs::rename(new, file).and_then(|()| {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
    });
    renamed.map_err(|error| unwritable(file, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("{} cannot be written: {error}", path.display());
    Failure::new(
        Exit::Other,
        what,
        "name a place on a disk with room that this user may write to",
    )
}

#[cfg(test)]
mod tests {
    use kv_backup::Encoder;

    use super::*;

    fn backup(dir: &Path) -> PathBuf {
        let manifest = Manifest {
            revision: 7,
            keys: 3,
            ..Manifest::default()
        };
        let (mut encoder, mut bytes) = Encoder::new(&manifest);
        bytes.append(&mut encoder.frame(b"data"));
        bytes.append(&mut encoder.finish());
        let file = dir.join("backup");
        fs::write(&file, bytes).unwrap();
        file
    }

    #[test]
    fn a_whole_backup_goes_into_an_empty_directory_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = backup(dir.path());
        let data = dir.path().join("n1");
        assert_eq!(restore(&file, &data), Ok(Exit::Ok));
        assert_eq!(
            fs::read(data.join(RESTORE_FILE)).unwrap(),
            fs::read(&file).unwrap()
        );
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
        let again = restore(&file, &data).unwrap_err();
        assert!(
            again.exit == Exit::Usage && again.what.contains("is not empty"),
            "{again:?}"
        );

        let mut bytes = fs::read(&file).unwrap();
        bytes[60] ^= 1;
        fs::write(&file, bytes).unwrap();
        let data = dir.path().join("n2");
        let damaged = restore(&file, &data).unwrap_err();
        assert!(damaged.what.contains("it is damaged"), "{damaged:?}");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0, "nothing is left behind");
        assert!(check(&dir.path().join("missing")).is_err());
    }
}

//! Transcripts in `tests/scripts`: requests, then what is answered.
//!
//! All but those named `sweep` and `lease_clock` were replayed against etcd 3.5.1, which answers the same to the letter of
//! this form. After a wanted change, write them anew with `UPDATE_GOLDENFILES=1 cargo test -p kv-core --test
//! it` and read the diff.
//!
//! Requests: `put KEY VALUE`, `delete KEY [END]`, `range KEY [END]`, `compact REVISION`, each with options as
//! `name=value`; `grant LEASE [TTL]`, `revoke LEASE`; `txn`, then `if KEY FACT is VALUE`, `then`, operations, `else`,
//! operations, `end`, one inside another where wanted. Answers start with the revision of their header.
//!
//! Of the state machine alone: `sweep KEYS` (a slice), `restart`, `records` (what the store keeps), `now MS` (the stamp
//! of what follows), `renew LEASES`, `expire LEASES`, and `leases`.

use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::ArgumentConsumer;
use kv_core::{
    Command, Compact, Compare, CompareResult, CompareTarget, DeleteRange, KeyValue, LeaseExpire, LeaseGrant,
    LeaseRenew, LeaseRevoke, Limits, Op, Outcome, Put, Range, RangeResult, Record, Response, SortOrder,
    SortTarget, State, Txn,
};

use crate::disk::Disk;

type Fallible<T> = Result<T, Box<dyn Error>>;

#[test]
fn scripts_answer_as_etcd() -> std::io::Result<()> {
    let mut scripts: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    scripts.sort();
    assert!(!scripts.is_empty(), "there are no scripts");
    for script in scripts {
        println!("{}", script.display());
        goldenscript::run(&mut Runner::default(), script)?;
    }
    Ok(())
}

/// A state machine under a script.
#[derive(Default)]
struct Runner {
    state: State,
    disk: Disk,
    cursor: Option<Bytes>,
    /// The stamp of commands that have one.
    now_ms: u64,
    /// Transactions that are being written down, the outermost first.
    open: Vec<Open>,
}

/// A transaction that is being written down, and where the next operation goes.
#[derive(Default)]
struct Open {
    txn: Txn,
    in_failure: bool,
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &goldenscript::Command, _context: &goldenscript::Context) -> Fallible<String> {
        let mut args = command.consume_args();
        let answer = self.request(&command.name, &mut args)?;
        args.reject_next()?;
        Ok(answer)
    }
}

impl Runner {
    fn request(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Fallible<String> {
        match name {
            "put" => self.op(Op::Put(put(args)?)),
            "delete" => self.op(Op::DeleteRange(delete(args)?)),
            "range" => self.op(Op::Range(range(args)?)),
            "compact" => self.apply(&Command::Compact(Compact {
                revision: position(args)?.parse()?,
            })),
            "txn" | "if" | "then" | "else" | "end" => self.txn_word(name, args),
            "grant" | "revoke" | "renew" | "expire" | "now" | "leases" => self.lease_word(name, args),
            "sweep" => self.sweep(position(args)?.parse()?),
            "restart" => {
                self.state = self.disk.restore(&self.state);
                self.cursor = None;
                Ok(String::new())
            }
            "records" => self.records(),
            _ => Err(format!("there is no command {name}").into()),
        }
    }

    /// Runs an operation, or puts it into the transaction that is being written down.
    fn op(&mut self, op: Op) -> Fallible<String> {
        if let Some(Open { txn, in_failure }) = self.open.last_mut() {
            if *in_failure {
                &mut txn.failure
            } else {
                &mut txn.success
            }
            .push(op);
            return Ok(String::new());
        }
        match op {
            Op::Put(put) => self.apply(&Command::Put(put)),
            Op::DeleteRange(delete) => self.apply(&Command::DeleteRange(delete)),
            Op::Txn(txn) => self.apply(&Command::Txn(txn)),
            Op::Range(range) => match range.validate().and_then(|()| self.state.plan(&range)) {
                Err(error) => Ok(format!("error: {error}\n")),
                Ok(plan) => {
                    let revision = plan.header_revision;
                    let result = plan.finish(&self.disk).map_err(|fault| format!("{fault:?}"))?;
                    Ok(response(revision, &Response::Range(result), ""))
                }
            },
        }
    }

    fn apply(&mut self, command: &Command) -> Fallible<String> {
        if let Err(error) = command.validate(&Limits::default()) {
            return Ok(format!("error: {error}\n"));
        }
        let Outcome { revision, result } = self.disk.apply(&mut self.state, command);
        Ok(match result {
            Ok(answer) => response(revision, &answer, ""),
            Err(error) => format!("error: {error}\n"),
        })
    }

    fn txn_word(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Fallible<String> {
        if name == "txn" {
            self.open.push(Open::default());
            return Ok(String::new());
        }
        let open = self.open.last_mut().ok_or("there is no txn")?;
        match name {
            "if" => open.txn.compare.push(compare(args)?),
            "then" => open.in_failure = false,
            "else" => open.in_failure = true,
            _ => {
                let txn = self.open.pop().ok_or("there is no txn")?.txn;
                return self.op(Op::Txn(txn));
            }
        }
        Ok(String::new())
    }

    fn sweep(&mut self, max_keys: usize) -> Fallible<String> {
        let swept = self.state.sweep(self.cursor.take(), max_keys);
        self.disk.delete(&swept);
        let mut text = String::new();
        for at in swept.dropped {
            writeln!(text, "dropped {}.{}", at.main, at.sub)?;
        }
        if let Some(next) = &swept.next {
            writeln!(text, "next {}", next.escape_ascii())?;
        }
        self.cursor = swept.next;
        Ok(text)
    }

    fn lease_word(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Fallible<String> {
        let now_ms = self.now_ms;
        let command = match name {
            "now" => {
                self.now_ms = position(args)?.parse()?;
                return Ok(String::new());
            }
            "leases" => return self.leases(),
            "grant" => {
                let id = position(args)?.parse()?;
                let ttl_s = args.next_pos().map_or(Ok(60), |ttl| ttl.parse())?;
                Command::LeaseGrant(LeaseGrant { id, ttl_s, now_ms })
            }
            "revoke" => Command::LeaseRevoke(LeaseRevoke {
                id: position(args)?.parse()?,
            }),
            "renew" => Command::LeaseRenew(LeaseRenew {
                ids: ids(args)?,
                now_ms,
            }),
            _ => Command::LeaseExpire(LeaseExpire {
                ids: ids(args)?,
                now_ms,
            }),
        };
        self.apply(&command)
    }

    fn leases(&self) -> Fallible<String> {
        let mut text = format!("clock {}\n", self.state.clock_ms());
        for id in self.state.leases() {
            let term = self.state.lease(id).ok_or("it is listed")?;
            write!(text, "{id} ttl={} ends {}", term.ttl_s, term.expires_at_ms)?;
            for key in self.state.lease_keys(id) {
                write!(text, " {}", key.escape_ascii())?;
            }
            text.push('\n');
        }
        Ok(text)
    }

    fn records(&self) -> Fallible<String> {
        let mut text = String::new();
        for (at, record) in &self.disk.records {
            let garbage = if self.state.kept(*at, record.key()) {
                ""
            } else {
                " (to be swept)"
            };
            match record {
                Record::Put(kv) => writeln!(text, "{}.{} put {}{garbage}", at.main, at.sub, pair(kv))?,
                Record::Delete { key } => {
                    writeln!(
                        text,
                        "{}.{} delete {}{garbage}",
                        at.main,
                        at.sub,
                        key.escape_ascii()
                    )?;
                }
            }
        }
        writeln!(
            text,
            "{} keys, {} bytes",
            self.state.keys(),
            self.state.live_bytes()
        )?;
        Ok(text)
    }
}

fn position<'a>(args: &mut ArgumentConsumer<'a>) -> Fallible<&'a str> {
    args.next_pos().ok_or_else(|| "something is missing".into())
}

fn ids(args: &mut ArgumentConsumer<'_>) -> Fallible<Vec<i64>> {
    let mut ids = Vec::new();
    while let Some(id) = args.next_pos() {
        ids.push(id.parse()?);
    }
    Ok(ids)
}

/// Text of a script as bytes: characters are Latin-1, so that every byte can be written.
fn bytes(text: &str) -> Fallible<Bytes> {
    Ok(text
        .chars()
        .map(|char| u8::try_from(u32::from(char)))
        .collect::<Result<Vec<u8>, _>>()?
        .into())
}

fn optional_bytes(text: Option<&str>) -> Fallible<Bytes> {
    text.map_or(Ok(Bytes::new()), bytes)
}

fn number(args: &mut ArgumentConsumer<'_>, name: &str) -> Fallible<i64> {
    Ok(args.take_key(name).map_or(Ok(0), str::parse)?)
}

fn flag(args: &mut ArgumentConsumer<'_>, name: &str) -> Fallible<bool> {
    Ok(args.take_key(name).map_or(Ok(false), str::parse)?)
}

fn put(args: &mut ArgumentConsumer<'_>) -> Fallible<Put> {
    Ok(Put {
        key: bytes(position(args)?)?,
        value: optional_bytes(args.next_pos())?,
        lease: number(args, "lease")?,
        prev_kv: flag(args, "prev_kv")?,
        ignore_value: flag(args, "ignore_value")?,
        ignore_lease: flag(args, "ignore_lease")?,
    })
}

fn delete(args: &mut ArgumentConsumer<'_>) -> Fallible<DeleteRange> {
    Ok(DeleteRange {
        key: bytes(position(args)?)?,
        range_end: optional_bytes(args.next_pos())?,
        prev_kv: flag(args, "prev_kv")?,
    })
}

fn range(args: &mut ArgumentConsumer<'_>) -> Fallible<Range> {
    let orders = ["none", "ascend", "descend"];
    let targets = ["key", "version", "create", "mod", "value"];
    let mut choice = |name: &str, choices: &[&str]| -> Fallible<i32> {
        let Some(word) = args.take_key(name) else {
            return Ok(0);
        };
        let number = choices
            .iter()
            .position(|choice| *choice == word)
            .ok_or("there is no such choice")?;
        Ok(i32::try_from(number)?)
    };
    let (sort_order, sort_target) = (choice("order", &orders)?, choice("by", &targets)?);
    Ok(Range {
        key: bytes(position(args)?)?,
        range_end: optional_bytes(args.next_pos())?,
        limit: number(args, "limit")?,
        revision: number(args, "revision")?,
        sort_order: SortOrder::try_from(sort_order)?,
        sort_target: SortTarget::try_from(sort_target)?,
        keys_only: flag(args, "keys_only")?,
        count_only: flag(args, "count_only")?,
        min_mod_revision: number(args, "min_mod")?,
        max_mod_revision: number(args, "max_mod")?,
        min_create_revision: number(args, "min_create")?,
        max_create_revision: number(args, "max_create")?,
    })
}

fn compare(args: &mut ArgumentConsumer<'_>) -> Fallible<Compare> {
    let range_end = optional_bytes(args.take_key("end"))?;
    let (key, fact, is, than) = (position(args)?, position(args)?, position(args)?, position(args)?);
    let result = match is {
        "eq" => CompareResult::Equal,
        "ne" => CompareResult::NotEqual,
        "gt" => CompareResult::Greater,
        "lt" => CompareResult::Less,
        _ => return Err(format!("nothing compares as {is}").into()),
    };
    let target = match fact {
        "version" => CompareTarget::Version(than.parse()?),
        "create" => CompareTarget::Create(than.parse()?),
        "mod" => CompareTarget::Mod(than.parse()?),
        "lease" => CompareTarget::Lease(than.parse()?),
        "value" => CompareTarget::Value(bytes(than)?),
        _ => return Err(format!("there is no fact {fact}").into()),
    };
    Ok(Compare {
        key: bytes(key)?,
        range_end,
        result,
        target,
    })
}

fn pair(kv: &KeyValue) -> String {
    // A key or value of odd bytes reads as it is written in a script; a plain one stands without quotes.
    let text = |bytes: &Bytes| {
        if bytes.iter().all(u8::is_ascii_graphic) {
            bytes.escape_ascii().to_string()
        } else {
            format!("\"{}\"", bytes.escape_ascii())
        }
    };
    let lease = if kv.lease == 0 {
        String::new()
    } else {
        format!(" lease={}", kv.lease)
    };
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    format!(
        "{}={} create={create} mod={modified} version={version}{lease}",
        text(&kv.key),
        text(&kv.value)
    )
}

/// An answer and what is in it, one line each.
fn response(revision: i64, answer: &Response, indent: &str) -> String {
    let mut text = format!("{indent}@{revision} ");
    let inner = format!("{indent}  ");
    let pairs = |kvs: &[KeyValue]| {
        kvs.iter()
            .map(|kv| format!("{inner}{}\n", pair(kv)))
            .collect::<String>()
    };
    match answer {
        Response::Put { prev_kv } => {
            text += "put\n";
            text += &pairs(prev_kv.as_slice());
        }
        Response::DeleteRange { deleted, prev_kvs } => {
            text += &format!("deleted={deleted}\n");
            text += &pairs(prev_kvs);
        }
        Response::Range(RangeResult { kvs, more, count }) => {
            text += &format!("count={count}{}\n", if *more { " more" } else { "" });
            text += &pairs(kvs);
        }
        Response::Txn { succeeded, responses } => {
            text += if *succeeded { "success\n" } else { "failure\n" };
            text.extend(
                responses
                    .iter()
                    .map(|(revision, answer)| response(*revision, answer, &inner)),
            );
        }
        Response::Compact => text += "compacted\n",
        Response::Auth => text += "done\n",
        Response::LeaseGrant { id, ttl_s } => text += &format!("granted {id} ttl={ttl_s}\n"),
        Response::LeaseRevoke => text += "revoked\n",
        Response::LeaseRenew { ttls_s } => text += &format!("renewed ttls={ttls_s:?}\n"),
        Response::LeaseExpire { expired } => text += &format!("expired {expired:?}\n"),
        Response::Alarm { alarm } => text += &format!("{alarm:?}\n"),
    }
    text
}

//! Each command: its request, and its answer in the form that was asked for.

use std::io::{BufReader, IsTerminal, Read, Write};

use bytes::Bytes;
use kv_proto::etcdserverpb::CompactionRequest;

use super::args::{CompactArgs, DelArgs, GetArgs, GlobalArgs, PutArgs, TxnArgs, WriteOut};
use super::exit::{Exit, Failure};
use super::forms::Forms;
use super::output::{RangeView, print};
use super::{fields, json, output, script, text};
use crate::{Client, Config};

/// The longest value read from standard input, in bytes: far above what a server takes.
const STDIN_BYTES_MAX: u64 = 64 << 20;

/// What a command prints, and how it ends.
pub(super) type Outcome = Result<Exit, Failure>;

/// A client and the form of its output.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) endpoints: Vec<String>,
    pub(super) write_out: Option<WriteOut>,
}

impl Session {
    pub(super) fn new(global: &GlobalArgs) -> Result<Session, Failure> {
        let config = global.config();
        Ok(Session {
            client: Client::new(config.clone())?,
            config,
            endpoints: global.endpoints.clone(),
            write_out: global.write_out,
        })
    }

    /// Prints an answer as lines unless something else was asked for.
    pub(super) fn show(&self, forms: Forms<'_>) -> Outcome {
        self.show_or(WriteOut::Simple, forms)
    }

    /// Prints an answer in the form that was asked for, or else in this one.
    pub(super) fn show_or(&self, default: WriteOut, forms: Forms<'_>) -> Outcome {
        print(forms.shown(self.write_out.unwrap_or(default)))?;
        Ok(Exit::Ok)
    }

    pub(super) async fn get(&self, args: &GetArgs) -> Outcome {
        let range = &args.range;
        if args.print_value_only && !matches!(self.write_out, None | Some(WriteOut::Simple)) {
            return Err(Failure::usage(
                "--print-value-only is for -w simple",
                "leave out one of the two",
            ));
        }
        let answer = self.client.range(range.request()).await?;
        let view = RangeView {
            keys_only: range.keys_only,
            count_only: range.count_only,
        };
        if args.print_value_only && !std::io::stdout().is_terminal() {
            print(output::raw_values(&answer))?;
        } else if args.print_value_only {
            print(output::readable_values(&answer))?;
        } else {
            let forms = Forms::new(|| json::range(&answer), || output::range(&answer, view))
                .fields(|| fields::range(&answer))
                .protobuf(&answer);
            self.show(if range.count_only {
                forms
            } else {
                forms.table(|| output::kv_table(&answer.kvs))
            })?;
        }
        if range.is_single_key() && answer.count == 0 {
            let what = format!("key {:?} not found", text::key(&range.key));
            return Err(Failure::new(
                Exit::NotFound,
                what,
                "list the keys that begin so with --prefix --keys-only",
            ));
        }
        Ok(Exit::Ok)
    }

    pub(super) async fn put(&self, args: &PutArgs) -> Outcome {
        let value = match &args.value {
            Some(value) => value.clone(),
            None if args.ignore_value => Bytes::new(),
            None => read_stdin()?,
        };
        let answer = self.client.put(args.request(value)).await?;
        let forms = Forms::new(|| json::put(&answer), || output::put(&answer))
            .fields(|| fields::put(&answer))
            .protobuf(&answer);
        self.show(if args.prev_kv {
            forms.table(|| output::kv_table(answer.prev_kv.as_slice()))
        } else {
            forms
        })
    }

    pub(super) async fn del(&self, args: &DelArgs) -> Outcome {
        let answer = self.client.delete_range(args.request()).await?;
        let forms = Forms::new(|| json::del(&answer), || output::del(&answer))
            .fields(|| fields::del(&answer))
            .protobuf(&answer);
        self.show(if args.prev_kv {
            forms.table(|| output::kv_table(&answer.prev_kvs))
        } else {
            forms
        })
    }

    pub(super) async fn txn(&self, args: TxnArgs) -> Outcome {
        // Standard output is for the answer alone.
        let mut stderr = std::io::stderr();
        let is_asked = args.interactive || std::io::stdin().is_terminal();
        let prompt = is_asked.then_some(&mut stderr as &mut dyn Write);
        let script = script::read(BufReader::new(std::io::stdin().lock()), prompt)
            .map_err(|error| Failure::usage(format!("transaction: {error}"), "see: txn --help"))?;
        let answer = self.client.txn(script.request).await?;
        let views = if answer.succeeded {
            &script.success_views
        } else {
            &script.failure_views
        };
        self.show(
            Forms::new(|| json::txn(&answer), || output::txn(&answer, views))
                .fields(|| fields::txn(&answer))
                .protobuf(&answer),
        )?;
        Ok(if answer.succeeded {
            Exit::Ok
        } else {
            Exit::CompareFailed
        })
    }

    pub(super) async fn compact(&self, args: CompactArgs) -> Outcome {
        let request = CompactionRequest {
            revision: args.revision,
            physical: args.physical,
        };
        let answer = self.client.compact(request).await?;
        self.show(Forms::new(
            || json::bare(answer.header.as_ref()),
            || format!("compacted revision {}\n", args.revision),
        ))
    }
}

/// All of standard input.
fn read_stdin() -> Result<Bytes, Failure> {
    let failed = |what: String| Failure::usage(what, "give the value as argument, or a file with < FILE");
    let mut value = Vec::new();
    std::io::stdin()
        .lock()
        .take(STDIN_BYTES_MAX + 1)
        .read_to_end(&mut value)
        .map_err(|error| failed(format!("standard input could not be read: {error}")))?;
    if value.len() as u64 > STDIN_BYTES_MAX {
        return Err(failed(format!(
            "the value on standard input is longer than {STDIN_BYTES_MAX} bytes"
        )));
    }
    Ok(value.into())
}

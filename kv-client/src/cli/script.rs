//! The text of a transaction: compares, success requests, failure requests, each part ended by an empty line.
//!
//! The language is etcdctl's. Requests are read by the same clap arguments as the commands, so that every flag
//! that makes sense in a transaction works in it. Errors name the line.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use clap::Parser;
use kv_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use kv_proto::etcdserverpb::request_op::Request;
use kv_proto::etcdserverpb::{Compare, RequestOp, TxnRequest};

use super::args::{DelArgs, PutArgs, RangeArgs};
use super::output::RangeView;
use super::values::parse_lease;

/// The longest text of a transaction in bytes: far above what a server takes.
const SCRIPT_BYTES_MAX: usize = 64 << 20;

/// A transaction, and how the answers of its ranges are to be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) request: TxnRequest,
    pub(super) success_views: Vec<RangeView>,
    pub(super) failure_views: Vec<RangeView>,
}

/// Reads a transaction; with prompts on `prompt` if there is one.
pub(super) fn read(input: impl BufRead, prompt: Option<&mut dyn Write>) -> Result<Script, String> {
    let mut lines = Lines {
        input,
        prompt,
        number: 0,
        bytes: 0,
    };
    let mut script = Script::default();
    lines.ask("compares:")?;
    while let Some(line) = lines.next_of_part()? {
        script.request.compare.push(lines.locate(compare(&line))?);
    }
    lines.ask("success requests (get, put, del):")?;
    while let Some(line) = lines.next_of_part()? {
        let (request, view) = lines.locate(request(&line))?;
        script.request.success.push(request);
        script.success_views.push(view);
    }
    lines.ask("failure requests (get, put, del):")?;
    while let Some(line) = lines.next_of_part()? {
        let (request, view) = lines.locate(request(&line))?;
        script.request.failure.push(request);
        script.failure_views.push(view);
    }
    lines.expect_end()?;
    Ok(script)
}

struct Lines<'a, R> {
    input: R,
    prompt: Option<&'a mut dyn Write>,
    /// The number of the line read last; the first is 1.
    number: usize,
    bytes: usize,
}

impl<R: BufRead> Lines<'_, R> {
    fn ask(&mut self, question: &str) -> Result<(), String> {
        let Some(prompt) = &mut self.prompt else {
            return Ok(());
        };
        writeln!(prompt, "{question}")
            .and_then(|()| prompt.flush())
            .map_err(|error| error.to_string())
    }

    /// The next line without its end and outer blanks; none at the end of the text.
    fn next(&mut self) -> Result<Option<String>, String> {
        let mut line = String::new();
        self.number += 1;
        let read = self.input.read_line(&mut line);
        self.bytes += self.locate(read.map_err(|error| error.to_string()))?;
        if self.bytes > SCRIPT_BYTES_MAX {
            return self.locate(Err(format!(
                "the transaction is longer than {SCRIPT_BYTES_MAX} bytes"
            )));
        }
        if line.is_empty() {
            Ok(None)
        } else {
            Ok(Some(line.trim().to_owned()))
        }
    }

    /// The next line of this part; none at the empty line that ends it.
    fn next_of_part(&mut self) -> Result<Option<String>, String> {
        Ok(self.next()?.filter(|line| !line.is_empty()))
    }

    /// Nothing but empty lines may follow. A person at a terminal is done already.
    fn expect_end(&mut self) -> Result<(), String> {
        if self.prompt.is_some() {
            return Ok(());
        }
        while let Some(line) = self.next()? {
            if !line.is_empty() {
                return self.locate(Err(
                    "text after the failure requests; a transaction has three parts".to_owned(),
                ));
            }
        }
        Ok(())
    }

    fn locate<T>(&self, result: Result<T, String>) -> Result<T, String> {
        result.map_err(|error| format!("line {}: {error}", self.number))
    }
}

/// Reads `mod("key") > "0"`.
fn compare(line: &str) -> Result<Compare, String> {
    const EXPECTED: &str = r#"expected a compare such as mod("key") > "0""#;
    let (target, rest) = line.split_once('(').ok_or(EXPECTED)?;
    let (key, rest) = word(rest.trim_start(), |c| c == ')' || c.is_whitespace())?;
    let rest = rest.trim_start().strip_prefix(')').ok_or(EXPECTED)?.trim_start();
    let operator_end = rest.find(|c| !"=!<>".contains(c)).ok_or(EXPECTED)?;
    let (operator, rest) = rest.split_at(operator_end);
    let result = match operator {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        "" => return Err(EXPECTED.to_owned()),
        other => return Err(format!("unknown operator {other:?}, use one of = != > <")),
    };
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Err(EXPECTED.to_owned());
    }
    let (value, rest) = word(rest, char::is_whitespace)?;
    if !rest.trim().is_empty() {
        return Err(format!("unexpected text after the compare: {:?}", rest.trim()));
    }
    let (target, union) = operand(target.trim(), value)?;
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    })
}

/// What is compared, by etcdctl's names, and with what.
fn operand(target: &str, value: Vec<u8>) -> Result<(CompareTarget, TargetUnion), String> {
    if matches!(target, "val" | "value") {
        return Ok((CompareTarget::Value, TargetUnion::Value(value.into())));
    }
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = || {
        text.parse::<i64>()
            .map_err(|_| format!("{target} is compared with a number, not with {text:?}"))
    };
    Ok(match target {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(parse_lease(&text)?)),
        other => {
            return Err(format!(
                "unknown compare {other:?}, use version, create, mod, value or lease"
            ));
        }
    })
}

/// A request in a transaction, with the flags of the command of the same name.
#[derive(Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
enum RequestLine {
    Get(RangeArgs),
    Put(PutArgs),
    Del(DelArgs),
}

/// Reads `put key "a value"` and the like.
fn request(line: &str) -> Result<(RequestOp, RangeView), String> {
    let words = words(line)?.into_iter().map(OsString::from_vec);
    let parsed = RequestLine::try_parse_from(words).map_err(|error| clap_message(&error))?;
    let mut view = RangeView::default();
    let request = match parsed {
        RequestLine::Get(args) => {
            view = RangeView {
                keys_only: args.keys_only,
                count_only: args.count_only,
            };
            Request::RequestRange(args.request())
        }
        RequestLine::Put(args) => {
            let value = match &args.value {
                Some(value) => value.clone(),
                None if args.ignore_value => Bytes::new(),
                None => return Err("put needs a value in a transaction".to_owned()),
            };
            Request::RequestPut(args.request(value))
        }
        RequestLine::Del(args) => Request::RequestDeleteRange(args.request()),
    };
    Ok((
        RequestOp {
            request: Some(request),
        },
        view,
    ))
}

/// The first paragraph of a clap error on one line, without its usage text.
fn clap_message(error: &clap::Error) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    if error.kind() == clap::error::ErrorKind::InvalidSubcommand {
        return format!("{first}, expected get, put or del").replace("subcommand", "request");
    }
    first.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Splits a line at blanks; quotes hold words together.
fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (next, after) = word(rest, char::is_whitespace)?;
        words.push(next);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The word at the beginning, up to `is_end` outside quotes, and what follows it. In double quotes a backslash
/// escapes as in Go, in single quotes nothing does.
fn word(text: &str, is_end: impl Fn(char) -> bool) -> Result<(Vec<u8>, &str), String> {
    let mut word = Vec::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if is_end(c) => return Ok((word, &text[at..])),
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') => word.extend(escape(&mut chars)?),
            (_, c) => word.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    match quote {
        Some(open) => Err(format!("the quote {open} is not closed")),
        None => Ok((word, "")),
    }
}

/// What stands after a backslash.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Result<Vec<u8>, String> {
    let mut next = || {
        chars
            .next()
            .map(|(_, c)| c)
            .ok_or("the text ends after a backslash".to_owned())
    };
    Ok(match next()? {
        c @ ('"' | '\\' | '\'') => vec![c as u8],
        'n' => vec![b'\n'],
        't' => vec![b'\t'],
        'r' => vec![b'\r'],
        'x' => {
            let digits: String = [next()?, next()?].iter().collect();
            let byte =
                u8::from_str_radix(&digits, 16).map_err(|_| format!(r"\x{digits} is not two hex digits"))?;
            vec![byte]
        }
        other => {
            return Err(format!(
                r#"unknown escape \{other}, use one of \" \\ \n \t \r \xHH"#
            ));
        }
    })
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;

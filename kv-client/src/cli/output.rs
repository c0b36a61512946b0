//! Answers as lines and as tables.

use std::io::Write;

use comfy_table::{ContentArrangement, Table, presets};
use kv_proto::etcdserverpb::response_op::Response as Op;
use kv_proto::etcdserverpb::{
    DeleteRangeResponse, Member, PutResponse, RangeResponse, ResponseOp, StatusResponse, TxnResponse,
};
use kv_proto::mvccpb::KeyValue;

use super::exit::{Exit, Failure};
use super::text;

/// An empty table with these headings, as wide as its content: a pipe must see whole cells.
pub(crate) fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    table
}

/// Key and value, each on its line.
pub(super) fn push_kv(out: &mut String, kv: &KeyValue) {
    out.push_str(&text::key(&kv.key));
    out.push('\n');
    out.push_str(&text::value(&kv.value));
    out.push('\n');
}

/// What a range asked for leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RangeView {
    pub(super) keys_only: bool,
    pub(super) count_only: bool,
}

pub(super) fn range(answer: &RangeResponse, view: RangeView) -> String {
    if view.count_only {
        return format!("{}\n", answer.count);
    }
    let mut out = String::new();
    for kv in &answer.kvs {
        if view.keys_only {
            out.push_str(&text::key(&kv.key));
            out.push('\n');
        } else {
            push_kv(&mut out, kv);
        }
    }
    out
}

/// Exactly the stored bytes, each value followed by a newline.
pub(super) fn raw_values(answer: &RangeResponse) -> Vec<u8> {
    let mut out = Vec::new();
    for kv in &answer.kvs {
        out.extend_from_slice(&kv.value);
        out.push(b'\n');
    }
    out
}

pub(super) fn readable_values(answer: &RangeResponse) -> String {
    answer
        .kvs
        .iter()
        .map(|kv| format!("{}\n", text::value(&kv.value)))
        .collect()
}

pub(super) fn kv_table(kvs: &[KeyValue]) -> String {
    let mut table = table(["KEY", "VALUE", "VERSION", "CREATED AT", "MODIFIED AT", "LEASE"]);
    for kv in kvs {
        let lease = if kv.lease == 0 {
            String::new()
        } else {
            text::hex(kv.lease.cast_unsigned())
        };
        table.add_row([
            text::key(&kv.key).into_owned(),
            text::value(&kv.value).into_owned(),
            kv.version.to_string(),
            kv.create_revision.to_string(),
            kv.mod_revision.to_string(),
            lease,
        ]);
    }
    format!("{table}\n")
}

pub(super) fn put(answer: &PutResponse) -> String {
    let mut out = "OK\n".to_owned();
    if let Some(kv) = &answer.prev_kv {
        push_kv(&mut out, kv);
    }
    out
}

pub(super) fn del(answer: &DeleteRangeResponse) -> String {
    let mut out = format!("{}\n", answer.deleted);
    answer.prev_kvs.iter().for_each(|kv| push_kv(&mut out, kv));
    out
}

/// The branch that was run, and the answer of each of its requests after an empty line, as etcdctl prints it.
pub(super) fn txn(answer: &TxnResponse, views: &[RangeView]) -> String {
    let mut out = if answer.succeeded {
        "SUCCESS\n"
    } else {
        "FAILURE\n"
    }
    .to_owned();
    for (index, op) in answer.responses.iter().enumerate() {
        out.push('\n');
        out.push_str(&op_answer(op, views.get(index).copied().unwrap_or_default()));
    }
    out
}

fn op_answer(op: &ResponseOp, view: RangeView) -> String {
    match &op.response {
        Some(Op::ResponseRange(answer)) => range(answer, view),
        Some(Op::ResponsePut(answer)) => put(answer),
        Some(Op::ResponseDeleteRange(answer)) => del(answer),
        Some(Op::ResponseTxn(answer)) => txn(answer, &[]),
        None => String::new(),
    }
}

/// The answer of one endpoint, or why there is none.
pub(super) type StatusOf<'a> = (&'a str, Result<&'a StatusResponse, String>);

pub(super) fn status_table(all: &[StatusOf<'_>]) -> String {
    let mut table = table([
        "ENDPOINT", "ID", "VERSION", "DB SIZE", "LEADER", "LEARNER", "TERM", "INDEX", "APPLIED", "ERRORS",
    ]);
    for (endpoint, answer) in all {
        table.add_row(status_cells(endpoint, answer));
    }
    format!("{table}\n")
}

pub(super) fn status_lines(all: &[StatusOf<'_>]) -> String {
    all.iter()
        .map(|(endpoint, answer)| format!("{}\n", status_cells(endpoint, answer).join(", ")))
        .collect()
}

fn status_cells(endpoint: &str, answer: &Result<&StatusResponse, String>) -> [String; 10] {
    let unknown = String::new;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let mut cells: [String; 10] = std::array::from_fn(|_| unknown());
            cells[0] = endpoint.to_owned();
            cells[9] = error.clone();
            return cells;
        }
    };
    let id = answer.header.as_ref().map_or(0, |header| header.member_id);
    let mut errors = answer.errors.clone();
    if answer.leader == 0 && errors.is_empty() {
        errors.push("no leader".to_owned());
    }
    [
        endpoint.to_owned(),
        text::hex(id),
        answer.version.clone(),
        text::size(answer.db_size),
        (answer.leader == id && id != 0).to_string(),
        answer.is_learner.to_string(),
        answer.raft_term.to_string(),
        answer.raft_index.to_string(),
        answer.raft_applied_index.to_string(),
        errors.join("; "),
    ]
}

/// A member that has never run has no name yet.
fn member_cells(members: &[Member]) -> impl Iterator<Item = [String; 6]> {
    members.iter().map(|member| {
        let status = if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        };
        [
            text::hex(member.id),
            status.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    })
}

pub(super) fn member_table(members: &[Member]) -> String {
    let mut table = table(["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "LEARNER"]);
    member_cells(members).for_each(|cells| {
        table.add_row(cells);
    });
    format!("{table}\n")
}

pub(super) fn member_lines(members: &[Member]) -> String {
    member_cells(members)
        .map(|cells| format!("{}\n", cells.join(", ")))
        .collect()
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub(crate) fn print(out: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(out.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let what = format!("standard output could not be written: {error}");
            Err(Failure::new(
                Exit::Other,
                what,
                "the request itself was executed; only its output is missing",
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;

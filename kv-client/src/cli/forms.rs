//! The forms in which an answer can be shown, and what is refused because etcdctl has no such form.

use kv_proto::etcdserverpb::ResponseHeader;
use prost::Message;

use super::accounts::{AuthCommand, UserCommand};
use super::args::{Command, WriteOut};
use super::exit::Failure;
use super::fields::Fields;
use super::json::{self, Json};
use super::lease::LeaseCommand;
use super::members::MemberCommand;
use super::snapshot::SnapshotCommand;

type Form<'a, T> = Box<dyn FnOnce() -> T + 'a>;

/// An answer in all its forms, of which one will be made. Where it has not the one asked for, it is shown as lines.
pub(super) struct Forms<'a> {
    lines: Form<'a, String>,
    json: Form<'a, Json>,
    table: Option<Form<'a, String>>,
    fields: Option<Form<'a, Fields>>,
    protobuf: Option<Form<'a, Vec<u8>>>,
}

impl<'a> Forms<'a> {
    /// What every answer has.
    pub(super) fn new(json: impl FnOnce() -> Json + 'a, lines: impl FnOnce() -> String + 'a) -> Forms<'a> {
        Forms {
            lines: Box::new(lines),
            json: Box::new(json),
            table: None,
            fields: None,
            protobuf: None,
        }
    }

    pub(super) fn table(mut self, table: impl FnOnce() -> String + 'a) -> Forms<'a> {
        self.table = Some(Box::new(table));
        self
    }

    pub(super) fn fields(mut self, fields: impl FnOnce() -> Fields + 'a) -> Forms<'a> {
        self.fields = Some(Box::new(fields));
        self
    }

    /// The message as it came over the wire.
    pub(super) fn protobuf(mut self, message: &'a impl Message) -> Forms<'a> {
        self.protobuf = Some(Box::new(|| message.encode_to_vec()));
        self
    }

    /// Of answers about leases, etcdctl prints the header alone.
    pub(super) fn protobuf_of_header(mut self, header: Option<&'a ResponseHeader>) -> Forms<'a> {
        self.protobuf = Some(Box::new(move || {
            header.map(Message::encode_to_vec).unwrap_or_default()
        }));
        self
    }

    /// The answer in one form.
    pub(super) fn shown(self, write_out: WriteOut) -> Vec<u8> {
        let lines = self.lines;
        let text = match write_out {
            WriteOut::Simple => lines(),
            WriteOut::Json => json::line(&(self.json)()),
            WriteOut::Table => self.table.unwrap_or(lines)(),
            WriteOut::Fields => self.fields.map_or_else(lines, |fields| fields().into_string()),
            WriteOut::Protobuf => match self.protobuf {
                Some(message) => return message(),
                None => lines(),
            },
        };
        text.into_bytes()
    }
}

/// Refuses what etcdctl has no form for, in its words, but before anything is sent.
pub(super) fn check(write_out: Option<WriteOut>, command: &Command) -> Result<(), Failure> {
    let name = match write_out {
        Some(WriteOut::Fields) if lacks_fields(command) => "fields",
        Some(WriteOut::Protobuf) if lacks_protobuf(command) => "protobuf",
        _ => return Ok(()),
    };
    Err(Failure::usage(
        format!("{name} not supported as output format"),
        "nothing was sent; this command has -w simple and -w json",
    ))
}

fn lacks_fields(command: &Command) -> bool {
    match command {
        Command::Member(command) => !matches!(command, MemberCommand::List),
        Command::User(UserCommand::Get { detail, .. }) => !detail,
        Command::User(UserCommand::List)
        | Command::Auth(AuthCommand::Status)
        | Command::MoveLeader { .. } => true,
        _ => false,
    }
}

fn lacks_protobuf(command: &Command) -> bool {
    matches!(
        command,
        Command::Status(_)
            | Command::Endpoint(_)
            | Command::Lease(LeaseCommand::Revoke { .. })
            | Command::Snapshot(SnapshotCommand::Status { .. })
    )
}

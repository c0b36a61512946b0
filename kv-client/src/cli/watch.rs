//! `watch`: the changes of keys as they happen, printed or given to a command.

use std::ffi::OsString;

use bytes::Bytes;
use clap::FromArgMatches;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kv_proto::etcdserverpb::watch_create_request::FilterType;
use kv_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use kv_proto::mvccpb::event::EventType;
use kv_proto::mvccpb::{Event, KeyValue};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;

use super::args::{Args, Command, WriteOut};
use super::commands::{Outcome, Session};
use super::exit::{Exit, Failure};
use super::forms::Forms;
use super::output::{print, push_kv, table};
use super::program::Program;
use super::ranges::bounds;
use super::values::{bytes_parser, parse_not_negative};
use super::{fields, help, json, text};
use crate::{Error, WatchItem};

pub(super) const WATCH_HELP: &str = r#"Runs until it is interrupted. When its server is lost, it goes on at another one of --endpoints without
missing or repeating an event, and says so on standard error.

  kv-client watch app/ --prefix                 print each change
  kv-client watch app/ --prefix -- ./changed    run a command for each change, one after the other

The command finds the change in ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE;
as with etcdctl, the last three are quoted. That it fails is only reported."#;

/// Arguments of `watch`.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchArgs {
    /// The key, or the first key of a range
    #[arg(value_parser = bytes_parser(), env = "ETCDCTL_WATCH_KEY", required_unless_present = "interactive")]
    pub key: Option<Bytes>,
    /// The key at which the range ends (not part of it)
    #[arg(value_parser = bytes_parser(), env = "ETCDCTL_WATCH_RANGE_END", conflicts_with_all = ["prefix", "from_key"])]
    pub range_end: Option<Bytes>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub prefix: bool,
    /// KEY and all keys after it
    #[arg(long)]
    pub from_key: bool,
    /// Begin with the changes of this revision; 0 for those from now on
    #[arg(long, default_value_t = 0, value_parser = parse_not_negative)]
    pub rev: i64,
    /// Print what was there before as well
    #[arg(long)]
    pub prev_kv: bool,
    /// Leave out what is written
    #[arg(long, conflicts_with = "no_delete")]
    pub no_put: bool,
    /// Leave out what is deleted
    #[arg(long)]
    pub no_delete: bool,
    /// Say from time to time up to which revision everything was seen
    #[arg(long)]
    pub progress_notify: bool,
    /// Read from standard input what to watch, line by line: watch, its flags, and the keys; or progress
    #[arg(short, long)]
    pub interactive: bool,
    /// A command line for the shell, run for each change
    #[arg(long, value_name = "COMMAND", conflicts_with = "command")]
    pub exec: Option<OsString>,
    /// A command with its arguments, run for each change
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl WatchArgs {
    fn request(&self) -> WatchCreateRequest {
        let key = self.key.clone().unwrap_or_default();
        let (key, range_end) = bounds(&key, self.range_end.as_ref(), self.prefix, self.from_key);
        let filters = [
            (self.no_put, FilterType::Noput),
            (self.no_delete, FilterType::Nodelete),
        ];
        let filters = filters
            .into_iter()
            .filter_map(|(is_set, filter)| is_set.then_some(filter.into()));
        WatchCreateRequest {
            key,
            range_end,
            start_revision: self.rev,
            progress_notify: self.progress_notify,
            filters: filters.collect(),
            prev_kv: self.prev_kv,
            ..Default::default()
        }
    }

    fn program(&self) -> Option<Program> {
        match &self.exec {
            Some(line) => Some(Program::of_shell(line)),
            None => Program::of_words(&self.command),
        }
    }
}

impl Session {
    pub(super) async fn watch(&self, args: &WatchArgs) -> Outcome {
        if args.interactive {
            Box::pin(self.watch_what_is_read()).await
        } else {
            let (_nobody, asked) = watch::channel(());
            self.watch_one(args, asked).await
        }
    }

    /// Watches whatever lines of standard input say, all at once; the line `progress` asks all how far they are.
    async fn watch_what_is_read(&self) -> Outcome {
        let parser = help::command(help::OWN_NAME).no_binary_name(true);
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let mut is_open = true;
        let mut running = FuturesUnordered::new();
        let progress = watch::Sender::new(());
        while is_open || !running.is_empty() {
            tokio::select! {
                line = lines.next_line(), if is_open => match line {
                    Ok(Some(line)) => match line_of(&parser, &line) {
                        Ok(Line::Watch(args)) => {
                            let asked = progress.subscribe();
                            running.push(async move { self.watch_one(&args, asked).await });
                        }
                        Ok(Line::Progress) => drop(progress.send(())),
                        Ok(Line::Empty) => {}
                        Err(error) => eprintln!("{error}"),
                    },
                    Ok(None) | Err(_) => is_open = false,
                },
                Some(ended) = running.next() => {
                    if let Err(failure) = ended {
                        eprintln!("error: {}", failure.what);
                    }
                }
            }
        }
        Ok(Exit::Ok)
    }

    /// Watches, and asks for progress when it is `asked` for.
    async fn watch_one(&self, args: &WatchArgs, mut asked: watch::Receiver<()>) -> Outcome {
        let program = args.program();
        let mut watch = self.client.watch(args.request()).await?;
        loop {
            let item = tokio::select! {
                item = watch.next() => item,
                Ok(()) = asked.changed() => {
                    watch.request_progress();
                    continue;
                }
            };
            match item {
                Some(Ok(WatchItem::Events { events, .. })) => match &program {
                    Some(program) => run_for_each(program, &events).await?,
                    None => self.events(watch.header(), events)?,
                },
                Some(Ok(WatchItem::Progress { .. })) => self.progress(watch.header())?,
                Some(Ok(WatchItem::Interrupted { reason })) => {
                    eprintln!("watch interrupted: {reason}; going on as soon as there is a server");
                }
                Some(Ok(WatchItem::Resumed { revision, endpoint })) => {
                    eprintln!("watch resumed at {endpoint} from revision {revision}");
                }
                Some(Err(error)) => return Err(self.ended(watch.header(), error)?),
                None => return Err(Failure::usage("the watch has ended", "watch again")),
            }
        }
    }

    fn events(&self, header: ResponseHeader, events: Vec<Event>) -> Result<(), Failure> {
        let answer = WatchResponse {
            header: Some(header),
            events,
            ..Default::default()
        };
        let lines = || answer.events.iter().map(event_lines).collect();
        let forms = forms(&answer, lines).table(|| events_table(&answer.events));
        self.show(forms).map(drop)
    }

    fn progress(&self, header: ResponseHeader) -> Result<(), Failure> {
        let answer = WatchResponse {
            header: Some(header),
            ..Default::default()
        };
        let line = || format!("progress notify: {}\n", header.revision);
        if self.write_out == Some(WriteOut::Fields) {
            // etcdctl says both.
            print(line())?;
        }
        self.show(forms(&answer, line)).map(drop)
    }

    /// The failure of a watch that cannot go on; for programs the reason is an answer as well.
    fn ended(&self, header: ResponseHeader, error: Error) -> Result<Failure, Failure> {
        if let Error::Compacted { revision } = error {
            let answer = WatchResponse {
                header: Some(header),
                compact_revision: revision,
                canceled: true,
                ..Default::default()
            };
            self.show(forms(&answer, String::new))?;
        }
        Ok(error.into())
    }
}

/// An answer as etcdctl shows it, and in lines.
fn forms<'a>(answer: &'a WatchResponse, lines: impl FnOnce() -> String + 'a) -> Forms<'a> {
    Forms::new(|| json::watch(answer), lines)
        .fields(|| fields::watch(answer))
        .protobuf(answer)
}

/// A line of an interactive watch.
enum Line {
    Watch(WatchArgs),
    Progress,
    Empty,
}

/// What a line asks for.
fn line_of(parser: &clap::Command, line: &str) -> Result<Line, String> {
    let words = shlex::split(line).ok_or("error: a quote or a backslash at the end has no partner")?;
    match words.as_slice() {
        [] => return Ok(Line::Empty),
        [word] if word == "progress" => return Ok(Line::Progress),
        _ => {}
    }
    let parsed = parser
        .clone()
        .try_get_matches_from(words)
        .and_then(|matches| Args::from_arg_matches(&matches));
    match parsed.map_err(|error| error.to_string())?.command {
        Some(Command::Watch(args)) if !args.interactive => Ok(Line::Watch(args)),
        _ => Err("error: expected progress, or a line such as: watch app/ --prefix".to_owned()),
    }
}

/// Runs the command for each event, one after the other: that of a later one finds the effects of an earlier one.
async fn run_for_each(program: &Program, events: &[Event]) -> Result<(), Failure> {
    for event in events {
        let Some(kv) = &event.kv else { continue };
        let variables = [
            ("ETCD_WATCH_REVISION", kv.mod_revision.to_string()),
            ("ETCD_WATCH_EVENT_TYPE", text::quoted(name(event).as_bytes())),
            ("ETCD_WATCH_KEY", text::quoted(&kv.key)),
            ("ETCD_WATCH_VALUE", text::quoted(&kv.value)),
        ];
        let variables = variables.map(|(name, value)| (name, OsString::from(value)));
        let code = program.run(variables).await?;
        if code != 0 {
            eprintln!(
                "the command ended with exit code {code} at revision {}",
                kv.mod_revision
            );
        }
    }
    Ok(())
}

fn name(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

fn event_lines(event: &Event) -> String {
    let mut out = format!("{}\n", name(event));
    let both = [&event.prev_kv, &event.kv];
    both.into_iter().flatten().for_each(|kv| push_kv(&mut out, kv));
    out
}

fn events_table(events: &[Event]) -> String {
    let mut table = table(["EVENT", "KEY", "VALUE", "REVISION", "PREVIOUS VALUE"]);
    let value = |kv: &KeyValue| text::value(&kv.value).into_owned();
    for event in events {
        let Some(kv) = &event.kv else { continue };
        table.add_row([
            name(event).to_owned(),
            text::key(&kv.key).into_owned(),
            value(kv),
            kv.mod_revision.to_string(),
            event.prev_kv.as_ref().map(value).unwrap_or_default(),
        ]);
    }
    format!("{table}\n")
}

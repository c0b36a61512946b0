//! `status`, and `endpoint status|health|hashkv`: what each endpoint says for itself.

use clap::Subcommand;
use futures::future::join_all;
use kv_proto::etcdserverpb::RangeRequest;
use tokio::time::Instant;

use super::args::WriteOut;
use super::commands::{Outcome, Session};
use super::exit::{Exit, Failure};
use super::fields::Fields;
use super::forms::Forms;
use super::json;
use super::output::{self, table};
use crate::{Client, Config, Error};

/// Which endpoints are asked.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct EndpointArgs {
    /// Ask every member of the cluster instead of --endpoints
    #[arg(long)]
    pub cluster: bool,
}

/// Commands about endpoints.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum EndpointCommand {
    /// Ask every endpoint how it is
    Status(EndpointArgs),
    /// Read through every endpoint, and say how long it took
    #[command(after_help = "Exit code 5 or 6 if an endpoint is not healthy.")]
    Health(EndpointArgs),
    /// Ask every endpoint for the hash of its keys at a revision; members must agree
    #[command(name = "hashkv")]
    HashKv {
        /// The revision; 0 for the current one
        #[arg(long, default_value_t = 0, value_parser = super::values::parse_not_negative)]
        rev: i64,
        /// Which endpoints are asked.
        #[command(flatten)]
        endpoints: EndpointArgs,
    },
}

/// What one endpoint answered.
struct Answer<T> {
    endpoint: String,
    result: Result<T, Error>,
}

impl<T> Answer<T> {
    fn shown(&self) -> Result<&T, String> {
        self.result
            .as_ref()
            .map_err(|error| reason(&self.endpoint, error))
    }
}

impl Session {
    pub(super) async fn endpoint(&self, command: EndpointCommand) -> Outcome {
        match command {
            EndpointCommand::Status(args) => self.status(args, WriteOut::Simple).await,
            EndpointCommand::Health(args) => self.health(args).await,
            EndpointCommand::HashKv { rev, endpoints } => self.hash_kv(endpoints, rev).await,
        }
    }

    pub(super) async fn status(&self, args: EndpointArgs, default: WriteOut) -> Outcome {
        let client = &self.client;
        let answers = ask(&self.endpoints(args).await?, |endpoint| async move {
            client.status(&endpoint).await
        })
        .await;
        let all: Vec<output::StatusOf<'_>> = answers
            .iter()
            .map(|answer| (answer.endpoint.as_str(), answer.shown()))
            .collect();
        let json = || {
            let form = |(endpoint, answer): &output::StatusOf<'_>| json::status(endpoint, answer);
            all.iter().map(form).collect()
        };
        self.show_or(
            default,
            Forms::new(json, || output::status_lines(&all))
                .table(|| output::status_table(&all))
                .fields(|| answered(&answers, Fields::status)),
        )?;
        verdict(&answers, "the column ERRORS says why")?;
        let mut statuses = answers.iter().filter_map(|answer| answer.result.as_ref().ok());
        if statuses.any(|status| status.leader == 0) {
            let hint = "a majority of the nodes must run and reach each other";
            return Err(Failure::new(
                Exit::NoQuorum,
                "there is a node without a leader",
                hint,
            ));
        }
        Ok(Exit::Ok)
    }

    async fn health(&self, args: EndpointArgs) -> Outcome {
        let config = &self.config;
        let answers = ask(&self.endpoints(args).await?, |endpoint| async move {
            healthy(config, endpoint).await
        })
        .await;
        let cells = |answer: &Answer<String>| {
            let (took, error) = match answer.shown() {
                Ok(took) => (took.clone(), String::new()),
                Err(error) => (String::new(), error),
            };
            let health = answer.result.is_ok().to_string();
            [answer.endpoint.clone(), health, took, error]
        };
        let json = || {
            let form = |answer: &Answer<String>| {
                json::whole([
                    ("endpoint", answer.endpoint.as_str().into()),
                    ("health", answer.result.is_ok().into()),
                    match answer.shown() {
                        Ok(took) => ("took", took.as_str().into()),
                        Err(error) => ("error", error.as_str().into()),
                    },
                ])
            };
            answers.iter().map(form).collect()
        };
        let table = || {
            let mut table = table(["ENDPOINT", "HEALTH", "TOOK", "ERROR"]);
            answers.iter().for_each(|answer| {
                table.add_row(cells(answer));
            });
            format!("{table}\n")
        };
        let lines = || {
            let line = |answer: &Answer<String>| match answer.shown() {
                Ok(took) => format!("{} is healthy: took = {took}\n", answer.endpoint),
                Err(error) => format!("{} is unhealthy: {error}\n", answer.endpoint),
            };
            answers.iter().map(line).collect()
        };
        let fields = || {
            Fields::default().each(&answers, |fields, answer| match answer.shown() {
                Ok(took) => fields.health(&answer.endpoint, true, took, ""),
                Err(error) => fields.health(&answer.endpoint, false, "", &error),
            })
        };
        self.show(Forms::new(json, lines).table(table).fields(fields))?;
        verdict(&answers, "see whether those nodes run and can be reached")
    }

    async fn hash_kv(&self, args: EndpointArgs, revision: i64) -> Outcome {
        let client = &self.client;
        let answers = ask(&self.endpoints(args).await?, |endpoint| async move {
            client.hash_kv(&endpoint, revision).await
        })
        .await;
        let cells = |answer: &Answer<kv_proto::etcdserverpb::HashKvResponse>| {
            let hash = match answer.shown() {
                Ok(found) => found.hash.to_string(),
                Err(error) => error,
            };
            [answer.endpoint.clone(), hash]
        };
        let json = || {
            let form = |answer: &Answer<kv_proto::etcdserverpb::HashKvResponse>| {
                let result = match answer.shown() {
                    Ok(found) => {
                        let fields = [
                            ("header", json::header(found.header.as_ref())),
                            ("hash", u64::from(found.hash).into()),
                            ("compact_revision", found.compact_revision.into()),
                            ("hash_revision", found.hash_revision.into()),
                        ];
                        ("HashKV", json::lean(fields))
                    }
                    Err(error) => ("Error", error.as_str().into()),
                };
                json::whole([("Endpoint", answer.endpoint.as_str().into()), result])
            };
            answers.iter().map(form).collect()
        };
        let table = || {
            let mut table = table(["ENDPOINT", "HASH"]);
            answers.iter().for_each(|answer| {
                table.add_row(cells(answer));
            });
            format!("{table}\n")
        };
        let lines = || {
            answers
                .iter()
                .map(|answer| format!("{}\n", cells(answer).join(", ")))
                .collect()
        };
        let fields = || answered(&answers, Fields::hash_kv);
        self.show(Forms::new(json, lines).table(table).fields(fields))?;
        verdict(&answers, "see whether those nodes run and can be reached")
    }

    /// The endpoints to ask: those given, or the first client URL of every member.
    pub(super) async fn endpoints(&self, args: EndpointArgs) -> Result<Vec<String>, Failure> {
        if !args.cluster {
            return Ok(self.endpoints.clone());
        }
        let members = self.client.member_list(false).await?.members;
        Ok(members
            .into_iter()
            .filter_map(|member| member.client_ur_ls.into_iter().next())
            .collect())
    }
}

/// The fields of each endpoint that answered; etcdctl shows no other there.
fn answered<T>(answers: &[Answer<T>], add: impl Fn(Fields, &str, &T) -> Fields) -> Fields {
    let answered = answers
        .iter()
        .filter_map(|answer| Some((&answer.endpoint, answer.result.as_ref().ok()?)));
    Fields::default().each(answered, |fields, (endpoint, found)| add(fields, endpoint, found))
}

/// One endpoint's health: whether it can read linearizably, and how long that took. That one may not read, it must
/// have found out from the quorum, which is just as good.
async fn healthy(config: &Config, endpoint: String) -> Result<String, Error> {
    let config = Config {
        endpoints: vec![endpoint],
        ..config.clone()
    };
    let request = RangeRequest {
        key: "health".into(),
        ..Default::default()
    };
    let started = Instant::now();
    match Client::new(config)?.range(request).await {
        Ok(_) => {}
        Err(Error::Rejected {
            code: tonic::Code::PermissionDenied,
            ..
        }) => {}
        Err(error) => return Err(error),
    }
    Ok(format!("{:.3}ms", started.elapsed().as_secs_f64() * 1e3))
}

/// Asks all at once.
async fn ask<T, F>(endpoints: &[String], call: impl Fn(String) -> F) -> Vec<Answer<T>>
where
    F: Future<Output = Result<T, Error>>,
{
    let one = |endpoint: &String| {
        let answer = call(endpoint.clone());
        let endpoint = endpoint.clone();
        async move {
            let result = answer.await;
            Answer { endpoint, result }
        }
    };
    join_all(endpoints.iter().map(one)).await
}

/// A failure if one endpoint did not answer: its own, with a word about all.
fn verdict<T>(answers: &[Answer<T>], hint: &'static str) -> Outcome {
    let failed = answers.iter().filter(|answer| answer.result.is_err()).count();
    let Some(error) = answers.iter().find_map(|answer| answer.result.as_ref().err()) else {
        return Ok(Exit::Ok);
    };
    let what = format!("{failed} of {} endpoints did not answer", answers.len());
    Err(Failure::new(Failure::from(error.clone()).exit, what, hint))
}

/// Why an endpoint did not answer, without its name, which stands beside it.
fn reason(endpoint: &str, error: &Error) -> String {
    let name = endpoint.split_once("://").map_or(endpoint, |(_, name)| name);
    let text = error.to_string();
    text.strip_prefix(&format!("{}: ", name.trim_end_matches('/')))
        .map(str::to_owned)
        .unwrap_or(text)
}

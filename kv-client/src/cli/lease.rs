//! `lease grant|revoke|timetolive|list|keep-alive`.

use clap::Subcommand;
use kv_proto::etcdserverpb::{LeaseTimeToLiveResponse, ResponseHeader};

use super::commands::{Outcome, Session};
use super::exit::{Exit, Failure};
use super::fields::Fields;
use super::forms::Forms;
use super::json::{self, Json};
use super::output::table;
use super::text;
use super::values::{parse_lease, parse_positive};
use crate::{Error, LeaseLoss};

/// Commands about leases.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LeaseCommand {
    /// Grant a lease
    Grant {
        /// Seconds that it lives unless it is kept alive; the server may make it more
        #[arg(value_name = "TTL", value_parser = parse_positive)]
        ttl_s: i64,
        /// The ID that it is to have (hexadecimal); 0 to let the server choose
        #[arg(long, default_value = "0", value_parser = parse_lease)]
        id: i64,
    },
    /// End a lease, and delete the keys attached to it
    Revoke {
        /// The lease (hexadecimal)
        #[arg(value_parser = parse_lease)]
        id: i64,
    },
    /// Ask how long a lease has to live
    #[command(name = "timetolive", after_help = "Exit code 3 if there is no such lease.")]
    TimeToLive {
        /// The lease (hexadecimal)
        #[arg(value_parser = parse_lease)]
        id: i64,
        /// List the keys attached to it as well
        #[arg(long)]
        keys: bool,
    },
    /// List the leases
    List,
    /// Keep a lease alive until interrupted
    #[command(
        name = "keep-alive",
        after_help = "Exit code 3 if there is no such lease (any more)."
    )]
    KeepAlive {
        /// The lease (hexadecimal)
        #[arg(value_parser = parse_lease)]
        id: i64,
        /// Only once
        #[arg(long)]
        once: bool,
    },
}

/// As etcdctl's answers about leases: the fields of the header stand among the others.
fn with_header(
    header: Option<&ResponseHeader>,
    fields: impl IntoIterator<Item = (&'static str, Json)>,
) -> Json {
    let mut all = json::header_fields(header);
    all.extend(fields);
    Json::Object(all)
}

/// An ID as etcdctl prints it here, with all its digits.
fn id16(id: i64) -> String {
    format!("{:016x}", id.cast_unsigned())
}

fn not_found(id: i64) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("lease {} does not exist", id16(id)),
        "it may have run out; the command lease list has those that are left",
    )
}

impl Session {
    pub(super) async fn lease(&self, command: LeaseCommand) -> Outcome {
        match command {
            LeaseCommand::Grant { ttl_s, id } => self.lease_grant(ttl_s, id).await,
            LeaseCommand::Revoke { id } => {
                let answer = self.client.lease_revoke(id).await?;
                let json = || json::bare(answer.header.as_ref());
                let forms = Forms::new(json, || format!("lease {} revoked\n", id16(id)));
                self.show(forms.fields(|| Fields::of(answer.header.as_ref())))
            }
            LeaseCommand::TimeToLive { id, keys } => self.lease_time_to_live(id, keys).await,
            LeaseCommand::List => self.lease_list().await,
            LeaseCommand::KeepAlive { id, once } => self.lease_keep_alive(id, once).await,
        }
    }

    async fn lease_grant(&self, ttl_s: i64, id: i64) -> Outcome {
        let answer = self.client.lease_grant(ttl_s, id).await?;
        let json = || {
            let fields = [
                ("ID", answer.id.into()),
                ("TTL", answer.ttl.into()),
                ("Error", answer.error.as_str().into()),
            ];
            with_header(answer.header.as_ref(), fields)
        };
        let row = || {
            let mut table = table(["ID", "TTL S"]);
            table.add_row([id16(answer.id), answer.ttl.to_string()]);
            format!("{table}\n")
        };
        let lines = || format!("lease {} granted with TTL({}s)\n", id16(answer.id), answer.ttl);
        let header = answer.header.as_ref();
        self.show(
            Forms::new(json, lines)
                .table(row)
                .fields(|| Fields::of(header).plain("ID", answer.id).plain("TTL", answer.ttl))
                .protobuf_of_header(header),
        )
    }

    async fn lease_time_to_live(&self, id: i64, keys: bool) -> Outcome {
        let answer = self.client.lease_time_to_live(id, keys).await?;
        let is_gone = answer.ttl < 0;
        let json = || {
            let found = answer.keys.iter().map(|key| json::bytes(key)).collect();
            let fields = [
                ("id", answer.id.into()),
                ("ttl", answer.ttl.into()),
                ("granted-ttl", answer.granted_ttl.into()),
                ("keys", if answer.keys.is_empty() { Json::Null } else { found }),
            ];
            with_header(answer.header.as_ref(), fields)
        };
        let row = || {
            let mut table = table(["ID", "GRANTED TTL S", "REMAINING S", "KEYS"]);
            let [granted, remaining] = [answer.granted_ttl, answer.ttl].map(|seconds| seconds.to_string());
            table.add_row([id16(id), granted, remaining, keys_of(&answer, "\n")]);
            format!("{table}\n")
        };
        let fields = || {
            Fields::of(answer.header.as_ref())
                .plain("ID", answer.id)
                .plain("TTL", answer.ttl)
                .plain("GrantedTTL", answer.granted_ttl)
                .each(&answer.keys, |fields, key| fields.quoted("Key", key))
        };
        let lines = || {
            if is_gone {
                return format!("lease {} already expired\n", id16(id));
            }
            let keys = if keys {
                format!(", attached keys([{}])", keys_of(&answer, " "))
            } else {
                String::new()
            };
            let LeaseTimeToLiveResponse { granted_ttl, ttl, .. } = answer;
            format!(
                "lease {} granted with TTL({granted_ttl}s), remaining({ttl}s){keys}\n",
                id16(id)
            )
        };
        self.show(
            Forms::new(json, lines)
                .table(row)
                .fields(fields)
                .protobuf_of_header(answer.header.as_ref()),
        )?;
        if is_gone { Err(not_found(id)) } else { Ok(Exit::Ok) }
    }

    async fn lease_list(&self) -> Outcome {
        let answer = self.client.lease_leases().await?;
        let json = || {
            let leases = answer
                .leases
                .iter()
                .map(|lease| json::whole([("id", lease.id.into())]));
            with_header(answer.header.as_ref(), [("leases", leases.collect())])
        };
        let rows = || {
            let mut table = table(["ID"]);
            answer.leases.iter().for_each(|lease| {
                table.add_row([id16(lease.id)]);
            });
            format!("{table}\n")
        };
        let lines = || {
            let lines = answer.leases.iter().map(|lease| format!("{}\n", id16(lease.id)));
            format!(
                "found {} leases\n{}",
                answer.leases.len(),
                lines.collect::<String>()
            )
        };
        let fields = || {
            Fields::of(answer.header.as_ref())
                .each(&answer.leases, |fields, lease| fields.plain("ID", lease.id))
        };
        self.show(
            Forms::new(json, lines)
                .table(rows)
                .fields(fields)
                .protobuf_of_header(answer.header.as_ref()),
        )
    }

    async fn lease_keep_alive(&self, id: i64, once: bool) -> Outcome {
        let answer = self.client.lease_keep_alive_once(id).await?;
        if answer.ttl <= 0 {
            return Err(not_found(id));
        }
        self.renewed(id, answer.ttl, &answer.header.unwrap_or_default())?;
        if once {
            return Ok(Exit::Ok);
        }
        let mut lease = self.client.keep_alive(id).await?;
        loop {
            match lease.renewed().await {
                Ok(ttl_s) => self.renewed(id, ttl_s, &lease.header())?,
                Err(Error::LeaseLost(LeaseLoss::Ended)) => return Err(not_found(id)),
                Err(error) => return Err(error.into()),
            };
        }
    }

    fn renewed(&self, id: i64, ttl: i64, header: &ResponseHeader) -> Outcome {
        let header = Some(header);
        let json = || with_header(header, [("ID", id.into()), ("TTL", ttl.into())]);
        let lines = || format!("lease {} keepalived with TTL({ttl})\n", id16(id));
        self.show(
            Forms::new(json, lines)
                .fields(|| Fields::of(header).plain("ID", id).plain("TTL", ttl))
                .protobuf_of_header(header),
        )
    }
}

fn keys_of(answer: &LeaseTimeToLiveResponse, separator: &str) -> String {
    let keys: Vec<_> = answer.keys.iter().map(|key| text::key(key)).collect();
    keys.join(separator)
}

//! `member`, `move-leader`, `defrag` and `alarm`: who belongs to the cluster, and its upkeep.

use clap::Subcommand;
use kv_proto::etcdserverpb::alarm_request::AlarmAction;
use kv_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, Member, MemberAddRequest, MemberListResponse,
    MemberUpdateRequest, ResponseHeader,
};

use super::args::WriteOut;
use super::commands::{Outcome, Session};
use super::endpoints::EndpointArgs;
use super::exit::{Exit, Failure};
use super::forms::Forms;
use super::output::{member_lines, member_table, print, table};
use super::{fields, json, text};
use crate::Error;

pub(super) const DEFRAG_HELP: &str = "\
One endpoint after the other, each for up to --command-timeout. etcd answers nothing else meanwhile; a node of
Quorate does.";

/// Commands about members.
#[derive(Clone, Debug, Subcommand)]
pub enum MemberCommand {
    /// List the members
    List,
    /// Add a member, which is to be started afterwards
    Add {
        /// Its name
        name: String,
        /// The URLs at which the others reach it
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL,...")]
        peer_urls: Vec<String>,
        /// As a learner: it follows, and does not vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member
    Remove {
        /// The member (hexadecimal)
        #[arg(value_parser = parse_member)]
        id: u64,
    },
    /// Change the URLs at which the others reach a member
    Update {
        /// The member (hexadecimal)
        #[arg(value_parser = parse_member)]
        id: u64,
        /// The new URLs
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL,...")]
        peer_urls: Vec<String>,
    },
    /// Let a learner vote
    Promote {
        /// The member (hexadecimal)
        #[arg(value_parser = parse_member)]
        id: u64,
    },
}

/// Commands about alarms.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum AlarmCommand {
    /// List the alarms
    List,
    /// End all alarms
    Disarm,
}

/// Reads the ID of a member as it is printed: hexadecimal.
pub(super) fn parse_member(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
        .map_err(|_| "expected the ID of a member in hexadecimal, such as 8e9e05c52164694d".to_owned())
}

impl Session {
    pub(super) async fn member(&self, command: &MemberCommand) -> Outcome {
        match command {
            MemberCommand::List => {
                let answer = self.client.member_list(true).await?;
                self.members(&answer)
            }
            MemberCommand::Add {
                name,
                peer_urls,
                learner,
            } => self.member_add(name, peer_urls, *learner).await,
            MemberCommand::Remove { id } => {
                let answer = self.client.member_remove(*id).await?;
                self.show(
                    changed(answer.header.as_ref(), &answer.members, *id, "removed from").protobuf(&answer),
                )
            }
            MemberCommand::Update { id, peer_urls } => {
                let request = MemberUpdateRequest {
                    id: *id,
                    peer_ur_ls: peer_urls.clone(),
                };
                let answer = self.client.member_update(request).await?;
                self.show(
                    changed(answer.header.as_ref(), &answer.members, *id, "updated in").protobuf(&answer),
                )
            }
            MemberCommand::Promote { id } => {
                let answer = self.client.member_promote(*id).await?;
                self.show(
                    changed(answer.header.as_ref(), &answer.members, *id, "promoted in").protobuf(&answer),
                )
            }
        }
    }

    fn members(&self, answer: &MemberListResponse) -> Outcome {
        let (header, members) = (answer.header.as_ref(), &answer.members);
        self.show_or(
            WriteOut::Table,
            Forms::new(|| json::members(header, members), || member_lines(members))
                .table(|| member_table(members))
                .fields(|| fields::members(header, members))
                .protobuf(answer),
        )
    }

    async fn member_add(&self, name: &str, peer_urls: &[String], is_learner: bool) -> Outcome {
        let request = MemberAddRequest {
            peer_ur_ls: peer_urls.to_vec(),
            is_learner,
        };
        let answer = self.client.member_add(request).await?;
        let added = answer.member.clone().unwrap_or_default();
        let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
        let json = || {
            json::lean([
                ("header", json::header(answer.header.as_ref())),
                ("member", json::member(&added)),
                ("members", answer.members.iter().map(json::member).collect()),
            ])
        };
        let lines = || {
            let start = start_flags(name, &added, &answer.members);
            format!(
                "Member {:16x} added to cluster {cluster:16x}\n\n{start}",
                added.id
            )
        };
        self.show(Forms::new(json, lines).protobuf(&answer))
    }

    pub(super) async fn move_leader(&self, id: u64) -> Outcome {
        let mut failure = None;
        for endpoint in &self.endpoints {
            let status = match self.client.status(endpoint).await {
                Ok(status) => status,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            let member = status.header.as_ref().map_or(0, |header| header.member_id);
            if member != status.leader {
                continue;
            }
            let answer = self.client.move_leader(endpoint, id).await?;
            let json = || json::bare(answer.header.as_ref());
            let lines = || {
                format!(
                    "Leadership transferred from {} to {}\n",
                    text::hex(member),
                    text::hex(id)
                )
            };
            return self.show(Forms::new(json, lines).protobuf(&answer));
        }
        match failure {
            Some(error @ (Error::NoQuorum { .. } | Error::Timeout { .. })) => Err(error.into()),
            _ => Err(Failure::new(
                Exit::Other,
                "none of the endpoints is the leader's",
                "name the endpoints of all members with --endpoints; the command status says which one leads",
            )),
        }
    }

    pub(super) async fn defrag(&self, args: EndpointArgs) -> Outcome {
        let mut failed = None;
        for endpoint in self.endpoints(args).await? {
            match self.client.defragment(&endpoint).await {
                Ok(_) => print(format!("Finished defragmenting etcd member[{endpoint}]\n"))?,
                Err(error) => {
                    eprintln!("Failed to defragment etcd member[{endpoint}] ({error})");
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(Exit::Ok), |error| Err(error.into()))
    }

    pub(super) async fn alarm(&self, command: AlarmCommand) -> Outcome {
        let ask = |action: AlarmAction, member_id, alarm| AlarmRequest {
            action: action.into(),
            member_id,
            alarm,
        };
        let found = self.client.alarm(ask(AlarmAction::Get, 0, 0)).await?;
        let answer = match command {
            AlarmCommand::List => found,
            AlarmCommand::Disarm => {
                let mut answer = AlarmResponse {
                    header: found.header,
                    alarms: vec![],
                };
                for alarm in found.alarms {
                    let request = ask(AlarmAction::Deactivate, alarm.member_id, alarm.alarm);
                    answer.alarms.extend(self.client.alarm(request).await?.alarms);
                }
                answer
            }
        };
        let names = || {
            let name = |alarm: &kv_proto::etcdserverpb::AlarmMember| {
                let name = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
                (alarm.member_id, name.to_owned())
            };
            answer.alarms.iter().map(name)
        };
        let json = || {
            let form = |alarm: &kv_proto::etcdserverpb::AlarmMember| {
                json::lean([
                    ("memberID", alarm.member_id.into()),
                    ("alarm", i64::from(alarm.alarm).into()),
                ])
            };
            json::lean([
                ("header", json::header(answer.header.as_ref())),
                ("alarms", answer.alarms.iter().map(form).collect()),
            ])
        };
        let rows = || {
            let mut table = table(["MEMBER", "ALARM"]);
            names().for_each(|(member, name)| {
                table.add_row([text::hex(member), name]);
            });
            format!("{table}\n")
        };
        let lines = || {
            names()
                .map(|(member, name)| format!("memberID:{member} alarm:{name} \n"))
                .collect()
        };
        self.show(
            Forms::new(json, lines)
                .table(rows)
                .fields(|| fields::alarms(&answer))
                .protobuf(&answer),
        )
    }
}

/// The forms of an answer about a member that was changed.
fn changed<'a>(
    header: Option<&'a ResponseHeader>,
    members: &'a [Member],
    id: u64,
    what: &'a str,
) -> Forms<'a> {
    let cluster = header.map_or(0, |header| header.cluster_id);
    Forms::new(
        move || json::members(header, members),
        move || format!("Member {id:16x} {what} cluster {cluster:16x}\n"),
    )
}

/// What the new member is to be started with, in the form of a shell's environment.
fn start_flags(name: &str, added: &Member, members: &[Member]) -> String {
    let mut cluster = Vec::new();
    for member in members {
        let name = if member.id == added.id { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    format!(
        "ETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{}\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        cluster.join(","),
        added.peer_ur_ls.join(","),
    )
}

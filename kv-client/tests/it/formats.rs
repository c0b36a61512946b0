//! `-w fields` and `-w protobuf` beside etcdctl's, where that is installed (`scripts/oracle`).

use std::process::Stdio;

use kv_proto::etcdserverpb::{
    DeleteRangeResponse, MemberAddResponse, PutResponse, TxnResponse, WatchResponse,
};
use kv_proto::mvccpb::event::EventType;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdout, Command};

use crate::commands::{ok, ours};
use crate::oracle::{Etcd, programs};
use crate::process::output;

const FORMATS: [&str; 2] = ["fields", "protobuf"];

fn theirs(etcd: &Etcd, args: &[&str]) -> Command {
    let mut command = Command::new(programs().unwrap().join("etcdctl"));
    command
        .args(args)
        .env_clear()
        .env("ETCDCTL_ENDPOINTS", etcd.endpoint.trim_start_matches("http://"))
        .kill_on_drop(true);
    command
}

/// Two commands of which the second undoes what the first changed.
type Pair<'a> = (&'a [&'a str], &'a [&'a str]);

/// Runs a command as ours, undoes it, runs it as etcdctl's, and asserts that both print the same, but for what `form`
/// hides.
async fn same_with<T: PartialEq + std::fmt::Debug>(
    etcd: &Etcd,
    (args, undo): Pair<'_>,
    input: &str,
    form: impl Fn(&[u8]) -> T,
) {
    let first = output(&mut ours(etcd, args), input).await;
    if !undo.is_empty() {
        ok(etcd, undo).await;
    }
    let second = output(&mut theirs(etcd, args), input).await;
    assert!(!second.stdout.is_empty(), "{args:?}: {second:?}");
    assert_eq!(
        form(&first.stdout),
        form(&second.stdout),
        "{args:?}: {}",
        text(&first.stderr)
    );
}

/// Asserts that both print the same.
async fn same(etcd: &Etcd, args: &[&str]) {
    same_with(etcd, (args, &[]), "", whole).await;
}

fn whole(printed: &[u8]) -> String {
    printed.escape_ascii().to_string()
}

fn text(printed: &[u8]) -> String {
    String::from_utf8_lossy(printed).into_owned()
}

/// Where two runs have numbers of their own.
fn without_digits(printed: &[u8]) -> String {
    text(printed).replace(|c: char| c.is_ascii_digit(), "")
}

/// The names of fields, where what stands in them is each run's own.
fn names(printed: &[u8]) -> Vec<String> {
    let name = |line: &str| line.split(" : ").next().map(str::to_owned);
    text(printed).lines().filter_map(name).collect()
}

/// A message without its numbers, which nothing but its fields makes up.
fn message<M: Message + Default + std::fmt::Debug>(printed: &[u8]) -> String {
    let message = M::decode(printed).unwrap();
    assert_eq!(message.encode_to_vec(), printed);
    without_digits(format!("{message:?}").as_bytes())
}

/// An etcd with keys and values that no terminal should see, a lease, and a user with two roles.
async fn filled() -> Option<Etcd> {
    let etcd = Etcd::start().await?;
    for args in [
        &["put", "a/1", "one \"quoted\"\n\u{e9}\u{a0}\u{200b}\u{7}"][..],
        &["put", "a/\u{1f980}", "two"],
        &["lease", "grant", "600000", "--id", "1a2b"],
        &["put", "a/2", "zwei", "--lease", "1a2b"],
        &["user", "add", "u:pw"],
        &["role", "add", "r"],
        &["role", "add", "s"],
        &["user", "grant-role", "u", "r"],
        &["user", "grant-role", "u", "s"],
        &["role", "grant-permission", "r", "readwrite", "a/", "--prefix"],
        &["role", "grant-permission", "r", "read", "k"],
    ] {
        ok(&etcd, args).await;
    }
    Some(etcd)
}

#[tokio::test]
async fn questions_are_answered_as_by_etcdctl() {
    let Some(etcd) = filled().await else { return };
    for args in [
        &["get", "a/", "--prefix"][..],
        &["get", "missing"],
        &["get", "a/", "--prefix", "--limit", "1"],
        &["get", "a/1", "--keys-only"],
        &["lease", "list"],
        &["lease", "keep-alive", "--once", "1a2b"],
        &["lease", "timetolive", "77"],
        &["member", "list"],
        &["alarm", "list"],
        &["role", "list"],
        &["role", "get", "r"],
        &["role", "get", "s"],
        &["user", "get", "u", "--detail"],
        &["defrag"],
    ] {
        for format in FORMATS {
            same(&etcd, &[args, &["-w", format]].concat()).await;
        }
    }
    for args in [
        &["get", "a/", "--prefix", "--count-only", "-w", "fields"][..],
        &["endpoint", "hashkv", "-w", "fields"],
        &["user", "list", "-w", "protobuf"],
        &["user", "get", "u", "-w", "protobuf"],
        &["auth", "status", "-w", "protobuf"],
        &["lease", "timetolive", "1a2b", "--keys", "-w", "protobuf"],
    ] {
        same(&etcd, args).await;
    }
    for (args, form) in [
        // A second less is left of the lease by then, and more is in the log.
        (
            &["lease", "timetolive", "1a2b", "--keys"][..],
            without_digits as fn(&[u8]) -> String,
        ),
        (&["endpoint", "status"], without_digits),
        (&["endpoint", "health"], |printed| names(printed).join("\n")),
    ] {
        let args = [args, &["-w", "fields"]].concat();
        same_with(&etcd, (&args, &[]), "", form).await;
    }
}

/// They leave the revision as it is, so that not a digit differs.
#[tokio::test]
async fn changes_of_accounts_are_shown_as_by_etcdctl() {
    let Some(etcd) = filled().await else { return };
    let pairs: [Pair<'_>; 4] = [
        (&["user", "add", "v:pw"], &["user", "delete", "v"]),
        (&["role", "add", "t"], &["role", "delete", "t"]),
        (
            &["user", "grant-role", "v", "t"],
            &["user", "revoke-role", "v", "t"],
        ),
        (
            &["role", "grant-permission", "t", "write", "m", "n"],
            &["role", "revoke-permission", "t", "m", "n"],
        ),
    ];
    for format in FORMATS {
        for (make, undo) in pairs {
            let make = [make, &["-w", format]].concat();
            same_with(&etcd, (&make, undo), "", whole).await;
        }
        let passwd = ["user", "passwd", "v", "--interactive=false", "-w", format];
        same_with(&etcd, (&passwd, &[]), "new\n", whole).await;
        for (make, undo) in pairs.into_iter().rev() {
            let undo = [undo, &["-w", format]].concat();
            same_with(&etcd, (&undo, make), "", whole).await;
        }
    }
    for args in [
        &["user", "add", "root:r"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
    ] {
        ok(&etcd, args).await;
    }
    for format in FORMATS {
        let as_root = ["--user", "root:r", "-w", format];
        let [enable, disable] = ["enable", "disable"].map(|word| [&["auth", word][..], &as_root].concat());
        same_with(&etcd, (&enable, &disable), "", whole).await;
        same_with(&etcd, (&disable, &enable), "", whole).await;
    }
}

#[tokio::test]
async fn changes_of_keys_and_leases_are_shown_as_by_etcdctl() {
    let Some(etcd) = filled().await else { return };
    let failing = "mod(\"a/1\") = \"0\"\n\nget a/1\n\nget a/2\n\n";
    let holding =
        "mod(\"a/1\") > \"0\"\n\nput a/3 x --prev-kv\nget a/1\ndel nothing --prev-kv\n\nget a/1\n\n";
    let put = ["put", "a/1", "x", "--prev-kv", "-w"];
    let del = ["del", "a/1", "--prev-kv", "-w"];
    let with = |args: &[&'static str], format| [args, &[format]].concat();
    for (format, forms) in [
        ("fields", [without_digits as fn(&[u8]) -> String; 3]),
        (
            "protobuf",
            [
                message::<PutResponse>,
                message::<DeleteRangeResponse>,
                message::<TxnResponse>,
            ],
        ),
    ] {
        let [of_put, of_del, of_txn] = forms;
        ok(&etcd, &["put", "a/1", "x"]).await;
        same_with(&etcd, (&with(&put, format), &[]), "", of_put).await;
        same_with(&etcd, (&with(&del, format), &["put", "a/1", "x"]), "", of_del).await;
        ok(&etcd, &["put", "a/1", "x"]).await;
        let txn = ["txn", "-w", format];
        same_with(&etcd, (&txn, &[]), failing, whole).await;
        same_with(&etcd, (&txn, &["del", "a/3"]), holding, of_txn).await;
        ok(&etcd, &["del", "a/3"]).await;
    }

    let grant = ["lease", "grant", "60", "-w"];
    same_with(&etcd, (&with(&grant, "fields"), &[]), "", without_digits).await;
    same(&etcd, &with(&grant, "protobuf")).await;
    let revoke = ["lease", "revoke", "77", "-w", "fields"];
    let again = ["lease", "grant", "600", "--id", "77"];
    ok(&etcd, &again).await;
    same_with(&etcd, (&revoke, &again), "", whole).await;

    // etcdctl prints text, whatever the form.
    for (revision, format) in [(2, "fields"), (4, "protobuf")] {
        let [first, second] = [revision, revision + 1].map(|revision| revision.to_string());
        let first = ["compaction", &first, "-w", format];
        assert_eq!(
            ok(&etcd, &first).await,
            format!("compacted revision {revision}\n")
        );
        let second = output(&mut theirs(&etcd, &["compaction", &second, "-w", format]), "").await;
        assert_eq!(
            text(&second.stdout),
            format!("compacted revision {}\n", revision + 1)
        );
    }
}

#[tokio::test]
async fn changes_of_members_are_shown_as_by_etcdctl() {
    let Some(etcd) = filled().await else { return };
    let add = |url: &'static str| {
        let add = ["member", "add", "n", "--peer-urls", url];
        [&add[..], &["--learner", "-w", "protobuf"]].concat()
    };
    // Members are listed by their ids, which are random.
    let sorted = |printed: &[u8]| {
        let mut answer = MemberAddResponse::decode(printed).unwrap();
        assert_eq!(answer.encode_to_vec(), printed);
        answer.members.sort_by(|one, other| one.name.cmp(&other.name));
        (
            answer.member.as_ref().unwrap().id,
            without_digits(format!("{answer:?}").as_bytes()),
        )
    };
    let first = output(&mut ours(&etcd, &add("http://127.0.0.1:8")), "").await;
    let (id, first) = sorted(&first.stdout);
    // etcd makes ids of addresses and seconds, and knows those that are gone.
    let remove = ["member", "remove", &format!("{id:x}"), "-w", "protobuf"];
    let removed = output(&mut ours(&etcd, &remove), "").await.stdout;
    let list = output(&mut theirs(&etcd, &["member", "list", "-w", "protobuf"]), "").await;
    assert_eq!(whole(&removed), whole(&list.stdout));
    let second = output(&mut theirs(&etcd, &add("http://127.0.0.1:9")), "").await;
    let (id, second) = sorted(&second.stdout);
    assert_eq!(first, second);
    let id = format!("{id:x}");
    let update = [
        "member",
        "update",
        &id,
        "--peer-urls",
        "http://127.0.0.1:7",
        "-w",
        "protobuf",
    ];
    same(&etcd, &update).await;
}

/// Of what etcdctl does first and then cannot show, nothing is done.
#[tokio::test]
async fn what_etcdctl_cannot_show_is_refused_before_it_is_done() {
    let Some(etcd) = filled().await else { return };
    let members = ok(&etcd, &["member", "list", "-w", "simple"]).await;
    for (args, format) in [
        (&["user", "list"][..], "fields"),
        (&["user", "get", "u"], "fields"),
        (&["auth", "status"], "fields"),
        (&["endpoint", "status"], "protobuf"),
        (&["endpoint", "health"], "protobuf"),
        (&["endpoint", "hashkv"], "protobuf"),
        (&["lease", "revoke", "1a2b"], "protobuf"),
        (
            &[
                "member",
                "add",
                "n",
                "--peer-urls",
                "http://127.0.0.1:9",
                "--learner",
            ],
            "fields",
        ),
    ] {
        let args = [args, &["-w", format]].concat();
        let refused = output(&mut ours(&etcd, &args), "").await;
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        assert_eq!(text(&refused.stdout), "");
        let words = format!("{format} not supported as output format\n");
        assert!(
            text(&refused.stderr).starts_with(&format!("error: {words}")),
            "{refused:?}"
        );
        assert_eq!(ok(&etcd, &["member", "list", "-w", "simple"]).await, members);
        assert_eq!(ok(&etcd, &["get", "a/2"]).await, "a/2\nzwei\n");

        let theirs = output(&mut theirs(&etcd, &args), "").await;
        let said = text(&theirs.stderr);
        assert_eq!(theirs.status.code(), Some(4), "{args:?}: {said}");
        // It has its own word for the revoked lease.
        assert!(
            said.contains(&words) || said.contains("marshal unsupported"),
            "{args:?}: {said}"
        );
        if args[1] == "revoke" {
            ok(&etcd, &["lease", "grant", "600", "--id", "1a2b"]).await;
            ok(&etcd, &["put", "a/2", "zwei", "--lease", "1a2b"]).await;
        }
    }
}

/// Reads until there is enough.
async fn until(stdout: &mut ChildStdout, is_enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut printed = Vec::new();
    while !is_enough(&printed) {
        assert!(
            stdout.read_buf(&mut printed).await.unwrap() > 0,
            "only {:?}",
            text(&printed)
        );
    }
    printed
}

/// What a command that runs on prints until it is enough, or has printed after it read another line. It ends then.
async fn beginning(mut command: Command, lines: [&str; 2], is_enough: fn(&[u8]) -> bool) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(lines[0].as_bytes()).await.unwrap();
    let mut printed = until(&mut stdout, is_enough).await;
    if !lines[1].is_empty() {
        stdin.write_all(lines[1].as_bytes()).await.unwrap();
        printed.extend(until(&mut stdout, |printed| text(printed).contains("RaftTerm\" : ")).await);
    }
    child.kill().await.unwrap();
    printed
}

fn has_deletion(printed: &[u8]) -> bool {
    let text = text(printed);
    let fields = text.contains("\"Type\" : DELETE\n") && text.ends_with("\"Lease\" : 0\n");
    let last = WatchResponse::decode(printed)
        .ok()
        .and_then(|answer| answer.events.last().map(|event| event.r#type()));
    fields || last == Some(EventType::Delete)
}

fn has_whole_key(printed: &[u8]) -> bool {
    text(printed).contains("\"Count\" : ") && printed.ends_with(b"\n")
}

#[tokio::test]
async fn watches_locks_and_elections_are_shown_as_by_etcdctl() {
    let Some(etcd) = filled().await else { return };
    ok(&etcd, &["put", "a/1", "y"]).await;
    ok(&etcd, &["del", "a/1"]).await;
    for format in FORMATS {
        let args = ["watch", "a/", "--prefix", "--rev", "2", "--prev-kv", "-w", format];
        let [ours, theirs] = [ours(&etcd, &args), theirs(&etcd, &args)];
        let ours = beginning(ours, ["", ""], has_deletion).await;
        assert_eq!(
            whole(&ours),
            whole(&beginning(theirs, ["", ""], has_deletion).await)
        );
    }
    let args = ["watch", "-i", "-w", "fields"];
    let lines = ["watch a/1 --rev 2\n", "progress\n"];
    let [first, second] = [ours(&etcd, &args), theirs(&etcd, &args)];
    let first = beginning(first, lines, has_deletion).await;
    assert!(text(&first).contains("progress notify: "), "{}", text(&first));
    assert_eq!(
        whole(&first),
        whole(&beginning(second, lines, has_deletion).await)
    );

    for args in [
        &["lock", "l", "-w", "fields"][..],
        &["elect", "e", "me", "-w", "fields"],
    ] {
        let [first, second] = [ours(&etcd, args), theirs(&etcd, args)];
        let first = beginning(first, ["", ""], has_whole_key).await;
        // Nobody else is in its way: what was killed has left its place behind.
        let places = ok(&etcd, &["lease", "list"]).await;
        for lease in places.lines().skip(1).filter(|lease| !lease.ends_with("1a2b")) {
            ok(&etcd, &["lease", "revoke", lease]).await;
        }
        assert_eq!(
            names(&first),
            names(&beginning(second, ["", ""], has_whole_key).await)
        );
    }
    ok(&etcd, &["put", "e/1", "leader"]).await;
    let args = ["elect", "-l", "e", "-w", "fields"];
    let [first, second] = [ours(&etcd, &args), theirs(&etcd, &args)];
    let first = beginning(first, ["", ""], has_whole_key).await;
    assert_eq!(
        names(&first),
        names(&beginning(second, ["", ""], has_whole_key).await)
    );

    ok(&etcd, &["compact", "4"]).await;
    for format in FORMATS {
        same(&etcd, &["watch", "a/1", "--rev", "2", "-w", format]).await;
    }
}

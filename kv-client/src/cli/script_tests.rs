//! Transcripts: the text of a transaction, then the request or the error.

use std::fmt::Write;

use kv_proto::etcdserverpb::compare::{CompareResult, CompareTarget};
use kv_proto::etcdserverpb::request_op::Request;
use kv_proto::etcdserverpb::{Compare, RequestOp};

use super::read;

fn transcript(text: &str) -> String {
    let script = match read(text.as_bytes(), None) {
        Ok(script) => script,
        Err(error) => return format!("error: {error}\n"),
    };
    let mut out = String::new();
    for compare in &script.request.compare {
        writeln!(out, "if   {}", show_compare(compare)).unwrap();
    }
    for (branch, ops) in [
        ("then", &script.request.success),
        ("else", &script.request.failure),
    ] {
        for op in ops {
            writeln!(out, "{branch} {}", show_op(op)).unwrap();
        }
    }
    out
}

fn show_compare(compare: &Compare) -> String {
    let target = CompareTarget::try_from(compare.target).unwrap();
    let result = CompareResult::try_from(compare.result).unwrap();
    format!(
        "{target:?} {:?} {result:?} {:?}",
        compare.key,
        compare.target_union.as_ref().unwrap()
    )
}

fn show_op(op: &RequestOp) -> String {
    match op.request.as_ref().unwrap() {
        Request::RequestRange(get) => {
            format!(
                "get {:?}..{:?} limit {} keys_only {}",
                get.key, get.range_end, get.limit, get.keys_only
            )
        }
        Request::RequestPut(put) => format!("put {:?} = {:?} lease {}", put.key, put.value, put.lease),
        Request::RequestDeleteRange(del) => format!("del {:?}..{:?}", del.key, del.range_end),
        Request::RequestTxn(_) => "txn".to_owned(),
    }
}

#[test]
fn the_three_parts() {
    let text = "mod(\"key1\") > \"0\"\nvalue(key2) != \"a b\"\n\nput key1 \"over \\\"it\\\"\"\nget k --prefix --limit 3\n\n\
                del a b\nput k --lease=ff -- -1\n";
    insta::assert_snapshot!(transcript(text), @r###"
    if   Mod b"key1" Greater ModRevision(0)
    if   Value b"key2" NotEqual Value(b"a b")
    then put b"key1" = b"over \"it\"" lease 0
    then get b"k"..b"l" limit 3 keys_only false
    else del b"a"..b"b"
    else put b"k" = b"-1" lease 255
    "###);
}

#[test]
fn all_compares() {
    let text = "ver(\"k\")=1\nversion(k) < 2\nc(k) > 3\ncreate( \"k\" ) != 4\nm(k) = 5\nval(k) = ''\nlease(k) = ff\n";
    insta::assert_snapshot!(transcript(text), @r###"
    if   Version b"k" Equal Version(1)
    if   Version b"k" Less Version(2)
    if   Create b"k" Greater CreateRevision(3)
    if   Create b"k" NotEqual CreateRevision(4)
    if   Mod b"k" Equal ModRevision(5)
    if   Value b"k" Equal Value(b"")
    if   Lease b"k" Equal Lease(255)
    "###);
}

#[test]
fn parts_may_be_empty_or_missing() {
    assert_eq!(transcript(""), "");
    assert_eq!(transcript("\n\n\n\n"), "");
    assert_eq!(transcript("\n\ndel a"), "else del b\"a\"..b\"\"\n");
}

#[test]
fn quotes_and_escapes() {
    let text = "\nput 'it''s' \"\\x00\\xff\\n\\\\\"\nput \"\" 'a \\n b'\n";
    insta::assert_snapshot!(transcript(text), @r###"
    then put b"its" = b"\0\xff\n\\" lease 0
    then put b"" = b"a \\n b" lease 0
    "###);
}

#[test]
fn errors_name_the_line() {
    let mut out = String::new();
    for text in [
        "mod key > 0\n",
        "mod(\"key\"\n",
        "mod(key) >\n",
        "mod(key) >= 0\n",
        "mod(key) > x\n",
        "size(key) > 0\n",
        "lease(key) = xyz\n",
        "mod(key) > 0 1\n",
        "mod(\"key) > 0\n",
        "mod(k) > 0\n\nput k\n",
        "\nput k 1\nget\n",
        "\nfrobnicate k\n",
        "\nget k --frobnicate\n",
        "\nput k \"\\q\"\n",
        "\nput k \"\\xg0\"\n",
        "\nget a b --prefix\n",
        "\n\n\nput k v\n",
    ] {
        write!(out, "{text:?}\n  {}", transcript(text)).unwrap();
    }
    insta::assert_snapshot!(out, @r###"
    "mod key > 0\n"
      error: line 1: expected a compare such as mod("key") > "0"
    "mod(\"key\"\n"
      error: line 1: expected a compare such as mod("key") > "0"
    "mod(key) >\n"
      error: line 1: expected a compare such as mod("key") > "0"
    "mod(key) >= 0\n"
      error: line 1: unknown operator ">=", use one of = != > <
    "mod(key) > x\n"
      error: line 1: mod is compared with a number, not with "x"
    "size(key) > 0\n"
      error: line 1: unknown compare "size", use version, create, mod, value or lease
    "lease(key) = xyz\n"
      error: line 1: expected a lease ID in hexadecimal, such as 694d77aa9e38260f
    "mod(key) > 0 1\n"
      error: line 1: unexpected text after the compare: "1"
    "mod(\"key) > 0\n"
      error: line 1: the quote " is not closed
    "mod(k) > 0\n\nput k\n"
      error: line 3: put needs a value in a transaction
    "\nput k 1\nget\n"
      error: line 3: the following required arguments were not provided: <KEY>
    "\nfrobnicate k\n"
      error: line 2: unrecognized request 'frobnicate', expected get, put or del
    "\nget k --frobnicate\n"
      error: line 2: unexpected argument '--frobnicate' found
    "\nput k \"\\q\"\n"
      error: line 2: unknown escape \q, use one of \" \\ \n \t \r \xHH
    "\nput k \"\\xg0\"\n"
      error: line 2: \xg0 is not two hex digits
    "\nget a b --prefix\n"
      error: line 2: the argument '[RANGE_END]' cannot be used with '--prefix'
    "\n\n\nput k v\n"
      error: line 4: text after the failure requests; a transaction has three parts
    "###);
}

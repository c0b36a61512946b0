//! What a fuzzer or its twin asks of the JSON gateway.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DynamicMessage, MethodDescriptor};

use super::{
    json::{self, Splitter},
    routes::ROUTES,
};
use crate::api::fuzz::known;

static METHODS: LazyLock<Vec<MethodDescriptor>> = LazyLock::new(|| ROUTES.all().cloned().collect());

/// Reads these bytes, but the first, as the body of a request to the path of which the first one is the number.
///
/// # Panics
/// Where a message cannot be read by its service, or is no longer the same after it was written and read again.
pub fn json(input: &[u8]) {
    let Some((number, body)) = input.split_first() else {
        return;
    };
    let method = &METHODS[usize::from(*number) % METHODS.len()];
    if method.is_client_streaming() {
        stream(method, body);
    } else {
        one(method, body);
    }
}

fn one(method: &MethodDescriptor, text: &[u8]) {
    let message = match json::read(method.input(), text) {
        Ok(message) => message,
        Err(status) => {
            assert!(status.code() == tonic::Code::InvalidArgument && !status.message().is_empty());
            return;
        }
    };
    known(method.input().full_name(), &message.encode_to_vec());
    let mut text = Vec::new();
    json::write(&message, &mut text).expect("every message has its JSON");
    let again: DynamicMessage = json::read(method.input(), &text).expect("it was written here");
    assert_eq!(again.encode_to_vec(), message.encode_to_vec());
}

/// The messages are the same however the body arrives.
fn stream(method: &MethodDescriptor, body: &[u8]) {
    let split = |at_once: usize| {
        let (mut splitter, mut texts) = (Splitter::default(), Vec::new());
        for bytes in body.chunks(at_once) {
            splitter.push(bytes);
            texts.extend(std::iter::from_fn(|| splitter.next()));
        }
        texts.extend(splitter.rest());
        texts
    };
    let texts = split(body.len().max(1));
    assert_eq!(split(3), texts);
    for text in texts {
        one(method, &text);
    }
}

/// Bodies of requests to the paths that carry keys and values, and whatever else nests.
pub fn json_seeds() -> Vec<Vec<u8>> {
    [
        (
            "Range",
            r#"{"key":"Zm9v","range_end":"AA==","limit":"3","sort_order":"DESCEND","sortTarget":3}"#,
        ),
        ("Put", r#"{"key":"Zm9v","value":"YmFy","lease":"7","prev_kv":true}"#),
        ("DeleteRange", r#"{"key":"YQ","rangeEnd":"__s="}"#),
        (
            "Txn",
            r#"{"compare":[{"key":"YQ==","target":"VALUE","result":"GREATER","value":"MA=="}],
                "success":[{"request_txn":{"failure":[{"requestPut":{"key":"YQ==","value":"MQ=="}}]}}],
                "failure":[{"request_range":{"key":"YQ=="}},{"request_delete_range":{"key":"Yg=="}}]}"#,
        ),
        ("Compact", r#"{"revision":"2","physical":true,"unknown":[{"key":null}]}"#),
        (
            "Watch",
            "{\"create_request\":{\"key\":\"YQ==\",\"filters\":[\"NOPUT\",1]}}\n{\"cancel_request\":{\"watch_id\":1}} x",
        ),
        ("LeaseKeepAlive", r#"{"ID":7} {"ID":"9223372036854775807"}"#),
        ("LeaseGrant", r#"{"TTL":60.0,"ID":-1}"#),
        ("MemberAdd", r#"{"peerURLs":["http://a:1","b"],"isLearner":true}"#),
        (
            "RoleGrantPermission",
            r#"{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"AA=="}}"#,
        ),
        ("Campaign", r#"{"name":"bg==","lease":7,"value":"dg=="}"#),
        ("Status", ""),
    ]
    .into_iter()
    .map(|(name, body)| {
        let number = METHODS.iter().position(|method| method.name() == name);
        let number = number.and_then(|number| u8::try_from(number).ok());
        [&[number.expect("the method is in the table")], body.as_bytes()].concat()
    })
    .collect()
}

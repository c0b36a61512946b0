//! Between JSON and messages.
//!
//! prost-reflect has protobuf's own rules. Where etcd's gateway differs and a client would notice, it is
//! made to fit here: what is no field is ignored while an unknown name of an enum is refused, the last of
//! two fields of one name counts, and `null` or nothing at all is a message without fields.

use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, SerializeOptions};
use serde::Deserialize;
use serde_json::Value;
use tonic::Status;

use crate::blocking::may_wait;

/// Messages beyond this are translated where they hold up nobody else.
const LARGE_BYTES: usize = 256 << 10;

/// Does what takes the longer the more bytes there are.
pub(super) fn translate<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BYTES {
        may_wait(work)
    } else {
        work()
    }
}

/// The message at the beginning of `text`; like etcd, whatever follows it.
///
/// # Errors
/// INVALID_ARGUMENT where it is none.
pub(super) fn read(desc: MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, Status> {
    translate(text.len(), || parse(desc, text))
}

fn parse(desc: MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, Status> {
    if text.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(desc));
    }
    let invalid = |error: serde_json::Error| Status::invalid_argument(format!("invalid JSON: {error}"));
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut value = Value::deserialize(&mut json).map_err(invalid)?;
    if value.is_null() {
        return Ok(DynamicMessage::new(desc));
    }
    drop_unknown(&desc, &mut value);
    let strictly = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(desc, value, &strictly).map_err(invalid)
}

/// Drops what is not a field. serde_json has bounded the depth.
fn drop_unknown(desc: &MessageDescriptor, value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| drop_unknown(desc, item)),
        Value::Object(fields) => fields.retain(|name, value| {
            let field = desc
                .get_field_by_json_name(name)
                .or_else(|| desc.get_field_by_name(name));
            if let Some(Kind::Message(desc)) = field.as_ref().map(|field| field.kind()) {
                drop_unknown(&desc, value);
            }
            field.is_some()
        }),
        _ => {}
    }
}

/// Appends the message's JSON to `text`.
///
/// # Errors
/// INTERNAL where it has none, which no message of these services is.
pub(super) fn write(message: &DynamicMessage, text: &mut Vec<u8>) -> Result<(), Status> {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut json = serde_json::Serializer::new(text);
    translate(message.encoded_len(), || {
        message.serialize_with_options(&mut json, &options)
    })
    .map_err(|error| Status::internal(format!("no JSON: {error}")))
}

/// Finds where the JSON objects of a stream end, each byte looked at once.
#[derive(Default)]
pub(super) struct Splitter {
    pending: Vec<u8>,
    looked_at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// Takes in more of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// How much of the stream waits for its end.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// The next object, or what can be none, for [`read`] to say so.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        while let Some(&byte) = self.pending.get(self.looked_at) {
            self.looked_at += 1;
            if self.ends(byte) {
                let rest = self.pending.split_off(self.looked_at);
                self.looked_at = 0;
                return Some(std::mem::replace(&mut self.pending, rest));
            }
        }
        None
    }

    /// What is left when the stream has ended; nothing where that is only space.
    pub(super) fn rest(self) -> Option<Vec<u8>> {
        Some(self.pending).filter(|rest| !rest.trim_ascii().is_empty())
    }

    fn ends(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'{' => self.depth += 1,
            // Only an object is a message: anything else ends at once.
            _ if self.depth == 0 => return !byte.is_ascii_whitespace(),
            b'"' => self.in_string = true,
            b'}' => self.depth -= 1,
            _ => return false,
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use kv_proto::etcdserverpb as pb;
    use proptest::prelude::*;
    use prost_reflect::DescriptorPool;

    use super::*;

    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(kv_proto::FILE_DESCRIPTOR_SET).unwrap());

    fn desc(name: &str) -> MessageDescriptor {
        POOL.get_message_by_name(&format!("etcdserverpb.{name}")).unwrap()
    }

    fn parsed<M: Message + Default>(name: &str, text: &str) -> Result<M, String> {
        let message = read(desc(name), text.as_bytes());
        message
            .map(|message| message.transcode_to().unwrap())
            .map_err(|status| {
                assert_eq!(status.code(), tonic::Code::InvalidArgument);
                status.message().to_owned()
            })
    }

    fn show(name: &str, message: &impl Message) -> String {
        let message = DynamicMessage::decode(desc(name), message.encode_to_vec().as_slice()).unwrap();
        let mut text = Vec::new();
        write(&message, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn spellings_of_a_request() {
        let expected = pb::RangeRequest {
            key: "foo".into(),
            range_end: vec![0xff, 0xfb].into(),
            limit: 7,
            revision: i64::MAX,
            sort_order: 2,
            sort_target: 3,
            serializable: true,
            ..Default::default()
        };
        for text in [
            r#"{"key":"Zm9v","range_end":"//s=","limit":7,"revision":"9223372036854775807",
                "sort_order":"DESCEND","sort_target":"MOD","serializable":true}"#,
            r#"{"key":"Zm9v","rangeEnd":"__s","limit":"7","revision":9223372036854775807,
                "sortOrder":2,"sortTarget":3,"serializable":true,"keysOnly":null,"unknown":{"key":"eA=="}}"#,
            r#" {"key":"eA==","key":"Zm9v","range_end":"//s=","limit":7,"revision":"9223372036854775807",
                "sort_order":"DESCEND","sort_target":"MOD","serializable":true} {"key":"eA=="} whatever"#,
        ] {
            assert_eq!(parsed("RangeRequest", text).as_ref(), Ok(&expected), "{text}");
        }
        for nothing in ["", " \n", "{}", "null", r#"{"keyy":"eA=="}"#] {
            assert_eq!(parsed("RangeRequest", nothing), Ok(pb::RangeRequest::default()));
        }
        let lease = parsed("LeaseGrantRequest", r#"{"TTL":"60","ID":77,"ttl":5,"id":6}"#);
        assert_eq!(lease, Ok(pb::LeaseGrantRequest { ttl: 60, id: 77 }));
        let member = parsed("MemberAddRequest", r#"{"peerURLs":["a","b"],"isLearner":true}"#);
        let urls = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(
            member,
            Ok(pb::MemberAddRequest {
                peer_ur_ls: urls,
                is_learner: true
            })
        );
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        for (text, reason) in [
            ("{", "EOF while parsing"),
            ("[]", "invalid type: sequence"),
            ("5", "invalid type: integer"),
            (r#"{"key":"!!"}"#, "invalid base64"),
            (r#"{"key":5}"#, "base64"),
            (r#"{"limit":"x"}"#, "invalid digit"),
            (r#"{"limit":1.5}"#, "integer"),
            (r#"{"limit":9223372036854775808}"#, "out of range"),
            (r#"{"sort_order":"UP"}"#, "UP"),
            (r#"{"serializable":"true"}"#, "boolean"),
        ] {
            let error = parsed::<pb::RangeRequest>("RangeRequest", text).unwrap_err();
            assert!(
                error.starts_with("invalid JSON: ") && error.contains(reason),
                "{text}: {error}"
            );
        }
        let both = r#"{"success":[{"request_put":{},"request_range":{}}]}"#;
        let error = parsed::<pb::TxnRequest>("TxnRequest", both).unwrap_err();
        assert!(error.contains("oneof"), "{error}");
        let deep = r#"{"success":[{"request_txn":"#.repeat(200);
        assert!(parsed::<pb::TxnRequest>("TxnRequest", &deep).is_err());
    }

    #[test]
    fn an_answer_names_what_is_not_zero() {
        let answer = pb::LeaseTimeToLiveResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                revision: 5,
                ..Default::default()
            }),
            id: 7,
            ttl: -1,
            keys: vec!["a".into(), "".into()],
            ..Default::default()
        };
        assert_eq!(
            show("LeaseTimeToLiveResponse", &answer),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"5"},"ID":"7","TTL":"-1","keys":["YQ==",""]}"#
        );
        let watch = pb::WatchResponse {
            events: vec![
                kv_proto::mvccpb::Event::default(),
                kv_proto::mvccpb::Event {
                    r#type: 1,
                    kv: Some(Default::default()),
                    prev_kv: None,
                },
            ],
            ..Default::default()
        };
        assert_eq!(
            show("WatchResponse", &watch),
            r#"{"events":[{},{"type":"DELETE","kv":{}}]}"#
        );
        let alarm = pb::AlarmMember {
            member_id: 1,
            alarm: 9,
        };
        assert_eq!(show("AlarmMember", &alarm), r#"{"memberID":"1","alarm":9}"#);
        assert_eq!(
            show(
                "HashKVResponse",
                &pb::HashKvResponse {
                    hash: 3,
                    ..Default::default()
                }
            ),
            r#"{"hash":3}"#
        );
    }

    #[test]
    fn objects_of_a_stream_end_where_they_end() {
        let mut splitter = Splitter::default();
        let mut pieces = |text: &str| {
            splitter.push(text.as_bytes());
            let mut found = Vec::new();
            while let Some(piece) = splitter.next() {
                found.push(String::from_utf8(piece).unwrap());
            }
            found
        };
        assert_eq!(
            pieces(r#"{"a":{}}{"b":"}\"{"}"#),
            [r#"{"a":{}}"#, r#"{"b":"}\"{"}"#]
        );
        assert_eq!(pieces("\n{\"a\":[{\"x\""), [""; 0]);
        assert_eq!(pieces(":1}]} x"), ["\n{\"a\":[{\"x\":1}]}", " x"]);
        assert_eq!(pieces("}[\"{"), ["}", "[", "\""]);
        assert_eq!(pieces(" "), [""; 0]);
        assert_eq!(splitter.rest().unwrap(), b"{ ");
    }

    /// The pieces of a stream that arrives `at_once` bytes at a time, and what is left.
    fn split(stream: &str, at_once: usize) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        let (mut splitter, mut pieces) = (Splitter::default(), Vec::new());
        for bytes in stream.as_bytes().chunks(at_once) {
            splitter.push(bytes);
            while let Some(piece) = splitter.next() {
                pieces.push(piece);
            }
        }
        (pieces, splitter.rest())
    }

    proptest! {
        #[test]
        fn splitting_does_not_depend_on_how_the_stream_arrives(
            stream in r#"([ \n]?\{("a":("[{}a\\]*"|\[\{\}\])?)?\}){1,5}"#,
            at_once in 1usize..7,
        ) {
            prop_assert_eq!(split(&stream, at_once), split(&stream, stream.len()));
        }

        #[test]
        fn every_request_survives_json(request in request()) {
            let text = show("RangeRequest", &request);
            prop_assert_eq!(parsed("RangeRequest", &text), Ok(request));
        }
    }

    fn request() -> impl Strategy<Value = pb::RangeRequest> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..20);
        let strategy = (bytes(), bytes(), any::<(i64, i64, i32, i32, bool, bool)>());
        strategy.prop_map(
            |(key, range_end, (limit, revision, order, target, serializable, keys_only))| pb::RangeRequest {
                key: key.into(),
                range_end: range_end.into(),
                limit,
                revision,
                sort_order: order,
                sort_target: target,
                serializable,
                keys_only,
                max_create_revision: revision.wrapping_mul(31),
                ..Default::default()
            },
        )
    }
}

//! One of the two: sends it requests, and reads its answers as people would.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstEncoder;

use crate::common::DEADLINE;

use super::requests::{DELETE_RANGE, Method, PUT, Step, Via};

/// Fields whose base64 is shown as text.
const BYTES: [&str; 3] = ["key", "range_end", "value"];
/// Fields that count from the beginning of the sequence.
const REVISIONS: [&str; 9] = [
    "revision",
    "create_revision",
    "mod_revision",
    "compact_revision",
    "start_revision",
    "min_mod_revision",
    "max_mod_revision",
    "min_create_revision",
    "max_create_revision",
];
/// Fields that are not compared.
const MASKED: [&str; 3] = ["cluster_id", "member_id", "raft_term"];

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(kv_proto::FILE_DESCRIPTOR_SET).unwrap());

/// A server, and the revision at which the sequence began.
pub(super) struct Side {
    address: String,
    http: reqwest::Client,
    channel: Channel,
    base: i64,
}

impl Side {
    /// Once it answers.
    pub(super) async fn new(address: &str) -> Side {
        let health = format!("http://{address}/health");
        let started = Instant::now();
        while !reqwest::get(&health)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            assert!(started.elapsed() < DEADLINE, "{address} does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Side {
            address: address.to_owned(),
            http: reqwest::Client::new(),
            channel: endpoint.connect_lazy(),
            base: 0,
        }
    }

    /// Deletes every key. The sequence begins at a revision of its own, which no other has compacted.
    pub(super) async fn reset(&mut self) {
        self.ask_grpc(PUT, &json!({"key": STANDARD.encode("a")}))
            .await
            .unwrap();
        let everything = json!({"key": STANDARD.encode([0]), "range_end": STANDARD.encode([0])});
        let answer = self.ask_grpc(DELETE_RANGE, &everything).await.unwrap();
        let revision = answer["header"]["revision"].as_str().unwrap();
        self.base = revision.parse().unwrap();
    }

    /// The answer to a request, whatever it is.
    pub(super) async fn ask(&self, step: &Step) -> Value {
        let mut request = step.request.clone();
        self.absolute(&mut request);
        let mut answer = match step.via {
            Via::Grpc => match self.ask_grpc(step.method, &request).await {
                Ok(answer) => answer,
                Err(status) => json!({"code": status.code() as i32, "error": status.message()}),
            },
            Via::Json => self.ask_json(step.method, &request).await,
        };
        self.relative(&mut answer);
        answer
    }

    async fn ask_json(&self, method: Method, request: &Value) -> Value {
        let url = format!("http://{}/v3/{}", self.address, method.json);
        let answer = self
            .http
            .post(url)
            .body(request.to_string())
            .send()
            .await
            .unwrap();
        let (status, kind) = (answer.status().as_u16(), answer.headers()["content-type"].clone());
        let json: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        json!({"http": status, "type": kind.to_str().unwrap(), "json": json})
    }

    async fn ask_grpc(&self, method: Method, request: &Value) -> Result<Value, Status> {
        let method = describe(method);
        let request = DynamicMessage::deserialize(method.input(), request).unwrap();
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec = Dynamic(method.output());
        let answer = grpc
            .unary(Request::new(request), path.parse().unwrap(), codec)
            .await?;
        let options = SerializeOptions::new().use_proto_field_name(true);
        let answer = answer.get_ref();
        Ok(answer
            .serialize_with_options(serde_json::value::Serializer, &options)
            .unwrap())
    }

    /// From the sequence's words to the wire's.
    fn absolute(&self, value: &mut Value) {
        each_field(value, &mut |name, value| match value {
            Value::String(text) if BYTES.contains(&name) => {
                let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
                *text = STANDARD.encode(bytes);
            }
            Value::String(text) if REVISIONS.contains(&name) => {
                if let Some(revision) = text.strip_prefix('+') {
                    *text = (self.base + revision.parse::<i64>().unwrap()).to_string();
                }
            }
            _ => {}
        });
    }

    /// And back.
    fn relative(&self, value: &mut Value) {
        each_field(value, &mut |name, value| match value {
            Value::String(text) if BYTES.contains(&name) => {
                let bytes = STANDARD.decode(&text).unwrap();
                *text = bytes.into_iter().map(char::from).collect();
            }
            Value::String(text) if REVISIONS.contains(&name) => {
                *text = format!("{:+}", text.parse::<i64>().unwrap() - self.base);
            }
            Value::String(text) if MASKED.contains(&name) => text.clear(),
            _ => {}
        });
    }
}

fn each_field(value: &mut Value, change: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_field(item, change)),
        Value::Object(fields) => {
            for (name, value) in fields {
                change(name, value);
                each_field(value, change);
            }
        }
        _ => {}
    }
}

fn describe(method: Method) -> MethodDescriptor {
    let service = POOL.get_service_by_name(method.service).unwrap();
    service
        .methods()
        .find(|described| described.name() == method.name)
        .unwrap()
}

struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = ProstEncoder<DynamicMessage>;
    type Decoder = Dynamic;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Dynamic(self.0.clone())
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let mut message = DynamicMessage::new(self.0.clone());
        message
            .merge(bytes)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}

//! Sends requests to a server, over gRPC and over JSON, and gives its answers as JSON.

use std::sync::LazyLock;

use futures::{
    FutureExt, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstEncoder;

use super::{methods::Method, requests::Via};
use crate::common::DEADLINE;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(kv_proto::FILE_DESCRIPTOR_SET).unwrap());

/// Stands in the answer of a server whose connection broke.
pub(super) const BROKEN: &str = "broken";

/// A server.
pub(super) struct Wire {
    address: String,
    http: reqwest::Client,
    endpoint: Endpoint,
    channel: Channel,
}

/// A stream of requests, and its answers as they come. Dropped, it leaves nothing behind: with the answers goes the
/// stream, and with the requests' end what would still send them, so that the connection can close.
pub(super) struct Conversation {
    answers: BoxStream<'static, Value>,
    /// Dropped, it ends the requests; only over gRPC do they go on for so long.
    _requests: Option<oneshot::Sender<()>>,
}

impl Conversation {
    /// The next answer; none where it does not come in time.
    pub(super) async fn next(&mut self) -> Option<Value> {
        let answer = tokio::time::timeout(DEADLINE, self.answers.next()).await;
        answer.ok().flatten()
    }

    /// The same with other answers.
    pub(super) fn map(self, change: impl Fn(Value) -> Value + Send + 'static) -> Conversation {
        Conversation {
            answers: self.answers.map(change).boxed(),
            ..self
        }
    }
}

impl Wire {
    pub(super) fn to(address: &str) -> Wire {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Wire {
            address: address.to_owned(),
            http: reqwest::Client::new(),
            channel: endpoint.connect_lazy(),
            endpoint,
        }
    }

    /// The whole answer to one request, with a user's token where there is one.
    pub(super) async fn ask(&self, via: Via, method: Method, request: &Value, token: Option<&str>) -> Value {
        match via {
            Via::Grpc => {
                let requests = stream::iter([read(method, request)]).boxed();
                let answers = match self.call(self.channel.clone(), method, requests, token).await {
                    Ok(answers) => answers.map_ok(|answer| show(&answer)).try_collect().await,
                    Err(status) => Err(status),
                };
                match answers {
                    Ok(answers) => Value::Array(answers),
                    Err(status) => json!({"code": status.code() as i32, "error": status.message()}),
                }
            }
            Via::Json => {
                let answer = match self.post(method, request.to_string(), token).await {
                    Ok(answer) => answer,
                    Err(error) => return json!({BROKEN: error.to_string()}),
                };
                let (status, kind) = (answer.status().as_u16(), answer.headers()["content-type"].clone());
                let text = answer.text().await.unwrap();
                let json = text.lines().map(|line| serde_json::from_str(line).unwrap());
                let json: Vec<Value> = json.collect();
                json!({"http": status, "type": kind.to_str().unwrap(), "json": json})
            }
        }
    }

    /// The answers to a stream of requests, which over gRPC does not end by itself, and over JSON does.
    pub(super) async fn stream(&self, via: Via, method: Method, requests: Vec<Value>) -> Conversation {
        match via {
            Via::Grpc => {
                let requests: Vec<_> = requests.iter().map(|request| read(method, request)).collect();
                let (open, end) = oneshot::channel();
                let goes_on = end.into_stream().filter_map(async |_| None);
                let requests = stream::iter(requests).chain(goes_on).boxed();
                // On a connection of its own: one on which many streams were dropped is closed by h2 0.4.20.
                let channel = self.endpoint.connect_lazy();
                let answers = self.call(channel, method, requests, None).await.unwrap();
                Conversation {
                    answers: answers.map(|answer| show(&answer.unwrap())).boxed(),
                    _requests: Some(open),
                }
            }
            Via::Json => {
                let requests: String = requests.iter().map(Value::to_string).collect();
                let response = self.post(method, requests, None).await.unwrap();
                let answer = |line: String| serde_json::from_str::<Value>(&line).unwrap()["result"].take();
                Conversation {
                    answers: lines(response).map(answer).boxed(),
                    _requests: None,
                }
            }
        }
    }

    async fn post(
        &self,
        method: Method,
        body: String,
        token: Option<&str>,
    ) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://{}/v3/{}", self.address, method.json);
        let mut request = self.http.post(&url).body(body);
        if let Some(token) = token {
            request = request.header("Authorization", token);
        }
        let answer = tokio::time::timeout(DEADLINE, request.send()).await;
        answer.unwrap_or_else(|_| panic!("no answer from {url}"))
    }

    async fn call(
        &self,
        channel: Channel,
        method: Method,
        requests: BoxStream<'static, DynamicMessage>,
        token: Option<&str>,
    ) -> Result<Streaming<DynamicMessage>, Status> {
        let path = format!("/{}/{}", method.service, method.name);
        let mut request = Request::new(requests);
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec = Dynamic(described(method).output());
        Ok(grpc
            .streaming(request, path.parse().unwrap(), codec)
            .await?
            .into_inner())
    }
}

fn described(method: Method) -> MethodDescriptor {
    let service = POOL.get_service_by_name(method.service).unwrap();
    let named = |described: &MethodDescriptor| described.name() == method.name;
    service.methods().find(named).unwrap()
}

fn read(method: Method, request: &Value) -> DynamicMessage {
    DynamicMessage::deserialize(described(method).input(), request).unwrap()
}

/// The lines of a body that may go on for ever.
fn lines(response: reqwest::Response) -> BoxStream<'static, String> {
    stream::unfold((response, String::new()), async |(mut response, mut text)| {
        loop {
            if let Some((line, rest)) = text.split_once('\n') {
                let next = (line.to_owned(), (response, rest.to_owned()));
                return Some(next);
            }
            let chunk = response.chunk().await.unwrap()?;
            // What is not ASCII is base64 here.
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    })
    .boxed()
}

fn show(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message
        .serialize_with_options(serde_json::value::Serializer, &options)
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

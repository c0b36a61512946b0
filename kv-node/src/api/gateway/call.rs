//! Calling a service of this process, as a gRPC client would.

use axum::Router;
use bytes::Buf;
use futures::future::{self, Either};
use http::{Extensions, uri::PathAndQuery};
use kv_tls::PeerCertificate;
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder},
    metadata::MetadataMap,
};
use tonic_prost::ProstEncoder;

use super::{
    json::translate,
    requests::{Requests, Trouble},
};

/// What a request shows of who sends it.
pub(super) struct Caller {
    pub(super) metadata: MetadataMap,
    pub(super) certificate: Option<PeerCertificate>,
}

/// The services, without a network between.
pub(super) struct Services(Grpc<Router>);

impl Services {
    pub(super) fn new(router: Router) -> Services {
        Services(Grpc::new(router).max_decoding_message_size(usize::MAX))
    }

    /// Calls a method, whatever it streams: a single message is a stream of one.
    ///
    /// # Errors
    /// What the service answers, or what is wrong with the requests.
    pub(super) async fn call(
        &self,
        method: &MethodDescriptor,
        caller: Caller,
        requests: Requests,
        trouble: Trouble,
    ) -> Result<Answers, Status> {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).map_err(|error| Status::internal(error.to_string()))?;
        let mut extensions = Extensions::new();
        if let Some(certificate) = caller.certificate {
            extensions.insert(certificate);
        }
        let request = Request::from_parts(caller.metadata, extensions, requests);
        let mut grpc = self.0.clone();
        let call = std::pin::pin!(grpc.streaming(request, path, Dynamic(method.output())));
        match future::select(call, trouble).await {
            Either::Left((answers, trouble)) => Ok(Answers {
                messages: answers?.into_inner(),
                trouble,
            }),
            Either::Right((status, _)) => Err(status),
        }
    }
}

/// The answers of a call.
pub(super) struct Answers {
    messages: Streaming<DynamicMessage>,
    trouble: Trouble,
}

impl Answers {
    /// The next one; none at the end.
    ///
    /// # Errors
    /// As of [`Services::call`].
    pub(super) async fn next(&mut self) -> Result<Option<DynamicMessage>, Status> {
        let message = std::pin::pin!(self.messages.message());
        match future::select(message, &mut self.trouble).await {
            Either::Left((message, _)) => message,
            Either::Right((status, _)) => Err(status),
        }
    }
}

/// Messages by their description.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = ProstEncoder<DynamicMessage>;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        DynamicDecoder(self.0.clone())
    }
}

struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let mut message = DynamicMessage::new(self.0.clone());
        translate(bytes.remaining(), || message.merge(bytes))
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}

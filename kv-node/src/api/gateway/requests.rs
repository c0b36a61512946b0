//! The messages of a request's body, one or many.

use axum::body::{Body, BodyDataStream};
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::oneshot;
use tonic::Status;

use super::{json, json::Splitter, too_large};

/// The messages. They end with the body, or where it cannot be understood.
pub(super) type Requests = BoxStream<'static, DynamicMessage>;

/// Resolves to what is wrong with the body, and never if nothing is.
pub(super) type Trouble = BoxFuture<'static, Status>;

/// Of a body that was one message.
pub(super) fn one(message: DynamicMessage) -> (Requests, Trouble) {
    (
        stream::once(std::future::ready(message)).boxed(),
        std::future::pending().boxed(),
    )
}

/// Of a body that is read as it arrives. A message may be of `json_bytes_max`.
pub(super) fn stream(body: Body, desc: MessageDescriptor, json_bytes_max: usize) -> (Requests, Trouble) {
    let (report, reported) = oneshot::channel();
    let trouble = async move {
        match reported.await {
            Ok(status) => status,
            Err(_) => std::future::pending().await,
        }
    };
    let source = Source {
        body: body.into_data_stream(),
        splitter: Splitter::default(),
        desc,
        json_bytes_max,
    };
    (source.messages(report).boxed(), trouble.boxed())
}

struct Source {
    body: BodyDataStream,
    splitter: Splitter,
    desc: MessageDescriptor,
    json_bytes_max: usize,
}

impl Source {
    fn messages(self, report: oneshot::Sender<Status>) -> impl Stream<Item = DynamicMessage> {
        stream::unfold(Some((self, report)), |state| async {
            let (mut source, report) = state?;
            match source.next().await {
                Ok(message) => message.map(|message| (message, Some((source, report)))),
                Err(status) => {
                    // Nobody waits for it once the call has ended.
                    let _ = report.send(status);
                    None
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Option<DynamicMessage>, Status> {
        loop {
            if let Some(text) = self.splitter.next() {
                return json::read(self.desc.clone(), &text).map(Some);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.splitter.push(&bytes),
                Some(Err(_)) => return Err(Status::cancelled("the body broke off")),
                None => {
                    let rest = std::mem::take(&mut self.splitter).rest();
                    return rest.map(|text| json::read(self.desc.clone(), &text)).transpose();
                }
            }
            if self.splitter.pending_bytes() > self.json_bytes_max {
                return Err(too_large());
            }
        }
    }
}

//! The bodies of responses: those of backends, streamed with their trailers, and the balancer's own.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::answer;
use crate::backend::Lease;
use crate::health::Fault;
use crate::replay::BoxError;
use crate::upstream::{Http1Connection, StreamCount};

/// A response body. While it lasts, the request counts as in flight at its backend.
#[derive(Debug)]
pub enum ProxyBody {
    /// The balancer's own.
    Own(Full<Bytes>),
    /// A gRPC response.
    Grpc(GrpcBody),
    /// An HTTP/1.1 response.
    Http(HttpBody),
}

impl ProxyBody {
    /// A body of the balancer's own.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        ProxyBody::Own(Full::new(bytes.into()))
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            ProxyBody::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            ProxyBody::Grpc(body) => body.poll(cx).map(|frame| frame.map(Ok)),
            ProxyBody::Http(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ProxyBody::Own(body) => body.is_end_stream(),
            ProxyBody::Grpc(body) => body.step == Step::Done || body.stream.is_end_stream(),
            ProxyBody::Http(body) => body.ended || body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ProxyBody::Own(body) => body.size_hint(),
            ProxyBody::Grpc(_) => SizeHint::default(),
            ProxyBody::Http(body) => body.body.size_hint(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Step {
    Data,
    Trailers,
    Done,
}

/// A gRPC response on its way to the client. If the node goes away in the middle, the client still
/// gets a status: unavailable, outcome unknown.
#[derive(Debug)]
pub struct GrpcBody {
    stream: RecvStream,
    lease: Lease,
    _count: StreamCount,
    step: Step,
}

impl GrpcBody {
    /// The rest of a response whose head has been read.
    #[must_use]
    pub fn new(stream: RecvStream, lease: Lease, count: StreamCount) -> Self {
        GrpcBody {
            stream,
            lease,
            _count: count,
            step: Step::Data,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if self.step == Step::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Room for more is given as the client takes: its pace reaches the node.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Frame::data(data)));
                }
                Some(Err(error)) => return Poll::Ready(self.broken(&error)),
                None => self.step = Step::Trailers,
            }
        }
        if self.step == Step::Trailers {
            match ready!(self.stream.poll_trailers(cx)) {
                Ok(trailers) => {
                    self.step = Step::Done;
                    return Poll::Ready(trailers.map(Frame::trailers));
                }
                Err(error) => return Poll::Ready(self.broken(&error)),
            }
        }
        Poll::Ready(None)
    }

    fn broken(&mut self, error: &h2::Error) -> Option<Frame<Bytes>> {
        self.step = Step::Done;
        // A reset by this side follows an upload that the client broke off.
        if !error.is_reset() || error.is_remote() {
            self.lease.backend().failed(Fault::Request, error);
        }
        Some(Frame::trailers(answer::broken_stream_trailers()))
    }
}

/// An HTTP/1.1 response on its way to the client. Read to its end, its connection is used again.
#[derive(Debug)]
pub struct HttpBody {
    body: Incoming,
    connection: Option<Http1Connection>,
    lease: Lease,
    ended: bool,
}

impl HttpBody {
    /// The rest of a response whose head has been read.
    #[must_use]
    pub fn new(body: Incoming, connection: Http1Connection, lease: Lease) -> Self {
        HttpBody {
            body,
            connection: Some(connection),
            lease,
            ended: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(error)) => self.lease.backend().failed(Fault::Request, error),
            None => self.ended = true,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl Drop for HttpBody {
    fn drop(&mut self) {
        let read_to_its_end = self.ended || self.body.is_end_stream();
        if let (true, Some(connection)) = (read_to_its_end, self.connection.take()) {
            connection.give_back();
        }
    }
}

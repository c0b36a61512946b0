//! A request body that can be sent a second time.
//!
//! While no response has come, what has been read of the client's body is kept (the bytes are shared,
//! not copied), up to [`REPLAY_BYTES_MAX`]. If an attempt fails where the request cannot have been
//! executed, the next one starts with what was kept and goes on with the rest. Once the response has
//! begun, or the body is longer, nothing is kept any more and the body simply flows.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;

/// How much of a body is kept for a second attempt: etcd's limit for a request is 1.5 MiB, and a
/// little is added for its frame.
pub const REPLAY_BYTES_MAX: usize = 2 << 20;

/// Errors of a body in passing.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

#[derive(Debug)]
struct Shared<B> {
    source: B,
    kept: Vec<Kept>,
    kept_bytes: usize,
    replayable: bool,
    progress: Progress,
    /// Which attempt may read; an earlier one whose task has not ended yet gets nothing.
    attempt: u32,
}

/// How far the client's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    Coming,
    /// It has been read to its end.
    Complete,
    /// The client broke it off.
    Aborted,
}

/// The client's body, from which each attempt takes a [`ReplayBody`].
#[derive(Debug)]
pub struct Replay<B = Incoming>(Arc<Mutex<Shared<B>>>);

/// The body of one attempt.
#[derive(Debug)]
pub struct ReplayBody<B = Incoming> {
    shared: Arc<Mutex<Shared<B>>>,
    attempt: u32,
    next: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Replay<B> {
    /// Wraps a client's body.
    pub fn new(source: B) -> Self {
        let shared = Shared {
            source,
            kept: Vec::new(),
            kept_bytes: 0,
            replayable: true,
            progress: Progress::Coming,
            attempt: 0,
        };
        Replay(Arc::new(Mutex::new(shared)))
    }

    /// The body from its beginning, for the next attempt; none if the beginning is gone.
    #[must_use]
    pub fn attempt(&self) -> Option<ReplayBody<B>> {
        let mut shared = self.0.lock();
        if !shared.replayable {
            return None;
        }
        shared.attempt += 1;
        Some(ReplayBody {
            shared: Arc::clone(&self.0),
            attempt: shared.attempt,
            next: 0,
        })
    }

    /// How far the body has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let shared = self.0.lock();
        if shared.progress == Progress::Coming && shared.source.is_end_stream() {
            return Progress::Complete;
        }
        shared.progress
    }

    /// Says that there will be no further attempt. What is kept goes once the running one has read it.
    pub fn commit(&self) {
        self.0.lock().replayable = false;
    }
}

impl<B> Shared<B> {
    /// Keeps a frame that was just read from the source, so that nothing kept is unread.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        let kept = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Kept::Data(data.clone()),
            (None, Some(trailers)) => Kept::Trailers(trailers.clone()),
            (None, None) => return,
        };
        if let Kept::Data(data) = &kept {
            self.kept_bytes += data.len();
        }
        if self.kept_bytes > REPLAY_BYTES_MAX {
            self.replayable = false;
            self.kept = Vec::new();
        } else {
            self.kept.push(kept);
        }
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let mut shared = this.shared.lock();
        if shared.attempt != this.attempt {
            return Poll::Ready(Some(Err("the request went on to another backend".into())));
        }
        if let Some(kept) = shared.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(match kept.clone() {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        if !shared.replayable && !shared.kept.is_empty() {
            shared.kept = Vec::new();
            this.next = 0;
        }
        let polled = Pin::new(&mut shared.source).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if shared.replayable {
                    shared.keep(&frame);
                    this.next = shared.kept.len();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                shared.progress = Progress::Aborted;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                shared.progress = Progress::Complete;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = self.shared.lock();
        self.next >= shared.kept.len() && shared.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.shared.lock();
        if shared.kept.is_empty() {
            shared.source.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;

    fn source(parts: &[usize]) -> Replay<impl Body<Data = Bytes, Error = Infallible> + Unpin + use<>> {
        let frames: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(i, len)| Ok(Frame::data(Bytes::from(vec![u8::try_from(i).unwrap(); *len]))))
            .collect();
        Replay::new(StreamBody::new(stream::iter(frames)))
    }

    async fn rest<B>(body: ReplayBody<B>) -> Vec<u8>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        body.collect().await.expect("no error").to_bytes().to_vec()
    }

    #[tokio::test]
    async fn second_attempt_gets_what_the_first_read_and_the_rest() {
        let replay = source(&[2, 3, 1]);
        let mut first = replay.attempt().unwrap();
        first.frame().await.unwrap().unwrap();
        first.frame().await.unwrap().unwrap();
        let second = replay.attempt().unwrap();
        assert!(
            first.frame().await.unwrap().is_err(),
            "the first attempt may not read on"
        );
        assert_eq!(rest(second).await, [0, 0, 1, 1, 1, 2]);
        assert_eq!(rest(replay.attempt().unwrap()).await, [0, 0, 1, 1, 1, 2]);
    }

    #[tokio::test]
    async fn long_bodies_flow_and_are_not_kept() {
        let replay = source(&[REPLAY_BYTES_MAX, 1, 7]);
        let mut first = replay.attempt().unwrap();
        first.frame().await.unwrap().unwrap();
        assert!(replay.0.lock().replayable);
        first.frame().await.unwrap().unwrap();
        assert!(replay.attempt().is_none());
        assert_eq!(rest(first).await, [2; 7]);
        assert!(replay.0.lock().kept.is_empty());
    }

    #[tokio::test]
    async fn nothing_is_kept_after_the_response_began() {
        let replay = source(&[1, 1]);
        let mut first = replay.attempt().unwrap();
        first.frame().await.unwrap().unwrap();
        replay.commit();
        assert!(replay.attempt().is_none());
        first.frame().await.unwrap().unwrap();
        assert!(replay.0.lock().kept.is_empty());
        assert!(first.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_response_before_the_second_attempt_has_read_all_loses_nothing() {
        let replay = source(&[1, 1, 1]);
        rest(replay.attempt().unwrap()).await;
        let second = replay.attempt().unwrap();
        replay.commit();
        assert_eq!(rest(second).await, [0, 1, 2]);
    }
}

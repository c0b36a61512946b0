//! Bodies of requests.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

/// The same body, which says with its last frame that it is the last.
///
/// tonic's says so only when it is asked for another one. hyper then ends the request with an empty frame, mostly in a
/// packet of its own: a third packet for each call, and another one for which the server wakes before it can begin.
pub fn ends_with_its_last_frame(body: Body) -> Body {
    Body::new(Ahead {
        body,
        next: None,
        has_ended: false,
    })
}

/// Is one frame ahead of whoever reads it.
struct Ahead {
    body: Body,
    next: Option<Result<Frame<Bytes>, Status>>,
    has_ended: bool,
}

impl Ahead {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        // Nothing is asked of a body that has failed.
        self.has_ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }
}

impl http_body::Body for Ahead {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.next.take() {
            Some(frame) => Some(frame),
            None => ready!(self.poll_body(cx)),
        };
        if let Poll::Ready(next) = self.poll_body(cx) {
            self.next = next;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && (self.has_ended || self.body.is_end_stream())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that come one at a time; `None` is a pause.
    struct Slow(Vec<Option<Result<&'static str, Status>>>);

    impl http_body::Body for Slow {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return Poll::Ready(None);
            }
            match self.0.remove(0) {
                Some(frame) => Poll::Ready(Some(frame.map(|text| Frame::data(text.into())))),
                None => Poll::Pending,
            }
        }
    }

    /// What is read of a body, and whether it says behind each frame that it has ended.
    fn read(frames: Vec<Option<Result<&'static str, Status>>>) -> Vec<String> {
        let mut body = ends_with_its_last_frame(Body::new(Slow(frames)));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = Vec::new();
        loop {
            let text = match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => "…".to_owned(),
                Poll::Ready(None) => return read,
                Poll::Ready(Some(Err(status))) => status.message().to_owned(),
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.into_data().unwrap_or_default();
                    String::from_utf8_lossy(&data).into_owned()
                }
            };
            let end = if body.is_end_stream() { "." } else { "" };
            read.push(format!("{text}{end}"));
        }
    }

    #[test]
    fn the_last_frame_is_known_to_be_the_last_if_nothing_is_waited_for() {
        assert_eq!(read(vec![]), Vec::<String>::new());
        assert_eq!(read(vec![Some(Ok("one"))]), ["one."]);
        assert_eq!(read(vec![Some(Ok("one")), Some(Ok("two"))]), ["one", "two."]);
        assert_eq!(read(vec![None, Some(Ok("one"))]), ["…", "one."]);
        assert_eq!(
            read(vec![Some(Ok("one")), None, Some(Ok("two"))]),
            ["one", "two."]
        );
        assert_eq!(read(vec![Some(Ok("one")), None]), ["one"]);
    }

    #[test]
    fn a_failure_comes_behind_what_came_before_it_and_ends_the_body() {
        let failed = || Some(Err(Status::aborted("broken")));
        assert_eq!(read(vec![failed()]), ["broken."]);
        assert_eq!(
            read(vec![Some(Ok("one")), failed(), Some(Ok("two"))]),
            ["one", "broken."]
        );
    }
}

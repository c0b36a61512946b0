//! etcd 3.7's `RangeStream`: a large range in pieces, each of bounded size, all of one revision. Put together they
//! are the answer to `Range`; header, count and more come with the last one.
//!
//! Nothing is held up by a client that reads slowly: when what it has yet to read is compacted, the stream ends
//! with etcd's error for that. A client that goes away ends it.

use futures::Stream;
use kv_core::{Error, Range, SortOrder, SortTarget};
use kv_proto::etcdserverpb as pb;
use kv_store::RangePieces;
use tonic::Status;

use super::{
    calls::{Api, Consistency},
    convert,
    errors::ApiError,
    session::Session,
};

/// Keys and values in one piece, about.
const PIECE_BYTES: usize = 512 << 10;

/// The pieces of a range.
pub(super) async fn pieces(
    session: Session,
    range: Range,
    consistency: Consistency,
) -> Result<impl Stream<Item = Result<pb::RangeStreamResponse, Status>> + Send + 'static, ApiError> {
    range.validate()?;
    // Another order is known only when all has been read.
    let by_key = range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend;
    if range.sort_order != SortOrder::None && !by_key {
        return Err(Error::InvalidSortOption.into());
    }
    let range = Range {
        sort_order: SortOrder::None,
        sort_target: SortTarget::Key,
        ..range
    };
    let decided = session.range_pieces(&range, consistency).await?;
    let api = Api::clone(&session);
    Ok(futures::stream::unfold(Some(decided), move |left| {
        let api = api.clone();
        async move {
            let (piece, left) = next(&api, left?).await;
            Some((piece.map_err(Status::from), left))
        }
    }))
}

/// The next piece, and what is left after it.
async fn next(
    api: &Api,
    mut left: RangePieces,
) -> (Result<pb::RangeStreamResponse, ApiError>, Option<RangePieces>) {
    let read = api.scan(|| left.next_piece(PIECE_BYTES)).await;
    let kvs = match read {
        Ok(kvs) => kvs,
        Err(error) => return (Err(error.into()), None),
    };
    let mut response = pb::RangeResponse {
        kvs: kvs.into_iter().map(convert::key_value).collect(),
        ..pb::RangeResponse::default()
    };
    let is_last = left.is_fetched();
    if is_last {
        response.header = Some(api.header(left.header_revision()));
        (response.more, response.count) = (left.more(), left.count());
    }
    let piece = pb::RangeStreamResponse {
        range_response: Some(response),
    };
    (Ok(piece), (!is_last).then_some(left))
}

//! From arguments to requests: what `--prefix`, `--from-key` and the other flags mean on the wire.

use bytes::Bytes;
use kv_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use kv_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use super::args::{Consistency, DelArgs, Order, PutArgs, RangeArgs, SortBy};
use crate::key_range::{ZERO, prefix_end};

/// `key` and `range_end` of a request. An empty key with `--prefix` or `--from-key` means every key, as in etcdctl.
pub(super) fn bounds(key: &Bytes, range_end: Option<&Bytes>, prefix: bool, from_key: bool) -> (Bytes, Bytes) {
    let first = || {
        if key.is_empty() {
            Bytes::from_static(ZERO)
        } else {
            key.clone()
        }
    };
    if from_key {
        (first(), Bytes::from_static(ZERO))
    } else if prefix {
        (first(), prefix_end(key))
    } else {
        (key.clone(), range_end.cloned().unwrap_or_default())
    }
}

impl RangeArgs {
    /// Whether one key is asked for, so that none is "not found" and not an empty list.
    pub(crate) fn is_single_key(&self) -> bool {
        !self.prefix && !self.from_key && self.range_end.as_ref().is_none_or(Bytes::is_empty)
    }

    /// The request for the wire.
    pub(crate) fn request(&self) -> RangeRequest {
        let (key, range_end) = bounds(&self.key, self.range_end.as_ref(), self.prefix, self.from_key);
        let order = match self.order {
            None => SortOrder::None,
            Some(Order::Ascend) => SortOrder::Ascend,
            Some(Order::Descend) => SortOrder::Descend,
        };
        let target = match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
        };
        RangeRequest {
            key,
            range_end,
            limit: self.limit,
            revision: self.rev,
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: self.consistency == Consistency::Serializable,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..Default::default()
        }
    }
}

impl DelArgs {
    /// The request for the wire.
    pub(crate) fn request(&self) -> DeleteRangeRequest {
        let (key, range_end) = bounds(&self.key, self.range_end.as_ref(), self.prefix, self.from_key);
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv: self.prev_kv,
        }
    }
}

impl PutArgs {
    /// The request for the wire, with the value that was found.
    pub(crate) fn request(&self, value: Bytes) -> PutRequest {
        PutRequest {
            key: self.key.clone(),
            value,
            lease: self.lease,
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::bounds;

    #[test]
    fn what_the_flags_mean() {
        let key = Bytes::from_static(b"k");
        let end = Bytes::from_static(b"m");
        let text = |(key, end): (Bytes, Bytes)| format!("{key:?} {end:?}");
        assert_eq!(text(bounds(&key, None, false, false)), r#"b"k" b"""#);
        assert_eq!(text(bounds(&key, Some(&end), false, false)), r#"b"k" b"m""#);
        assert_eq!(text(bounds(&key, None, true, false)), r#"b"k" b"l""#);
        assert_eq!(text(bounds(&key, None, false, true)), r#"b"k" b"\0""#);
        assert_eq!(text(bounds(&Bytes::new(), None, true, false)), r#"b"\0" b"\0""#);
        assert_eq!(text(bounds(&Bytes::new(), None, false, true)), r#"b"\0" b"\0""#);
    }
}

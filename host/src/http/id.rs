//! Request ids: the caller's, or a new UUIDv7.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// The header that carries a request's id in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request, as the answer's header has it.
#[derive(Clone, Debug)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The caller's id if it sent one that may be echoed, else a new one.
    pub(super) fn of(headers: &HeaderMap) -> RequestId {
        match headers.get(&X_REQUEST_ID) {
            Some(value) if value.to_str().is_ok_and(modelet::api::valid_request_id) => RequestId(value.clone()),
            _ => RequestId::new(),
        }
    }

    /// A new UUIDv7.
    fn new() -> RequestId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let uuid = uuid::Builder::from_unix_timestamp_millis(now.as_millis() as u64, &random()).into_uuid();
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        uuid.hyphenated().encode_lower(&mut text);
        RequestId(HeaderValue::from_bytes(&text).expect("a UUID is visible ASCII"))
    }

    /// The id as text.
    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a header's value.
    pub(super) fn into_header(self) -> HeaderValue {
        self.0
    }
}

/// Random bytes without a system call: a hash, whose key the system chose, of
/// a number that is never the same again.
fn random() -> [u8; 10] {
    thread_local! {
        static STATE: (RandomState, Cell<u64>) = (RandomState::new(), Cell::new(0));
    }
    STATE.with(|(key, count)| {
        count.set(count.get().wrapping_add(2));
        let high = key.hash_one(count.get());
        let low = key.hash_one(count.get() + 1);
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&high.to_le_bytes());
        bytes[8..].copy_from_slice(&low.to_le_bytes()[..2]);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn new_ids_are_distinct_uuids_of_version_7() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..1000).map(|_| RequestId::new()).collect::<Vec<_>>()))
            .collect();
        let mut seen = HashSet::new();
        for id in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            let uuid = uuid::Uuid::parse_str(id.as_str()).unwrap();
            assert_eq!(uuid.get_version_num(), 7);
            assert!(seen.insert(uuid));
        }
    }

    #[test]
    fn a_callers_id_is_kept_if_it_may_be_echoed() {
        let kept = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            RequestId::of(&headers).as_str().as_bytes() == value
        };
        assert!(kept(b"order-17"));
        assert!(!kept(b""));
        assert!(!kept(b"two words"));
        assert!(!kept(b"\xe9"));
        assert!(!kept(&[b'x'; 257]));
    }
}

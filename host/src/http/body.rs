//! Reading request bodies: bounded in size, in time, and all together in
//! memory.

use hyper::body::{Body, Bytes, Incoming};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How much of a refused body is read and thrown away, so that the refusal
/// reaches a client that sends before it listens.
const DISCARD_BYTES_MAX: usize = 256 << 20;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a body was not read.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It has more bytes than are accepted.
    TooLarge,
    /// It did not arrive in time.
    Slow,
    /// The bodies being read need more memory than they may have together.
    Crowded,
    /// The connection or its encoding broke.
    Broken(hyper::Error),
}

/// The limits of bodies.
#[derive(Debug)]
pub(super) struct BodyLimits {
    /// The most bytes of one body.
    pub(super) bytes_max: usize,
    /// The longest time that one may take to arrive.
    pub(super) read_timeout: Duration,
    /// What all larger bodies may use together.
    pub(super) budget: Budget,
}

/// Bytes of memory that are left to share.
#[derive(Debug)]
pub(super) struct Budget(AtomicUsize);

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        Budget(AtomicUsize::new(bytes))
    }
}

/// A part of a budget, which goes back when it is dropped.
#[derive(Debug)]
struct Share<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Share<'_> {
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.budget
            .0
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .map_err(|_| BodyError::Crowded)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// A body in one piece.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    pub(super) bytes: Bytes,
    _share: Share<'a>,
}

/// Reads a body. One that arrived in one piece is not copied.
pub(super) async fn read(
    mut body: Incoming,
    limits: &BodyLimits,
    expect_continue: bool,
) -> Result<Whole<'_>, BodyError> {
    let declared = body.size_hint().lower();
    let result = if declared > limits.bytes_max as u64 {
        Err(BodyError::TooLarge)
    } else {
        tokio::time::timeout(limits.read_timeout, gather(&mut body, limits))
            .await
            .unwrap_or(Err(BodyError::Slow))
    };
    // A client that waits for `100 Continue` has not sent anything; reading
    // would invite it to.
    if matches!(result, Err(BodyError::TooLarge | BodyError::Crowded)) && !expect_continue {
        tokio::spawn(tokio::time::timeout(DISCARD_TIME_MAX, discard(body)));
    }
    result
}

async fn gather<'a>(body: &mut Incoming, limits: &'a BodyLimits) -> Result<Whole<'a>, BodyError> {
    let mut share = Share {
        budget: &limits.budget,
        bytes: 0,
    };
    let first = next(body).await?.unwrap_or_default();
    let second = match body.is_end_stream() {
        true => None,
        false => next(body).await?,
    };
    let Some(mut part) = second else {
        if first.len() > limits.bytes_max {
            return Err(BodyError::TooLarge);
        }
        return Ok(Whole {
            bytes: first,
            _share: share,
        });
    };
    let remaining = usize::try_from(body.size_hint().lower()).unwrap_or(limits.bytes_max);
    let mut whole = Vec::with_capacity(
        (first.len() + part.len())
            .saturating_add(remaining)
            .min(limits.bytes_max),
    );
    share.grow(first.len())?;
    whole.extend_from_slice(&first);
    loop {
        if whole.len() + part.len() > limits.bytes_max {
            return Err(BodyError::TooLarge);
        }
        share.grow(part.len())?;
        whole.extend_from_slice(&part);
        part = match next(body).await? {
            Some(part) => part,
            None => break,
        };
    }
    Ok(Whole {
        bytes: whole.into(),
        _share: share,
    })
}

/// The next bytes; trailers are passed over.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
    loop {
        match std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(BodyError::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = DISCARD_BYTES_MAX;
    while let Ok(Some(part)) = next(&mut body).await {
        match left.checked_sub(part.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_shared_and_given_back() {
        let budget = Budget::new(10);
        let share = || Share {
            budget: &budget,
            bytes: 0,
        };
        let mut one = share();
        one.grow(4).unwrap();
        one.grow(3).unwrap();
        let mut other = share();
        assert!(matches!(other.grow(4), Err(BodyError::Crowded)));
        other.grow(3).unwrap();
        drop(one);
        other.grow(7).unwrap();
    }
}

//! Buffers that idle connections do not hold: each worker lends a few to whoever reads or writes.

use std::cell::RefCell;

use bytes::BytesMut;

/// Room for the head of nearly every message, and for most small ones as a whole.
pub(super) const SIZE: usize = 8 * 1024;

/// How many a worker keeps: as many connections as are likely to be between two polls.
const KEPT: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub(super) fn take() -> BytesMut {
    SPARE
        .with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| BytesMut::with_capacity(SIZE))
}

/// Takes a buffer back, unless someone still refers to its memory or there are enough.
pub(super) fn give(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(SIZE) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}

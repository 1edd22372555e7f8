//! Buffers that idle connections do not hold: each worker lends a few to whoever reads or writes.

use std::{cell::RefCell, collections::VecDeque};

use bytes::BytesMut;

/// Room for the head of nearly every message, and for most small ones as a whole.
pub(super) const SIZE: usize = 8 * 1024;

/// How many a worker keeps: as many connections as are likely to be between two polls.
const KEPT: usize = 32;

thread_local! {
    /// In the order they came back. The head of a message is still referred to when its connection has no
    /// more use for the buffer, so the oldest is the one that is free most likely.
    static SPARE: RefCell<VecDeque<BytesMut>> = const { RefCell::new(VecDeque::new()) };
}

/// An empty buffer.
pub(super) fn take() -> BytesMut {
    if let Some(mut buffer) = SPARE.with_borrow_mut(VecDeque::pop_front)
        && buffer.try_reclaim(SIZE)
    {
        return buffer;
    }
    BytesMut::with_capacity(SIZE)
}

/// Takes a buffer back, if there are not enough.
pub(super) fn give(mut buffer: BytesMut) {
    if buffer.capacity() > 0 {
        buffer.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push_back(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_refers_to_its_bytes() {
        let mut buffer = take();
        buffer.extend_from_slice(b"head");
        let memory = buffer.as_ptr();
        let head = buffer.split_to(4).freeze();
        give(buffer);
        assert_ne!(take().as_ptr(), memory, "the head is still there");

        drop(head);
        let mut buffer = take();
        buffer.extend_from_slice(b"head");
        let memory = buffer.as_ptr();
        drop(buffer.split_to(4).freeze());
        give(buffer);
        assert_eq!(take().as_ptr(), memory);
    }
}

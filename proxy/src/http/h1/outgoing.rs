//! What waits to be written: heads and small data copied together, large data by reference.

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::buffers;

/// Data up to this size is copied behind its head, which is cheaper than an entry of its own in `writev`.
const COPIED: usize = 4 * 1024;

/// A body is not asked for more once so much waits.
const ENOUGH: usize = 16 * 1024;

/// A queue of bytes in three parts: text, at most one large piece of data, and text behind it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    front: BytesMut,
    data: Bytes,
    back: BytesMut,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.data.is_empty() && self.back.is_empty()
    }

    /// Whether another frame of a body may be put in.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.front.len() < ENOUGH
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.front.len() + self.data.len() + self.back.len()
    }

    /// Where the next head, chunk size or trailer is written.
    pub(super) fn text(&mut self) -> &mut BytesMut {
        if self.data.is_empty() {
            if self.front.capacity() == 0 {
                self.front = buffers::take();
            }
            &mut self.front
        } else {
            &mut self.back
        }
    }

    /// Queues data of a body.
    pub(super) fn data(&mut self, data: Bytes) {
        if data.len() > COPIED && self.data.is_empty() {
            self.data = data;
        } else {
            self.text().extend_from_slice(&data);
        }
    }

    /// All parts in order.
    pub(super) fn slices(&self) -> [IoSlice<'_>; 3] {
        [
            IoSlice::new(&self.front),
            IoSlice::new(&self.data),
            IoSlice::new(&self.back),
        ]
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, written: usize) {
        let front = written.min(self.front.len());
        self.front.advance(front);
        let data = (written - front).min(self.data.len());
        self.data.advance(data);
        if self.data.is_empty() {
            self.data = Bytes::new();
            if self.front.is_empty() && !self.back.is_empty() {
                std::mem::swap(&mut self.front, &mut self.back);
                self.back.clear();
            }
            self.front
                .advance((written - front - data).min(self.front.len()));
        }
        if self.front.is_empty() && self.data.is_empty() {
            self.front.clear();
        }
    }

    /// Gives the memory of an empty queue to the connections that need it.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            buffers::give(std::mem::take(&mut self.front));
            self.back = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &Outgoing) -> Vec<u8> {
        out.slices()
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn small_data_is_copied_and_large_data_is_referred_to() {
        let mut out = Outgoing::default();
        out.text().extend_from_slice(b"head");
        out.data(Bytes::from_static(b"small"));
        assert!(out.data.is_empty() && out.has_room());
        out.data(Bytes::from(vec![b'x'; COPIED + 1]));
        out.text().extend_from_slice(b"tail");
        assert_eq!(out.front, "headsmall");
        assert_eq!(out.back, "tail");
        assert!(!out.has_room());
        assert_eq!(out.len(), 9 + COPIED + 1 + 4);
    }

    #[test]
    fn any_partial_writes_keep_the_order() {
        for step in [1, 3, 7, 4096, 5000, 100_000] {
            let mut out = Outgoing::default();
            let mut expected = Vec::new();
            let mut written = Vec::new();
            for round in 0..3u8 {
                out.text().extend_from_slice(b"head");
                out.data(Bytes::from(vec![round; 5000]));
                out.text().extend_from_slice(b"tail");
                expected.extend_from_slice(b"head");
                expected.extend(vec![round; 5000]);
                expected.extend_from_slice(b"tail");
                while !out.is_empty() {
                    let bytes = text(&out);
                    let count = step.min(bytes.len());
                    written.extend_from_slice(&bytes[..count]);
                    out.advance(count);
                }
            }
            assert!(written == expected, "step {step}");
        }
    }
}

//! The way of 1xx responses from upstream to the caller.
//!
//! An informational response belongs to the request that is being handled, and both its ends run in one
//! task. So while `serve` polls its handler, it leaves a [`Sink`] where the client finds it. Nothing has to
//! be carried through the layers between them, and no request pays for what few responses have; a client
//! that is not polled by `serve` (HTTP/2 downstream, another task) drops what it finds no sink for, as
//! RFC 9110 section 15.2 allows.

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderMap, StatusCode};

/// Takes informational responses.
pub(super) trait Sink {
    /// Passes one on to the caller, if the caller understands it.
    fn informational(&self, status: StatusCode, headers: &HeaderMap);
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn Sink>>> = const { RefCell::new(None) };
}

/// Runs `poll` with `sink` as the place for informational responses.
pub(super) fn scope<T>(sink: Rc<dyn Sink>, poll: impl FnOnce() -> T) -> T {
    /// Puts the outer sink back, also when `poll` panics.
    struct Restore(Option<Rc<dyn Sink>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(sink)));
    poll()
}

/// Passes an informational response on to the request that is being handled.
pub(super) fn forward(status: StatusCode, headers: &HeaderMap) {
    let sink = CURRENT.with_borrow(Clone::clone);
    if let Some(sink) = sink {
        sink.informational(status, headers);
    }
}

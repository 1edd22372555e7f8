use std::{cell::RefCell, rc::Rc};

use futures_util::FutureExt;
use http_body_util::BodyExt;

use super::*;

#[derive(Default, Clone)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Observer for Log {
    fn data(&mut self, bytes: usize) {
        self.0.borrow_mut().push(format!("{bytes} bytes"));
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        self.0.borrow_mut().push(format!("{end:?}"));
    }
}

fn drain(mut body: Body) -> Option<HeaderMap> {
    let mut trailers = None;
    while let Some(frame) = body.frame().now_or_never().expect("the body is all here") {
        trailers = frame.expect("a frame").into_trailers().ok().or(trailers);
    }
    trailers
}

#[test]
fn a_full_body_knows_its_length_and_ends_after_one_frame() {
    let mut body = Body::full("hello");
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(5));
    let frame = body.frame().now_or_never().flatten().expect("a frame");
    assert_eq!(frame.expect("data").into_data().expect("data"), "hello");
    assert!(http_body::Body::is_end_stream(&body));
    assert!(matches!(Body::full(""), Body::Empty));
}

#[test]
fn attached_trailers_come_last_and_leave_the_length_open() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    let body = Body::full("x").with_trailers(trailers.clone());
    assert_eq!(http_body::Body::size_hint(&body).exact(), None);
    assert!(!http_body::Body::is_end_stream(&body));
    assert_eq!(drain(body), Some(trailers));
}

#[test]
fn an_observer_is_told_once_how_the_body_ended() {
    let complete = Log::default();
    drain(Body::full("abc").observed(complete.clone()));
    assert_eq!(
        *complete.0.borrow(),
        ["3 bytes", "Complete { trailers: None }"]
    );

    let dropped = Log::default();
    drop(Body::full("abc").observed(dropped.clone()));
    assert_eq!(*dropped.0.borrow(), ["Dropped"]);

    let empty = Log::default();
    drop(Body::Empty.observed(empty.clone()));
    assert_eq!(*empty.0.borrow(), ["Complete { trailers: None }"]);
}

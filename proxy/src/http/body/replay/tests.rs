use std::collections::VecDeque;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use proptest::prelude::*;

use super::*;

/// What is sent and when it ends is up to the test.
#[derive(Default)]
struct Script {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    ended: bool,
}

#[derive(Default, Clone)]
struct Sender(Rc<RefCell<Script>>);

impl Sender {
    fn body(&self) -> Body {
        Body::boxed(self.clone())
    }

    fn data(&self, data: &[u8]) {
        let frame = Frame::data(Bytes::copy_from_slice(data));
        self.0.borrow_mut().frames.push_back(Ok(frame));
    }

    fn trailers(&self, trailers: HeaderMap) {
        let frame = Frame::trailers(trailers);
        self.0.borrow_mut().frames.push_back(Ok(frame));
    }

    fn fail(&self, error: BodyError) {
        self.0.borrow_mut().frames.push_back(Err(error));
    }

    fn end(&self) {
        self.0.borrow_mut().ended = true;
    }
}

impl http_body::Body for Sender {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut script = self.0.borrow_mut();
        match (script.frames.pop_front(), script.ended) {
            (Some(frame), _) => Poll::Ready(Some(frame)),
            (None, true) => Poll::Ready(None),
            (None, false) => Poll::Pending,
        }
    }
}

/// What can be read now, and how it ended if it did.
fn read(body: &mut Body) -> (Vec<u8>, Option<Result<HeaderMap, BodyError>>) {
    let mut data = Vec::new();
    while let Some(frame) = body.frame().now_or_never() {
        match frame {
            None => return (data, Some(Ok(HeaderMap::new()))),
            Some(Err(error)) => return (data, Some(Err(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => data.extend_from_slice(&bytes),
                Err(frame) => return (data, frame.into_trailers().ok().map(Ok)),
            },
        }
    }
    (data, None)
}

fn whole(body: &mut Body) -> Vec<u8> {
    let (data, end) = read(body);
    assert_eq!(end, Some(Ok(HeaderMap::new())));
    data
}

fn kept(sender: &Sender, limit: usize) -> (Body, Replay) {
    let mut body = sender.body();
    let replay = Replay::keep(&mut body, limit);
    (body, replay)
}

#[test]
fn a_body_in_memory_is_shared_and_stays_where_it_is() {
    let mut body = Body::full("hello");
    let replay = Replay::keep(&mut body, 3);
    assert!(matches!(body, Body::Full(_)));
    assert!(replay.is_complete());
    assert_eq!(whole(&mut replay.again().unwrap()), b"hello");
    assert_eq!(whole(&mut replay.again().unwrap()), b"hello");
}

#[test]
fn what_has_passed_is_had_again_and_then_what_is_still_to_come() {
    let sender = Sender::default();
    sender.data(b"he");
    let (mut first, replay) = kept(&sender, 10);
    assert_eq!(read(&mut first), (b"he".to_vec(), None));
    assert!(replay.is_kept() && !replay.is_complete());

    let mut second = replay.again().unwrap();
    sender.data(b"llo");
    sender.end();
    assert_eq!(whole(&mut second), b"hello");
    assert!(replay.is_complete());
    let (mut third, mut fourth) = (replay.again().unwrap(), replay.again().unwrap());
    assert_eq!(http_body::Body::size_hint(&third).exact(), Some(5));
    assert_eq!(whole(&mut third), b"hello");
    assert_eq!(whole(&mut fourth), b"hello");
}

#[test]
fn a_reader_that_was_overtaken_fails_and_takes_nothing_from_its_successor() {
    let sender = Sender::default();
    sender.data(b"he");
    let (mut first, replay) = kept(&sender, 10);
    assert_eq!(read(&mut first).0, b"he");
    let mut second = replay.again().unwrap();
    sender.data(b"llo");
    sender.end();
    let overtaken = Some(Err(BodyError::DownstreamReset));
    assert_eq!(read(&mut first), (Vec::new(), overtaken));
    assert_eq!(whole(&mut second), b"hello");
}

#[test]
fn trailers_and_errors_come_again() {
    let trailers = HeaderMap::from_iter([(http::header::ETAG, "1".parse().unwrap())]);
    let sender = Sender::default();
    sender.data(b"x");
    sender.trailers(trailers.clone());
    let (mut first, replay) = kept(&sender, 10);
    let expected = (b"x".to_vec(), Some(Ok(trailers)));
    assert_eq!(read(&mut first), expected);
    assert_eq!(read(&mut replay.again().unwrap()), expected);

    let sender = Sender::default();
    sender.data(b"x");
    sender.fail(BodyError::DownstreamProtocol);
    let (mut first, replay) = kept(&sender, 10);
    let expected = (b"x".to_vec(), Some(Err(BodyError::DownstreamProtocol)));
    assert_eq!(read(&mut first), expected);
    assert!(!replay.is_complete());
    assert_eq!(read(&mut replay.again().unwrap()), expected);
}

#[test]
fn a_body_that_outgrows_the_limit_streams_on_and_is_not_kept() {
    let sender = Sender::default();
    sender.data(b"hel");
    let (mut first, replay) = kept(&sender, 4);
    assert_eq!(read(&mut first).0, b"hel");
    sender.data(b"lo");
    sender.end();
    assert_eq!(whole(&mut first), b"lo");
    assert!(!replay.is_kept());
    assert!(replay.again().is_none());
}

#[test]
fn a_reader_of_what_was_kept_once_fails_when_it_is_no_longer() {
    let sender = Sender::default();
    sender.data(b"hel");
    let (mut first, replay) = kept(&sender, 4);
    assert_eq!(read(&mut first).0, b"hel");
    let mut second = replay.again().unwrap();
    let mut third = replay.again().unwrap();
    sender.data(b"lo");
    assert_eq!(read(&mut third).0, b"hello");
    assert_eq!(
        read(&mut second),
        (Vec::new(), Some(Err(BodyError::DownstreamReset)))
    );
}

#[test]
fn a_body_that_is_too_long_from_the_beginning_is_left_alone() {
    struct Announced;
    impl http_body::Body for Announced {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Pending
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(5)
        }
    }
    let mut body = Body::boxed(Announced);
    assert!(!Replay::keep(&mut body, 4).is_kept());
    assert!(Replay::keep(&mut body, 5).is_kept());
}

#[test]
fn what_streams_on_when_nobody_asks_for_it_again_is_not_kept() {
    let sender = Sender::default();
    sender.data(b"he");
    let (mut body, replay) = kept(&sender, 10);
    assert_eq!(read(&mut body).0, b"he");
    let Kept::Passing(source) = &replay.0 else {
        panic!("a stream is kept as it passes");
    };
    let source = source.clone();
    drop(replay);
    assert!(source.borrow().kept.is_none());
    sender.data(b"llo");
    sender.end();
    assert_eq!(whole(&mut body), b"llo");
    assert_eq!(Rc::strong_count(&source), 1, "whoever is done lets go");
}

proptest! {
    #[test]
    fn every_replay_has_the_bytes_of_the_original(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        pauses in prop::collection::vec(0..20_usize, 0..4),
    ) {
        let sender = Sender::default();
        let (mut body, replay) = kept(&sender, 1_000);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        for (index, frame) in frames.iter().enumerate() {
            sender.data(frame);
            sent.extend_from_slice(frame);
            if pauses.contains(&index) {
                body = replay.again().unwrap();
                received.clear();
            }
            received.extend(read(&mut body).0);
        }
        sender.end();
        received.extend(whole(&mut body));
        prop_assert_eq!(&received, &sent);
        prop_assert_eq!(whole(&mut replay.again().unwrap()), sent);
    }
}

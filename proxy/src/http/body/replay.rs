//! Bodies of requests that can be sent more than once, as long as they fit into a limit.
//!
//! What is in memory already is shared; what streams is copied as it passes. A body that outgrows the limit streams on
//! and is forgotten.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::{Body, BodyError};

/// A body that was handed out once and may be asked for again.
#[derive(Debug)]
pub struct Replay(Kept);

#[derive(Debug)]
enum Kept {
    /// All of it was in memory before.
    Whole(Body),
    /// It is kept as it passes.
    Passing(Rc<RefCell<Source>>),
    /// It is longer than the limit from the beginning.
    Nothing,
}

/// Where a body comes from, and what has come.
struct Source {
    body: Body,
    /// Gone when it would have grown beyond the limit, or when nobody will ask for it.
    kept: Option<BytesMut>,
    limit: usize,
    passed: usize,
    trailers: Option<HeaderMap>,
    ended: Option<Result<(), BodyError>>,
    /// The latest of those that it was handed out to, who alone may read on, and how far that one is.
    reader: u32,
    read: usize,
}

/// A body as one of its readers has it.
struct Reader {
    /// Let go of when it is over.
    source: Option<Rc<RefCell<Source>>>,
    number: u32,
    position: usize,
}

impl Replay {
    /// Puts a body in the place of `body` that is the same, and kept up to so many bytes.
    pub fn keep(body: &mut Body, limit: usize) -> Self {
        if body.is_end_stream() {
            return Self(Kept::Whole(Body::Empty));
        }
        if let Some(whole) = body.replay() {
            return Self(Kept::Whole(whole));
        }
        let hint = body.size_hint();
        if hint.lower() > limit as u64 {
            return Self(Kept::Nothing);
        }
        let source = Source {
            // Room comes with the bytes: who announces a body may never send it.
            kept: Some(BytesMut::new()),
            body: std::mem::take(body),
            limit,
            passed: 0,
            trailers: None,
            ended: None,
            reader: 0,
            read: 0,
        };
        let source = Rc::new(RefCell::new(source));
        *body = Reader::body(&source);
        Self(Kept::Passing(source))
    }

    /// Whether it can be had again.
    pub fn is_kept(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => true,
            Kept::Passing(source) => source.borrow().kept.is_some(),
            Kept::Nothing => false,
        }
    }

    /// Whether all of it has come and is kept: then it may be had twice at the same time.
    pub fn is_complete(&self) -> bool {
        match &self.0 {
            Kept::Whole(_) => true,
            Kept::Passing(source) => {
                let source = source.borrow();
                source.kept.is_some() && source.ended == Some(Ok(()))
            }
            Kept::Nothing => false,
        }
    }

    /// The body from its beginning. What was handed out before fails when it would have to be read on.
    pub fn again(&self) -> Option<Body> {
        match &self.0 {
            Kept::Whole(body) => body.replay(),
            Kept::Passing(source) => {
                {
                    let mut source = source.borrow_mut();
                    source.kept.as_ref()?;
                    source.reader += 1;
                    source.read = 0;
                }
                Some(Reader::body(source))
            }
            Kept::Nothing => None,
        }
    }
}

impl Drop for Replay {
    /// Nobody asks for it any more: what is still to come, for hours perhaps, is not kept.
    fn drop(&mut self) {
        if let Kept::Passing(source) = &self.0 {
            let source = &mut *source.borrow_mut();
            source.limit = 0;
            source.forget();
        }
    }
}

impl Source {
    /// The next frame from where the body comes from.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.end(Ok(())),
            Some(Err(error)) => self.end(Err(*error)),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = self.kept.is_some().then(|| trailers.clone());
                    self.end(Ok(()));
                }
                if self.body.is_end_stream() {
                    self.end(Ok(()));
                }
            }
        }
        Poll::Ready(frame)
    }

    fn keep(&mut self, data: &Bytes) {
        self.passed += data.len();
        if self.passed > self.limit {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(data);
        }
    }

    /// Lets go of what nobody will ask for, once its reader has it. Of a body that has ended there may be several
    /// readers, who need it to their end.
    fn forget(&mut self) {
        if self.limit == 0 && self.ended.is_none() && self.read == self.passed {
            self.kept = None;
        }
    }

    fn end(&mut self, end: Result<(), BodyError>) {
        self.ended.get_or_insert(end);
    }
}

impl Reader {
    /// The body for its latest reader.
    fn body(source: &Rc<RefCell<Source>>) -> Body {
        Body::boxed(Self {
            number: source.borrow().reader,
            source: Some(source.clone()),
            position: 0,
        })
    }

    fn poll_source(
        &mut self,
        source: &mut Source,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let is_latest = self.number == source.reader;
        // Somebody else has begun anew. This one must not look as if it were complete.
        let overtaken = Poll::Ready(Some(Err(BodyError::DownstreamReset)));
        let frame = if self.position < source.passed {
            let Some(kept) = &source.kept else {
                return overtaken;
            };
            Some(Ok(Frame::data(Bytes::copy_from_slice(
                &kept[self.position..],
            ))))
        } else {
            match source.ended {
                None if !is_latest => return overtaken,
                None => ready!(source.poll_next(cx)),
                Some(Err(error)) => Some(Err(error)),
                Some(Ok(())) => source
                    .trailers
                    .clone()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            }
        };
        self.position = source.passed;
        if is_latest {
            source.read = source.passed;
            source.forget();
        }
        Poll::Ready(frame)
    }
}

impl http_body::Body for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(source) = self.source.clone() else {
            return Poll::Ready(None);
        };
        let frame = ready!(self.poll_source(&mut source.borrow_mut(), cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            self.source = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(|source| {
            let source = source.borrow();
            let all_read = self.position == source.passed;
            all_read && source.ended == Some(Ok(())) && source.trailers.is_none()
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else {
            return SizeHint::with_exact(0);
        };
        let source = source.borrow();
        let to_come = match source.ended {
            Some(_) => SizeHint::with_exact(0),
            None => source.body.size_hint(),
        };
        let behind = (source.passed - self.position) as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(to_come.lower().saturating_add(behind));
        if let Some(upper) = to_come.upper() {
            hint.set_upper(upper.saturating_add(behind));
        }
        hint
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("body", &self.body)
            .field("passed", &self.passed)
            .field("kept", &self.kept.is_some())
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

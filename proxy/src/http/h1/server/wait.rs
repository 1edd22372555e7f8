//! Between two requests: waits for the next head, for as long as that may take.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{ServeEnd, exchange::Exchange};
use crate::{
    drain::Drain,
    error::RequestError,
    http::{
        h1::{
            Refusal,
            head::parse::{self, RequestHead, SectionEnd},
        },
        limits::HttpLimits,
    },
};

/// What comes of waiting.
#[expect(
    clippy::large_enum_variant,
    reason = "made and taken apart once for each request: a box would cost more than the room"
)]
pub(super) enum Next {
    Request(RequestHead),
    /// The head can't be read: answer, and close.
    Refuse(Refusal),
    /// Nothing more comes, or nothing more is waited for.
    End(ServeEnd),
}

/// The clocks of a connection. Armed only when there is nothing to read, so that a busy one pays nothing.
pub(super) struct Wait<'a> {
    limits: &'a HttpLimits,
    drain: &'a Drain,
    section: SectionEnd,
    /// Since when the current wait lasts, without and with the first bytes of a head.
    idle_since: Option<Instant>,
    head_since: Option<Instant>,
    /// Since when a drain is known.
    draining_since: Option<Instant>,
    /// One timer for the life of the connection. It is left armed over requests and may fire early.
    timer: Option<Pin<Box<Sleep>>>,
    drained: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
    /// Who is told of a drain: registering takes a lock that all workers share, so once is enough.
    registered: Option<Waker>,
}

impl<'a> Wait<'a> {
    pub(super) fn new(limits: &'a HttpLimits, drain: &'a Drain) -> Self {
        Self {
            limits,
            drain,
            section: SectionEnd::default(),
            idle_since: None,
            head_since: None,
            draining_since: None,
            timer: None,
            drained: None,
            registered: None,
        }
    }

    pub(super) fn poll_next(&mut self, exchange: &Exchange, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = exchange.state();
        let wire = &mut state.wire;
        loop {
            match parse::request(&mut wire.incoming, &mut self.section, self.limits.into()) {
                Ok(Some(head)) => {
                    self.idle_since = None;
                    self.head_since = None;
                    return Poll::Ready(Next::Request(head));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Next::Refuse(error.refusal())),
            }
            let end = match wire.poll_fill(cx) {
                Poll::Ready(Ok(true)) => continue,
                Poll::Ready(_) if wire.incoming.is_empty() => ServeEnd::Closed,
                Poll::Ready(_) => ServeEnd::Aborted(RequestError::DownstreamReset),
                Poll::Pending => break,
            };
            return Poll::Ready(Next::End(end));
        }
        wire.release();

        let now = Instant::now();
        let expired = if wire.incoming.is_empty() {
            let until = *self.idle_since.get_or_insert(now) + self.limits.idle_timeout;
            match self.poll_drain(cx, now) {
                Some(grace) if grace < until => (grace, Next::End(ServeEnd::Closed)),
                _ => (until, Next::End(ServeEnd::Idle)),
            }
        } else {
            let until = *self.head_since.get_or_insert(now) + self.limits.header_timeout;
            (until, Next::Refuse(RequestError::HeaderTimeout.into()))
        };
        self.poll_timer(cx, expired.0).map(|()| expired.1)
    }

    /// Until when a connection between requests may stay, once the proxy drains.
    fn poll_drain(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let registered = self.registered.as_ref();
        if !registered.is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.registered = Some(cx.waker().clone());
            let drain = self.drain;
            let drained = self.drained.insert(Box::pin(drain.signaled()));
            let _ = drained.as_mut().poll(cx);
        }
        let draining = self.drain.is_draining();
        draining.then(|| *self.draining_since.get_or_insert(now) + self.limits.drain_grace)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if until < timer.deadline() {
            timer.as_mut().reset(until);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(until);
        }
        Poll::Pending
    }
}

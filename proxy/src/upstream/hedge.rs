//! Hedging: a second attempt at a request while the first is under way.

use super::{
    call::{Outcome, Persistent, attempted, discard},
    retry,
};
use crate::{http::body::Body, snapshot::retry::Hedge};
use futures_util::future::{Either, select};
use http::Request;
use std::pin::pin;
use tokio::time::timeout;

impl Persistent<'_> {
    /// One attempt, and another one at another endpoint when the first has not been answered after a while. The first
    /// good answer counts, and the attempt that is not needed any more is cancelled.
    pub(super) async fn hedged(&self, request: &mut Request<Body>, hedge: &Hedge) -> Outcome {
        let mut first = pin!(self.attempt(request));
        if let Ok(outcome) = timeout(hedge.delay, first.as_mut()).await {
            return outcome;
        }
        let Some(mut copy) = self.hedge() else {
            return first.await;
        };
        let second = pin!(self.attempt(&mut copy));
        match select(first, second).await {
            Either::Left((outcome, second)) => self.better(outcome, second).await,
            Either::Right((outcome, first)) => self.better(outcome, first).await,
        }
    }

    /// The request once more, if it may be: all of its body is kept, and the budget has something left.
    fn hedge(&self) -> Option<Request<Body>> {
        let may = self.body.is_complete() && self.spend();
        may.then(|| self.copy()).flatten()
    }

    /// What came first if it is good; otherwise what the other attempt comes to, unless that is worse.
    async fn better(&self, outcome: Outcome, other: impl Future<Output = Outcome>) -> Outcome {
        if outcome.is_ok() && !retry::matches(self.retry, &attempted(&outcome)) {
            return outcome;
        }
        match other.await {
            Err(_) if outcome.is_ok() => outcome,
            other => {
                discard(outcome);
                other
            }
        }
    }
}

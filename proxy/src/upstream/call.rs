//! A request with what its route says of it: which endpoint suits it, and what to do when that one fails it.

use super::{
    Failed, LiveCluster, LiveEndpoint, Sent,
    retry::{self, Attempted, Circumstances, Decision, Ending},
    send::Terms,
};
use crate::{
    deadline::Deadline,
    error::{Processed, RequestError},
    http::{
        body::{Body, BodyEnd, Observer, Replay},
        grpc_timeout, reply, retry_after,
    },
    snapshot::Retry,
};
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, SystemTime},
};
use tokio::{
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

/// What is read of an answer that nobody wants, so that its HTTP/1.1 connection can be used again.
const DRAINED: usize = 64 * 1024;
/// How long that may take.
const DRAINED_WITHIN: Duration = Duration::from_secs(1);

/// What a route says of a request to a cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct Call<'r> {
    /// Whether it is tried again. Absent: only what provably was not processed is, once.
    pub retry: Option<&'r Retry>,
    /// What a consistent hash goes by (`RouteAction.hash_policy`). Absent: chance.
    pub hash: Option<u64>,
    /// When the request must be over, as far as that is known: nobody waits for an attempt that would come later.
    pub deadline: Option<&'r Cell<Option<Instant>>>,
    /// Where what is done is noted. It outlasts the call, which may be given up.
    pub tries: Option<&'r Cell<Tries>>,
}

/// What was done for a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// The attempts begun at it, hedges included; 0 when it came to no cluster. A connection that turns out to be closed
    /// is replaced within an attempt.
    pub attempts: u32,
    /// How often because the attempt before took its time.
    pub hedges: u32,
    /// How it ended, if its retry policy had something to do.
    pub ending: Option<Ending>,
}

impl Tries {
    /// How often because the attempt before had failed.
    pub fn retries(&self) -> u32 {
        self.attempts.saturating_sub(1 + self.hedges)
    }
}

/// What an attempt came to.
pub(super) type Outcome = Result<Sent, Box<Failed>>;

impl LiveCluster {
    /// Sends a request as its route says and waits for the head of the response that the caller is to see.
    /// What is sent is taken out of the request.
    pub async fn call(
        self: &Rc<Self>,
        downstream: Version,
        request: &mut Request<Body>,
        call: &Call<'_>,
    ) -> Outcome {
        match call.retry {
            // In a box: requests that are tried once do without its memory.
            Some(retry) if *request.method() != Method::CONNECT => {
                Box::pin(self.call_until_settled(downstream, request, retry, call)).await
            }
            _ => {
                if let Some(tries) = call.tries {
                    note(tries, |tries| tries.attempts = 1);
                }
                let terms = Terms {
                    call,
                    tried: None,
                    patience: None,
                };
                self.send_once(downstream, request, terms).await
            }
        }
    }

    async fn call_until_settled(
        self: &Rc<Self>,
        downstream: Version,
        request: &mut Request<Body>,
        retry: &Retry,
        call: &Call<'_>,
    ) -> Outcome {
        let unwatched = Cell::default();
        let tries = call.tries.unwrap_or(&unwatched);
        self.limits.retries.deposit(super::now());
        let persistent = Persistent::begin(self, downstream, request, retry, call, tries);
        let mut outcome = persistent.first_attempt(request).await;
        loop {
            let wait = match persistent.decide(&outcome, request) {
                Ok(wait) => wait,
                Err(ending) => {
                    note(tries, |tries| tries.ending = ending);
                    return outcome;
                }
            };
            discard(outcome);
            sleep(wait).await;
            persistent.shorten_grpc_timeout(request);
            outcome = persistent.attempt(request).await;
        }
    }
}

/// A request that is tried until its policy is content.
pub(super) struct Persistent<'c> {
    pub(super) cluster: &'c Rc<LiveCluster>,
    pub(super) retry: &'c Retry,
    downstream: Version,
    call: &'c Call<'c>,
    tries: &'c Cell<Tries>,
    method: Method,
    /// What is needed to send it again, where sending takes it away: HTTP/1.1 leaves it, in a form that is good for
    /// another attempt.
    head: OnceCell<Request<()>>,
    pub(super) body: Replay,
    tried: RefCell<Vec<SocketAddr>>,
}

impl<'c> Persistent<'c> {
    fn begin(
        cluster: &'c Rc<LiveCluster>,
        downstream: Version,
        request: &mut Request<Body>,
        retry: &'c Retry,
        call: &'c Call<'c>,
        tries: &'c Cell<Tries>,
    ) -> Self {
        Self {
            method: request.method().clone(),
            head: OnceCell::new(),
            body: Replay::keep(request.body_mut(), retry.body_limit),
            tried: RefCell::default(),
            call,
            cluster,
            downstream,
            retry,
            tries,
        }
    }

    /// The first attempt, and a second one beside it where the policy has requests hedged.
    async fn first_attempt(&self, request: &mut Request<Body>) -> Outcome {
        match &self.retry.hedge {
            Some(hedge) if retry::may_hedge(self.retry, &self.method) => {
                self.head.get_or_init(|| head(request));
                Box::pin(self.hedged(request, hedge)).await
            }
            _ => self.attempt(request).await,
        }
    }

    /// Sends the request once, within the time of one attempt.
    pub(super) async fn attempt(&self, request: &mut Request<Body>) -> Outcome {
        note(self.tries, |tries| tries.attempts += 1);
        if self.cluster.speaks_http2(self.downstream) {
            self.head.get_or_init(|| head(request));
        }
        let patience = self.patience(request);
        let terms = Terms {
            call: self.call,
            tried: Some(&self.tried),
            patience: patience.as_deref(),
        };
        self.cluster
            .send_once(self.downstream, request, terms)
            .await
    }

    /// How long to wait before another attempt, which the request is made ready for; or how it ended, if the policy had
    /// something to do.
    fn decide(
        &self,
        outcome: &Outcome,
        request: &mut Request<Body>,
    ) -> Result<Duration, Option<Ending>> {
        let attempted = attempted(outcome);
        if !retry::matches(self.retry, &attempted) {
            return Err(match outcome {
                _ if self.tries.get().retries() == 0 => None,
                Ok(_) => Some(Ending::Success),
                Err(_) => Some(Ending::Exhausted),
            });
        }
        let circumstances = Circumstances {
            method: &self.method,
            attempts: self.tries.get().attempts,
            replayable: self.body.is_kept(),
            retry_after: outcome
                .as_ref()
                .ok()
                .and_then(|sent| retry_after::of(sent.response.headers(), SystemTime::now())),
            left: self.left(),
            random: fastrand::f64(),
        };
        match retry::decide(self.retry, &attempted, &circumstances) {
            Decision::Settled => Err(None),
            Decision::GiveUp(ending) => Err(Some(ending)),
            Decision::Again(_) if !self.spend() => Err(Some(Ending::Budget)),
            Decision::Again(wait) => match self.restore(request) {
                true => Ok(wait),
                false => Err(Some(Ending::Body)),
            },
        }
    }

    /// Takes a retry from the budget of the cluster.
    pub(super) fn spend(&self) -> bool {
        let budget = self.cluster.retry_budget();
        self.cluster.limits.retries.withdraw(&budget, super::now())
    }

    /// Makes it the request it was. False when its body cannot be had again.
    fn restore(&self, request: &mut Request<Body>) -> bool {
        let Some(body) = self.body.again() else {
            return false;
        };
        if let Some(head) = self.head.get() {
            *request = self::head(head).map(|()| Body::Empty);
        }
        *request.body_mut() = body;
        true
    }

    /// Notes another attempt beside the first, and makes a request for it.
    pub(super) fn copy(&self) -> Option<Request<Body>> {
        let mut copy = Request::new(Body::Empty);
        let restored = self.head.get().is_some() && self.restore(&mut copy);
        restored.then(|| {
            note(self.tries, |tries| tries.hedges += 1);
            self.shorten_grpc_timeout(&mut copy);
            copy
        })
    }

    /// How much is left of the request's time.
    fn left(&self) -> Option<Duration> {
        let deadline = self.call.deadline?.get()?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// The endpoint is to know how much of the time is left now.
    fn shorten_grpc_timeout(&self, request: &mut Request<Body>) {
        if let Some(left) = self.left()
            && request.headers().contains_key(&grpc_timeout::GRPC_TIMEOUT)
        {
            grpc_timeout::set(request.headers_mut(), left);
        }
    }

    /// When an attempt has taken too long: counted from the end of the request, which its caller may take time for.
    fn patience(&self, request: &mut Request<Body>) -> Option<Rc<Deadline>> {
        let per_try = self.retry.per_try_timeout?;
        let deadline = Rc::new(self.cluster.shared.deadlines.deadline());
        let patience = Patience {
            deadline: deadline.clone(),
            per_try,
        };
        match self.body.is_complete() {
            true => patience.begin(),
            false => {
                let body = std::mem::take(request.body_mut());
                *request.body_mut() = body.observed(patience);
            }
        }
        Some(deadline)
    }
}

/// The time of one attempt.
struct Patience {
    deadline: Rc<Deadline>,
    per_try: Duration,
}

impl Patience {
    fn begin(&self) {
        self.deadline.set(Some(Instant::now() + self.per_try));
    }
}

/// It begins when the caller has sent everything.
impl Observer for Patience {
    fn end(&mut self, end: BodyEnd<'_>) {
        if let BodyEnd::Complete { .. } = end {
            self.begin();
        }
    }
}

/// What is to be known of an outcome.
pub(super) fn attempted(outcome: &Outcome) -> Attempted {
    match outcome {
        Ok(sent) => Attempted::Answered {
            status: sent.response.status(),
            grpc_status: reply::grpc_status(sent.response.headers()),
            processed: processed(&sent.response, &sent.endpoint),
        },
        Err(failed) => Attempted::Failed {
            error: failed.error,
            processed: failed.processed,
        },
    }
}

/// Whether the application has seen a request that was answered: not when its proxy, which proved who it is, says so.
fn processed(response: &Response<Body>, endpoint: &LiveEndpoint) -> Processed {
    let reason = endpoint
        .identity()
        .and_then(|_| reply::reason(response.headers(), endpoint.address()));
    reason.map_or(Processed::Maybe, RequestError::processed)
}

fn note(tries: &Cell<Tries>, what: impl FnOnce(&mut Tries)) {
    let mut noted = tries.get();
    what(&mut noted);
    tries.set(noted);
}

/// All of a request but its body.
fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    *head.extensions_mut() = request.extensions().clone();
    head
}

/// Lets go of an outcome that nobody is to see. What is left of an answer by HTTP/1.1 is read, if it is little: otherwise
/// its connection would be lost. Meanwhile it takes no place within the limit on requests, which the next attempt may need.
pub(super) fn discard(outcome: Outcome) {
    let Ok(Sent { response, hold, .. }) = outcome else {
        return;
    };
    hold.release_request();
    if response.version() != Version::HTTP_2 && !response.body().is_end_stream() {
        spawn_local(timeout(DRAINED_WITHIN, drain(response.into_body())));
    }
}

async fn drain(mut body: Body) {
    let mut left = DRAINED;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(read) {
            Some(still_left) if !body.is_end_stream() => left = still_left,
            _ => return,
        }
    }
}

//! What the inbound side lets through to the application: rate limits and concurrency limits in force.
//!
//! Owns what is used of them, over all workers, by the name of each; it outlives a push. How much is allowed
//! is configuration (`snapshot::admission`), and how a refusal is answered is `http::reply`.
//!
//! Everything but [`Admission`] and [`Watch`] is pure: time is passed in.

mod bucket;
mod concurrency;
mod gradient;
mod live;
mod rate_limit;
mod shared;
mod table;

pub(crate) use concurrency::Overloaded;
pub(crate) use rate_limit::Refused;

use crate::{error::RequestError, http::body::Body, snapshot::Inbound};
use arc_swap::ArcSwap;
use bucket::Clock;
use concurrency::Permit;
use http::Request;
use live::{Live, PortLimits};
use std::{
    cell::{Cell, Ref, RefCell},
    collections::BTreeMap,
    hash::Hash,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use table::Keys;
use weft_xds_proto::spiffe::SpiffeId;

/// The limits in force. One per proxy, shared by its workers.
#[derive(Debug)]
pub(crate) struct Admission {
    clock: Clock,
    keys: Keys,
    live: ArcSwap<Live>,
    /// Grows with every configuration, after it is in force.
    version: AtomicU64,
    configuring: Mutex<()>,
}

/// The limits of a port, as a connection sees them: looking whether they have changed costs one load.
#[derive(Debug)]
pub(crate) struct Watch {
    port: u16,
    version: Cell<u64>,
    limits: RefCell<Option<Arc<PortLimits>>>,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// The identity that the caller proved.
    pub(crate) identity: Option<&'a SpiffeId>,
    /// Its address.
    pub(crate) address: IpAddr,
    /// The authority that it is for, in lower case.
    pub(crate) host: &'a str,
    /// With its path normalised.
    pub(crate) request: &'a Request<Body>,
}

/// A request that is let through, until it is over.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    permits: Vec<Permit>,
}

/// A request that is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shed {
    /// The limit that it would have passed.
    pub(crate) limit: Arc<str>,
    pub(crate) why: Why,
}

/// Why a request is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// There is no token for it.
    RateLimited(Refused),
    /// As many are in flight as may be.
    Overloaded(Overloaded),
}

/// What is used of every limit, by the name of its rule: those of several filters count together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) rate: BTreeMap<Arc<str>, RateSummary>,
    pub(crate) concurrency: BTreeMap<Arc<str>, ConcurrencySummary>,
}

/// What is used of a rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RateSummary {
    /// Requests that were not let through.
    pub(crate) shed: u64,
    /// Buckets that are not full.
    pub(crate) buckets: usize,
}

/// What is used of a concurrency limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ConcurrencySummary {
    /// Requests that were not let through.
    pub(crate) shed: u64,
    /// Requests in flight.
    pub(crate) in_flight: u64,
    /// How many may be.
    pub(crate) limit: u64,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            clock: Clock::start(),
            keys: Keys::default(),
            live: ArcSwap::default(),
            version: AtomicU64::new(0),
            configuring: Mutex::default(),
        }
    }
}

impl Admission {
    /// Puts the limits of a configuration in force, and keeps what is used of those that were.
    ///
    /// A worker that is deciding on a request at this moment may still take a token from where it was kept before:
    /// one for each worker and push.
    pub(crate) fn configure(&self, inbound: &Inbound) {
        let _configuring = self
            .configuring
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let live = Live::new(inbound, &self.live.load(), self.clock.now());
        self.live.store(Arc::new(live));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Decides on a request that arrived at this instant.
    pub(crate) fn admit(
        &self,
        watch: &Watch,
        asking: &Asking<'_>,
        arrived: Instant,
    ) -> Result<Admitted, Shed> {
        match &*watch.limits(self) {
            None => Ok(Admitted::default()),
            Some(limits) => limits.admit(asking, &self.keys, self.clock.at(arrived)),
        }
    }

    /// The application has answered a request.
    pub(crate) fn answered(&self, admitted: &Admitted) {
        if admitted.permits.is_empty() {
            return;
        }
        let now = self.clock.now();
        for permit in &admitted.permits {
            permit.answered(now);
        }
    }

    /// What is used of every limit.
    pub(crate) fn summary(&self) -> Summary {
        self.live.load().summary(self.clock.now())
    }
}

impl Watch {
    /// Watches the limits of a port.
    pub(crate) fn new(port: u16) -> Self {
        Self {
            port,
            // Before any: the first look loads.
            version: Cell::new(u64::MAX),
            limits: RefCell::default(),
        }
    }

    fn limits(&self, admission: &Admission) -> Ref<'_, Option<Arc<PortLimits>>> {
        let version = admission.version.load(Ordering::Acquire);
        if self.version.replace(version) != version {
            let live = admission.live.load();
            self.limits.replace(live.port(self.port).cloned());
        }
        self.limits.borrow()
    }
}

impl Shed {
    /// The reason that the caller is given.
    pub(crate) fn error(&self) -> RequestError {
        match self.why {
            Why::RateLimited(_) => RequestError::RateLimited,
            Why::Overloaded(_) => RequestError::Overloaded,
        }
    }

    /// What the log says of it.
    pub(crate) fn detail(&self) -> String {
        let name = &self.limit;
        match self.why {
            Why::RateLimited(refused) => {
                format!("policy {name}: no token for {:?}", refused.retry_after)
            }
            Why::Overloaded(Overloaded { limit }) => {
                format!("policy {name}: {limit} requests are in flight")
            }
        }
    }
}

impl Asking<'_> {
    /// Who asks, where all share a bucket: an identity whatever its address, and else the address.
    fn caller(&self) -> impl Hash {
        (
            self.identity,
            self.identity.is_none().then_some(self.address),
        )
    }
}

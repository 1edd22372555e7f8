//! The limits that are in force: by name, and in the order in which the requests to a port have to pass them.

use super::{
    Admitted, Asking, Shed, Summary, Why, bucket::Moment, concurrency::Concurrency,
    rate_limit::Limiter, table::Keys,
};
use crate::{
    http::matches,
    snapshot::{
        Inbound, InboundPort,
        admission::{Filter, Limits, Match, Rule as Configured},
    },
};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Everything that is in force. Never changed, but replaced: only what is used of a limit changes.
#[derive(Debug, Default)]
pub(super) struct Live {
    rate: ByName<Limiter>,
    concurrency: ByName<Concurrency>,
    ports: HashMap<u16, Option<Arc<PortLimits>>>,
    other: Option<Arc<PortLimits>>,
}

/// What the requests to a port have to pass.
#[derive(Debug)]
pub(super) struct PortLimits {
    rate: Vec<Rules<Limiter>>,
    concurrency: Vec<Rules<Concurrency>>,
}

/// By the names of filter and rule.
type ByName<L> = HashMap<Names, Arc<Counted<L>>>;

type Names = (Arc<str>, Arc<str>);

/// A limit, and how many requests it has not let through.
#[derive(Debug)]
struct Counted<L> {
    name: Arc<str>,
    limit: Arc<L>,
    shed: Arc<AtomicU64>,
}

/// The first that is for a request decides.
type Rules<L> = Box<[Rule<L>]>;

#[derive(Debug)]
struct Rule<L> {
    matches: Box<[Match]>,
    limit: Option<Arc<Counted<L>>>,
}

impl Live {
    /// What is in force with a configuration, after what was `before` it.
    pub(super) fn new(inbound: &Inbound, before: &Self, now: Moment) -> Self {
        let mut live = Self::default();
        let all = || inbound.ports.values().chain([&inbound.other]);
        for rule in all().flat_map(|port| rules(&port.limits.rate)) {
            carry(
                rule,
                &before.rate,
                &mut live.rate,
                |limit, before| match before {
                    Some(same) if same.limit() == limit => same.clone(),
                    Some(other) => Arc::new(other.changed(limit.clone(), now)),
                    None => Arc::new(Limiter::new(limit.clone())),
                },
            );
        }
        for rule in all().flat_map(|port| rules(&port.limits.concurrency)) {
            carry(
                rule,
                &before.concurrency,
                &mut live.concurrency,
                |limit, before| {
                    let Some(same) = before else {
                        return Arc::new(Concurrency::new(limit));
                    };
                    same.configure(limit);
                    same.clone()
                },
            );
        }
        let port = |port: &InboundPort| live.limits(&port.limits);
        let ports = inbound.ports.iter();
        let ports = ports.map(|(number, of)| (*number, port(of))).collect();
        let other = port(&inbound.other);
        Self {
            ports,
            other,
            ..live
        }
    }

    /// The limits of a port, if it has any.
    pub(super) fn port(&self, port: u16) -> Option<&Arc<PortLimits>> {
        self.ports.get(&port).unwrap_or(&self.other).as_ref()
    }

    /// What is used of every limit.
    pub(super) fn summary(&self, now: Moment) -> Summary {
        let mut summary = Summary::default();
        for of in self.rate.values() {
            let sum = summary.rate.entry(of.name.clone()).or_default();
            sum.shed += of.shed.load(Ordering::Relaxed);
            sum.buckets += of.limit.used_buckets(now);
        }
        for of in self.concurrency.values() {
            let sum = summary.concurrency.entry(of.name.clone()).or_default();
            let (in_flight, limit) = of.limit.usage();
            sum.shed += of.shed.load(Ordering::Relaxed);
            sum.in_flight += u64::from(in_flight);
            sum.limit += u64::from(limit);
        }
        summary
    }

    fn limits(&self, limits: &Limits) -> Option<Arc<PortLimits>> {
        (!limits.is_empty()).then(|| {
            Arc::new(PortLimits {
                rate: resolve(&limits.rate, &self.rate),
                concurrency: resolve(&limits.concurrency, &self.concurrency),
            })
        })
    }
}

impl PortLimits {
    /// Decides on a request. All limits are looked at before anything is taken, so that a request which one of them
    /// refuses is not held against its caller by the others.
    pub(super) fn admit(
        &self,
        asking: &Asking<'_>,
        keys: &Keys,
        now: Moment,
    ) -> Result<Admitted, Shed> {
        let rate = applicable(&self.rate, asking);
        let concurrency = applicable(&self.concurrency, asking);
        if rate.len() + concurrency.len() > 1 {
            for of in &rate {
                let checked = of.limit.check(asking, keys, now);
                checked.map_err(|refused| of.shed(Why::RateLimited(refused)))?;
            }
        }
        let permits = concurrency
            .into_iter()
            .map(|of| {
                let permit = of.limit.acquire(now);
                permit.map_err(|overloaded| of.shed(Why::Overloaded(overloaded)))
            })
            .collect::<Result<_, _>>()?;
        for of in rate {
            let taken = of.limit.take(asking, keys, now);
            taken.map_err(|refused| of.shed(Why::RateLimited(refused)))?;
        }
        Ok(Admitted { permits })
    }
}

impl<L> Rule<L> {
    fn is_for(&self, asking: &Asking<'_>) -> bool {
        let Asking { host, request, .. } = *asking;
        let is_for =
            |rule: &Match| matches::request(&rule.path, rule.conditions.as_deref(), host, request);
        self.matches.is_empty() || self.matches.iter().any(is_for)
    }
}

impl<L> Counted<L> {
    fn shed(&self, why: Why) -> Shed {
        self.shed.fetch_add(1, Ordering::Relaxed);
        Shed {
            limit: self.name.clone(),
            why,
        }
    }
}

/// The limits that are for a request: of every filter the first, if it does not let it pass.
fn applicable<'a, L>(filters: &'a [Rules<L>], asking: &Asking<'_>) -> Vec<&'a Counted<L>> {
    let limit = |rules: &'a Rules<L>| {
        let first = rules.iter().find(|rule| rule.is_for(asking))?;
        first.limit.as_deref()
    };
    filters.iter().filter_map(limit).collect()
}

fn rules<L>(filters: &[Filter<L>]) -> impl Iterator<Item = (Names, &Configured<L>)> {
    filters.iter().flat_map(|filter| {
        let names = |rule: &Configured<L>| (filter.name.clone(), rule.name.clone());
        filter.rules.iter().map(move |rule| (names(rule), rule))
    })
}

/// Takes a limit over from what was before. Of one name there is one, on however many ports.
fn carry<C, L>(
    (names, rule): (Names, &Configured<C>),
    before: &ByName<L>,
    live: &mut ByName<L>,
    limit: impl Fn(&C, Option<&Arc<L>>) -> Arc<L>,
) {
    let Some(configured) = &rule.limit else {
        return;
    };
    if live.contains_key(&names) {
        return;
    }
    let before = before.get(&names);
    let counted = Counted {
        name: rule.name.clone(),
        limit: limit(configured, before.map(|before| &before.limit)),
        shed: before.map(|before| before.shed.clone()).unwrap_or_default(),
    };
    live.insert(names, Arc::new(counted));
}

fn resolve<C, L>(filters: &[Filter<C>], live: &ByName<L>) -> Vec<Rules<L>> {
    let resolve = |(names, rule): (Names, &Configured<C>)| Rule {
        matches: rule.matches.clone().into(),
        limit: rule.limit.as_ref().and_then(|_| live.get(&names)).cloned(),
    };
    let filters = filters.iter().map(std::slice::from_ref);
    filters
        .map(|filter| rules(filter).map(resolve).collect())
        .collect()
}

//! Which endpoint of a cluster takes a request. Pure decisions: time and randomness are passed in.
//!
//! A pick asks three questions. Which zone ([`zones`])? Which endpoint of it ([`algorithm`], with a file for each)?
//! And does that one take the request: its breaker, the endpoints that the request avoids, and slow start have a say
//! ([`chance`])? What an algorithm needs is prepared when configuration changes; an endpoint that does not take a
//! request is passed over in a way that leaves the others their shares, so that a breaker that opens changes nothing
//! that was prepared.

mod algorithm;
mod chance;
mod consistent;
mod least_request;
mod maglev;
mod peak_ewma;
mod random;
mod ring;
mod round_robin;
mod schedule;
mod slow_start;
mod two_choices;
mod zones;

pub(crate) use peak_ewma::Latency;
pub(crate) use zones::arrange;

use crate::snapshot::{Cluster, Endpoint, Share, cluster::SlowStart};
use algorithm::Algorithm;
use chance::Fit;
use std::{
    cell::Cell,
    net::SocketAddr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long what was counted of the endpoints holds while some are kept back.
const RECOUNT: Duration = Duration::from_millis(10);

/// What a request says of the endpoint that it wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Choice<'a> {
    /// What a consistent hash goes by. Absent: chance.
    pub(crate) hash: Option<u64>,
    /// Endpoints that have failed the request: taken only when there is no other.
    pub(crate) avoid: &'a [SocketAddr],
}

/// What a balancer knows of an endpoint.
pub(crate) trait Load {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Whether its breaker lets a request through.
    fn admits(&self, _now: Instant) -> bool {
        true
    }

    /// When it joined the others; absent when it was there before the cluster was first used.
    fn joined(&self) -> Option<Instant>;

    /// Requests sent whose response is not complete, and open opaque connections.
    fn in_flight(&self) -> u32;

    /// How long its responses took of late.
    fn latency(&self) -> Latency;
}

/// A configured balancer with the state that it keeps itself.
#[derive(Debug)]
pub(crate) struct Balancer {
    /// The proxy's own zone first, or all endpoints in one.
    zones: Box<[Group]>,
    slow_start: Option<SlowStart>,
    panic_threshold: Share,
    census: Census,
}

/// The endpoints of a zone.
#[derive(Debug)]
struct Group {
    members: Range<usize>,
    algorithm: Algorithm,
    /// Of the requests.
    share: f64,
}

/// What was seen when all endpoints were last looked at.
#[derive(Debug, Clone, Copy)]
struct Census {
    /// When to look again; absent for as long as nobody is found to be kept back.
    due: Option<Instant>,
    /// So few are admitted that breakers are ignored.
    panic: bool,
    /// Until when somebody is in slow start.
    starting: Option<Instant>,
    /// Nobody is kept back or in slow start, and the first zone takes everything: as a rule.
    ordinary: bool,
}

impl Balancer {
    /// The balancer as configured, for the endpoints and the zones that [`arrange`] made of it.
    pub(crate) fn new(
        config: &Cluster,
        endpoints: &[Arc<Endpoint>],
        zones: Vec<Range<usize>>,
        now: Instant,
        random: u64,
    ) -> Self {
        let group = |members: Range<usize>| Group {
            algorithm: Algorithm::new(&config.load_balancer, &endpoints[members.clone()], random),
            members,
            share: 0.0,
        };
        let zones: Box<[_]> = zones.into_iter().map(group).collect();
        // Where a hash decides, requests keep to their endpoint from the beginning.
        let hashes = zones.iter().any(|zone| zone.algorithm.hashes());
        let slow_start = config.slow_start.clone().filter(|_| !hashes);
        Self {
            zones,
            slow_start,
            panic_threshold: config.panic_threshold,
            census: Census {
                due: Some(now),
                panic: false,
                starting: None,
                ordinary: false,
            },
        }
    }

    /// The index of the endpoint to use; `None` when there is none, or when every breaker keeps its endpoint back.
    /// The endpoints are those that it was made for. `random` is 64 uniform bits.
    pub(crate) fn pick<E: Load>(
        &mut self,
        endpoints: &[E],
        choice: &Choice<'_>,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        if choice.avoid.is_empty()
            && self.census.ordinary
            && let Some(zone) = self.zones.first_mut()
        {
            let (picked, kept_back) = zone.pick_admitted(endpoints, choice.hash, now, random);
            if !kept_back {
                return picked;
            }
            // Nobody was when last seen: there may be too few left by now.
            self.count(endpoints, now);
        }
        self.pick_among_few(endpoints, choice, now, random)
    }

    /// When not every endpoint may take all of its share, or not every zone.
    #[cold]
    fn pick_among_few<E: Load>(
        &mut self,
        endpoints: &[E],
        choice: &Choice<'_>,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        if self.census.due.is_some_and(|due| due <= now) {
            self.count(endpoints, now);
        }
        if choice.avoid.is_empty() && self.census.is_plain(now) {
            let zone = self.draw_zone(choice.hash, random);
            let zone = &mut self.zones[zone];
            let (picked, kept_back) = zone.pick_admitted(endpoints, choice.hash, now, random);
            if picked.is_some() && (!kept_back || self.census.due.is_some()) {
                return picked;
            }
            // Nobody was kept back when last seen: there may be too few left by now.
            self.count(endpoints, now);
        }
        self.pick_with_care(endpoints, choice, now, random)
    }

    /// With what is seldom: endpoints to avoid, slow start, panic, a zone that does not take requests any more.
    #[cold]
    fn pick_with_care<E: Load>(
        &mut self,
        endpoints: &[E],
        choice: &Choice<'_>,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        let drawn = self.draw_zone(choice.hash, random);
        let panic = self.census.panic;
        let slow_start = self.slow_start.as_ref();
        let fit = |endpoint: &E| match (slow_start, endpoint.joined()) {
            _ if !panic && !endpoint.admits(now) => 0.0,
            (Some(config), Some(joined)) => {
                slow_start::factor(config, now.saturating_duration_since(joined))
            }
            (None, _) | (_, None) => 1.0,
        };
        let other = |endpoint: &E| match choice.avoid.contains(&endpoint.address()) {
            true => 0.0,
            false => fit(endpoint),
        };
        let zones = &mut self.zones;
        let mut pick = |fit: &dyn Fn(&E) -> Fit| {
            let (before, from) = zones.split_at_mut(drawn);
            from.iter_mut()
                .chain(before)
                .find_map(|zone| zone.pick(endpoints, fit, choice.hash, now, random))
        };
        pick(&other).or_else(|| pick(&fit))
    }

    /// The zone that takes a request, by the shares of the zones.
    fn draw_zone(&self, hash: Option<u64>, random: u64) -> usize {
        let own = &self.zones[0];
        if own.share >= 1.0 {
            return 0;
        }
        let seed = hash.filter(|_| own.algorithm.hashes()).unwrap_or(random);
        // Not what the seed itself will choose in the zone.
        let mut rest = fastrand::Rng::with_seed(!seed).f64();
        let found = self.zones.iter().position(|zone| {
            rest -= zone.share;
            rest < 0.0
        });
        found.unwrap_or_default()
    }

    /// Looks at everyone: who is kept back, and so which zone can bear how much.
    #[cold]
    fn count<E: Load>(&mut self, endpoints: &[E], now: Instant) {
        let used = || {
            self.zones
                .iter()
                .flat_map(|zone| &endpoints[zone.members.clone()])
        };
        let all = used().count();
        let admitted = used().filter(|endpoint| endpoint.admits(now)).count();
        let window = self.slow_start.as_ref().map(|config| config.window);
        let starting = window.and_then(|window| {
            let last = used().filter_map(Load::joined).max()?;
            Some(last + window).filter(|until| *until > now)
        });
        // A single endpoint is not panicked over: nobody else suffers when its breaker opens.
        let fewest = self.panic_threshold.as_f64() * all as f64;
        let panic = all > 1 && (admitted as f64) < fewest;
        self.census = Census {
            due: (admitted < all || starting.is_some()).then(|| now + RECOUNT),
            panic,
            starting,
            ordinary: false,
        };
        let weight = |zone: &Group| {
            let members = endpoints[zone.members.clone()].iter().enumerate();
            let counted = members.filter(|(_, endpoint)| panic || endpoint.admits(now));
            let weights = counted.map(|(index, _)| f64::from(zone.algorithm.weight(index)));
            weights.sum()
        };
        let mut shares: Vec<f64> = self.zones.iter().map(weight).collect();
        zones::spread(&mut shares);
        for (zone, share) in self.zones.iter_mut().zip(shares) {
            zone.share = share;
        }
        let all_near = self.zones.first().is_some_and(|own| own.share >= 1.0);
        self.census.ordinary = all_near && admitted == all && starting.is_none();
    }
}

impl Group {
    /// Picks among those whose breakers let requests through. Says whether it came to one that is kept back.
    fn pick_admitted<E: Load>(
        &mut self,
        endpoints: &[E],
        hash: Option<u64>,
        now: Instant,
        random: u64,
    ) -> (Option<usize>, bool) {
        let kept_back = Cell::new(false);
        let admitted = |endpoint: &E| match endpoint.admits(now) {
            true => 1.0,
            false => {
                kept_back.set(true);
                0.0
            }
        };
        let picked = self.pick(endpoints, admitted, hash, now, random);
        (picked, kept_back.get())
    }

    fn pick<E: Load>(
        &mut self,
        endpoints: &[E],
        fit: impl Fn(&E) -> Fit,
        hash: Option<u64>,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        let members = &endpoints[self.members.clone()];
        let picked = self.algorithm.pick(members, fit, hash, now, random)?;
        Some(self.members.start + picked)
    }
}

impl Census {
    /// Whether every endpoint that is admitted takes all of its share.
    fn is_plain(&self, now: Instant) -> bool {
        !self.panic && self.starting.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests;

//! `weft.v1.RateLimit` and `weft.v1.ConcurrencyLimit`: what requests to the workload have to pass.

use crate::{
    snapshot::{
        ConcurrencyLimit, InboundPort, Rate, RateLimit,
        admission::{Filter, Key, Limits, Match, Rule},
    },
    xds::convert::{
        field::{At, Fault, decode, is, not_empty, positive, required},
        route,
    },
};
use std::{
    collections::HashMap,
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};
use weft_xds_proto::{
    envoy::{envoy::config::route::v3::RouteMatch, google::protobuf::Any},
    weft::v1::{
        ConcurrencyLimit as ConcurrencyProto, RateLimit as RateProto,
        concurrency_limit::{Adaptive, rule::Limit as ConcurrencyOf},
        rate_limit::{Key as KeyProto, Limit as RateOf, key::Key as KeyOf},
    },
};

/// Absent `RateLimit.Limit.per`.
const PER: Duration = Duration::from_secs(1);
/// `RateLimit.Limit.maximum_keys` of 0.
const MAXIMUM_KEYS: NonZeroUsize = NonZeroUsize::new(10_000).expect("10,000 is not zero");
/// More would be more memory than a sidecar has.
const MOST_KEYS: u32 = 1_000_000;
/// `ConcurrencyLimit.Adaptive.minimum` of 0.
const MINIMUM: NonZeroU32 = NonZeroU32::new(10).expect("10 is not zero");
/// `ConcurrencyLimit.Adaptive.maximum` of 0.
const MAXIMUM: NonZeroU32 = NonZeroU32::new(1_000).expect("1,000 is not zero");

/// Whether an HTTP filter is a limit.
pub(super) fn is_limit(config: &Any) -> bool {
    is::<RateProto>(config) || is::<ConcurrencyProto>(config)
}

/// Adds the limit of an HTTP filter of a name, which is one.
pub(super) fn add(name: &str, config: &Any, limits: &mut Limits) -> Result<(), Fault> {
    if is::<RateProto>(config) {
        let proto: RateProto = decode(config)?;
        let rules = proto.rules.into_iter();
        let rules = rules.map(|rule| (rule.name, rule.matches, rule.limit));
        limits
            .rate
            .push(filter(name, rules, |limit| rate_limit(limit).at("limit"))?);
    } else {
        let proto: ConcurrencyProto = decode(config)?;
        let rules = proto.rules.into_iter();
        let rules = rules.map(|rule| (rule.name, rule.matches, rule.limit));
        limits
            .concurrency
            .push(filter(name, rules, concurrency_limit)?);
    }
    Ok(())
}

/// What is used of a limit is kept by the names of its filter and its rule. The rules of a route may be among those
/// of others, and a filter on several ports, but there is one limit to a name.
pub(super) fn one_to_a_name<'p>(
    ports: impl Iterator<Item = &'p InboundPort> + Clone,
) -> Result<(), Fault> {
    check(ports.clone().flat_map(|port| &port.limits.rate))?;
    check(ports.flat_map(|port| &port.limits.concurrency))
}

fn check<'p, L: PartialEq + 'p>(filters: impl Iterator<Item = &'p Filter<L>>) -> Result<(), Fault> {
    let mut seen: HashMap<(&str, &str), &L> = HashMap::new();
    for filter in filters {
        for rule in &filter.rules {
            let Some(limit) = &rule.limit else { continue };
            if *seen.entry((&filter.name, &rule.name)).or_insert(limit) != limit {
                return Err(Fault::new(format!(
                    "there are two limits of the name {:?} in filters of the name {:?}",
                    rule.name, filter.name
                )));
            }
        }
    }
    Ok(())
}

fn filter<P, L>(
    name: &str,
    rules: impl Iterator<Item = (String, Vec<RouteMatch>, Option<P>)>,
    limit: impl Fn(P) -> Result<L, Fault>,
) -> Result<Filter<L>, Fault> {
    let rule = |(name, matches, of): (String, Vec<RouteMatch>, Option<P>)| {
        Ok(Rule {
            name: not_empty("name", &name)?.into(),
            matches: requests(&matches)?,
            limit: of.map(&limit).transpose()?,
        })
    };
    let rules = rules.enumerate();
    let rules = rules.map(|(position, of)| rule(of).at(format_args!("rules[{position}]")));
    Ok(Filter {
        name: name.into(),
        rules: rules.collect::<Result<_, _>>()?,
    })
}

fn requests(matches: &[RouteMatch]) -> Result<Vec<Match>, Fault> {
    let matches = matches.iter().enumerate();
    matches
        .map(|(position, rule)| route::requests(rule).at(format_args!("matches[{position}]")))
        .collect()
}

fn rate_limit(limit: RateOf) -> Result<RateLimit, Fault> {
    let requests = NonZeroU32::new(limit.requests)
        .ok_or_else(|| Fault::new("must be > 0, got 0").at("requests"))?;
    let per = positive("per", limit.per.as_ref())?.unwrap_or(PER);
    let burst = NonZeroU32::new(limit.burst).unwrap_or(requests);
    let rate = Rate::new(requests, per, burst).ok_or_else(|| {
        Fault::new(format!(
            "{requests} in {per:?} with bursts of {burst} is out of range: a request must have at least a \
             nanosecond, and a burst come back within 100 years"
        ))
    })?;
    if limit.maximum_keys > MOST_KEYS {
        let reason = format!("must be at most {MOST_KEYS}, got {}", limit.maximum_keys);
        return Err(Fault::new(reason).at("maximum_keys"));
    }
    let by = limit.by.into_iter().enumerate();
    let by = by.map(|(position, by)| key(by).at(format_args!("by[{position}]")));
    Ok(RateLimit {
        rate,
        by: by.collect::<Result<_, _>>()?,
        maximum_keys: NonZeroUsize::new(limit.maximum_keys as usize).unwrap_or(MAXIMUM_KEYS),
    })
}

fn key(key: KeyProto) -> Result<Key, Fault> {
    match required("key", key.key)? {
        KeyOf::Identity(_) => Ok(Key::Identity),
        KeyOf::SourceAddress(_) => Ok(Key::SourceAddress),
        KeyOf::Header(name) => match name.parse() {
            Ok(http::header::HOST) => Ok(Key::Authority),
            Ok(header) => Ok(Key::Header(header)),
            Err(_) => Err(Fault::new(format!("{name:?} is not the name of a header")).at("header")),
        },
    }
}

fn concurrency_limit(limit: ConcurrencyOf) -> Result<ConcurrencyLimit, Fault> {
    match limit {
        ConcurrencyOf::Maximum(maximum) => NonZeroU32::new(maximum)
            .map(ConcurrencyLimit::Fixed)
            .ok_or_else(|| Fault::new("must be > 0, got 0").at("maximum")),
        ConcurrencyOf::Adaptive(adaptive) => bounds(adaptive).at("adaptive"),
    }
}

fn bounds(adaptive: Adaptive) -> Result<ConcurrencyLimit, Fault> {
    let minimum = NonZeroU32::new(adaptive.minimum).unwrap_or(MINIMUM);
    let maximum = NonZeroU32::new(adaptive.maximum).unwrap_or(MAXIMUM);
    if maximum < minimum {
        let reason = format!("must be at least the minimum of {minimum}, got {maximum}");
        return Err(Fault::new(reason).at("maximum"));
    }
    Ok(ConcurrencyLimit::Adaptive { minimum, maximum })
}

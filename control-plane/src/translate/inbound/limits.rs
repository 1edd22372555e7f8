//! What the proxy of a workload takes from callers: the limits of the services in front of a port of it.

use super::super::{
    dialect::Form,
    proto::{any, duration},
    route::{authority_of, fit, rule_name},
};
use crate::world::{
    Candidate, Service, ServicePort, World,
    policy::{ConcurrencyLimit, RateLimit, RateLimitKey},
    route::{Hostname, Match},
};
use envoy_types::pb::{
    envoy::{
        config::route::v3::RouteMatch,
        extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter},
    },
    google::protobuf::Any,
};
use std::sync::Arc;
use weft_xds_proto::weft::v1::{self, concurrency_limit, rate_limit};

/// The limits of one port. A request has to keep to every one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Limits {
    rates: Vec<Group<Arc<RateLimit>>>,
    concurrency: Vec<Group<ConcurrencyLimit>>,
}

/// The limits of one service, or of the routes to it: of each request at most one counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group<L> {
    name: Arc<str>,
    /// In order: the first that is for a request counts.
    rules: Vec<Limited<L>>,
}

/// Some requests, and their limit. Those without one are named as they are not meant by what follows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Limited<L> {
    name: Arc<str>,
    /// Empty: every request.
    requests: Vec<Requests>,
    limit: Option<L>,
}

/// The requests to a host that a match of a rule is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Requests {
    hostname: Option<Hostname>,
    /// Not its rule, of which all else may change without a change of who is limited.
    fit: Match,
}

impl Limits {
    /// The limits of a port that these service ports stand in front of.
    pub(crate) fn plan(world: &World, fronts: &[(&Arc<Service>, &ServicePort)]) -> Self {
        let mut limits = Self::default();
        for (service, port) in fronts {
            let name: Arc<str> = format!("{}:{}", service.key, port.port).into();
            let policy = world.policy(service, port);
            limits
                .rates
                .extend(Group::of_service(&name, policy.rate_limit));
            limits
                .concurrency
                .extend(Group::of_service(&name, policy.concurrency_limit));

            let mut rates = Group::of_routes(&name);
            let mut concurrency = Group::of_routes(&name);
            for host in world.virtual_hosts(service, port) {
                for candidate in &host.candidates {
                    let policy =
                        world.rule_policy(service, port, &candidate.route, candidate.rule());
                    rates.add(candidate, host.hostname.as_ref(), policy.rate_limit);
                    concurrency.add(candidate, host.hostname.as_ref(), policy.concurrency_limit);
                }
            }
            limits.rates.extend(rates.limiting());
            limits.concurrency.extend(concurrency.limiting());
        }
        limits
    }

    /// The filters that enforce them.
    pub(super) fn filters(&self) -> Vec<HttpFilter> {
        let rates = self.rates.iter().map(|group| {
            let rules = group.rules.iter().map(rate_limit).collect();
            filter("rate_limit", &group.name, any(v1::RateLimit { rules }))
        });
        let concurrency = self.concurrency.iter().map(|group| {
            let rules = group.rules.iter().map(concurrency_limit).collect();
            let config = any(v1::ConcurrencyLimit { rules });
            filter("concurrency_limit", &group.name, config)
        });
        rates.chain(concurrency).collect()
    }
}

impl<L: Clone + PartialEq> Group<L> {
    fn of_service(name: &Arc<str>, limit: Option<L>) -> Option<Self> {
        Some(Self {
            name: name.clone(),
            rules: vec![Limited {
                name: name.clone(),
                requests: Vec::new(),
                limit: Some(limit?),
            }],
        })
    }

    fn of_routes(service: &Arc<str>) -> Self {
        Self {
            name: format!("{service}/routes").into(),
            rules: Vec::new(),
        }
    }

    fn add(&mut self, candidate: &Candidate, hostname: Option<&Hostname>, limit: Option<L>) {
        let name = rule_name(candidate);
        let requests = Requests {
            hostname: hostname.cloned(),
            fit: candidate.fit().clone(),
        };
        match self.rules.last_mut() {
            Some(last) if last.name == name && last.limit == limit => last.requests.push(requests),
            _ => self.rules.push(Limited {
                name,
                requests: vec![requests],
                limit,
            }),
        }
    }

    /// Without what limits nothing.
    fn limiting(mut self) -> Option<Self> {
        let last = self.rules.iter().rposition(|rule| rule.limit.is_some())?;
        self.rules.truncate(last + 1);
        Some(self)
    }
}

fn rate_limit(rule: &Limited<Arc<RateLimit>>) -> rate_limit::Rule {
    let limit = |limit: &RateLimit| rate_limit::Limit {
        requests: limit.requests.get(),
        per: Some(duration(limit.per)),
        burst: limit.burst.get(),
        by: limit.by.iter().map(key).collect(),
        maximum_keys: limit.maximum_keys.get(),
    };
    rate_limit::Rule {
        name: rule.name.to_string(),
        matches: rule.requests.iter().map(Requests::message).collect(),
        limit: rule.limit.as_deref().map(limit),
    }
}

fn key(key: &RateLimitKey) -> rate_limit::Key {
    use rate_limit::key::{Identity, Key, SourceAddress};
    rate_limit::Key {
        key: Some(match key {
            RateLimitKey::Identity => Key::Identity(Identity {}),
            RateLimitKey::SourceAddress => Key::SourceAddress(SourceAddress {}),
            RateLimitKey::Header(name) => Key::Header(name.to_string()),
        }),
    }
}

fn concurrency_limit(rule: &Limited<ConcurrencyLimit>) -> concurrency_limit::Rule {
    use concurrency_limit::{Adaptive, rule::Limit};
    concurrency_limit::Rule {
        name: rule.name.to_string(),
        matches: rule.requests.iter().map(Requests::message).collect(),
        limit: rule.limit.map(|limit| match limit {
            ConcurrencyLimit::Fixed { maximum } => Limit::Maximum(maximum.get()),
            ConcurrencyLimit::Adaptive { minimum, maximum } => Limit::Adaptive(Adaptive {
                minimum: minimum.get(),
                maximum: maximum.get(),
            }),
        }),
    }
}

impl Requests {
    fn message(&self) -> RouteMatch {
        let mut message = fit(&self.fit, Form::Weft);
        let host = self.hostname.as_ref().map(authority_of);
        message.headers.extend(host);
        message
    }
}

fn filter(kind: &str, group: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: format!("weft.{kind}/{group}"),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

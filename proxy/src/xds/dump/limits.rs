//! The limits of an inbound port as JSON. What is not configured is left out.

use super::{
    route::{conditions, list, object, path},
    seconds,
};
use crate::snapshot::admission::{ConcurrencyLimit, Filter, Key, Limits, Match, RateLimit, Rule};
use serde_json::{Value, json};
use std::time::Duration;

/// What requests have to pass; null when they all do.
pub(super) fn limits(limits: &Limits) -> Option<Value> {
    let rate = limits.rate.iter().map(|of| filter(of, rate));
    let concurrency = limits.concurrency.iter().map(|of| filter(of, concurrency));
    (!limits.is_empty()).then(|| object([("rate", list(rate)), ("concurrency", list(concurrency))]))
}

fn filter<L>(filter: &Filter<L>, limit: impl Fn(&L) -> Value) -> Value {
    let rule = |rule: &Rule<L>| {
        object([
            ("name", Some(json!(rule.name.as_ref()))),
            ("matches", list(rule.matches.iter().map(matched))),
            (
                "limit",
                Some(rule.limit.as_ref().map_or_else(|| json!("none"), &limit)),
            ),
        ])
    };
    json!({
        "name": filter.name.as_ref(),
        "rules": filter.rules.iter().map(rule).collect::<Vec<_>>(),
    })
}

fn matched(requests: &Match) -> Value {
    object([
        ("path", Some(path(&requests.path))),
        ("conditions", requests.conditions.as_deref().map(conditions)),
    ])
}

fn rate(limit: &RateLimit) -> Value {
    let by = limit.by.iter().map(|key| match key {
        Key::Identity => json!("identity"),
        Key::SourceAddress => json!("source_address"),
        Key::Header(name) => json!({ "header": name.as_str() }),
        Key::Authority => json!("authority"),
    });
    object([
        (
            "token_every",
            Some(json!(seconds(Duration::from_nanos(limit.rate.interval())))),
        ),
        ("burst", Some(json!(limit.rate.burst()))),
        ("by", list(by)),
        ("maximum_keys", Some(json!(limit.maximum_keys))),
    ])
}

fn concurrency(limit: &ConcurrencyLimit) -> Value {
    match limit {
        ConcurrencyLimit::Fixed(most) => json!({ "fixed": most }),
        ConcurrencyLimit::Adaptive { minimum, maximum } => {
            json!({ "adaptive": { "minimum": minimum, "maximum": maximum } })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{admission::Rate, route::PathMatch};
    use std::num::{NonZeroU32, NonZeroUsize};

    #[test]
    fn limits_are_shown_with_the_requests_that_they_are_for() {
        let ten = NonZeroU32::new(10).unwrap();
        let config = Limits {
            rate: vec![Filter {
                name: "rate".into(),
                rules: vec![Rule {
                    name: "demo/user".into(),
                    matches: vec![Match {
                        path: PathMatch::Prefix("/".into()),
                        conditions: None,
                    }],
                    limit: Some(RateLimit {
                        rate: Rate::new(ten, Duration::from_secs(1), ten).unwrap(),
                        by: vec![Key::Identity],
                        maximum_keys: NonZeroUsize::MIN,
                    }),
                }],
            }],
            concurrency: vec![Filter {
                name: "concurrency".into(),
                rules: vec![Rule {
                    name: "demo/user".into(),
                    matches: Vec::new(),
                    limit: None,
                }],
            }],
        };
        assert_eq!(
            limits(&config),
            Some(json!({
                "rate": [{
                    "name": "rate",
                    "rules": [{
                        "name": "demo/user",
                        "matches": [{ "path": { "prefix": "/" } }],
                        "limit": {
                            "token_every": "0.1s",
                            "burst": 10,
                            "by": ["identity"],
                            "maximum_keys": 1,
                        },
                    }],
                }],
                "concurrency": [{
                    "name": "concurrency",
                    "rules": [{ "name": "demo/user", "limit": "none" }],
                }],
            }))
        );
        assert_eq!(limits(&Limits::default()), None);
    }
}

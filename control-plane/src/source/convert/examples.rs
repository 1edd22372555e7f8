//! The files under `examples/` are what they claim to be.

use super::{Verdict, object};
use crate::{
    fixture::{apply, objects},
    world::{
        Object, Update, World,
        policy::{Algorithm, Backoff, Settings},
        quantity::{Factor, Share},
    },
};
use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

/// What the examples take to be there.
const AROUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: user-v1, namespace: demo}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: user-v2, namespace: demo}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: user, namespace: lab}
spec: {ports: [{name: http, port: 80}]}
";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// By file name.
fn examples() -> Vec<(String, String)> {
    let mut examples: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    examples.sort();
    examples
}

#[test]
fn every_example_is_accepted_and_in_force_as_it_stands() {
    for (name, text) in examples() {
        for document in text.split("---\n") {
            let outcome = object(serde_saphyr::from_str(document).unwrap(), "cluster.local");
            let accepted = matches!(outcome.verdict, Verdict::Accepted(_));
            assert!(accepted, "{name}, {}: {:?}", outcome.name, outcome.verdict);
        }
        let mut world = World::new("cluster.local");
        for yaml in [AROUND, &text] {
            apply(&mut world, objects(yaml).into_iter().map(Update::Set));
        }
        assert_eq!(world.findings(), [], "{name}");
    }
}

#[test]
fn every_example_is_listed_and_every_listed_one_is_there() {
    let readme = fs::read_to_string(directory().join("README.md")).unwrap();
    let listed: BTreeSet<_> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|file| file.ends_with(".yaml"))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<_> = examples().into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, there);
}

/// What the policy of an example says.
fn settings(file: &str) -> Settings {
    let text = fs::read_to_string(directory().join(file)).unwrap();
    let policy = objects(&text).into_iter().find_map(|object| match object {
        Object::TrafficPolicy(policy) => Some(policy.settings.clone()),
        _ => None,
    });
    policy.unwrap()
}

#[test]
fn the_settings_of_the_microservice_guides_are_what_the_examples_say() {
    let breaker = settings("circuit-breaker.yaml").breaker.unwrap();
    let ratio = breaker.failure_ratio.as_ref().unwrap();
    assert_eq!(ratio.ratio, Share::percent(60));
    assert_eq!(ratio.window, Duration::from_secs(10));
    assert_eq!(breaker.consecutive_failures, None);
    assert_eq!(breaker.open_for, Duration::from_secs(30));
    assert_eq!(breaker.half_open_requests.get(), 5);

    let retry = settings("retry.yaml").retry.unwrap();
    let backoff = Backoff {
        base: Duration::from_millis(100),
        max: Duration::from_secs(5),
        multiplier: Factor::from_thousandths(2000),
        jitter: true,
    };
    assert_eq!((retry.attempts.get(), &retry.backoff), (3, &backoff));

    let limit = settings("rate-limit.yaml").rate_limit.unwrap();
    assert_eq!(
        (limit.requests.get(), limit.per),
        (100, Duration::from_secs(1))
    );

    let algorithm = |file| settings(file).load_balancer.unwrap().algorithm.clone();
    assert_eq!(algorithm("round-robin.yaml"), Some(Algorithm::RoundRobin));
    assert_eq!(algorithm("random.yaml"), Some(Algorithm::Random));
    assert_eq!(
        algorithm("weighted-round-robin.yaml"),
        Some(Algorithm::WeightedRoundRobin)
    );
}

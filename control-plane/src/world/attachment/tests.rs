use super::*;
use crate::{
    fixture::{DEMO, apply, objects, world},
    world::{ObjectKey, PortPolicy, Update, route::RouteKind},
};
use std::num::NonZeroU32;

fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  targetRefs: [{target}]\n  {}\n",
        spec.replace('\n', "\n  ")
    )
}

fn with(objects: &[String]) -> World {
    world(&format!("{DEMO}---\n{}", objects.join("---\n")))
}

fn in_force(world: &World, port: u16) -> PortPolicy {
    let service = world.service(&ObjectKey::new("demo", "user")).unwrap();
    world.policy(service, service.port(port).unwrap())
}

const SERVICE: &str = "{kind: Service, name: user}";
const PORT: &str = "{kind: Service, name: user, sectionName: http}";

/// What holds without any policy.
fn defaults() -> PortPolicy {
    PortPolicy {
        algorithm: Algorithm::PEAK_EWMA,
        slow_start: None,
        zone: Zone::Off,
        panic_threshold: Share::percent(50),
        connections: ConnectionPolicy {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(5),
            transport: Transport::default(),
        },
        breaker: None,
        retry_budget: RetryBudget {
            ratio: Share::percent(20),
            floor: 3,
        },
        requests: RequestPolicy {
            retry: None,
            timeout: Some(Duration::from_secs(15)),
            grpc_timeout_max: None,
            idle_timeout: Some(Duration::from_secs(300)),
            fault: None,
            mirrors: vec![],
        },
        rate_limit: None,
        concurrency_limit: None,
    }
}

#[test]
fn without_a_policy_the_settings_of_the_mesh_are_in_force() {
    assert_eq!(in_force(&world(DEMO), 80), defaults());
    let mesh = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {defaults: {loadBalancer: RoundRobin, requestTimeout: 0s, connectTimeout: 1s, limits: {pending: 7}}}\n";
    let mut expected = defaults();
    expected.algorithm = Algorithm::RoundRobin;
    expected.requests.timeout = None;
    expected.connections.connect_timeout = Duration::from_secs(1);
    expected.connections.limits.pending = NonZeroU32::new(7).unwrap();
    assert_eq!(in_force(&with(&[mesh.to_owned()]), 80), expected);
}

#[test]
fn a_section_of_the_more_specific_policy_counts_whole_and_the_others_stay() {
    let world = with(&[
        policy(
            "a",
            SERVICE,
            "timeout: {request: 1s, idle: 2s}\nconnections: {max: 7}\nloadBalancer: {algorithm: Random}",
        ),
        policy(
            "b",
            PORT,
            "timeout: {request: 3s}\nloadBalancer: {zone: Strict}",
        ),
    ]);
    let mut expected = defaults();
    expected.connections.limits.connections = NonZeroU32::new(7).unwrap();
    expected.algorithm = Algorithm::Random;
    expected.requests.timeout = Some(Duration::from_secs(1));
    expected.requests.grpc_timeout_max = Some(Duration::from_secs(1));
    expected.requests.idle_timeout = Some(Duration::from_secs(2));
    assert_eq!(in_force(&world, 81), expected);
    expected.algorithm = Algorithm::PEAK_EWMA;
    expected.zone = Zone::Strict;
    expected.requests.timeout = Some(Duration::from_secs(3));
    expected.requests.grpc_timeout_max = Some(Duration::from_secs(3));
    expected.requests.idle_timeout = Some(Duration::from_secs(300));
    assert_eq!(in_force(&world, 80), expected);
}

#[test]
fn a_rule_has_the_policy_of_the_rule_then_of_the_route_then_of_the_service() {
    let route = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: demo}
spec:
  parentRefs: [{kind: Service, name: user, port: 80}]
  rules:
  - {name: first, backendRefs: [{name: user, port: 80}]}
  - name: second
    backendRefs: [{name: user, port: 80}]
    timeouts: {request: 9s, backendRequest: 4s}
    retry: {codes: [503], attempts: 4, backoff: 1s}
  - {name: third, backendRefs: [{name: user, port: 80}], timeouts: {backendRequest: 2s}}
  - {name: fourth, backendRefs: [{name: user, port: 80}], timeouts: {backendRequest: 0s}}
";
    let target = |rule: &str| format!("{{kind: HTTPRoute, name: r{rule}}}");
    let world = with(&[
        route.to_owned(),
        policy(
            "a",
            SERVICE,
            "timeout: {request: 1s}\nrateLimit: {requests: 1}\nretry: {perTryTimeout: 900ms, budget: {percent: 7}}\nfault: {abort: {status: 500}}",
        ),
        policy(
            "b",
            &target(""),
            "timeout: {request: 3s}\nconcurrencyLimit: {maximum: 5}",
        ),
        policy(
            "c",
            &target(", sectionName: first"),
            "rateLimit: {requests: 2}\nretry: {attempts: 1}",
        ),
    ]);
    let service = world.service(&ObjectKey::new("demo", "user")).unwrap();
    let reference = RouteRef {
        kind: RouteKind::Http,
        key: ObjectKey::new("demo", "r"),
    };
    let route = world.route(&reference).unwrap();
    let of = |rule: usize| {
        let policy = world.rule_policy(
            service,
            service.port(80).unwrap(),
            route,
            &route.rules[rule],
        );
        assert!(policy.requests.fault.is_some());
        let retry = policy.requests.retry.map(|retry| {
            let Retry {
                attempts,
                on,
                per_try_timeout,
                backoff,
                ..
            } = &*retry;
            (
                attempts.get(),
                on.statuses.len(),
                *per_try_timeout,
                backoff.base,
                backoff.max,
            )
        });
        let rate = policy.rate_limit.map(|limit| limit.requests.get());
        (
            policy.requests.timeout,
            retry,
            rate,
            policy.concurrency_limit.is_some(),
        )
    };
    let seconds = Duration::from_secs;
    let millis = Duration::from_millis;
    assert_eq!(of(0), (Some(seconds(3)), None, Some(2), true));
    assert_eq!(
        of(1),
        (
            Some(seconds(9)),
            Some((5, 1, Some(seconds(4)), seconds(1), seconds(10))),
            None,
            true
        )
    );
    assert_eq!(
        of(2),
        (
            Some(seconds(3)),
            Some((3, 0, Some(seconds(2)), millis(25), millis(250))),
            None,
            true
        )
    );
    assert_eq!(of(3).1.map(|(_, _, each, ..)| each), Some(None));
    assert_eq!(in_force(&world, 80).retry_budget.ratio, Share::percent(7));
}

#[test]
fn of_two_policies_on_one_port_one_is_in_force() {
    let by_number = "{kind: Service, name: user, sectionName: '80'}";
    let world = with(&[
        policy("b", PORT, "timeout: {request: 1s}\nconnections: {max: 3}"),
        policy("a", by_number, "timeout: {request: 2s}"),
    ]);
    let mut expected = defaults();
    expected.requests.timeout = Some(Duration::from_secs(2));
    expected.requests.grpc_timeout_max = Some(Duration::from_secs(2));
    assert_eq!(in_force(&world, 80), expected);
}

#[test]
fn copies_go_only_where_they_are_permitted_and_something_is() {
    let mirrors = |mirror: &str, more: &[String]| {
        let mut objects = vec![policy(
            "a",
            SERVICE,
            &format!("mirror: {{backendRef: {mirror}}}"),
        )];
        objects.extend_from_slice(more);
        in_force(&with(&objects), 80).requests.mirrors.len()
    };
    let lab = "apiVersion: v1\nkind: Service\nmetadata: {name: shadow, namespace: lab}\nspec: {ports: [{port: 80}]}\n".to_owned();
    let grant = |name: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: lab}}\nspec: {{from: [{{group: weft.dev, kind: TrafficPolicy, namespace: demo}}], to: [{{group: '', kind: Service, name: {name}}}]}}\n"
        )
    };
    assert_eq!(mirrors("{name: legacy, port: 3306}", &[]), 1);
    assert_eq!(mirrors("{name: legacy, port: 80}", &[]), 0);
    let shadow = "{name: shadow, namespace: lab, port: 80}";
    assert_eq!(mirrors(shadow, std::slice::from_ref(&lab)), 0);
    assert_eq!(mirrors(shadow, &[lab.clone(), grant("other")]), 0);
    assert_eq!(mirrors(shadow, &[lab, grant("shadow")]), 1);
}

#[test]
fn what_is_gone_leaves_nothing_behind() {
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: demo}\nspec: {parentRefs: [{kind: Service, name: user}], rules: [{backendRefs: [{name: user, namespace: lab, port: 80}]}]}\n";
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: lab}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: demo}], to: [{group: '', kind: Service}]}\n";
    let first = policy("a", SERVICE, "mirror: {backendRef: {name: user, port: 80}}");
    let second = policy("a", PORT, "mirror: {backendRef: {name: legacy, port: 80}}");
    let objects = objects(&[route, grant, &second].join("---\n"));
    let mut changed = world(&[DEMO, &first].join("---\n"));
    let change = apply(&mut changed, objects.iter().cloned().map(Update::Set));
    assert_eq!(change.policies, [ObjectKey::new("demo", "a")].into());
    assert_eq!(change.routes.len(), 1);
    assert_eq!(change.grants, ["lab".into()].into());
    assert_eq!(changed, with(&[route, grant, &second].map(str::to_owned)));
    let again = apply(&mut changed, objects.iter().cloned().map(Update::Set));
    assert!(again.is_empty());
    let references = objects.iter().map(|object| object.reference());
    apply(&mut changed, references.map(Update::Remove));
    assert_eq!(changed, world(DEMO));
}

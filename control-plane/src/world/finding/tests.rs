use super::*;
use crate::{
    fixture::{DEMO, apply, objects, world},
    world::Update,
};

/// What is found in the demo with these objects besides, as `object field: reason`.
fn findings(yaml: &str) -> Vec<String> {
    found(&world(&format!("{DEMO}---\n{yaml}")))
}

fn found(world: &World) -> Vec<String> {
    let line = |finding: Finding| {
        let key = &finding.object.key;
        format!("{key} {}: {}", finding.field, finding.reason)
    };
    world.findings().into_iter().map(line).collect()
}

fn policy(name: &str, metadata: &str, target: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: demo{metadata}}}\nspec: {{targetRefs: [{target}], timeout: {{request: 1s}}}}\n"
    )
}

fn route(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {}, namespace: demo}}\nspec: {{{spec}}}\n",
        kind.to_lowercase()
    )
}

const BACKENDS: &str = "rules: [{name: all, backendRefs: [{name: user, port: 80}]}]";

#[test]
fn a_target_that_is_not_there_is_found_and_solved_when_it_comes() {
    let service = policy("p", "", "{kind: Service, name: nobody}");
    let mut world = world(&format!("{DEMO}---\n{service}"));
    assert_eq!(
        found(&world),
        [
            "demo/p spec.targetRefs[0].name: there is no Service demo/nobody; the policy is not in force there until there is: mend the name, or remove the target"
        ]
    );
    let nobody = "apiVersion: v1\nkind: Service\nmetadata: {name: nobody, namespace: demo}\nspec: {ports: [{port: 80}]}\n";
    let change = apply(&mut world, objects(nobody).into_iter().map(Update::Set));
    assert!(change.concerns_findings());
    assert_eq!(found(&world), [""; 0]);
}

#[test]
fn a_part_of_a_target_that_is_not_there_is_found() {
    let port = policy("p", "", "{kind: Service, name: user, sectionName: web}");
    assert_eq!(
        findings(&port),
        [
            "demo/p spec.targetRefs[0].sectionName: Service demo/user has no port named \"web\", but 80 (http), 81 (rpc), 6379 (redis), 9000 (other); the policy is not in force there until there is: mend the name, or remove the target"
        ]
    );
    let parent = "parentRefs: [{kind: Service, name: user, port: 80}]";
    let route = route("HTTPRoute", &format!("{parent}, {BACKENDS}"));
    let known = policy(
        "p",
        "",
        "{kind: HTTPRoute, name: httproute, sectionName: all}",
    );
    let unknown = policy(
        "q",
        "",
        "{kind: HTTPRoute, name: httproute, sectionName: any}",
    );
    assert_eq!(
        findings(&[route, known, unknown].join("---\n")),
        [
            "demo/q spec.targetRefs[0].sectionName: HTTPRoute demo/httproute has no rule that is named \"any\"; the policy is not in force there until there is: mend the name, or remove the target"
        ]
    );
}

#[test]
fn of_two_policies_on_one_target_the_older_counts_then_the_first_by_name() {
    let rival = |older: &str| {
        format!(
            "spec.targetRefs[0]: is the target of TrafficPolicy demo/{older}, too, which counts there as it is the older or, of the same age, first by name; make the two one, or remove the target from one of them"
        )
    };
    let target = "{kind: Service, name: user, sectionName: http}";
    let same_port = "{kind: Service, name: user, sectionName: '80'}";
    let whole = "{kind: Service, name: user}";
    let old = ", creationTimestamp: '2026-01-01T00:00:00Z'";
    let new = ", creationTimestamp: '2026-01-02T00:00:00Z'";
    let pair = |a: &str, b: &str, other: &str| {
        findings(&[policy("a", a, target), policy("b", b, other)].join("---\n"))
    };
    assert_eq!(pair("", "", target), [format!("demo/b {}", rival("a"))]);
    assert_eq!(pair("", "", same_port), [format!("demo/b {}", rival("a"))]);
    assert_eq!(
        pair(new, old, same_port),
        [format!("demo/a {}", rival("b"))]
    );
    assert_eq!(pair("", old, target), [format!("demo/a {}", rival("b"))]);
    assert_eq!(pair("", "", whole), [""; 0]);
}

#[test]
fn a_parent_that_cannot_be_one_is_found() {
    let finding = |parent: &str| {
        findings(&route(
            "HTTPRoute",
            &format!("parentRefs: [{{name: gateway}}, {parent}], {BACKENDS}"),
        ))
    };
    let other_namespace = finding("{kind: Service, name: user, namespace: other}");
    assert_eq!(
        other_namespace,
        [
            "demo/httproute spec.parentRefs[1].namespace: is of another namespace, and a route for the callers of one namespace only is not supported; move the route to namespace other"
        ]
    );
    assert_eq!(
        finding("{kind: Service, name: nobody}"),
        [
            "demo/httproute spec.parentRefs[1].name: there is no Service demo/nobody; the route is not in force until there is"
        ]
    );
    assert_eq!(
        finding("{kind: Service, name: user, port: 80, sectionName: rpc}"),
        [
            "demo/httproute spec.parentRefs[1]: Service demo/user has no port 80 named \"rpc\", but 80 (http), 81 (rpc), 6379 (redis), 9000 (other); mend the reference"
        ]
    );
    assert_eq!(
        finding("{kind: Service, name: user, port: 6379}"),
        [
            "demo/httproute spec.parentRefs[1]: has no port that speaks HTTP, so that there are no requests to route; declare its protocol by appProtocol or by the name of the port"
        ]
    );
}

#[test]
fn an_http_route_beside_a_grpc_route_is_found() {
    let parent = "parentRefs: [{kind: Service, name: user, port: 81}]";
    let spec = format!("{parent}, {BACKENDS}");
    assert_eq!(
        findings(&[route("HTTPRoute", &spec), route("GRPCRoute", &spec)].join("---\n")),
        [
            "demo/httproute spec.parentRefs[0]: has a GRPCRoute, beside which no HTTPRoute counts (GEP-1426); make it one kind of route, or give it a port of its own"
        ]
    );
}

#[test]
fn a_backend_that_is_not_there_or_not_permitted_is_found_until_it_is() {
    let spec = "parentRefs: [{kind: Service, name: user, port: 80}], rules: [{backendRefs: [{name: nobody, port: 80}, {name: user, port: 82}, {name: user, namespace: other, port: 80}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: nobody, port: 1}}}]}]";
    let other = "apiVersion: v1\nkind: Service\nmetadata: {name: user, namespace: other}\nspec: {ports: [{port: 80}]}\n";
    let mirror = "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: demo}\nspec: {targetRefs: [{kind: Service, name: user}], mirror: {backendRef: {name: user, namespace: other, port: 80}}}\n";
    let yaml = [DEMO, &route("HTTPRoute", spec), other, mirror].join("---\n");
    let mut world = world(&yaml);
    let at = "demo/httproute spec.rules[0]";
    let nobody = [
        format!(
            "{at}.backendRefs[0]: there is no Service demo/nobody; mend the name, or create it; its share of the requests is answered with 500 until then"
        ),
        format!(
            "{at}.backendRefs[1]: Service demo/user has no port 82, but 80 (http), 81 (rpc), 6379 (redis), 9000 (other); mend the port; its share of the requests is answered with 500 until then"
        ),
    ];
    let copies = format!(
        "{at}.filters[0].requestMirror.backendRef: there is no Service demo/nobody; mend the name, or create it; no request is copied until then"
    );
    let refused = format!(
        "{at}.backendRefs[2]: Service other/user is of another namespace, where no ReferenceGrant lets a HTTPRoute of namespace demo name it; write one there; its share of the requests is answered with 500 until then"
    );
    let policy = "demo/p spec.mirror.backendRef: Service other/user is of another namespace, where no ReferenceGrant lets a TrafficPolicy of namespace demo name it; write one there; no request is copied until then".to_owned();
    assert_eq!(
        found(&world),
        [
            policy.clone(),
            nobody[0].clone(),
            nobody[1].clone(),
            refused,
            copies.clone()
        ]
    );
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: demo}], to: [{group: '', kind: Service}]}\n";
    apply(&mut world, objects(grant).into_iter().map(Update::Set));
    assert_eq!(
        found(&world),
        [policy, nobody[0].clone(), nobody[1].clone(), copies]
    );
}

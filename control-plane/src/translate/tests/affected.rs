//! Which resources a change affects.

use super::{C, E, L, R, envoy};
use crate::{
    fixture::{DEMO, apply, objects, world},
    translate::{Affected, Dialect, affected, plan},
    world::{
        Change, Kind, Object, ObjectKey, ObjectRef, Update, World, policy::Target, route::RouteKind,
    },
};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, sync::Arc};
use weft_xds_proto::resource::ResourceType;

/// A service with its endpoint, its pod, its policy and its route.
const ONE_OF_MANY: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: s, namespace: large}
spec: {clusterIPs: ["10.96.0.1"], ports: [{port: 80, name: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, namespace: large, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: ["10.1.0.0"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: s, namespace: large}
spec: {serviceAccountName: s, containers: [{name: app}]}
status: {podIP: "10.1.0.0"}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: s, namespace: large}
spec: {targetRefs: [{kind: Service, name: s}], loadBalancer: {algorithm: Random}, rateLimit: {requests: 1}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: s, namespace: large}
spec:
  parentRefs: [{group: "", kind: Service, name: s}]
  rules: [{backendRefs: [{name: s, port: 80}]}]
"#;

/// 10,000 times [`ONE_OF_MANY`].
fn large_world() -> World {
    let mut world = World::new("cluster.local");
    let objects = objects(ONE_OF_MANY);
    let updates = (0..10_000u16).flat_map(|i| {
        objects
            .iter()
            .map(move |object| Update::Set(numbered(object, i)))
    });
    apply(&mut world, updates);
    world
}

/// The object with a name and addresses of its own.
fn numbered(object: &Object, i: u16) -> Object {
    let [a, b] = i.to_be_bytes();
    let key = ObjectKey::new("large", format!("s{i}"));
    let mut object = object.clone();
    match &mut object {
        Object::Service(service) => {
            let service = Arc::make_mut(service);
            service.key = key;
            service.addresses = vec![[10, 96, a, b].into()];
        }
        Object::EndpointSlice(slice) => {
            let slice = Arc::make_mut(slice);
            slice.service = key.name.clone();
            slice.key = key;
            slice.endpoints[0].address = [10, 1, a, b].into();
        }
        Object::Workload(pod) => {
            let pod = Arc::make_mut(pod);
            pod.key = key;
            pod.addresses = vec![[10, 1, a, b].into()];
        }
        Object::TrafficPolicy(policy) => {
            let policy = Arc::make_mut(policy);
            policy.targets = vec![Target::Service {
                service: key.clone(),
                port: None,
            }];
            policy.key = key;
        }
        Object::Route(route) => {
            let route = Arc::make_mut(route);
            route.parents[0].service = key.clone();
            Arc::make_mut(&mut route.rules[0]).backends[0]
                .service
                .service = key.clone();
            route.reference.key = key;
        }
        Object::Namespace(_) | Object::Mesh(_) | Object::ReferenceGrant(_) => {
            unreachable!("there is none of it")
        }
    }
    object
}

#[test]
fn a_change_of_an_endpoint_among_ten_thousand_services_touches_its_own_service_only() {
    let old = large_world();
    let mut new = old.clone();
    let key = ObjectKey::new("large", "s77");
    let mut slice = old.slices(&key).next().unwrap().as_ref().clone();
    slice.endpoints[0].ready = false;
    let slice = Object::EndpointSlice(slice.into());
    let change = apply(&mut new, [Update::Set(slice)]);
    let name: Arc<str> = "s77.large.svc.cluster.local:80".into();
    assert_eq!(
        affected(&old, &new, &change),
        Affected {
            names: [(C, name.clone()), (E, name)].into(),
            ..Affected::default()
        }
    );
}

#[test]
fn an_endpoint_that_moves_touches_who_was_and_who_is_at_its_address() {
    let old = large_world();
    let mut new = old.clone();
    let mut slice = old
        .slices(&ObjectKey::new("large", "s77"))
        .next()
        .unwrap()
        .as_ref()
        .clone();
    slice.endpoints[0].address = "10.1.0.78".parse().unwrap();
    let slice = Object::EndpointSlice(slice.into());
    let change = apply(&mut new, [Update::Set(slice)]);
    let name: Arc<str> = "s77.large.svc.cluster.local:80".into();
    let inbound = |pod: &str| (L, Arc::from(format!("inbound/large/{pod}")));
    assert_eq!(
        affected(&old, &new, &change),
        Affected {
            names: [(C, name.clone()), (E, name), inbound("s77"), inbound("s78")].into(),
            addresses: ["10.1.0.77".parse().unwrap(), "10.1.0.78".parse().unwrap()].into(),
            everything: false,
        }
    );
}

/// Names that resources of the demo and of [`POLICIES`] have, and some that none has.
fn names() -> Vec<String> {
    let own = [
        "inbound/demo/user-0",
        "inbound/demo/user-1",
        "outbound",
        "ROOTCA",
    ];
    let addresses = [
        "10.0.1.5:8080",
        "10.0.1.6:80",
        "10.0.1.6:5432",
        "[fd00:1::5]:9000",
        "10.96.3.4:80",
        "[fd00::4]:81",
    ];
    let hosts = [
        "user.demo",
        "user.demo.svc",
        "user.demo.svc.cluster.local",
        "legacy.demo.svc.cluster.local",
        "canary.demo.svc.cluster.local",
        "peers.demo.svc.cluster.local",
        "user.lab.svc.cluster.local",
    ];
    let authorities = hosts
        .iter()
        .flat_map(|host| [80, 81, 6379, 9000, 3306, 5432].map(|port| format!("{host}:{port}")));
    own.into_iter()
        .chain(addresses)
        .map(str::to_owned)
        .chain(authorities)
        .collect()
}

/// Asserts that what is not said to be affected is as it was.
fn assert_what_differs_is_affected(old: &World, new: &World, change: &Change) {
    let affected = affected(old, new, change);
    for dialect in [Dialect::Weft, Dialect::Grpc, envoy(Some("/certs"))] {
        for ty in ResourceType::ALL {
            for name in names() {
                assert!(
                    affected.covers(ty, &name)
                        || plan(old, &dialect, ty, &name) == plan(new, &dialect, ty, &name),
                    "{change:?}: {dialect:?} {ty:?} {name}"
                );
            }
        }
    }
}

#[test]
fn whatever_differs_after_a_change_is_affected() {
    let whole = world(DEMO);
    for object in objects(DEMO) {
        let mut without = whole.clone();
        let removal = apply(&mut without, [Update::Remove(object.reference())]);
        let mut again = without.clone();
        let addition = apply(&mut again, [Update::Set(object)]);
        assert_what_differs_is_affected(&whole, &without, &removal);
        assert_what_differs_is_affected(&without, &again, &addition);
    }
}

/// Policies and routes that have to do with one another in every way there is.
const POLICIES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {clusterIPs: ["10.96.3.4"], ports: [{name: http, port: 80}, {name: rpc, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: user-1, namespace: demo, labels: {kubernetes.io/service-name: user}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: rpc, port: 8081}]
endpoints: [{addresses: ["10.0.1.5"]}, {addresses: ["10.0.1.6"]}]
---
apiVersion: v1
kind: Pod
metadata: {name: user-0, namespace: demo, annotations: {weft.dev/weight: "5"}}
spec: {serviceAccountName: user, containers: [{name: app}]}
status: {podIP: "10.0.1.5"}
---
apiVersion: v1
kind: Pod
metadata: {name: user-1, namespace: demo}
spec: {serviceAccountName: user, containers: [{name: app}]}
status: {podIP: "10.0.1.6"}
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: demo}
spec: {clusterIPs: ["10.96.3.5"], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: user, namespace: lab}
spec: {clusterIPs: ["10.96.3.6"], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers, namespace: demo}
spec: {clusterIP: None, ports: [{port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: peers-1, namespace: demo, labels: {kubernetes.io/service-name: peers}}
addressType: IPv4
ports: [{name: "", port: 5432}]
endpoints: [{addresses: ["10.0.1.6"]}]
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: a, namespace: demo}
spec:
  targetRefs: [{kind: Service, name: user}]
  loadBalancer: {algorithm: WeightedRoundRobin}
  rateLimit: {requests: 10}
  mirror: {backendRef: {name: user, namespace: lab, port: 80}}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: b, namespace: demo}
spec:
  targetRefs: [{kind: Service, name: user}, {kind: Service, name: canary}]
  loadBalancer: {algorithm: RingHash, consistentHash: {header: x-user}}
  concurrencyLimit: {maximum: 3}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: c, namespace: demo}
spec:
  targetRefs: [{kind: Service, name: user, sectionName: rpc}, {kind: Service, name: peers}]
  circuitBreaker: {consecutiveFailures: 3}
  timeout: {request: 1s}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: d, namespace: demo}
spec:
  targetRefs: [{kind: HTTPRoute, name: web, sectionName: login}, {kind: GRPCRoute, name: rpc}]
  rateLimit: {requests: 1}
  retry: {attempts: 4}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: demo}
spec:
  parentRefs: [{group: "", kind: Service, name: user}, {group: "", kind: Service, name: canary, port: 80}]
  rules:
  - name: login
    matches: [{path: {type: PathPrefix, value: /login}}]
    backendRefs: [{name: canary, port: 80}]
  - backendRefs: [{name: user, port: 80}, {name: user, namespace: lab, port: 80}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: user, namespace: lab, port: 80}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: rpc, namespace: demo}
spec:
  parentRefs: [{group: "", kind: Service, name: user, sectionName: rpc}]
  rules: [{backendRefs: [{name: canary, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: demo, namespace: lab}
spec:
  from:
  - {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: demo}
  - {group: weft.dev, kind: TrafficPolicy, namespace: demo}
  to: [{group: "", kind: Service}]
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_differs_after_changes_of_policies_and_routes_is_affected(
        (before, after) in {
            // Each object is not there, as it is written, or for another service.
            let some = || vec(0..3usize, POLICIES.split("---\n").count());
            (some(), some())
        },
    ) {
        let as_written = objects(POLICIES);
        let for_another = objects(
            &POLICIES
                .replace("kind: Service, name: canary", "kind: Service, name: peers")
                .replace("kind: Service, name: user", "kind: Service, name: canary"),
        );
        let updates = |states: &[usize]| -> Vec<_> {
            let objects = as_written.iter().zip(&for_another).zip(states);
            objects
                .map(|((as_written, for_another), state)| match state {
                    0 => Update::Remove(as_written.reference()),
                    1 => Update::Set(as_written.clone()),
                    _ => Update::Set(for_another.clone()),
                })
                .collect()
        };
        let mut old = World::new("cluster.local");
        apply(&mut old, updates(&before));
        let mut new = old.clone();
        let change = apply(&mut new, updates(&after));
        assert_what_differs_is_affected(&old, &new, &change);
    }
}

#[test]
fn a_change_of_an_object_of_policy_touches_what_has_to_do_with_it_and_no_more() {
    let whole = world(POLICIES);
    let affected_by = |kind: Kind, namespace: &str, name: &str| {
        let mut without = whole.clone();
        let key = ObjectKey::new(namespace, name);
        let change = apply(&mut without, [Update::Remove(ObjectRef { kind, key })]);
        affected(&whole, &without, &change)
    };
    let of = |ty: ResourceType, service: &str| {
        (ty, Arc::from(format!("{service}.svc.cluster.local:80")))
    };
    let rpc = |ty: ResourceType| (ty, Arc::from("user.demo.svc.cluster.local:81"));
    let outbound = (R, Arc::from("outbound"));
    let routes = [
        of(R, "user.demo"),
        rpc(R),
        of(R, "canary.demo"),
        outbound.clone(),
    ];
    let inbound = ["user-0", "user-1"].map(|pod| (L, Arc::from(format!("inbound/demo/{pod}"))));
    let addresses = ["10.0.1.5", "10.0.1.6"].map(|address| address.parse().unwrap());

    // Another policy on the service comes into force, and the routes say by what its balancer hashes.
    let clusters = [of(C, "user.demo"), rpc(C), of(E, "user.demo"), rpc(E)];
    assert_eq!(
        affected_by(Kind::TrafficPolicy, "demo", "a"),
        Affected {
            names: routes
                .iter()
                .chain(&clusters)
                .chain(&inbound)
                .cloned()
                .collect(),
            addresses: addresses.into(),
            everything: false,
        }
    );
    assert_eq!(
        affected_by(Kind::TrafficPolicy, "demo", "c").addresses,
        [addresses[1]].into(),
        "those behind the headless service"
    );
    assert_eq!(
        affected_by(Kind::Route(RouteKind::Grpc), "demo", "rpc"),
        Affected {
            names: [of(R, "user.demo"), rpc(R), outbound]
                .into_iter()
                .chain(inbound)
                .collect(),
            addresses: addresses.into(),
            everything: false,
        },
        "its rule has a limit"
    );
    assert_eq!(
        affected_by(Kind::ReferenceGrant, "lab", "demo"),
        Affected {
            names: routes.into(),
            ..Affected::default()
        }
    );
}

#[test]
fn known_resources_that_are_affected_are_found_by_name_and_by_address() {
    let known: BTreeMap<(ResourceType, Arc<str>), ()> = [
        (L, "10.0.0.1:80"),
        (L, "10.0.0.1:81"),
        (L, "10.0.0.10:80"),
        (C, "10.0.0.1:80"),
        (L, "[fd00::1]:80"),
        (L, "a.b:80"),
        (L, "c.d:80"),
    ]
    .into_iter()
    .map(|(ty, name)| ((ty, name.into()), ()))
    .collect();
    let found = |affected: &Affected| -> Vec<_> {
        affected
            .of(&known)
            .map(|((ty, name), ())| (*ty, name.to_string()))
            .collect()
    };
    let mut affected = Affected {
        names: [
            (L, "a.b:80".into()),
            (L, "10.0.0.1:80".into()),
            (L, "gone:80".into()),
        ]
        .into(),
        addresses: ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()].into(),
        everything: false,
    };
    let mut by_name_and_address = found(&affected);
    by_name_and_address.sort();
    assert_eq!(
        by_name_and_address,
        [
            (C, "10.0.0.1:80"),
            (L, "10.0.0.1:80"),
            (L, "10.0.0.1:81"),
            (L, "[fd00::1]:80"),
            (L, "a.b:80")
        ]
        .map(|(ty, name)| (ty, name.to_owned()))
    );
    for ((ty, name), ()) in &known {
        let listed = by_name_and_address.contains(&(*ty, name.to_string()));
        assert_eq!(affected.covers(*ty, name), listed, "{name}");
    }
    affected.everything = true;
    assert_eq!(found(&affected).len(), known.len());
}

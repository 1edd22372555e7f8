use super::*;
use crate::{
    fixture::{DEMO, apply, objects, world},
    world::{Change, Object, ObjectKey, Update},
};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster as ClusterMessage,
    cluster::{ClusterDiscoveryType, DiscoveryType},
};
use std::{collections::BTreeMap, fmt::Write, time::Instant};

mod text;

const AUTHORITY: &str = "user.demo.svc.cluster.local:80";

fn envoy(certificates: Option<&str>) -> Dialect {
    Dialect::Envoy(Envoy {
        certificates: certificates.map(Arc::from),
        outbound: "127.0.0.1:15001".parse().unwrap(),
    })
}

/// The demo, once the CA has set its roots.
fn demo() -> World {
    let mut world = world(DEMO);
    world.set_roots("PEM".into(), &mut Change::none(Instant::now()));
    world
}

fn snapshot(dialect: &Dialect, resources: &[(ResourceType, &str)]) -> String {
    let world = demo();
    let mut text = String::new();
    for (ty, name) in resources {
        let rendered = render(&world, dialect, *ty, name)
            .unwrap_or_else(|| panic!("there is no {} {name}", ty.label()));
        let message = text::message(ty.url(), &rendered.value);
        writeln!(text, "# {} {name}\n{message}\n", ty.label()).unwrap();
    }
    text
}

use ResourceType::{Cluster as C, Endpoints as E, Listener as L, Route as R, Secret as S};

#[test]
fn weft_is_told_of_a_service() {
    insta::assert_snapshot!(snapshot(
        &Dialect::Weft,
        &[
            (L, AUTHORITY),
            (L, "[fd00::4]:81"),
            (L, "user.demo:6379"),
            (L, "user.demo.svc:9000"),
            (R, AUTHORITY),
            (C, AUTHORITY),
            (E, AUTHORITY),
        ]
    ));
}

#[test]
fn weft_is_told_of_a_pod_by_address_and_of_a_service_without_pods() {
    insta::assert_snapshot!(snapshot(
        &Dialect::Weft,
        &[
            (L, "10.0.1.5:8080"),
            (C, "10.0.1.5:8080"),
            (E, "10.0.1.5:8080"),
            (L, "legacy.demo:3306"),
            (E, "legacy.demo.svc.cluster.local:3306"),
        ]
    ));
}

#[test]
fn weft_is_told_what_to_require_of_callers() {
    insta::assert_snapshot!(snapshot(
        &Dialect::Weft,
        &[(L, "inbound/demo/user-0"), (S, "ROOTCA")]
    ));
}

#[test]
fn grpc_is_told_of_a_target() {
    insta::assert_snapshot!(snapshot(
        &Dialect::Grpc,
        &[
            (L, "user.demo:81"),
            (R, "user.demo.svc.cluster.local:81"),
            (C, AUTHORITY),
            (E, AUTHORITY)
        ]
    ));
}

#[test]
fn envoy_is_told_of_everything() {
    let dialect = envoy(Some("/certs"));
    let world = demo();
    let resources: Vec<_> = ResourceType::ALL
        .into_iter()
        .flat_map(|ty| {
            names(&world, &dialect, ty)
                .into_iter()
                .map(move |name| (ty, name))
        })
        .collect();
    let resources: Vec<_> = resources.iter().map(|(ty, name)| (*ty, &**name)).collect();
    insta::assert_snapshot!(snapshot(&dialect, &resources));
}

#[test]
fn an_envoy_without_a_certificate_is_told_no_tls() {
    let world = demo();
    let with = plan(&world, &envoy(Some("/certs")), C, AUTHORITY).unwrap();
    let without = plan(&world, &envoy(None), C, AUTHORITY).unwrap();
    assert_ne!(with, without);
    let text = text::message(C.url(), &without.render().value);
    assert!(!text.contains("transport_socket_matches"), "{text}");
}

#[test]
fn what_does_not_exist_has_no_resource() {
    let world = demo();
    for (dialect, ty, name) in [
        (Dialect::Weft, L, "user.demo:82"),
        (Dialect::Weft, L, "user.demo:53"),
        (Dialect::Weft, L, "user.demo:080"),
        (Dialect::Weft, L, "nobody.demo:80"),
        (Dialect::Weft, L, "user:80"),
        (Dialect::Weft, L, "user.demo"),
        (Dialect::Weft, L, "192.0.2.10:3306"),
        (Dialect::Weft, L, "[::ffff:10.0.1.5]:80"),
        (Dialect::Weft, L, "inbound/demo/nobody"),
        (Dialect::Weft, L, "outbound"),
        (Dialect::Weft, C, "user.demo:80"),
        (Dialect::Weft, C, "10.96.3.4:80"),
        (Dialect::Weft, S, "default"),
        (Dialect::Grpc, L, "inbound/demo/user-0"),
        (envoy(None), L, AUTHORITY),
        (envoy(None), C, "10.0.1.5:8080"),
    ] {
        assert_eq!(
            render(&world, &dialect, ty, name),
            None,
            "{dialect:?} {ty:?} {name}"
        );
    }
    let without_roots = crate::fixture::world(DEMO);
    assert_eq!(render(&without_roots, &Dialect::Weft, S, "ROOTCA"), None);
}

#[test]
fn versions_depend_on_what_is_said_and_not_on_the_order_it_was_learnt_in() {
    let (first, mut second) = (world(DEMO), World::new("cluster.local"));
    apply(
        &mut second,
        objects(DEMO).into_iter().rev().map(Update::Set),
    );
    let versions = |world: &World| -> Vec<_> {
        let dialects = [Dialect::Weft, Dialect::Grpc, envoy(Some("/certs"))];
        let names = [
            (L, "outbound"),
            (L, AUTHORITY),
            (L, "inbound/demo/user-0"),
            (R, "outbound"),
            (R, AUTHORITY),
            (C, AUTHORITY),
            (E, AUTHORITY),
        ];
        dialects
            .iter()
            .flat_map(|dialect| {
                names.map(|(ty, name)| render(world, dialect, ty, name).map(|r| r.version))
            })
            .collect()
    };
    assert_eq!(versions(&first), versions(&second));
    // Another process comes to the same: a version that changes here changes for every proxy at once, and
    // needs the reason to be a change of what is rendered.
    let version = render(&first, &Dialect::Weft, L, AUTHORITY)
        .unwrap()
        .version;
    insta::assert_snapshot!(version);
}

/// 10,000 services of one endpoint each, with its pod.
fn large_world() -> World {
    let demo: Vec<_> = DEMO.split("---\n").collect();
    let [.., pod, service, slice] = demo.as_slice() else {
        panic!("the demo ends with a pod, a service and its slice");
    };
    let mut world = World::new("cluster.local");
    let mut objects = objects(&[*service, *slice, *pod].join("---\n"));
    let (pod, slice, service) = (
        objects.pop().unwrap(),
        objects.pop().unwrap(),
        objects.pop().unwrap(),
    );
    let updates = (0..10_000u32).flat_map(|i| {
        let [a, b] = u16::try_from(i).unwrap().to_be_bytes();
        let address = std::net::IpAddr::from([10, 1, a, b]);
        let key = ObjectKey::new("large", format!("s{i}"));
        let Object::Service(service) = &service else {
            unreachable!()
        };
        let Object::EndpointSlice(slice) = &slice else {
            unreachable!()
        };
        let Object::Workload(pod) = &pod else {
            unreachable!()
        };
        let (mut service, mut slice, mut pod) = (
            service.as_ref().clone(),
            slice.as_ref().clone(),
            pod.as_ref().clone(),
        );
        service.key = key.clone();
        slice.service = key.name.clone();
        slice.key = key.clone();
        slice.endpoints[0].address = address;
        pod.key = key;
        pod.addresses = vec![address];
        [
            Update::Set(Object::Service(service.into())),
            Update::Set(Object::EndpointSlice(slice.into())),
            Update::Set(Object::Workload(pod.into())),
        ]
    });
    apply(&mut world, updates);
    world
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
    let name: Arc<str> = "s77.large.svc.cluster.local:3306".into();
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
    let name: Arc<str> = "s77.large.svc.cluster.local:3306".into();
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

/// What is not said to be affected must be as it was, for every change of every object of the demo.
#[test]
fn whatever_differs_after_a_change_is_affected() {
    let addresses = [
        "10.0.1.5:8080",
        "10.0.1.6:80",
        "[fd00:1::5]:9000",
        "10.96.3.4:80",
        "[fd00::4]:81",
    ];
    let hosts = [
        "user.demo",
        "user.demo.svc",
        "user.demo.svc.cluster.local",
        "legacy.demo.svc.cluster.local",
    ];
    let ports = [80, 81, 6379, 9000, 3306];
    let authorities = hosts
        .iter()
        .flat_map(|host| ports.map(|port| format!("{host}:{port}")));
    let known: Vec<String> = [
        "inbound/demo/user-0",
        "inbound/demo/user-1",
        "outbound",
        "ROOTCA",
    ]
    .into_iter()
    .chain(addresses)
    .map(str::to_owned)
    .chain(authorities)
    .collect();
    let dialects = [Dialect::Weft, Dialect::Grpc, envoy(Some("/certs"))];
    let whole = world(DEMO);
    for object in objects(DEMO) {
        let mut without = whole.clone();
        let removal = apply(&mut without, [Update::Remove(object.reference())]);
        let mut again = without.clone();
        let addition = apply(&mut again, [Update::Set(object.clone())]);
        for (old, new, change) in [(&whole, &without, &removal), (&without, &again, &addition)] {
            let affected = affected(old, new, change);
            for (dialect, ty, name) in dialects.iter().flat_map(|dialect| {
                let known = &known;
                ResourceType::ALL
                    .into_iter()
                    .flat_map(move |ty| known.iter().map(move |name| (dialect, ty, name)))
            }) {
                if plan(old, dialect, ty, name) != plan(new, dialect, ty, name) {
                    assert!(
                        affected.covers(ty, name),
                        "{:?}: {dialect:?} {ty:?} {name}",
                        object.reference()
                    );
                }
            }
        }
    }
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

#[test]
fn another_name_for_a_host_outside_is_a_cluster_that_asks_dns() {
    let external = world(
        "apiVersion: v1
kind: Service
metadata: {name: db, namespace: demo}
spec: {type: ExternalName, externalName: db.example, ports: [{port: 5432, name: tcp}]}
",
    );
    let name = "db.demo.svc.cluster.local:5432";
    for (dialect, discovery) in [
        (Dialect::Weft, DiscoveryType::StrictDns),
        (envoy(None), DiscoveryType::StrictDns),
        (Dialect::Grpc, DiscoveryType::LogicalDns),
    ] {
        let rendered = render(&external, &dialect, C, name).unwrap();
        let cluster = ClusterMessage::decode(rendered.value).unwrap();
        let expected = ClusterDiscoveryType::Type(discovery.into());
        assert_eq!(cluster.cluster_discovery_type, Some(expected));
        let assignment = cluster.load_assignment.unwrap();
        assert_eq!(assignment, endpoints::named(name, "db.example", 5432));
    }
    assert!(render(&external, &Dialect::Weft, L, "db.demo:5432").is_some());
}

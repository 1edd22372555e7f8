use super::*;
use crate::{
    fixture::{DEMO, apply, objects, world},
    world::{Change, Update},
};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster as ClusterMessage,
    cluster::{ClusterDiscoveryType, DiscoveryType},
};
use std::{fmt::Write, time::Instant};

mod affected;
mod difference;
mod policy;
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

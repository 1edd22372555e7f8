use super::*;
use crate::fixture::{DEMO, apply, objects, world};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("demo", name)
}

fn addresses(world: &World, service: &str, port: u16) -> Vec<String> {
    let service = world.service(&key(service)).unwrap();
    let endpoints = world.endpoints(service, service.port(port).unwrap());
    endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect()
}

#[test]
fn worlds_of_the_same_objects_are_equal_whatever_their_order() {
    let mut reversed = World::new("cluster.local");
    apply(
        &mut reversed,
        objects(DEMO).into_iter().rev().map(Update::Set),
    );
    assert_eq!(reversed, world(DEMO));
}

#[test]
fn a_world_whose_objects_were_removed_is_an_empty_world() {
    let mut emptied = world(DEMO);
    let references = objects(DEMO).into_iter().map(|object| object.reference());
    apply(&mut emptied, references.map(Update::Remove));
    assert_eq!(emptied, World::new("cluster.local"));
}

#[test]
fn telling_what_is_known_changes_nothing() {
    let mut world = world(DEMO);
    assert!(apply(&mut world, objects(DEMO).into_iter().map(Update::Set)).is_empty());
    let unknown = ObjectRef {
        kind: Kind::EndpointSlice,
        key: key("unknown"),
    };
    assert!(apply(&mut world, [Update::Remove(unknown)]).is_empty());
}

#[test]
fn services_are_found_by_either_virtual_address_and_workloads_by_theirs() {
    let world = world(DEMO);
    for address in ["10.96.3.4:80", "[fd00::4]:80"] {
        let (service, port) = world.service_at(address.parse().unwrap()).unwrap();
        assert_eq!(
            (&service.key, port.protocol),
            (&key("user"), Protocol::Http)
        );
    }
    for address in ["10.0.1.5:1234", "[fd00:1::5]:1234"] {
        let workload = world.workload_at(address.parse().unwrap()).unwrap();
        assert_eq!((&workload.key, &*workload.name), (&key("user-0"), "user"));
        assert_eq!(
            workload.identity.to_string(),
            "spiffe://cluster.local/ns/demo/sa/user"
        );
    }
    assert_eq!(world.service_at("10.96.3.4:53".parse().unwrap()), None);
    assert_eq!(world.workload_at("10.96.3.4:80".parse().unwrap()), None);
}

#[test]
fn endpoints_are_those_ready_of_the_primary_family_and_else_of_the_other() {
    let mut world = world(DEMO);
    assert_eq!(
        addresses(&world, "user", 80),
        ["10.0.1.5:8080", "10.0.1.6:8080"]
    );
    assert_eq!(addresses(&world, "legacy", 3306), ["192.0.2.10:3306"]);
    let v4 = ObjectRef {
        kind: Kind::EndpointSlice,
        key: key("user-v4"),
    };
    let change = apply(&mut world, [Update::Remove(v4)]);
    assert_eq!(addresses(&world, "user", 80), ["[fd00:1::5]:8080"]);
    assert_eq!(addresses(&world, "user", 81), Vec::<String>::new());
    assert_eq!(
        change,
        Change {
            endpoints: [key("user")].into(),
            ..Change::none(change.at)
        }
    );
}

#[test]
fn an_endpoint_takes_its_identity_from_the_workload_it_names_or_from_its_address() {
    let world = world(DEMO);
    let service = world.service(&key("user")).unwrap();
    let endpoints = world.endpoints(service, service.port(80).unwrap());
    let found: Vec<_> = endpoints
        .iter()
        .map(|e| {
            (
                e.zone.as_deref(),
                e.workload.as_ref().map(|w| (&*w.key.name, w.meshed)),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (Some("east"), Some(("user-0", true))),
            (Some("west"), Some(("user-1", false)))
        ]
    );
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut world = world(DEMO);
    let moved = DEMO
        .split("---\n")
        .last()
        .unwrap()
        .replace("service-name: legacy", "service-name: user");
    let change = apply(&mut world, objects(&moved).into_iter().map(Update::Set));
    assert_eq!(change.endpoints, [key("legacy"), key("user")].into());
    assert_eq!(addresses(&world, "legacy", 3306), Vec::<String>::new());
    let behind: Vec<_> = world
        .services_behind("192.0.2.10".parse().unwrap())
        .collect();
    assert_eq!(behind, [&key("user")]);
}

#[test]
fn workloads_that_share_an_address_are_told_apart_by_the_ports_they_declare() {
    let pod = |name: &str, port: u16| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  containers: [{{name: app, ports: [{{containerPort: {port}}}]}}]\nstatus: {{podIP: 127.0.0.1}}\n"
        )
    };
    let world = world(&[pod("a", 8001), pod("b", 8002), pod("c", 8002)].join("---\n"));
    let at = |port: u16| {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        world
            .workload_at(address)
            .map(|workload| workload.key.clone())
    };
    assert_eq!((at(8001), at(8002), at(8003)), (Some(key("a")), None, None));
}

#[test]
fn the_declaration_of_a_service_wins_over_the_container_and_contradictions_are_none() {
    let mut world = world(DEMO);
    let ports = |world: &World| world.inbound_ports(world.workload(&key("user-0")).unwrap());
    assert_eq!(
        ports(&world),
        [
            (6379, Protocol::Tcp),
            (8080, Protocol::Http),
            (8081, Protocol::Http2),
            (9000, Protocol::Undeclared)
        ]
        .into()
    );
    let second = DEMO
        .split("---\n")
        .skip(1)
        .take(2)
        .collect::<Vec<_>>()
        .join("---\n")
        .replace("name: user,", "name: second,")
        .replace("user-v4", "second-v4")
        .replace("service-name: user", "service-name: second")
        .replace("port: 80}", "port: 80, appProtocol: redis}");
    apply(&mut world, objects(&second).into_iter().map(Update::Set));
    assert_eq!(ports(&world)[&8080], Protocol::Undeclared);
}

#[test]
fn the_mode_of_a_port_is_the_nearest_that_is_set() {
    let mut world = world(DEMO);
    let modes = |world: &World| {
        let workload = world.workload(&key("user-0")).unwrap();
        [Some(8081), Some(8080), None].map(|port| world.mtls_mode(workload, port))
    };
    use MtlsMode::{Permissive, Strict};
    assert_eq!(modes(&world), [Strict, Permissive, Permissive]);
    let mesh = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {mtls: {mode: Strict}}\n";
    let change = apply(&mut world, objects(mesh).into_iter().map(Update::Set));
    assert!(change.mesh);
    assert_eq!(modes(&world), [Strict, Strict, Strict]);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo, annotations: {weft.dev/mtls-mode: Permissive}}\n";
    apply(&mut world, objects(namespace).into_iter().map(Update::Set));
    assert_eq!(modes(&world), [Strict, Permissive, Permissive]);
}

fn pod(name: &str, spec: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: demo}}\nspec: {spec}\nstatus: {status}\n"
    )
}

const SIDECAR: &str = "{containers: [{name: app}, {name: weft-proxy}]}";

#[test]
fn an_endpoint_whose_workload_is_not_known_yet_takes_no_calls() {
    let slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: user-v4, namespace: demo, labels: {kubernetes.io/service-name: user}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.1.9], targetRef: {kind: Pod, name: db-0, namespace: demo}}]
";
    let mut world = world(DEMO);
    apply(&mut world, objects(slice).into_iter().map(Update::Set));
    let mut endpoints_with = |pod: String| {
        apply(&mut world, objects(&pod).into_iter().map(Update::Set));
        addresses(&world, "user", 80)
    };
    let none = ["[fd00:1::5]:8080"];
    let there = ["10.0.1.9:8080"];
    assert_eq!(
        endpoints_with("apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n".to_owned()),
        none
    );
    assert_eq!(endpoints_with(pod("db-0", SIDECAR, "{}")), none);
    // Of the pod that had the name before.
    assert_eq!(
        endpoints_with(pod("db-0", SIDECAR, "{podIP: 10.0.1.8}")),
        none
    );
    assert_eq!(
        endpoints_with(pod("db-0", SIDECAR, "{podIP: 10.0.1.9}")),
        there
    );
    assert_eq!(
        endpoints_with(pod("db-0", SIDECAR, "{phase: Succeeded, podIP: 10.0.1.9}")),
        none
    );
    // A further network, which status.podIPs leaves out.
    assert_eq!(
        endpoints_with(pod("db-0", "{containers: []}", "{podIP: 10.0.1.8}")),
        there
    );
}

#[test]
fn a_pod_on_the_network_of_its_node_is_found_by_the_ports_it_declares_and_has_no_identity_to_insist_on()
 {
    let spec = "{hostNetwork: true, containers: [{name: app, ports: [{containerPort: 9100}]}, {name: weft-proxy}]}";
    let world = world(&pod("agent", spec, "{podIP: 192.0.2.1}"));
    let at = |port: u16| {
        let workload = world.workload_at(SocketAddr::from(([192, 0, 2, 1], port)));
        workload.map(|workload| (&*workload.key.name, workload.meshed))
    };
    assert_eq!((at(9100), at(10250)), (Some(("agent", false)), None));
}

#[test]
fn endpoints_stand_in_the_zone_that_they_are_meant_for_and_else_in_their_own() {
    let slice = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, namespace: demo, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{port: 80}]
endpoints:
- {addresses: [10.0.1.1], zone: east}
- {addresses: [10.0.1.2], zone: east, hints: {forZones: [{name: west}]}}
- {addresses: [10.0.1.3], zone: east, hints: {forZones: [{name: west}, {name: east}]}}
- {addresses: [10.0.1.4]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: demo}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}], trafficDistribution: PreferClose}
---
apiVersion: v1
kind: Pod
metadata: {name: a-0, namespace: demo, labels: {topology.kubernetes.io/zone: north}}
status: {podIP: 10.0.1.4}
";
    let world = world(slice);
    let service = world.service(&key("a")).unwrap();
    let port = service.port(80).unwrap();
    let endpoints = world.endpoints(service, port);
    let zones: Vec<_> = endpoints
        .iter()
        .map(|e| e.zone.as_deref().unwrap())
        .collect();
    assert_eq!(zones, ["east", "west", "east", "north"]);
    assert_eq!(world.policy(service, port).zone, policy::Zone::Prefer);
}

//! Resources in, whole destinations out.

use super::*;
use crate::snapshot::{
    Protocol, Share, WorkloadName,
    route::{Action, Backend, Backends, Domain, Forward, Mirror, MirrorHost, PathMatch},
};
use crate::xds::convert::{
    Invalid,
    route::{Host, Rule},
};
use crate::xds::dns;
use crate::xds::held::Refused;
use std::num::NonZeroU32;
use weft_xds_proto::resource::ResourceType;

const OWN: &str = "inbound/demo/user-0";

/// Resources by name, as if the server had sent them.
struct World {
    held: Held,
    assembler: Assembler,
}

fn world() -> World {
    World {
        held: Held::new(OWN.into()),
        assembler: Assembler::default(),
    }
}

fn slot<T>(value: Value<T>) -> Slot<T> {
    Slot {
        value,
        version: "1".to_owned(),
        updated: None,
        refused: None,
    }
}

impl World {
    /// An HTTP destination and the route to its cluster of the same name.
    fn http(mut self, name: &str) -> Self {
        self.set_listener(name, http_listener(name, name));
        self.set_route(name, name);
        self.set_cluster(name);
        self
    }

    fn set_listener(&mut self, name: &str, listener: Outbound) {
        let listener = Value::Held(Listener::Outbound(Arc::new(listener)));
        self.held.listeners.insert(name.into(), slot(listener));
    }

    fn set_route(&mut self, name: &str, cluster: &str) {
        let routes = Value::Held(Arc::new(routes(name, cluster)));
        self.held.routes.insert(name.into(), slot(routes));
    }

    fn set_cluster(&mut self, name: &str) {
        let config = Value::Held(Arc::new(config(name)));
        self.held.clusters.insert(name.into(), slot(config));
    }

    fn set_endpoints(&mut self, name: &str, addresses: &[&str]) {
        let held = Value::Held(addresses.iter().copied().map(endpoint).collect());
        self.held.endpoints.insert(name.into(), slot(held));
    }

    fn assemble(&mut self) -> Vec<Change> {
        self.assembler.assemble(&self.held)
    }
}

fn http_listener(name: &str, routes: &str) -> Outbound {
    Outbound {
        name: name.into(),
        protocol: Protocol::Http,
        routes: Some(RouteSource::Named(routes.into())),
        tcp: None,
        stream_idle_timeout: Some(Duration::from_secs(300)),
    }
}

fn tcp_listener(name: &str, cluster: &str) -> Outbound {
    Outbound {
        protocol: Protocol::Tcp,
        routes: None,
        tcp: Some(cluster.into()),
        stream_idle_timeout: None,
        ..http_listener(name, "")
    }
}

fn routes(name: &str, cluster: &str) -> Routes {
    Routes {
        name: name.into(),
        virtual_hosts: vec![Host {
            domains: vec![Domain::Any],
            routes: vec![Rule {
                name: "default".into(),
                path: PathMatch::Prefix("/".into()),
                conditions: None,
                fault: None,
                idle_timeout: IdleTimeout::OfListener,
                action: Action::Forward(Forward::to(cluster.into())),
            }],
        }],
    }
}

/// Routes to two clusters, with a mirror in a third.
fn split(name: &str) -> Routes {
    let mut routes = routes(name, "");
    let forward = Forward {
        backends: Backends::new(vec![
            Backend::new("stable".into()),
            Backend::new("canary".into()),
        ])
        .unwrap(),
        mirrors: [Mirror {
            cluster: "shadow".into(),
            share: Share::ALL,
            host: MirrorHost::Shadow,
            headers: Arc::default(),
        }]
        .into(),
        ..Forward::to("".into())
    };
    routes.virtual_hosts[0].routes[0].action = Action::Forward(forward);
    routes
}

fn config(name: &str) -> ClusterConfig {
    ClusterConfig {
        settings: Cluster {
            service: "service".into(),
            namespace: "demo".into(),
            ..Cluster::new(name.into())
        },
        endpoints: EndpointSource::Named(name.into()),
    }
}

fn endpoint(address: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: address.parse().unwrap(),
        identity: None,
        workload: WorkloadName::unknown(),
        weight: NonZeroU32::MIN,
        zone: "".into(),
    })
}

fn cluster(name: &str, addresses: &[&str]) -> Arc<Cluster> {
    Arc::new(Cluster {
        service: "service".into(),
        namespace: "demo".into(),
        endpoints: addresses.iter().copied().map(endpoint).collect(),
        ..Cluster::new(name.into())
    })
}

fn http(name: &str, cluster: Arc<Cluster>) -> Destination {
    http_over(name, name, cluster)
}

fn http_over(name: &str, table: &str, cluster: Arc<Cluster>) -> Destination {
    Destination {
        name: name.into(),
        protocol: Protocol::Http,
        routes: Some(Arc::new(RouteTable::new(
            table.into(),
            vec![VirtualHost {
                domains: vec![Domain::Any],
                routes: vec![Arc::new(Route::to(cluster))],
            }],
        ))),
        tcp: None,
    }
}

fn tcp(name: &str, cluster: Arc<Cluster>) -> Destination {
    Destination {
        name: name.into(),
        protocol: Protocol::Tcp,
        routes: None,
        tcp: Some(cluster),
    }
}

fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|&name| name.into()).collect()
}

/// The only destination among the changes.
fn only(changes: Vec<Change>) -> Destination {
    match <[Change; 1]>::try_from(changes) {
        Ok([Change::Destination(destination)]) => destination,
        other => panic!("not one destination: {other:?}"),
    }
}

fn first_cluster(destination: &Destination) -> &Arc<Cluster> {
    match &destination.routes {
        Some(table) => {
            let route = &table.virtual_hosts[0].routes[0];
            &route.backend(0).unwrap().cluster
        }
        None => destination.tcp.as_ref().unwrap(),
    }
}

#[test]
fn a_destination_appears_when_the_last_part_of_it_is_there() {
    let mut world = world().http("user");
    assert_eq!(world.assemble(), []);
    world.set_endpoints("user", &["10.0.0.1:80"]);
    assert_eq!(
        world.assemble(),
        [Change::Destination(http(
            "user",
            cluster("user", &["10.0.0.1:80"])
        ))]
    );
    assert_eq!(world.assemble(), []);
}

#[test]
fn what_a_destination_needs_is_followed_step_by_step() {
    let mut world = world();
    world.set_listener("user", http_listener("user", "routes"));
    let expected = References {
        routes: names(&["routes"]),
        ..References::default()
    };
    assert_eq!(world.assembler.references(&world.held), expected);
    world.set_route("routes", "cluster");
    let expected = References {
        clusters: names(&["cluster"]),
        ..expected
    };
    assert_eq!(world.assembler.references(&world.held), expected);
    world.set_cluster("cluster");
    let expected = References {
        endpoints: names(&["cluster"]),
        ..expected
    };
    assert_eq!(world.assembler.references(&world.held), expected);
}

#[test]
fn a_route_waits_for_every_cluster_that_it_names() {
    let mut world = world();
    world.set_listener("user", http_listener("user", "user"));
    let held = Value::Held(Arc::new(split("user")));
    world.held.routes.insert("user".into(), slot(held));
    assert_eq!(
        world.assembler.references(&world.held).clusters,
        names(&["stable", "canary", "shadow"])
    );
    for name in ["stable", "canary", "shadow"] {
        assert_eq!(world.assemble(), []);
        world.set_cluster(name);
        world.set_endpoints(name, &["10.0.0.1:80"]);
    }
    let destination = only(world.assemble());
    let table = destination.routes.unwrap();
    let clusters: Vec<_> = table.virtual_hosts[0].routes[0].action.clusters().collect();
    let whole = |name| cluster(name, &["10.0.0.1:80"]);
    assert_eq!(
        clusters,
        [&whole("stable"), &whole("canary"), &whole("shadow")]
    );
}

#[test]
fn a_cluster_that_does_not_exist_is_marked_where_that_is_an_error() {
    let mut world = world();
    world.set_listener("user", http_listener("user", "user"));
    for (absent_is_error, expected) in [(false, [false, false]), (true, [true, false])] {
        let mut routes = split("user");
        if let Action::Forward(forward) = &mut routes.virtual_hosts[0].routes[0].action {
            forward.absent_is_error = absent_is_error;
        }
        let routes = Value::Held(Arc::new(routes));
        world.held.routes.insert("user".into(), slot(routes));
        for name in ["canary", "shadow"] {
            world.set_cluster(name);
            world.set_endpoints(name, &[]);
        }
        world
            .held
            .clusters
            .insert("stable".into(), slot(Value::Absent));
        let table = only(world.assemble()).routes.unwrap();
        let route = &table.virtual_hosts[0].routes[0];
        let absent = [0, 1].map(|backend| route.backend(backend).unwrap().absent);
        assert_eq!(absent, expected);
    }
}

#[test]
fn a_cluster_without_a_load_assignment_has_no_endpoints() {
    let mut world = world().http("user");
    world
        .held
        .endpoints
        .insert("user".into(), slot(Value::Absent));
    assert_eq!(
        world.assemble(),
        [Change::Destination(http("user", cluster("user", &[])))]
    );
}

#[test]
fn routes_and_clusters_that_do_not_exist_count_as_empty() {
    let mut world = world();
    world.set_listener("user", http_listener("user", "user"));
    world.held.routes.insert("user".into(), slot(Value::Absent));
    world.set_listener("redis", tcp_listener("redis", "redis"));
    world
        .held
        .clusters
        .insert("redis".into(), slot(Value::Absent));
    let mut without_routes = http("user", cluster("user", &[]));
    without_routes.routes = Some(Arc::new(RouteTable::new("user".into(), Vec::new())));
    assert_eq!(
        world.assemble(),
        [
            Change::Destination(tcp("redis", Arc::new(Cluster::new("redis".into())))),
            Change::Destination(without_routes),
        ]
    );
}

#[test]
fn an_endpoint_change_updates_every_destination_of_the_cluster() {
    let mut world = world().http("user");
    world.set_listener("10.96.0.1:80", http_listener("10.96.0.1:80", "user"));
    world.set_endpoints("user", &["10.0.0.1:80"]);
    assert_eq!(world.assemble().len(), 2);

    world.set_endpoints("user", &["10.0.0.1:80", "10.0.0.2:80"]);
    let both = cluster("user", &["10.0.0.1:80", "10.0.0.2:80"]);
    let changes = world.assemble();
    assert_eq!(
        changes,
        [
            Change::Destination(http_over("10.96.0.1:80", "user", both.clone())),
            Change::Destination(http("user", both)),
        ]
    );
    let [Change::Destination(one), Change::Destination(other)] = &changes[..] else {
        unreachable!("compared above");
    };
    assert!(Arc::ptr_eq(first_cluster(one), first_cluster(other)));
}

#[test]
fn what_did_not_change_stays_where_it_is_in_memory() {
    let mut world = world().http("user");
    world.set_endpoints("user", &["10.0.0.1:80"]);
    let before = only(world.assemble());
    // The same values once more, and a new timeout of the listener.
    world.set_cluster("user");
    world.set_route("user", "user");
    assert_eq!(world.assemble(), []);
    world.set_listener(
        "user",
        Outbound {
            stream_idle_timeout: None,
            ..http_listener("user", "user")
        },
    );
    let after = only(world.assemble());
    assert_ne!(before, after);
    assert!(Arc::ptr_eq(first_cluster(&before), first_cluster(&after)));
}

#[test]
fn until_an_update_is_complete_the_one_before_stays() {
    let mut world = world().http("user");
    world.set_endpoints("user", &["10.0.0.1:80"]);
    world.assemble();

    // The routes now lead to a cluster that is not there yet.
    world.set_route("user", "canary");
    assert_eq!(world.assemble(), []);
    assert_eq!(
        world.assembler.references(&world.held).clusters,
        names(&["canary", "user"]),
        "the old cluster is still needed"
    );

    // The old cluster goes on following its endpoints.
    world.set_endpoints("user", &["10.0.0.2:80"]);
    assert_eq!(
        world.assemble(),
        [Change::Destination(http(
            "user",
            cluster("user", &["10.0.0.2:80"])
        ))]
    );

    world.set_cluster("canary");
    assert_eq!(world.assemble(), []);
    world.set_endpoints("canary", &["10.0.0.9:80"]);
    assert_eq!(
        world.assemble(),
        [Change::Destination(http(
            "user",
            cluster("canary", &["10.0.0.9:80"])
        ))]
    );
    assert_eq!(
        world.assembler.references(&world.held).clusters,
        names(&["canary"])
    );
}

#[test]
fn a_destination_that_goes_away_leaves_its_holders_without_endpoints() {
    let mut world = world().http("user");
    world.set_endpoints("user", &["10.0.0.1:80"]);
    world.assemble();
    world
        .held
        .listeners
        .insert("user".into(), slot(Value::Absent));
    assert_eq!(
        world.assemble(),
        [Change::Unknown(
            "user".into(),
            Some(http("user", cluster("user", &[])))
        )]
    );
    assert_eq!(
        world.assembler.references(&world.held),
        References::default()
    );

    // And comes back.
    world.set_listener("user", http_listener("user", "user"));
    assert_eq!(
        only(world.assemble()),
        http("user", cluster("user", &["10.0.0.1:80"]))
    );
}

#[test]
fn a_cluster_that_others_still_use_keeps_its_endpoints() {
    let mut world = world().http("user");
    world.set_listener("10.96.0.1:80", http_listener("10.96.0.1:80", "user"));
    world.set_endpoints("user", &["10.0.0.1:80"]);
    world.assemble();
    world
        .held
        .listeners
        .insert("10.96.0.1:80".into(), slot(Value::Absent));
    assert_eq!(
        world.assemble(),
        [Change::Unknown(
            "10.96.0.1:80".into(),
            Some(http_over(
                "10.96.0.1:80",
                "user",
                cluster("user (removed)", &[])
            ))
        )]
    );
}

#[test]
fn a_name_that_never_existed_is_unknown_once() {
    let mut world = world();
    world
        .held
        .listeners
        .insert("nobody".into(), slot(Value::Absent));
    assert_eq!(world.assemble(), [Change::Unknown("nobody".into(), None)]);
    assert_eq!(world.assemble(), []);
}

#[test]
fn a_destination_that_needs_something_refused_is_unavailable_until_it_is_repaired() {
    let mut world = world().http("user");
    world.set_endpoints("user", &[]);
    let refused = Slot {
        refused: Some(Refused {
            version: "1".to_owned(),
            reason: Invalid::no_body(ResourceType::Cluster, "user"),
        }),
        ..slot(Value::Awaited)
    };
    world.held.clusters.insert("user".into(), refused);
    assert_eq!(world.assemble(), [Change::Unavailable("user".into())]);
    world.set_cluster("user");
    assert_eq!(only(world.assemble()), http("user", cluster("user", &[])));
}

#[test]
fn a_destination_that_is_no_longer_followed_is_forgotten_without_a_word() {
    let mut world = world().http("user");
    world.set_endpoints("user", &["10.0.0.1:80"]);
    world.assemble();
    world.held.listeners.clear();
    assert_eq!(world.assemble(), []);
    assert_eq!(
        world.assembler.references(&world.held),
        References::default()
    );
}

#[test]
fn a_destination_of_a_dns_cluster_appears_with_the_first_answer() {
    let mut world = world().http("db");
    let host = dns::Host {
        name: "db.example".into(),
        port: 5432,
        family: dns::Family::Both,
    };
    let config = Value::Held(Arc::new(ClusterConfig {
        endpoints: EndpointSource::Dns(host.clone()),
        ..config("db")
    }));
    world.held.clusters.insert("db".into(), slot(config));
    let references = world.assembler.references(&world.held);
    assert_eq!(references.hosts, [host.clone()].into());
    world.held.follow_hosts(&references.hosts);
    assert_eq!(world.assemble(), []);

    world.held.resolved(dns::Answer {
        endpoints: Arc::new([endpoint("192.0.2.1:5432")]),
        host,
    });
    assert_eq!(
        only(world.assemble()),
        http("db", cluster("db", &["192.0.2.1:5432"]))
    );
}

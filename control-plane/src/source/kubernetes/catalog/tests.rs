use super::*;
use crate::{
    source::{convert, kubernetes::kind::Watched},
    world::{Change, MtlsMode},
};
use serde_json::{Value, json};
use std::time::Instant;

/// A catalog and the world that its updates make.
struct Cluster {
    catalog: Catalog,
    world: World,
}

impl Cluster {
    fn new() -> Self {
        Self {
            catalog: Catalog::default(),
            world: World::new("cluster.local"),
        }
    }

    /// Takes in events as one burst. Gives what the world was told, and the problems of objects that may have others.
    fn hear(
        &mut self,
        watched: Watched,
        events: impl IntoIterator<Item = Event>,
    ) -> (usize, Vec<String>) {
        let mut applied = Applied::default();
        for event in events {
            self.catalog.hear(watched, event, &mut applied);
        }
        self.catalog.settle(&mut applied);
        let told = applied.updates.len();
        let mut change = Change::none(Instant::now());
        for update in std::mem::take(&mut applied.updates) {
            self.world.apply(update, &mut change);
        }
        if change.concerns_findings() {
            self.catalog.look_at_the_whole(&self.world, &mut applied);
        }
        let problems = applied
            .concerned
            .iter()
            .flat_map(|object| self.catalog.problems(object));
        (told, problems.map(|problem| problem.to_string()).collect())
    }

    fn tell(&mut self, watched: Watched, object: Value) -> Vec<String> {
        self.hear(watched, [told(watched, object)]).1
    }

    /// A complete list of a kind.
    fn list(
        &mut self,
        watched: Watched,
        objects: impl IntoIterator<Item = Value>,
    ) -> (usize, Vec<String>) {
        let told = objects.into_iter().map(|object| told(watched, object));
        let events: Vec<_> = std::iter::once(Event::ListBegins)
            .chain(told)
            .chain([Event::ListEnds])
            .collect();
        self.hear(watched, events)
    }

    fn port(&self, service: &str) -> Option<u16> {
        let service = self.world.service(&ObjectKey::new("demo", service))?;
        Some(service.ports[0].port)
    }

    fn pod(&self) -> &Workload {
        self.world.workload(&ObjectKey::new("demo", "a")).unwrap()
    }
}

fn told(watched: Watched, mut object: Value) -> Event {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let key = ObjectKey::new(text("namespace"), text("name"));
    let incarnation = text("uid").len() as u64;
    let zone = object
        .pointer("/metadata/labels/zone")
        .and_then(Value::as_str);
    let what = if watched == Watched::Node {
        What::Node {
            zone: zone.map(Arc::from),
        }
    } else {
        object["apiVersion"] = watched.api_version().into();
        object["kind"] = watched.name().into();
        What::Object(convert::object(object, "cluster.local"))
    };
    Event::Told(Told {
        key,
        incarnation,
        what,
    })
}

fn gone(namespace: &str, name: &str) -> Event {
    Event::Gone(ObjectKey::new(namespace, name))
}

fn service(name: &str, port: impl Into<Value>) -> Value {
    json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"ports": [{"port": port.into()}]}})
}

fn pod(address: &str, annotations: Value) -> Value {
    json!({
        "metadata": {"name": "a", "namespace": "demo", "annotations": annotations},
        "spec": {"nodeName": "n", "containers": []},
        "status": {"podIP": address},
    })
}

fn node(zone: &str) -> Value {
    json!({"metadata": {"name": "n", "labels": {"zone": zone}}})
}

const NONE: [&str; 0] = [];

#[test]
fn what_is_told_is_in_the_world_until_it_is_gone() {
    let mut cluster = Cluster::new();
    cluster.list(Watched::Service, [service("a", 80), service("b", 81)]);
    assert_eq!((cluster.port("a"), cluster.port("b")), (Some(80), Some(81)));
    assert_eq!(cluster.catalog.count(Watched::Service), 2);
    cluster.tell(Watched::Service, service("a", 82));
    let (told, _) = cluster.hear(Watched::Service, [gone("demo", "b"), gone("demo", "c")]);
    assert_eq!(told, 1);
    assert_eq!((cluster.port("a"), cluster.port("b")), (Some(82), None));
    assert_eq!(cluster.catalog.count(Watched::Service), 1);
}

#[test]
fn a_list_told_again_repeats_nothing_and_takes_out_what_is_not_in_it_when_it_is_complete() {
    let mut cluster = Cluster::new();
    let all = || [service("a", 80), service("b", 81), service("c", 82)];
    assert_eq!(cluster.list(Watched::Service, all()).0, 3);
    assert_eq!(cluster.list(Watched::Service, all()).0, 0);
    // Cut off within the list, and begun anew.
    let (told, _) = cluster.hear(
        Watched::Service,
        [
            Event::ListBegins,
            told_service("a", 80),
            Event::ListBegins,
            told_service("b", 91),
        ],
    );
    assert_eq!(told, 1);
    assert_eq!(
        (cluster.port("a"), cluster.port("b"), cluster.port("c")),
        (Some(80), Some(91), Some(82))
    );
    let (told, _) = cluster.hear(Watched::Service, [Event::ListEnds]);
    assert_eq!(told, 2);
    assert_eq!(
        (cluster.port("a"), cluster.port("b"), cluster.port("c")),
        (None, Some(91), None)
    );
}

fn told_service(name: &str, port: u16) -> Event {
    told(Watched::Service, service(name, port))
}

#[test]
fn a_list_of_one_kind_leaves_the_others_alone() {
    let mut cluster = Cluster::new();
    cluster.list(Watched::Service, [service("a", 80)]);
    cluster.list(Watched::Namespace, []);
    cluster.list(Watched::TrafficPolicy, []);
    assert_eq!(cluster.port("a"), Some(80));
}

#[test]
fn a_bad_object_is_told_by_name_and_field_and_its_last_good_version_stays() {
    let mut cluster = Cluster::new();
    cluster.tell(Watched::Service, service("a", 80));
    assert_eq!(
        cluster.tell(Watched::Service, service("a", 80_000)),
        [
            "Service demo/a, spec.ports[0].port: 80000 is not a port; write 1 to 65535; its last good version stays in force"
        ]
    );
    assert_eq!(cluster.port("a"), Some(80));
    // Told again by a new list, it is no news.
    assert_eq!(
        cluster.list(Watched::Service, [service("a", 80_000)]),
        (0, Vec::new())
    );
    assert_eq!(cluster.tell(Watched::Service, service("a", 80)), NONE);
    assert_eq!(cluster.catalog.refused.len(), 0);
    cluster.tell(Watched::Service, service("a", 80_000));
    cluster.hear(Watched::Service, [gone("demo", "a")]);
    assert_eq!(cluster.port("a"), None);
    assert_eq!(cluster.catalog.refused.len(), 0);
}

#[test]
fn an_object_made_anew_has_no_last_good_version() {
    let mut cluster = Cluster::new();
    cluster.tell(Watched::Service, service("a", 80));
    let mut other = service("a", 80_000);
    other["metadata"]["uid"] = "another".into();
    let problems = cluster.tell(Watched::Service, other);
    assert!(
        problems[0].ends_with("it is not in force until it is mended"),
        "{problems:?}"
    );
    assert_eq!(cluster.port("a"), None);
}

#[test]
fn a_malformed_mode_that_was_never_good_is_strict() {
    let mut cluster = Cluster::new();
    let misspelt = json!({"weft.dev/mtls-mode": "strict"});
    let problems = cluster.tell(Watched::Pod, pod("10.0.0.1", misspelt.clone()));
    assert!(
        problems[0].ends_with("until it is mended, mTLS is Strict there"),
        "{problems:?}"
    );
    assert_eq!(cluster.pod().mtls, Some(MtlsMode::Strict));
    cluster.tell(Watched::Pod, pod("10.0.0.1", misspelt));
    assert_eq!(cluster.pod().mtls, Some(MtlsMode::Strict));
    assert_eq!(cluster.tell(Watched::Pod, pod("10.0.0.1", json!({}))), NONE);
    assert_eq!(cluster.pod().mtls, None);
    let mesh =
        |mode: &str| json!({"metadata": {"name": "default"}, "spec": {"mtls": {"mode": mode}}});
    cluster.tell(Watched::MeshConfig, mesh("Stict"));
    assert_eq!(cluster.world.mesh().mtls, MtlsMode::Strict);
    cluster.list(Watched::MeshConfig, []);
    assert_eq!(cluster.world.mesh().mtls, MtlsMode::Permissive);
}

#[test]
fn a_pod_with_a_bad_annotation_keeps_the_last_good_one_and_is_where_it_is_now() {
    let mut cluster = Cluster::new();
    let permissive = json!({"weft.dev/mtls-mode": "Permissive"});
    cluster.tell(Watched::Pod, pod("10.0.0.1", permissive));
    cluster.tell(
        Watched::Pod,
        pod("10.0.0.2", json!({"weft.dev/mtls-mode": "x"})),
    );
    assert_eq!(cluster.pod().mtls, Some(MtlsMode::Permissive));
    assert_eq!(
        cluster.pod().addresses,
        ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]
    );
}

#[test]
fn a_pod_has_the_zone_of_its_node_unless_it_says_one_itself() {
    let mut cluster = Cluster::new();
    let zone = |cluster: &Cluster| cluster.pod().zone.as_deref().map(str::to_owned);
    cluster.tell(Watched::Pod, pod("10.0.0.1", json!({})));
    assert_eq!(zone(&cluster), None);
    assert_eq!(
        cluster
            .hear(Watched::Node, [told(Watched::Node, node("east"))])
            .0,
        1
    );
    assert_eq!(zone(&cluster).as_deref(), Some("east"));
    // Nodes tell of their health all the time.
    assert_eq!(
        cluster
            .hear(Watched::Node, [told(Watched::Node, node("east"))])
            .0,
        0
    );
    assert_eq!(
        cluster.list(Watched::Pod, [pod("10.0.0.1", json!({}))]).0,
        0
    );
    cluster.hear(Watched::Node, [told(Watched::Node, node("west"))]);
    assert_eq!(zone(&cluster).as_deref(), Some("west"));
    let mut own = pod("10.0.0.1", json!({}));
    own["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "north"});
    cluster.tell(Watched::Pod, own);
    cluster.hear(Watched::Node, [told(Watched::Node, node("east"))]);
    assert_eq!(zone(&cluster).as_deref(), Some("north"));
    cluster.tell(Watched::Pod, pod("10.0.0.1", json!({})));
    assert_eq!(zone(&cluster).as_deref(), Some("east"));
    cluster.list(Watched::Node, []);
    assert_eq!(zone(&cluster), None);
}

#[test]
fn a_service_that_is_of_no_use_any_more_leaves_the_world() {
    let mut cluster = Cluster::new();
    cluster.tell(Watched::Service, service("a", 80));
    let external = json!({"metadata": {"name": "a", "namespace": "demo"}, "spec": {"type": "ExternalName", "externalName": "db.example"}});
    assert_eq!(cluster.tell(Watched::Service, external), NONE);
    assert_eq!(cluster.port("a"), None);
}

#[test]
fn what_contradicts_another_object_is_a_problem_until_one_of_them_changes() {
    let mut cluster = Cluster::new();
    let policy = json!({
        "metadata": {"name": "p", "namespace": "demo"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "a"}]},
    });
    let problems = cluster.tell(Watched::TrafficPolicy, policy);
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with(
            "TrafficPolicy demo/p, spec.targetRefs[0].name: there is no Service demo/a"
        ),
        "{problems:?}"
    );
    assert_eq!(cluster.tell(Watched::Service, service("a", 80)), NONE);
    assert_eq!(cluster.catalog.contradictions.len(), 0);
    assert_eq!(
        cluster.hear(Watched::Service, [gone("demo", "a")]).1.len(),
        1
    );
    assert_eq!(cluster.list(Watched::TrafficPolicy, []).1, NONE);
    assert_eq!(cluster.catalog.contradictions.len(), 0);
}

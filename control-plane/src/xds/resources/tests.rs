use std::task::Waker;

use weft_xds_proto::exchange::{Nack, RefusedResource};

use super::*;
use crate::{
    fixture,
    translate::Envoy,
    world::{Kind, ObjectKey, ObjectRef, Store, Update},
};
use ResourceType::{Cluster, Endpoints, Listener};

const USER: &str = "user.demo.svc.cluster.local:80";
const OTHER: &str = "other.demo.svc.cluster.local:80";

/// A setting that is in every cluster.
const MESH: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata: {name: default}
spec: {defaults: {connectTimeout: 1s}}
"#;

/// A service with one endpoint at an address.
fn service(name: &str, address: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: demo}}
spec: {{clusterIP: None, ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: demo, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 8080}}]
endpoints: [{{addresses: ["{address}"]}}]
"#
    )
}

/// A store, resources over it, and the way from one to the other.
struct Bench {
    store: Arc<Store>,
    changes: Changes,
    resources: Arc<Resources>,
}

impl Bench {
    fn new() -> Self {
        let store = Store::new(World::new("cluster.local"));
        let changes = store.follow();
        let resources = Resources::new(changes.seen().clone());
        Self {
            store,
            changes,
            resources,
        }
    }

    fn put(&mut self, yaml: &str) {
        let updates = fixture::objects(yaml).into_iter().map(Update::Set);
        self.apply(updates.collect());
    }

    fn remove_service(&mut self, name: &str) {
        let key = ObjectKey::new("demo", name);
        let kinds = [Kind::Service, Kind::EndpointSlice];
        self.apply(
            kinds
                .map(|kind| {
                    Update::Remove(ObjectRef {
                        kind,
                        key: key.clone(),
                    })
                })
                .into(),
        );
    }

    fn apply(&mut self, updates: Vec<Update>) {
        self.store.apply(updates, Instant::now());
        if let Some(published) = self.changes.take() {
            self.resources.take_in(&published);
            while self.resources.work_off(BATCH) {}
            let rendered = &self.resources.rendered;
            rendered.store(published.count, Ordering::Release);
        }
    }

    /// How far those are who follow the service `user`, with the world as it is now.
    fn progress(&self, since: u64) -> (usize, usize, Vec<String>) {
        let affected = Affected {
            names: [(Cluster, USER.into())].into(),
            ..Affected::default()
        };
        let Progress {
            concerned,
            acked,
            refusals,
        } = self.resources.progress(&affected, since);
        let refusals = refusals.into_iter();
        let refusals = refusals.map(|refusal| format!("{}: {}", refusal.node, refusal.message));
        (acked, concerned, refusals.collect())
    }

    fn envoy() -> Dialect {
        Dialect::Envoy(Envoy {
            certificates: None,
            outbound: "127.0.0.1:15001".parse().unwrap(),
        })
    }
}

fn changed(follower: &Follower) -> Vec<(ResourceType, String)> {
    let changed = follower.take_changed().into_keys();
    changed.map(|(ty, name)| (ty, name.to_string())).collect()
}

fn has_changes(follower: &Follower) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    follower.poll_changed(&mut cx).is_ready()
}

#[test]
fn only_who_follows_what_changed_is_woken() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    bench.put(&service("other", "10.0.0.2"));
    let mut of_user = bench.resources.follower(&Dialect::Weft);
    let mut of_other = bench.resources.follower(&Dialect::Weft);
    for ty in [Cluster, Endpoints, Listener] {
        of_user.follow(ty, &USER.into());
        of_other.follow(ty, &OTHER.into());
    }
    bench.put(&service("user", "10.0.0.9"));
    assert!(!has_changes(&of_other));
    assert!(has_changes(&of_user));
    assert_eq!(changed(&of_user), [(Endpoints, USER.to_owned())]);
}

#[test]
fn a_change_that_changes_nothing_wakes_nobody() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut follower = bench.resources.follower(&Dialect::Weft);
    follower.follow(Endpoints, &USER.into());
    bench.put(&service("user", "10.0.0.1"));
    assert!(!has_changes(&follower));
}

#[test]
fn streams_of_one_dialect_share_one_encoding() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut followers = [(); 2].map(|()| bench.resources.follower(&Dialect::Weft));
    for follower in &mut followers {
        follower.follow(Endpoints, &USER.into());
    }
    let [a, b] = followers.map(|follower| follower.find(Endpoints, &USER.into()).unwrap());
    assert!(Arc::ptr_eq(&a, &b));
}

#[test]
fn what_comes_and_what_goes_is_a_change_for_who_asked_by_name() {
    let mut bench = Bench::new();
    let mut follower = bench.resources.follower(&Dialect::Weft);
    follower.follow(Cluster, &USER.into());
    assert!(follower.find(Cluster, &USER.into()).is_none());
    bench.put(&service("user", "10.0.0.1"));
    assert_eq!(changed(&follower), [(Cluster, USER.to_owned())]);
    assert!(follower.find(Cluster, &USER.into()).is_some());
    bench.remove_service("user");
    assert_eq!(changed(&follower), [(Cluster, USER.to_owned())]);
    assert!(follower.find(Cluster, &USER.into()).is_none());
}

#[test]
fn a_wildcard_follows_what_comes_and_goes() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut envoy = bench.resources.follower(&Bench::envoy());
    envoy.follow_all(Cluster, true);
    assert_eq!(envoy.names(Cluster), [Arc::from(USER)]);
    bench.put(&service("other", "10.0.0.2"));
    assert_eq!(changed(&envoy), [(Cluster, OTHER.to_owned())]);
    assert_eq!(envoy.names(Cluster), [Arc::from(OTHER), Arc::from(USER)]);
    bench.remove_service("user");
    assert_eq!(changed(&envoy), [(Cluster, USER.to_owned())]);
    assert_eq!(envoy.names(Cluster), [Arc::from(OTHER)]);
}

#[test]
fn changes_wait_for_a_slow_follower_as_one_with_the_time_of_the_first() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut follower = bench.resources.follower(&Dialect::Weft);
    follower.follow(Endpoints, &USER.into());
    let before = Instant::now();
    bench.put(&service("user", "10.0.0.2"));
    let between = Instant::now();
    bench.put(&service("user", "10.0.0.3"));
    let changed = follower.take_changed();
    assert_eq!(changed.len(), 1);
    let since = *changed.values().next().unwrap();
    assert!(before <= since && since <= between);
}

#[test]
fn nothing_is_kept_that_nobody_follows() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut weft = bench.resources.follower(&Dialect::Weft);
    let mut envoy = bench.resources.follower(&Bench::envoy());
    weft.follow(Cluster, &USER.into());
    weft.follow(Endpoints, &USER.into());
    envoy.follow_all(Cluster, true);
    assert_eq!(bench.resources.count(), 3);
    weft.unfollow(Cluster, &USER.into());
    envoy.follow_all(Cluster, false);
    assert_eq!(bench.resources.count(), 1);
    drop(weft);
    assert_eq!(bench.resources.count(), 0);
}

#[test]
fn an_endpoint_change_does_not_wait_for_a_change_of_everything() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    bench.put(&service("other", "10.0.0.2"));
    let mut follower = bench.resources.follower(&Dialect::Weft);
    follower.follow(Cluster, &OTHER.into());
    follower.follow(Endpoints, &USER.into());
    let mut publish = |yaml: &str| {
        let updates = fixture::objects(yaml).into_iter().map(Update::Set);
        bench.store.apply(updates, Instant::now());
        let published = bench.changes.take().unwrap();
        bench.resources.take_in(&published);
    };
    publish(MESH);
    publish(&service("user", "10.0.0.9"));
    assert_eq!(changed(&follower), [(Endpoints, USER.to_owned())]);
    while bench.resources.work_off(1) {}
    assert_eq!(changed(&follower), [(Cluster, OTHER.to_owned())]);
}

#[test]
fn a_change_of_everything_is_told_when_all_of_it_is_rendered() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    bench.put(&service("other", "10.0.0.2"));
    let mut follower = bench.resources.follower(&Dialect::Weft);
    follower.follow(Cluster, &OTHER.into());
    follower.follow(Cluster, &USER.into());
    let mesh = fixture::objects(MESH).into_iter().map(Update::Set);
    bench.store.apply(mesh, Instant::now());
    bench.resources.take_in(&bench.changes.take().unwrap());
    assert!(bench.resources.work_off(1));
    assert!(!has_changes(&follower));
    while bench.resources.work_off(1) {}
    assert_eq!(
        changed(&follower),
        [(Cluster, OTHER.to_owned()), (Cluster, USER.to_owned())]
    );
}

/// A policy of the service `user`, which its cluster shows.
fn policy(connections: u32) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p, namespace: demo}}\nspec: {{targetRefs: [{{kind: Service, name: user}}], connections: {{max: {connections}}}}}\n"
    )
}

#[test]
fn a_proxy_counts_once_it_was_up_to_date_and_has_a_change_once_it_is_again() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut followers = [(); 2].map(|()| bench.resources.follower(&Dialect::Weft));
    for follower in &mut followers {
        follower.follow(Cluster, &USER.into());
    }
    let [first, second] = followers;
    assert_eq!(bench.progress(0), (0, 0, vec![]));
    first.up_to_date();
    assert_eq!(bench.progress(0), (1, 1, vec![]));
    second.up_to_date();
    assert_eq!(bench.progress(0), (2, 2, vec![]));

    bench.put(&policy(7));
    let since = bench.store.count();
    assert_eq!(bench.progress(since), (0, 2, vec![]), "nobody was told");
    first.take_changed();
    assert_eq!(bench.progress(since), (0, 2, vec![]), "one was told");
    first.up_to_date();
    assert_eq!(bench.progress(since), (1, 2, vec![]));
    // What comes later does not take back what a proxy has.
    bench.put(&policy(8));
    assert_eq!(bench.progress(since), (1, 2, vec![]));
    drop(second);
    assert_eq!(bench.progress(since), (1, 1, vec![]));
}

#[test]
fn a_refusal_counts_until_there_is_another_version() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut follower = bench.resources.follower(&Dialect::Weft);
    follower.follow(Cluster, &USER.into());
    let version = follower
        .find(Cluster, &USER.into())
        .unwrap()
        .version
        .clone();
    let nack = Nack {
        message: "no".to_owned(),
        resources: vec![RefusedResource {
            name: USER.to_owned(),
            version: Some(version),
            message: "lb_policy: no".to_owned(),
        }],
    };
    follower.refused(Cluster, "demo/a", &nack);
    follower.up_to_date();
    assert_eq!(
        bench.progress(0),
        (0, 1, vec!["demo/a: lb_policy: no".to_owned()])
    );
    bench.put(&policy(7));
    follower.take_changed();
    follower.up_to_date();
    assert_eq!(bench.progress(bench.store.count()), (1, 1, vec![]));
}

#[test]
fn a_refusal_that_names_nothing_counts_until_something_of_the_type_is_accepted() {
    let mut bench = Bench::new();
    bench.put(&service("user", "10.0.0.1"));
    let mut follower = bench.resources.follower(&Dialect::Grpc);
    follower.follow(Cluster, &USER.into());
    let nack = Nack {
        message: "no".to_owned(),
        resources: vec![],
    };
    follower.refused(Cluster, "a", &nack);
    follower.up_to_date();
    assert_eq!(bench.progress(0), (0, 1, vec!["a: no".to_owned()]));
    follower.accepted(Endpoints);
    assert_eq!(bench.progress(0), (0, 1, vec!["a: no".to_owned()]));
    follower.accepted(Cluster);
    assert_eq!(bench.progress(0), (1, 1, vec![]));
}

//! Worlds for tests, written as the YAML that people write.

use crate::{
    source::convert::{Verdict, object},
    world::{Change, Object, Update, World},
};
use std::time::Instant;

/// The objects of a YAML text, all of them good.
pub(crate) fn objects(yaml: &str) -> Vec<Object> {
    yaml.split("---\n")
        .map(|document| {
            let outcome = object(serde_saphyr::from_str(document).unwrap(), "cluster.local");
            match outcome.verdict {
                Verdict::Accepted(object) => object,
                other => panic!("{}: {other:?}", outcome.name),
            }
        })
        .collect()
}

/// A world of these objects.
pub(crate) fn world(yaml: &str) -> World {
    let mut world = World::new("cluster.local");
    apply(&mut world, objects(yaml).into_iter().map(Update::Set));
    world
}

/// Applies updates, and gives what changed.
pub(crate) fn apply(world: &mut World, updates: impl IntoIterator<Item = Update>) -> Change {
    let mut change = Change::none(Instant::now());
    for update in updates {
        world.apply(update, &mut change);
    }
    change
}

/// Two replicas of `user`, one of them in the mesh, behind a dual-stack service of every protocol; and a
/// service without pods.
pub(crate) const DEMO: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: demo}
---
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec:
  clusterIPs: ["10.96.3.4", "fd00::4"]
  ipFamilies: [IPv4, IPv6]
  ports:
  - {name: http, port: 80}
  - {name: rpc, port: 81, appProtocol: grpc}
  - {name: redis, port: 6379}
  - {name: other, port: 9000}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: user-v4, namespace: demo, labels: {kubernetes.io/service-name: user}}
addressType: IPv4
ports:
- {name: http, port: 8080}
- {name: rpc, port: 8081}
- {name: redis, port: 6379}
- {name: other, port: 9000}
endpoints:
- addresses: ["10.0.1.6"]
  zone: west
  targetRef: {kind: Pod, name: user-1, namespace: demo}
- addresses: ["10.0.1.5"]
  zone: east
  conditions: {ready: true}
  targetRef: {kind: Pod, name: user-0, namespace: demo}
- addresses: ["10.0.1.7"]
  conditions: {ready: false}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: user-v6, namespace: demo, labels: {kubernetes.io/service-name: user}}
addressType: IPv6
ports:
- {name: http, port: 8080}
endpoints:
- addresses: ["fd00:1::5"]
  targetRef: {kind: Pod, name: user-0, namespace: demo}
---
apiVersion: v1
kind: Pod
metadata:
  name: user-0
  namespace: demo
  annotations: {weft.dev/mtls-mode-ports: "8081=Strict"}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: user-5d8f6c7b9, uid: "1", controller: true}]
spec:
  serviceAccountName: user
  containers:
  - name: app
    ports: [{containerPort: 8080, name: web}, {containerPort: 9000}]
  - name: weft-proxy
    ports: [{containerPort: 15020, name: http-metrics}]
status:
  podIPs: [{ip: "10.0.1.5"}, {ip: "fd00:1::5"}]
---
apiVersion: v1
kind: Pod
metadata: {name: user-1, namespace: demo, labels: {app: user}}
spec: {serviceAccountName: user, containers: [{name: app}]}
status: {podIP: "10.0.1.6"}
---
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: demo}
spec: {clusterIP: None, ports: [{port: 3306, name: mysql}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: legacy-1, namespace: demo, labels: {kubernetes.io/service-name: legacy}}
addressType: IPv4
ports: [{name: mysql, port: 3306}]
endpoints: [{addresses: ["192.0.2.10"]}]
"#;

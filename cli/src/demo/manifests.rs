//! The objects that the control plane watches, as a Kubernetes cluster would hold them.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use super::topology::{NAMESPACE, PodName, Service, Workload};

/// How far a pod is, as its endpoints tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Scheduled, not ready.
    Starting,
    /// Takes requests.
    Ready,
    /// Finishes what it has, takes nothing new.
    Terminating,
}

/// A pod, as far as objects tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pod {
    addresses: Vec<IpAddr>,
    phase: Phase,
}

/// A directory of manifests that follows the pods of the demo.
#[derive(Debug)]
pub(super) struct Manifests {
    directory: PathBuf,
    pods: BTreeMap<PodName, Pod>,
    written: BTreeMap<String, String>,
}

impl Manifests {
    /// Writes the namespace and the services, without any pod, into an existing directory.
    pub(super) fn new(directory: PathBuf) -> anyhow::Result<Self> {
        let mut manifests = Self {
            directory,
            pods: BTreeMap::new(),
            written: BTreeMap::new(),
        };
        manifests.write()?;
        Ok(manifests)
    }

    /// Adds a pod, or moves it to another phase.
    pub(super) fn set(
        &mut self,
        name: PodName,
        addresses: &[IpAddr],
        phase: Phase,
    ) -> anyhow::Result<()> {
        let addresses = addresses.to_vec();
        self.pods.insert(name, Pod { addresses, phase });
        self.write()
    }

    /// Removes a pod.
    pub(super) fn remove(&mut self, name: PodName) -> anyhow::Result<()> {
        self.pods.remove(&name);
        self.write()
    }

    /// How many addresses of services take requests, by what was written.
    pub(super) fn ready_endpoints(&self) -> usize {
        self.pods
            .iter()
            .filter(|(name, pod)| name.workload.service().is_some() && pod.phase == Phase::Ready)
            .map(|(_, pod)| pod.addresses.len())
            .sum()
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let files = render(&self.pods)?;
        for (file, text) in &files {
            if self.written.get(file) != Some(text) {
                replace(&self.directory.join(file), text)
                    .with_context(|| format!("cannot write the manifest {file}"))?;
            }
        }
        for file in self.written.keys() {
            if !files.contains_key(file) {
                fs::remove_file(self.directory.join(file))
                    .with_context(|| format!("cannot remove the manifest {file}"))?;
            }
        }
        self.written = files;
        Ok(())
    }
}

/// Replaces a file in one step, so that a watcher never reads half of it.
fn replace(path: &std::path::Path, text: &str) -> io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
}

fn render(pods: &BTreeMap<PodName, Pod>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut add = |file: String, objects: &[Value]| -> anyhow::Result<()> {
        let documents: Vec<_> = objects
            .iter()
            .map(serde_saphyr::to_string)
            .collect::<Result<_, _>>()?;
        files.insert(file, documents.join("---\n"));
        Ok(())
    };
    add(
        "namespace.yaml".to_owned(),
        &[json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE},
        })],
    )?;
    for workload in Workload::SERVICES {
        let Some(service) = workload.service() else {
            continue;
        };
        let objects = [
            service_object(&service),
            slice_object(workload, &service, "IPv4", pods),
            slice_object(workload, &service, "IPv6", pods),
        ];
        add(format!("service-{}.yaml", service.name), &objects)?;
    }
    for (name, pod) in pods {
        add(format!("pod-{name}.yaml"), &[pod_object(*name, pod)])?;
    }
    Ok(files)
}

fn service_object(service: &Service) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": NAMESPACE},
        "spec": {
            "clusterIP": service.cluster_ipv4,
            "clusterIPs": [service.cluster_ipv4, service.cluster_ipv6],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"app": service.name},
            "ports": [{
                "name": service.protocol.name(),
                "port": service.port,
                "targetPort": service.target_port,
                "protocol": "TCP",
                "appProtocol": service.protocol.name(),
            }],
        },
    })
}

fn slice_object(
    workload: Workload,
    service: &Service,
    family: &str,
    pods: &BTreeMap<PodName, Pod>,
) -> Value {
    let endpoints: Vec<_> = pods
        .iter()
        .filter(|(name, _)| name.workload == workload)
        .flat_map(|(name, pod)| {
            let of_family = |address: &&IpAddr| address.is_ipv4() == (family == "IPv4");
            pod.addresses
                .iter()
                .filter(of_family)
                .map(move |address| endpoint(*name, *address, pod.phase))
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{}-{}", service.name, family.to_lowercase()),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": family,
        "ports": [{
            "name": service.protocol.name(),
            "port": service.target_port,
            "protocol": "TCP",
            "appProtocol": service.protocol.name(),
        }],
        "endpoints": endpoints,
    })
}

fn endpoint(name: PodName, address: IpAddr, phase: Phase) -> Value {
    // As kubelet and the endpoint controller have it: a terminating endpoint that still serves is never ready.
    json!({
        "addresses": [address],
        "conditions": {
            "ready": phase == Phase::Ready,
            "serving": phase != Phase::Starting,
            "terminating": phase == Phase::Terminating,
        },
        "targetRef": {"kind": "Pod", "name": name.to_string(), "namespace": NAMESPACE},
    })
}

fn pod_object(name: PodName, pod: &Pod) -> Value {
    let workload = name.workload.name();
    let ports = name.workload.service().map_or_else(Vec::new, |service| {
        vec![json!({
            "name": service.protocol.name(),
            "containerPort": service.target_port,
            "protocol": "TCP",
        })]
    });
    let addresses: Vec<_> = pod.addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name.to_string(),
            "namespace": NAMESPACE,
            "labels": {"app": workload},
        },
        "spec": {
            "serviceAccountName": workload,
            "containers": [
                {"name": "app", "image": "weft-demo", "ports": ports},
                {"name": "weft-proxy", "image": "weft-proxy"},
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": pod.addresses.first(),
            "podIPs": addresses,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER_1: PodName = PodName {
        workload: Workload::User,
        replica: 1,
    };

    fn addresses() -> [IpAddr; 2] {
        ["10.244.0.2", "fd00:10:244::2"].map(|address| address.parse().unwrap())
    }

    #[test]
    fn a_terminating_pod_is_still_serving_and_no_longer_ready() {
        assert_eq!(
            endpoint(USER_1, addresses()[0], Phase::Terminating)["conditions"],
            json!({"ready": false, "serving": true, "terminating": true})
        );
        assert_eq!(
            endpoint(USER_1, addresses()[0], Phase::Starting)["conditions"],
            json!({"ready": false, "serving": false, "terminating": false})
        );
    }

    #[test]
    fn an_address_stands_in_the_slice_of_its_family() {
        let pod = Pod {
            addresses: addresses().to_vec(),
            phase: Phase::Ready,
        };
        let service = Workload::User.service().unwrap();
        let pods = BTreeMap::from([(USER_1, pod)]);
        for (family, address) in ["IPv4", "IPv6"].into_iter().zip(addresses()) {
            let slice = slice_object(Workload::User, &service, family, &pods);
            assert_eq!(slice["endpoints"][0]["addresses"], json!([address]));
            assert_eq!(slice["endpoints"].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn files_come_and_go_with_their_pods() {
        let directory = tempfile::tempdir().unwrap();
        let files = || {
            let mut names: Vec<_> = fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let services = [
            "namespace.yaml",
            "service-order.yaml",
            "service-product.yaml",
            "service-user.yaml",
        ];
        let mut manifests = Manifests::new(directory.path().to_owned()).unwrap();
        assert_eq!(files(), services);
        manifests.set(USER_1, &addresses(), Phase::Ready).unwrap();
        assert!(files().contains(&"pod-user-1.yaml".to_owned()));
        let slices = fs::read_to_string(directory.path().join("service-user.yaml")).unwrap();
        assert!(slices.contains("10.244.0.2"), "{slices}");
        assert_eq!(manifests.ready_endpoints(), 2);
        manifests.remove(USER_1).unwrap();
        assert_eq!(files(), services);
    }
}

//! A cluster of pods around the stand-in: what its controllers and its node would do, as far as a scenario needs it.

use super::{Api, Place, kubelet::Running};
use crate::{chart, peers::helm::Helm};
use anyhow::Context;
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Duration};
use tempfile::TempDir;
use weft_cli::sandbox::{Network, Pod};

/// The namespace that Weft is installed in.
pub const SYSTEM: &str = chart::NAMESPACE;

/// A network of pods with an API.
pub struct Cluster {
    /// The API, on the node.
    pub api: Api,
    /// The network.
    pub network: Network,
    directory: TempDir,
}

impl Cluster {
    /// Starts an API that checks rights.
    pub fn start() -> anyhow::Result<Self> {
        let network = Network::new()?;
        let api = Api::start(Place::node(&network))?;
        api.guard();
        Ok(Self {
            api,
            network,
            directory: tempfile::tempdir()?,
        })
    }

    /// Makes a namespace.
    pub fn namespace(&self, name: &str, labels: Value) -> anyhow::Result<()> {
        self.api.create(&json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name, "labels": labels },
        }))?;
        Ok(())
    }

    /// Installs the chart, rendered by helm with further arguments, as an administrator would; nothing but what it
    /// holds.
    pub fn install(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.namespace(SYSTEM, json!({}))?;
        let rendered = chart::template(Helm::V4, None, arguments)?;
        let objects: Result<Vec<Value>, _> = chart::documents(&rendered)
            .into_iter()
            .filter(|(template, _)| !template.starts_with("tests/"))
            .map(|(_, document)| serde_saphyr::from_str(document))
            .collect();
        let mut objects = objects.context("what helm renders is YAML")?;
        objects.retain(|object| object["kind"].is_string());
        // As helm does: kinds before their objects.
        objects.sort_by_key(|object| object["kind"] != "CustomResourceDefinition");
        for object in objects {
            self.api.create(&object)?;
        }
        Ok(())
    }

    /// Starts a replica of the control plane from the template of its Deployment, with the rights of its account.
    pub fn control_plane(&self, replica: &str) -> anyhow::Result<Running> {
        let deployment = self
            .api
            .get("apps/v1", "Deployment", SYSTEM, "weft-control-plane");
        let template =
            deployment.context("the Deployment of the control plane")?["spec"]["template"].clone();
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"],
            "spec": template["spec"],
        });
        pod["metadata"]["name"] = json!(replica);
        pod["metadata"]["namespace"] = json!(SYSTEM);
        let (place, object) = self.admit(&pod)?;
        let token = self.api.token(
            SYSTEM,
            object["spec"]["serviceAccountName"]
                .as_str()
                .unwrap_or_default(),
            Some(replica),
            "",
            Duration::from_secs(3600),
        );
        let kubeconfig = self.write(
            &format!("{replica}.kubeconfig"),
            &self.api.kubeconfig(&token),
        )?;
        let extra = vec![format!("--kubeconfig={}", kubeconfig.display())];
        Running::start(&self.api, place, object, extra)
    }

    /// Posts a pod through admission, gives it a place and addresses, and runs what came back.
    pub fn run(&self, pod: &Value) -> anyhow::Result<Running> {
        let (place, object) = self.admit(pod)?;
        Running::start(&self.api, place, object, Vec::new())
    }

    fn admit(&self, pod: &Value) -> anyhow::Result<(Pod, Value)> {
        let mut object = self.api.create(pod)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let place = self.network.pod(name)?;
        let ips = [place.ipv4().to_string(), place.ipv6().to_string()];
        object["spec"]["nodeName"] = json!("node");
        object["status"] = json!({
            "phase": "Running",
            "hostIP": "10.244.0.1",
            "podIP": ips[0],
            "podIPs": ips.map(|ip| json!({ "ip": ip })),
            "conditions": [{ "type": "Ready", "status": "True" }],
        });
        let object = self.api.put(&object)?;
        Ok((place, object))
    }

    /// Makes the slice of a service whose endpoints are these pods: what the controller of slices would.
    pub fn endpoints(
        &self,
        namespace: &str,
        service: &str,
        pods: &[&Running],
    ) -> anyhow::Result<()> {
        let object = self.api.get("v1", "Service", namespace, service);
        let object = object.with_context(|| format!("service {namespace}/{service}"))?;
        let ports = object["spec"]["ports"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let ports = ports.iter().map(|port| {
            let target = match port["targetPort"].as_str() {
                Some(name) => pods.first().and_then(|pod| named_port(&pod.object, name)),
                None => port["targetPort"].as_u64(),
            };
            let mut of = json!({ "name": port["name"].as_str().unwrap_or_default(), "port": target, "protocol": "TCP" });
            if port["appProtocol"].is_string() {
                of["appProtocol"] = port["appProtocol"].clone();
            }
            of
        });
        let ports: Vec<Value> = ports.collect();
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|pod| {
                json!({
                    "addresses": [pod.pod.ipv4()],
                    "conditions": { "ready": true, "serving": true, "terminating": false },
                    "nodeName": "node",
                    "targetRef": { "kind": "Pod", "name": pod.object["metadata"]["name"], "namespace": namespace },
                })
            })
            .collect();
        self.api.put(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{service}-ipv4"),
                "namespace": namespace,
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        }))?;
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let everybody = |mode| fs::Permissions::from_mode(mode);
        fs::set_permissions(self.directory.path(), everybody(0o755))?;
        let path = self.directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn named_port(pod: &Value, name: &str) -> Option<u64> {
    let containers = ["initContainers", "containers"];
    let containers = containers
        .iter()
        .flat_map(|of| pod["spec"][*of].as_array().into_iter().flatten());
    let mut ports =
        containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let port = ports.find(|port| port["name"] == name)?;
    port["containerPort"].as_u64()
}

//! Runs a pod as its object says: a stand-in for the kubelet.
//!
//! Init containers run in order, native sidecars stay and must be started before the next, then the containers run.
//! What is taken from the object: command lines, environment (values and `fieldRef`), users, projected and ConfigMap
//! volumes, startup probes by HTTP. An image is one of our binaries by its name; a container of any other image is
//! the test's to serve. Not as on a node: mounts lie in a directory of the test, into which paths in arguments and
//! environment are led, and instead of a DNS the one name that a sidecar dials is replaced by an endpoint.

use super::Api;
use crate::{
    binaries,
    wait::{self, until},
};
use anyhow::{Context, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use weft_cli::sandbox::{Child, Pod};

/// How long a container may take to start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pod that runs.
pub struct Running {
    /// Where it runs.
    pub pod: Pod,
    /// Its object as it was admitted.
    pub object: Value,
    containers: BTreeMap<String, Child>,
    extra: Vec<String>,
    directory: TempDir,
}

impl Running {
    /// Runs an admitted pod until every container of ours has started.
    pub fn start(api: &Api, pod: Pod, object: Value, extra: Vec<String>) -> anyhow::Result<Self> {
        let mut running = Self {
            directory: tempfile::tempdir()?,
            containers: BTreeMap::new(),
            extra,
            pod,
            object,
        };
        open_to_all(running.directory.path())?;
        running.write_volumes(api)?;
        let spec = running.object["spec"].clone();
        for container in items(&spec["initContainers"]) {
            let is_sidecar = container["restartPolicy"] == "Always";
            if running.launch(api, container)? {
                if is_sidecar {
                    running.wait_started(container)?;
                } else {
                    running.wait_done(container)?;
                }
            }
        }
        for container in items(&spec["containers"]) {
            if running.launch(api, container)? {
                running.wait_started(container)?;
            }
        }
        Ok(running)
    }

    /// The process of a container of ours.
    pub fn container(&self, name: &str) -> anyhow::Result<&Child> {
        self.containers
            .get(name)
            .with_context(|| format!("no container {name} of ours runs"))
    }

    /// Kills a container of ours as a crash would, and waits until it is gone.
    pub fn kill(&self, name: &str) -> anyhow::Result<()> {
        let child = self.container(name)?;
        child.signal(Signal::KILL)?;
        until(&format!("{name} is gone"), PATIENCE, || {
            !matches!(child.try_wait(), Ok(None))
        })
    }

    /// Starts a container of ours again that has ended, and waits until it has started.
    pub fn restart(&mut self, api: &Api, name: &str) -> anyhow::Result<()> {
        let spec = self.object["spec"].clone();
        let mut all = items(&spec["initContainers"]).chain(items(&spec["containers"]));
        let container = all.find(|container| container["name"] == name);
        let container = container.with_context(|| format!("a container {name}"))?;
        self.launch(api, container)?;
        self.wait_started(container)
    }

    /// The last lines that a container wrote.
    pub fn log(&self, name: &str) -> String {
        let container = self.containers.get(name);
        container.map_or_else(String::new, |container| container.log_tail(40))
    }

    fn launch(&mut self, api: &Api, container: &Value) -> anyhow::Result<bool> {
        let name = text(&container["name"]);
        let Some(program) = program(&text(&container["image"]))? else {
            return Ok(false);
        };
        let environment = self.environment(api, container)?;
        let mut command = self.pod.command(program).name(&name);
        for argument in items(&container["args"]) {
            command = command.arg(self.led(&expanded(&text(argument), &environment), container));
        }
        command = command.args(&self.extra);
        for (key, value) in &environment {
            command = command.env(key, value);
        }
        let user = container["securityContext"]["runAsUser"].as_u64();
        let user = user.or(self.object["spec"]["securityContext"]["runAsUser"].as_u64());
        if let Some(user) = user.filter(|user| *user != 0) {
            command = command.uid(u32::try_from(user)?);
        }
        self.containers.insert(name, command.spawn()?);
        Ok(true)
    }

    fn environment(
        &self,
        api: &Api,
        container: &Value,
    ) -> anyhow::Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        for variable in items(&container["env"]) {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some(path) => self.field(path)?,
                None => expanded(&text(&variable["value"]), &environment),
            };
            environment.insert(text(&variable["name"]), self.led(&value, container));
        }
        if let Some(address) = environment.get("WEFT_XDS_ADDRESS").cloned()
            && let Some((host, _)) = address.rsplit_once(':')
        {
            let endpoint = api.resolve(&address)?;
            environment.insert("WEFT_XDS_ADDRESS".to_owned(), endpoint.to_string());
            environment.insert("WEFT_XDS_SERVER_NAME".to_owned(), host.to_owned());
        }
        Ok(environment)
    }

    /// A field of the object, by the path that the downward API uses.
    fn field(&self, path: &str) -> anyhow::Result<String> {
        let value = path
            .split('.')
            .fold(&self.object, |value, field| &value[field]);
        let value = value.as_str();
        Ok(value
            .with_context(|| format!("{path} of the pod"))?
            .to_owned())
    }

    /// Leads a path below a mount into the directory of the test.
    fn led(&self, value: &str, container: &Value) -> String {
        items(&container["volumeMounts"]).fold(value.to_owned(), |value, mount| {
            let volume = self.volume(&text(&mount["name"]));
            value.replace(&text(&mount["mountPath"]), &volume.display().to_string())
        })
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_volumes(&self, api: &Api) -> anyhow::Result<()> {
        let namespace = text(&self.object["metadata"]["namespace"]);
        for volume in items(&self.object["spec"]["volumes"]) {
            let directory = self.volume(&text(&volume["name"]));
            fs::create_dir(&directory)?;
            open_to_all(&directory)?;
            for source in items(&volume["projected"]["sources"]) {
                let token = &source["serviceAccountToken"];
                if token.is_object() {
                    let token_of = self.token(api, token);
                    fs::write(directory.join(text(&token["path"])), token_of)?;
                }
                if source["configMap"].is_object() {
                    write_config_map(api, &namespace, &source["configMap"], &directory)?;
                }
            }
            if volume["configMap"].is_object() {
                write_config_map(api, &namespace, &volume["configMap"], &directory)?;
            }
        }
        Ok(())
    }

    fn token(&self, api: &Api, projection: &Value) -> String {
        let metadata = &self.object["metadata"];
        api.token(
            &text(&metadata["namespace"]),
            &text(&self.object["spec"]["serviceAccountName"]),
            metadata["name"].as_str(),
            &text(&projection["audience"]),
            Duration::from_secs(projection["expirationSeconds"].as_u64().unwrap_or(3600)),
        )
    }

    fn wait_done(&self, container: &Value) -> anyhow::Result<()> {
        let name = text(&container["name"]);
        let child = self.container(&name)?;
        until(&format!("{name} has ended"), PATIENCE, || {
            !matches!(child.try_wait(), Ok(None))
        })?;
        let status = child.try_wait()?.context("it has ended")?;
        ensure!(status.success(), "{name} failed: {}", child.log());
        Ok(())
    }

    /// Waits for the startup probe, or the readiness probe where there is none.
    fn wait_started(&self, container: &Value) -> anyhow::Result<()> {
        let name = text(&container["name"]);
        let child = self.container(&name)?;
        let probe = &container["startupProbe"]["httpGet"];
        let path = text(&probe["path"]);
        let port = match probe["port"].as_str() {
            Some(port) => named_port(container, port),
            None => probe["port"].as_u64(),
        };
        let port = u16::try_from(port.context("a container of ours has a startup probe")?)?;
        let is_started =
            || wait::http_get(&self.pod, port, &path).is_ok_and(|(status, _)| status == 200);
        let waited = until(&format!("{name} has started"), PATIENCE, || {
            is_started() || !matches!(child.try_wait(), Ok(None))
        });
        let is_running = child.try_wait()?.is_none();
        ensure!(
            waited.is_ok() && is_running,
            "{name} does not start; its log:\n{}",
            child.log_tail(40)
        );
        Ok(())
    }
}

fn named_port(container: &Value, name: &str) -> Option<u64> {
    let mut ports = items(&container["ports"]);
    let port = ports.find(|port| port["name"] == name)?;
    port["containerPort"].as_u64()
}

/// The binary of an image, if it is one of ours.
fn program(image: &str) -> anyhow::Result<Option<PathBuf>> {
    for name in ["weft-proxy", "weft-control-plane"] {
        if image.contains(name) {
            return binaries::path(name).map(Some);
        }
    }
    Ok(None)
}

/// Replaces `$(NAME)` by variables that came before.
fn expanded(value: &str, environment: &BTreeMap<String, String>) -> String {
    environment
        .iter()
        .fold(value.to_owned(), |value, (name, of)| {
            value.replace(&format!("$({name})"), of)
        })
}

fn write_config_map(
    api: &Api,
    namespace: &str,
    source: &Value,
    directory: &Path,
) -> anyhow::Result<()> {
    let name = text(&source["name"]);
    let mut found = None;
    // As on a node, the pod waits for what it mounts.
    until(
        &format!("there is a ConfigMap {namespace}/{name}"),
        PATIENCE,
        || {
            found = api.get("v1", "ConfigMap", namespace, &name);
            found.is_some()
        },
    )?;
    let object = found.unwrap_or_default();
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        files.insert(key.clone(), text(value).into_bytes());
    }
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        files.insert(key.clone(), STANDARD.decode(text(value))?);
    }
    let all: Vec<Value> = files
        .keys()
        .map(|key| json!({ "key": key, "path": key }))
        .collect();
    let chosen = source["items"].as_array().unwrap_or(&all);
    for item in chosen {
        let key = text(&item["key"]);
        let content = files.get(&key);
        let content = content.with_context(|| format!("{key} of ConfigMap {namespace}/{name}"))?;
        fs::write(directory.join(text(&item["path"])), content)?;
    }
    Ok(())
}

fn open_to_all(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

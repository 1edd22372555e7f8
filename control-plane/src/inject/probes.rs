//! Probes of the kubelet, which is no workload of the mesh and has no certificate: they go to the health
//! port of the proxy, which asks the application in its stead (`proxy/src/admin/probes.rs`).
//!
//! What is asked stays as it was written, and travels to the proxy in one variable. `exec` needs no network
//! and stays as it is; so does what names a host, as it is not for this pod.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use weft_xds_proto::names;

use super::{
    Invalid, PROXY,
    pod::{At, Container, Pod},
    sidecar::PROBES,
};

/// What the proxy asks of whom: by container, then by the last part of the path it is asked at.
pub(super) type Table = BTreeMap<String, BTreeMap<String, Value>>;

/// How the paths on the health port begin.
const PREFIX: &str = "/app-health/";

/// The ways to ask over the network.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// The hooks that the kubelet may call over HTTP, which it waits for as long as the pod may take to end.
const HOOKS: [(&str, &str); 2] = [("postStart", "poststart"), ("preStop", "prestop")];

/// How long that is, unless the pod says so.
pub(super) const GRACE_SECONDS: u64 = 30;

/// Brings the probes of every container to the proxy. What the proxy has to know of them comes back.
pub(super) fn bring(patched: &mut Value, pod: &Pod) -> Result<Table, Invalid> {
    let mut table = Table::new();
    for (at, container) in pod.containers().filter(|(_, c)| c.name != PROXY) {
        for found in found_in(at, container, pod)? {
            if let Some(place) = patched
                .pointer_mut(&found.pointer)
                .and_then(Value::as_object_mut)
            {
                redirect(place, &container.name, found.path);
            }
            let of_container = table.entry(container.name.clone()).or_default();
            of_container.insert(found.path.to_owned(), found.question);
        }
    }
    Ok(table)
}

/// The same for a pod with a proxy, which learns of them beside what it knows. Tells whether there were any.
pub(super) fn bring_to_injected(patched: &mut Value, pod: &Pod) -> Result<bool, Invalid> {
    let brought = bring(patched, pod)?;
    let Some((at, proxy)) = pod.proxy().filter(|_| !brought.is_empty()) else {
        return Ok(false);
    };
    let mut variables = proxy.env.iter().flatten();
    let position = variables.position(|variable| variable.name == PROBES);
    let text = position.and_then(|p| proxy.env.as_ref()?.get(p)?.value.as_deref());
    let mut table: Table = serde_json::from_str(text.unwrap_or("{}")).map_err(|error| {
        Invalid::new(format!("{}.env: {PROBES}", at.field()), error.to_string())
    })?;
    for (container, questions) in brought {
        table.entry(container).or_default().extend(questions);
    }
    let variable = json!({ "name": PROBES, "value": text_of(&table) });
    let env = patched.pointer_mut(&format!("{}/env", at.pointer()));
    let env = env.and_then(Value::as_array_mut);
    match (env, position) {
        (Some(env), Some(position)) => env[position] = variable,
        (Some(env), None) => env.push(variable),
        (None, _) => patched[at.list.field()][at.index]["env"] = json!([variable]),
    }
    Ok(true)
}

/// The value of the variable. Kubernetes would take `$(...)` in it for the name of another one.
pub(super) fn text_of(table: &Table) -> String {
    json!(table).to_string().replace('$', "\\u0024")
}

/// A probe or hook that the proxy can take over.
struct Found {
    pointer: String,
    path: &'static str,
    question: Value,
}

fn found_in(at: At, container: &Container, pod: &Pod) -> Result<Vec<Found>, Invalid> {
    let mut found = Vec::new();
    let probes = [
        ("livenessProbe", "livez", &container.liveness_probe),
        ("readinessProbe", "readyz", &container.readiness_probe),
        ("startupProbe", "startupz", &container.startup_probe),
    ];
    for (field, path, probe) in probes {
        let Some(probe) = probe else { continue };
        let named = format!("{}.{field}", at.field());
        if let Some(mut question) = question(probe, container, &named)? {
            if let Some(timeout) = probe.get("timeoutSeconds") {
                question.insert("timeoutSeconds".to_owned(), timeout.clone());
            }
            found.push(Found {
                pointer: format!("{}/{field}", at.pointer()),
                path,
                question: question.into(),
            });
        }
    }
    for (hook, path) in HOOKS {
        let handler = container.lifecycle.as_ref().and_then(|l| l.get(hook));
        let Some(handler) = handler.filter(|handler| handler.get("httpGet").is_some()) else {
            continue;
        };
        let named = format!("{}.lifecycle.{hook}", at.field());
        if let Some(mut question) = question(handler, container, &named)? {
            let grace = pod.spec().termination_grace_period_seconds;
            let seconds = grace.unwrap_or(GRACE_SECONDS).max(1);
            question.insert("timeoutSeconds".to_owned(), seconds.into());
            found.push(Found {
                pointer: format!("{}/lifecycle/{hook}", at.pointer()),
                path,
                question: question.into(),
            });
        }
    }
    Ok(found)
}

/// What is asked, with the port as a number. `None` if the kubelet can go on asking it itself.
fn question(
    handler: &Value,
    container: &Container,
    field: &str,
) -> Result<Option<Map<String, Value>>, Invalid> {
    let kinds = HANDLERS.into_iter();
    let mut found = kinds.filter_map(|kind| Some((kind, handler.get(kind)?.as_object()?)));
    let Some((kind, asked)) = found.next_back() else {
        return Ok(None);
    };
    let elsewhere = asked.get("host").and_then(Value::as_str);
    if elsewhere.is_some_and(|host| !host.is_empty()) || is_brought(asked) {
        return Ok(None);
    }
    let port = port(asked.get("port"), container).ok_or_else(|| {
        let written = asked.get("port").unwrap_or(&Value::Null);
        let reason = format!("{written} is neither a port nor the name of one of this container's");
        Invalid::new(format!("{field}.{kind}.port"), reason)
    })?;
    let mut asked = asked.clone();
    asked.remove("host");
    asked.insert("port".to_owned(), port.into());
    Ok(Some(Map::from_iter([(kind.to_owned(), asked.into())])))
}

fn is_brought(asked: &Map<String, Value>) -> bool {
    let port = asked.get("port").and_then(Value::as_u64);
    let path = asked.get("path").and_then(Value::as_str);
    port == Some(names::HEALTH_PORT.into()) && path.is_some_and(|path| path.starts_with(PREFIX))
}

/// A number, the name of a port of the container, or a number as a text, as the kubelet reads it.
fn port(written: Option<&Value>, container: &Container) -> Option<u16> {
    let number = match written? {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok()?,
        Value::String(text) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(text));
            match named {
                Some(port) => port.container_port,
                None => text.parse().ok()?,
            }
        }
        _ => return None,
    };
    (number != 0).then_some(number)
}

/// Puts the proxy's port in the place of the application's; how often and how long stays.
fn redirect(place: &mut Map<String, Value>, container: &str, path: &str) {
    for handler in HANDLERS {
        place.remove(handler);
    }
    let asked = json!({
        "path": format!("{PREFIX}{container}/{path}"),
        "port": names::HEALTH_PORT,
        "scheme": "HTTP",
    });
    place.insert("httpGet".to_owned(), asked);
}

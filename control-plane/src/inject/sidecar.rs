//! The sidecar itself: what is added to a pod.

use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Display};
use weft_xds_proto::names;

use super::{
    INIT, INJECTED, Invalid, PROXY, Place, Quantity, Settings, VOLUME,
    annotations::{self, Wishes},
    pod::Pod,
    probes::{self, GRACE_SECONDS},
    settings::NativeSidecar,
};
use crate::ca::token::AUDIENCE;

/// The variable in which probes of the application come to the proxy.
pub(super) const PROBES: &str = "WEFT_APP_PROBES";

/// The variables that the injector sets.
pub(super) const OWN_VARIABLES: [&str; 15] = [
    "WEFT_NAMESPACE",
    "WEFT_POD",
    "WEFT_SERVICE_ACCOUNT",
    "WEFT_WORKLOAD",
    "WEFT_TRUST_DOMAIN",
    "WEFT_CLUSTER_DOMAIN",
    "WEFT_XDS_ADDRESS",
    "WEFT_XDS_CA",
    "WEFT_XDS_TOKEN",
    "WEFT_WORKERS",
    "WEFT_DRAIN_TIMEOUT",
    "WEFT_LOG",
    "WEFT_LOG_FORMAT",
    "WEFT_ACCESS_LOG",
    PROBES,
];

/// The ConfigMap with the roots of the mesh, in every namespace of it.
const ROOTS: &str = "weft-ca-root-cert";
/// Its key, which is the name of the file as well.
const ROOTS_KEY: &str = "root-cert.pem";
/// Where the volume is mounted.
const DIRECTORY: &str = "/var/run/secrets/weft";
/// How long a token is valid; the kubelet replaces it in time.
const TOKEN_SECONDS: u32 = 12 * 3600;
/// How long a pod may take to become ready, as attempts a second apart, before the proxy is restarted.
const STARTUP_ATTEMPTS: u32 = 600;
/// What is left of the grace period when the proxy stops waiting: to end, and be seen to.
const RESERVE_SECONDS: u64 = 5;
/// `weft-proxy init` takes that many ports and subnets in all.
const MAX_SKIPPED: usize = 256;
/// By which Prometheus, as most configure it, finds what to scrape.
const SCRAPE: &str = "prometheus.io/";
/// The container that kubectl takes when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What is added to a pod.
pub(super) struct Sidecar {
    native: bool,
    init: Option<Value>,
    proxy: Value,
    volume: Value,
    annotations: BTreeMap<String, String>,
    pull_secrets: Vec<Value>,
}

impl Sidecar {
    /// The sidecar of this pod.
    pub(super) fn new(
        pod: &Pod,
        wishes: &Wishes,
        place: &Place<'_>,
        settings: &Settings,
        probes: &probes::Table,
    ) -> Result<Self, Invalid> {
        let native = wishes
            .native_sidecar
            .unwrap_or(match settings.native_sidecar {
                NativeSidecar::Auto => place.native_sidecars,
                NativeSidecar::Always => true,
                NativeSidecar::Never => false,
            });
        let base = Base {
            image: wishes.image.as_deref().unwrap_or(&settings.image),
            settings,
            resources: resources(wishes, settings)?,
        };
        let init = match settings.cni {
            true => None,
            false => Some(init(&base, wishes)?),
        };
        let variables = variables(pod, wishes, place, settings, probes);
        Ok(Self {
            native,
            init,
            proxy: proxy(&base, native, variables),
            volume: volume(),
            annotations: annotations(pod, native, settings),
            pull_secrets: pull_secrets(pod, settings),
        })
    }

    /// Adds it.
    ///
    /// A native sidecar stands before the application's init containers, which have the mesh already. An
    /// ordinary one starts after all of them: interception is set up last, so that they have the network.
    pub(super) fn add_to(self, pod: &mut Value) {
        let metadata = object(object_mut(pod), "metadata");
        let annotations = object(metadata, "annotations");
        for (name, value) in self.annotations {
            annotations.insert(name, value.into());
        }
        let spec = object(object_mut(pod), "spec");
        array(spec, "volumes").push(self.volume);
        if !self.pull_secrets.is_empty() {
            array(spec, "imagePullSecrets").extend(self.pull_secrets);
        }
        if self.native {
            let first = self.init.into_iter().chain([self.proxy]);
            array(spec, "initContainers").splice(..0, first);
        } else {
            if let Some(init) = self.init {
                array(spec, "initContainers").push(init);
            }
            array(spec, "containers").insert(0, self.proxy);
        }
    }
}

/// What both containers have in common.
struct Base<'a> {
    image: &'a str,
    settings: &'a Settings,
    resources: Value,
}

/// Sets up interception and ends.
fn init(base: &Base<'_>, wishes: &Wishes) -> Result<Value, Invalid> {
    let settings = base.settings;
    let mut args = vec!["init".to_owned()];
    let mut skipped = 0;
    let mut skip = |flag: &str, list: Vec<String>| {
        skipped += list.len();
        if !list.is_empty() {
            args.push(format!("--{flag}={}", list.join(",")));
        }
    };
    skip(
        "skip-inbound-ports",
        all(&settings.skip_inbound_ports, &wishes.skip_inbound_ports),
    );
    skip(
        "skip-outbound-ports",
        all(&settings.skip_outbound_ports, &wishes.skip_outbound_ports),
    );
    skip(
        "skip-outbound-subnets",
        all(
            &settings.skip_outbound_subnets,
            &wishes.skip_outbound_subnets,
        ),
    );
    if skipped > MAX_SKIPPED {
        return Err(Invalid::new(
            "metadata.annotations",
            format!(
                "{skipped} ports and subnets are to be skipped, those of the injector's settings included; \
                 there may be {MAX_SKIPPED}: join neighbours into ranges and larger subnets"
            ),
        ));
    }
    Ok(json!({
        "name": INIT,
        "image": base.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": args,
        "resources": base.resources,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
    }))
}

/// Serves the pod as long as it lives. It meets Pod Security's level `restricted`.
fn proxy(base: &Base<'_>, native: bool, variables: Vec<Value>) -> Value {
    let ask = |path: &str| json!({ "path": path, "port": names::HEALTH_PORT, "scheme": "HTTP" });
    let mut proxy = json!({
        "name": PROXY,
        "image": base.image,
        "imagePullPolicy": base.settings.image_pull_policy,
        "args": ["run"],
        "env": variables,
        "ports": [
            { "name": "weft-metrics", "containerPort": names::METRICS_PORT, "protocol": "TCP" },
            { "name": "weft-health", "containerPort": names::HEALTH_PORT, "protocol": "TCP" },
        ],
        "startupProbe": {
            "httpGet": ask("/readyz"),
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": STARTUP_ATTEMPTS,
        },
        "readinessProbe": {
            "httpGet": ask("/readyz"),
            "periodSeconds": 5,
            "timeoutSeconds": 3,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": ask("/livez"),
            "periodSeconds": 10,
            "timeoutSeconds": 3,
            "failureThreshold": 3,
        },
        "resources": base.resources,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": names::PROXY_UID,
            "runAsNonRoot": true,
            "runAsUser": names::PROXY_UID,
            "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [{ "name": VOLUME, "mountPath": DIRECTORY, "readOnly": true }],
    });
    if native {
        proxy["restartPolicy"] = "Always".into();
    }
    proxy
}

fn variables(
    pod: &Pod,
    wishes: &Wishes,
    place: &Place<'_>,
    settings: &Settings,
    probes: &probes::Table,
) -> Vec<Value> {
    let value = |name: &str, value: String| json!({ "name": name, "value": value });
    let field = |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "apiVersion": "v1", "fieldPath": path } } });
    let wish = |wish: &Option<String>, setting: &str| wish.as_deref().unwrap_or(setting).to_owned();
    let log_format = match settings.log_format {
        super::settings::LogFormat::Text => "text",
        super::settings::LogFormat::Json => "json",
    };
    let mut variables = vec![
        field("WEFT_NAMESPACE", "metadata.namespace"),
        field("WEFT_POD", "metadata.name"),
        field("WEFT_SERVICE_ACCOUNT", "spec.serviceAccountName"),
    ];
    let workload = place.workload.map(Into::into).or_else(|| pod.workload());
    variables.extend(workload.map(|name| value("WEFT_WORKLOAD", name.to_string())));
    variables.extend([
        value("WEFT_TRUST_DOMAIN", settings.trust_domain.clone()),
        value("WEFT_CLUSTER_DOMAIN", settings.cluster_domain.clone()),
        value("WEFT_XDS_ADDRESS", settings.xds_address.clone()),
        value("WEFT_XDS_CA", format!("{DIRECTORY}/{ROOTS_KEY}")),
        value("WEFT_XDS_TOKEN", format!("{DIRECTORY}/token")),
        workers(wishes, settings),
        value("WEFT_DRAIN_TIMEOUT", format!("{}s", drain_seconds(pod))),
        value("WEFT_LOG", wish(&wishes.log_level, &settings.log_level)),
        value("WEFT_LOG_FORMAT", log_format.to_owned()),
        value(
            "WEFT_ACCESS_LOG",
            wish(&wishes.access_log, &settings.access_log),
        ),
    ]);
    if !probes.is_empty() {
        variables.push(value(PROBES, probes::text_of(probes)));
    }
    let further = settings.env.iter();
    variables.extend(further.map(|(name, text)| value(name, text.clone())));
    variables
}

/// As many as the limit of CPU, which the kubelet rounds up. Without one it would say all of the node.
fn workers(wishes: &Wishes, settings: &Settings) -> Value {
    const NAME: &str = "WEFT_WORKERS";
    if wishes.limits.contains_key("cpu") || settings.resources.limits.contains_key("cpu") {
        let limit = json!({ "resource": "limits.cpu", "divisor": "1" });
        return json!({ "name": NAME, "valueFrom": { "resourceFieldRef": limit } });
    }
    json!({ "name": NAME, "value": settings.workers.to_string() })
}

/// One deadline: what is in flight may take as long as the pod has, but for the end itself.
fn drain_seconds(pod: &Pod) -> u64 {
    let grace = pod.spec().termination_grace_period_seconds;
    let grace = grace.unwrap_or(GRACE_SECONDS);
    grace.saturating_sub(RESERVE_SECONDS).max(grace / 2).max(1)
}

/// Of a request and a limit that contradict each other, that of the pod's annotation counts, and the other
/// follows.
fn resources(wishes: &Wishes, settings: &Settings) -> Result<Value, Invalid> {
    let mut requests = settings.resources.requests.clone();
    let mut limits = settings.resources.limits.clone();
    let overlay = |over: &mut BTreeMap<String, Quantity>, by: &BTreeMap<&str, Quantity>| {
        over.extend(
            by.iter()
                .map(|(name, amount)| (String::from(*name), amount.clone())),
        );
    };
    overlay(&mut requests, &wishes.requests);
    overlay(&mut limits, &wishes.limits);
    for (resource, annotation) in [
        ("cpu", annotations::CPU_LIMIT),
        ("memory", annotations::MEMORY_LIMIT),
    ] {
        let pair = (requests.get_mut(resource), limits.get_mut(resource));
        let (Some(request), Some(limit)) = pair else {
            continue;
        };
        if *request <= *limit {
            continue;
        }
        let asked = wishes.requests.contains_key(resource);
        match (asked, wishes.limits.contains_key(resource)) {
            (true, true) => {
                let reason = format!("{limit} is less than the request, {request}");
                return Err(Invalid::new(annotations::field(annotation), reason));
            }
            (true, false) => *limit = request.clone(),
            (false, _) => *request = limit.clone(),
        }
    }
    let mut resources = json!({});
    if !requests.is_empty() {
        resources["requests"] = json!(requests);
    }
    if !limits.is_empty() {
        resources["limits"] = json!(limits);
    }
    Ok(resources)
}

/// Readable by the proxy's user whatever the pod's `fsGroup`: with one, the proxy is in that group; without,
/// the kubelet lets everybody in the pod read a projected token, unless all run as one user.
fn volume() -> Value {
    json!({
        "name": VOLUME,
        "projected": {
            "defaultMode": 0o644,
            "sources": [
                {
                    "serviceAccountToken": {
                        "audience": AUDIENCE,
                        "expirationSeconds": TOKEN_SECONDS,
                        "path": "token",
                    },
                },
                {
                    "configMap": {
                        "name": ROOTS,
                        "items": [{ "key": ROOTS_KEY, "path": ROOTS_KEY }],
                    },
                },
            ],
        },
    })
}

fn annotations(pod: &Pod, native: bool, settings: &Settings) -> BTreeMap<String, String> {
    let mut added = BTreeMap::new();
    let mut add = |name: &str, value: &str| added.insert(name.to_owned(), value.to_owned());
    add(INJECTED, env!("CARGO_PKG_VERSION"));
    let has = |start: &str| pod.annotations().keys().any(|name| name.starts_with(start));
    if settings.scrape_annotations && !has(SCRAPE) {
        add("prometheus.io/scrape", "true");
        add("prometheus.io/port", &names::METRICS_PORT.to_string());
        add("prometheus.io/path", "/metrics");
    }
    if !native && !has(DEFAULT_CONTAINER) {
        add(DEFAULT_CONTAINER, pod.first_container());
    }
    added
}

fn pull_secrets(pod: &Pod, settings: &Settings) -> Vec<Value> {
    let there = |name: &str| {
        let mut secrets = pod.spec().image_pull_secrets.iter().flatten();
        secrets.any(|secret| secret.name.as_deref() == Some(name))
    };
    let missing = settings
        .image_pull_secrets
        .iter()
        .filter(|name| !there(name));
    missing.map(|name| json!({ "name": name })).collect()
}

/// Both lists, each entry once.
fn all<T: PartialEq + Display>(settings: &[T], wishes: &[T]) -> Vec<String> {
    let new = wishes.iter().filter(|wish| !settings.contains(wish));
    settings.iter().chain(new).map(T::to_string).collect()
}

type Object = serde_json::Map<String, Value>;

fn object_mut(value: &mut Value) -> &mut Object {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it has just been made an object"),
    }
}

fn object<'a>(parent: &'a mut Object, key: &str) -> &'a mut Object {
    object_mut(parent.entry(key).or_insert(Value::Null))
}

fn array<'a>(parent: &'a mut Object, key: &str) -> &'a mut Vec<Value> {
    let value = parent.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(array) => array,
        _ => unreachable!("it has just been made an array"),
    }
}

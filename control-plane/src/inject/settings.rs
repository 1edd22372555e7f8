//! What the injector is told once for all pods. Annotations of a pod override some of it.
//!
//! One YAML file; in a cluster the key `config.yaml` of the ConfigMap `weft-injector-config`. Every field
//! may be left out, and one that is not listed here is refused.

use super::{PortRange, Quantity, Subnet, sidecar};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, num::NonZeroU32};

/// What is injected, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// The image of the proxy, which is also that of the init step. Default: `weft-proxy:<version>`.
    pub image: String,
    /// When the image is pulled. Default: `IfNotPresent`.
    pub image_pull_policy: PullPolicy,
    /// Secrets with which the image is pulled, added to those of the pod. They must be in the namespace of
    /// the pod. Default: none.
    pub image_pull_secrets: Vec<String>,
    /// Host and port of the control plane. Default: `weft-control-plane.weft-system.svc:15012`.
    pub xds_address: String,
    /// The trust domain of all identities. Default: `cluster.local`.
    pub trust_domain: String,
    /// What ends the names of services. Default: `cluster.local`.
    pub cluster_domain: String,
    /// Whether the proxy is a native sidecar: an init container that goes on running. Default: `Auto`.
    pub native_sidecar: NativeSidecar,
    /// Whether a CNI plugin sets up interception: no init step is injected then. Default: `false`.
    pub cni: bool,
    /// What the proxy requests and may use; given, it replaces the default as a whole. Default: requests
    /// of 50m CPU and 32Mi memory, a limit of 256Mi memory and none of CPU.
    pub resources: Resources,
    /// Data workers of a proxy without a limit of CPU. With one, it is the limit, rounded up. Default: 2.
    pub workers: NonZeroU32,
    /// Level of the proxy's own log. Default: `info`.
    pub log_level: String,
    /// Form of the proxy's own log. Default: `json`.
    pub log_format: LogFormat,
    /// Which requests the proxy logs: `off`, `all`, `errors`, `sample:<share>`. Default: `off`.
    pub access_log: String,
    /// Whether pods get annotations by which Prometheus scrapes the proxy, unless they have their own.
    /// Default: `true`.
    pub scrape_annotations: bool,
    /// Ports of applications that are left alone, for every pod. Default: none.
    pub skip_inbound_ports: Vec<PortRange>,
    /// Destination ports that are left alone, for every pod. Default: none.
    pub skip_outbound_ports: Vec<PortRange>,
    /// Destinations that are left alone, for every pod. Default: none.
    pub skip_outbound_subnets: Vec<Subnet>,
    /// Further environment variables of the proxy, `WEFT_...`: one for each of its flags. Default: none.
    pub env: BTreeMap<String, String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Unless the node has it.
    #[default]
    IfNotPresent,
    /// Never: the node must have it.
    Never,
}

/// Whether the proxy is a native sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NativeSidecar {
    /// If the API server has them: Kubernetes 1.29 and newer.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No: an ordinary container. For clusters with nodes older than 1.29.
    Never,
}

/// The form of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines for machines.
    #[default]
    Json,
}

/// What a container requests and may use: `cpu`, `memory`, and whatever else the cluster counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resources {
    /// What it is sure to get.
    pub requests: BTreeMap<String, Quantity>,
    /// What it may use at most.
    pub limits: BTreeMap<String, Quantity>,
}

/// Why settings are not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// The text is no YAML, or has a field that is unknown or of the wrong type.
    #[error("{0}")]
    Text(String),
    /// A value that means nothing.
    #[error("{field}: {reason}")]
    Field {
        /// The field, `resources.limits.memory`.
        field: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl Settings {
    /// Reads settings from YAML. An empty text is all defaults.
    pub fn parse(text: &str) -> Result<Self, InvalidSettings> {
        let read = serde_saphyr::from_str::<Option<Self>>(text);
        let settings = read
            .map_err(|error| InvalidSettings::Text(error.to_string()))?
            .unwrap_or_default();
        settings.check()?;
        Ok(settings)
    }

    /// Finds values that mean nothing.
    pub fn check(&self) -> Result<(), InvalidSettings> {
        let invalid = |field: String, reason: String| Err(InvalidSettings::Field { field, reason });
        for (field, text) in [
            ("image", &self.image),
            ("trustDomain", &self.trust_domain),
            ("clusterDomain", &self.cluster_domain),
            ("logLevel", &self.log_level),
        ] {
            if text.trim().is_empty() {
                return invalid(
                    field.to_owned(),
                    "is empty; leave it out for the default".to_owned(),
                );
            }
        }
        if let Err(reason) = check_access_log(&self.access_log) {
            let reason = format!("{:?} {reason}", self.access_log);
            return invalid("accessLog".to_owned(), reason);
        }
        let host_and_port = self.xds_address.rsplit_once(':');
        let port = host_and_port.and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            let reason = format!(
                "{:?} is not host:port, such as weft-control-plane.weft-system.svc:15012",
                self.xds_address
            );
            return invalid("xdsAddress".to_owned(), reason);
        }
        for (resource, request) in &self.resources.requests {
            if let Some(limit) = self.resources.limits.get(resource).filter(|l| *l < request) {
                let reason = format!("{request} is more than its limit, {limit}");
                return invalid(format!("resources.requests.{resource}"), reason);
            }
        }
        for name in self.env.keys() {
            let reason = if !name.starts_with("WEFT_") {
                "is no variable of the proxy; they begin with WEFT_"
            } else if sidecar::OWN_VARIABLES.contains(&name.as_str()) {
                "is set by the injector itself"
            } else {
                continue;
            };
            return invalid(format!("env.{name}"), reason.to_owned());
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: concat!("weft-proxy:", env!("CARGO_PKG_VERSION")).to_owned(),
            image_pull_policy: PullPolicy::default(),
            image_pull_secrets: Vec::new(),
            xds_address: "weft-control-plane.weft-system.svc:15012".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            native_sidecar: NativeSidecar::default(),
            cni: false,
            resources: default_resources(),
            workers: const { NonZeroU32::new(2).unwrap() },
            log_level: "info".to_owned(),
            log_format: LogFormat::default(),
            access_log: "off".to_owned(),
            scrape_annotations: true,
            skip_inbound_ports: Vec::new(),
            skip_outbound_ports: Vec::new(),
            skip_outbound_subnets: Vec::new(),
            env: BTreeMap::new(),
        }
    }
}

/// What `--access-log` of the proxy takes.
pub(super) fn check_access_log(text: &str) -> Result<(), &'static str> {
    let share = text.strip_prefix("sample:").map(str::parse::<f64>);
    match (text, share) {
        ("off" | "all" | "errors", _) => Ok(()),
        (_, Some(Ok(share))) if (0.0..=1.0).contains(&share) => Ok(()),
        _ => Err("is no access log; write off, all, errors or sample:0.1"),
    }
}

fn default_resources() -> Resources {
    let amounts = |amounts: &[(&str, &str)]| {
        let entry = |(name, text): &(&str, &str)| Some((str::to_owned(name), text.parse().ok()?));
        amounts.iter().filter_map(entry).collect()
    };
    Resources {
        requests: amounts(&[("cpu", "50m"), ("memory", "32Mi")]),
        limits: amounts(&[("memory", "256Mi")]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_is_all_defaults() {
        for text in ["", "{}", "# nothing\n"] {
            assert_eq!(Settings::parse(text), Ok(Settings::default()), "{text:?}");
        }
        assert_eq!(Settings::default().resources.requests.len(), 2);
    }

    #[test]
    fn the_defaults_survive_being_written_and_read() {
        let written = serde_saphyr::to_string(&Settings::default()).unwrap();
        assert_eq!(
            Settings::parse(&written),
            Ok(Settings::default()),
            "{written}"
        );
    }

    #[test]
    fn every_field_is_read() {
        let settings = Settings::parse(
            "
            image: registry.example.org/weft-proxy:1
            imagePullPolicy: Always
            imagePullSecrets: [pull]
            xdsAddress: 10.0.0.1:15012
            trustDomain: example.org
            clusterDomain: example.local
            nativeSidecar: Never
            cni: true
            resources:
              limits: {cpu: 1, memory: 64Mi}
            workers: 4
            logLevel: debug
            logFormat: text
            accessLog: errors
            scrapeAnnotations: false
            skipInboundPorts: [9090, 8000-8999]
            skipOutboundPorts: [3306]
            skipOutboundSubnets: [10.0.0.0/8, 192.0.2.1]
            env: {WEFT_MAX_EDGES: '100'}
            ",
        )
        .unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&settings).unwrap());
    }

    #[test]
    fn a_mistake_names_the_field() {
        for (text, words) in [
            ("imag: x", &["imag"][..]),
            ("image: ''", &["image", "default"]),
            ("xdsAddress: nowhere", &["xdsAddress", "host:port"]),
            ("nativeSidecar: Maybe", &["Maybe", "Always"]),
            ("skipInboundPorts: [0]", &["\"0\"", "3306"]),
            ("resources: {limits: {memory: lots}}", &["lots", "64Mi"]),
            (
                "resources: {requests: {cpu: 2}, limits: {cpu: 1}}",
                &["resources.requests.cpu", "limit"],
            ),
            ("env: {PATH: /}", &["env.PATH", "WEFT_"]),
            ("env: {WEFT_POD: x}", &["env.WEFT_POD", "injector"]),
            ("accessLog: loud", &["accessLog", "errors"]),
            ("workers: 0", &["workers"]),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{text}: {error:?} lacks {word:?}");
            }
        }
    }
}

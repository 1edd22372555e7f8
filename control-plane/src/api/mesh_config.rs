//! `MeshConfig`: the settings of the whole mesh.

use super::Duration;
use crate::world;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

/// The settings of the mesh. There is one, cluster-scoped, named `default`; without it, every default
/// below is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MeshConfigSpec {
    /// Mutual TLS.
    pub mtls: Mtls,
    /// What holds for traffic that no policy says otherwise of.
    pub defaults: Defaults,
}

/// Mutual TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Mtls {
    /// What workloads take. Namespaces, workloads and ports override it by annotation.
    pub mode: MtlsMode,
}

/// What a port takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MtlsMode {
    /// Mutual TLS of the mesh, or plaintext.
    #[default]
    Permissive,
    /// Mutual TLS of the mesh only.
    Strict,
}

/// What holds for traffic that no policy says otherwise of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Defaults {
    /// How an endpoint is chosen for a request or connection.
    pub load_balancer: LoadBalancer,
    /// From the end of a request to the end of its response. `0s`: none.
    pub request_timeout: Duration,
    /// No byte in either direction of an HTTP stream. `0s`: none.
    pub idle_timeout: Duration,
    /// To connect to an endpoint, TCP and TLS together. More than `0s`.
    #[schemars(extend("x-weft-minimum" = "1ms"))]
    pub connect_timeout: Duration,
    /// What one proxy may have in use of one cluster.
    pub limits: Limits,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            load_balancer: LoadBalancer::default(),
            request_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(5 * 60),
            connect_timeout: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancer {
    /// Of two at random, the lower latency times load.
    #[default]
    PeakEwma,
    /// Of two at random, the fewer requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
}

/// What one proxy may have in use of one cluster. What passes a limit fails at once with 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Open connections.
    pub connections: NonZeroU32,
    /// Requests that wait for a connection.
    pub pending: NonZeroU32,
    /// Requests in flight.
    pub requests: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let world::Limits {
            connections,
            pending,
            requests,
        } = world::Limits::default();
        Self {
            connections,
            pending,
            requests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_spec_is_all_defaults() {
        let spec: MeshConfigSpec = serde_json::from_str("{}").unwrap();
        assert_eq!(spec, MeshConfigSpec::default());
    }

    #[test]
    fn an_unknown_field_is_refused_by_name() {
        let error = serde_json::from_str::<MeshConfigSpec>(r#"{"mtls": {"mod": "Strict"}}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `mod`"), "{error}");
    }

    #[test]
    fn the_schema_closes_objects_and_shows_defaults() {
        let schema = schemars::schema_for!(MeshConfigSpec);
        insta::assert_snapshot!(serde_json::to_string_pretty(&schema).unwrap());
    }
}

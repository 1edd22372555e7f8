//! From a Kubernetes object to a domain object: where it is validated, and where its types stay behind.
//!
//! Shared by every source that reads Kubernetes objects. Only what the mesh uses of an object is
//! read, and what is read is checked, so that a mistake is told with the field it is in.

mod backend;
mod endpoint_slice;
mod grpc_route;
mod http_route;
mod mesh_config;
mod namespace;
mod pod;
mod protocol;
mod reference_grant;
mod route;
mod service;
mod text;
mod traffic_policy;

pub(crate) use pod::{ZONE, check_annotations, workload_name};

use crate::{
    api,
    world::{
        Kind, MtlsMode, Object, ObjectKey, ObjectRef, Workload, quantity::Created, route::RouteKind,
    },
};
use k8s_openapi::jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// What became of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// `Service demo/user`, as far as it says.
    pub(crate) name: String,
    /// The object of the world that it is, if it is of a kind that Weft reads and says its name.
    pub(crate) reference: Option<ObjectRef>,
    /// Whether it is good.
    pub(crate) verdict: Verdict,
}

/// Whether an object is good.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// It is.
    Accepted(Object),
    /// It is, and the mesh has no use for it.
    Unused,
    /// It is of a kind that Weft does not read.
    UnknownKind(String),
    /// It is not.
    Refused {
        /// Why.
        invalid: Invalid,
        /// What stands for it where no good version of it is known: set when leaving it out would let
        /// in what its author meant to keep out, or keep out what has nothing to do with the mistake.
        instead: Option<StandIn>,
    },
}

/// What stands for an object that is not good.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StandIn {
    pub(crate) object: Object,
    /// What that means until the object is mended.
    pub(crate) consequence: &'static str,
}

impl StandIn {
    /// One that keeps out who does not prove who they are.
    fn strict(object: Object) -> Self {
        Self {
            object,
            consequence: "until it is mended, mTLS is Strict there",
        }
    }

    /// What stands for the object where a good version of it is known. Of a pod only what its author wrote is of
    /// that version: where it is and what runs there has nothing to do with the mistake, and may have changed since.
    pub(crate) fn after(self, good: &Object) -> Object {
        match (self.object, good) {
            (Object::Workload(told), Object::Workload(good)) => {
                Object::Workload(Arc::new(Workload {
                    mtls: good.mtls,
                    port_mtls: good.port_mtls.clone(),
                    weight: good.weight,
                    ..Arc::unwrap_or_clone(told)
                }))
            }
            (_, good) => good.clone(),
        }
    }
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// The field, `spec.ports[0].port`.
    pub(crate) field: String,
    /// What is wrong, and what to do.
    pub(crate) reason: String,
}

impl Invalid {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Converts an object. Identities are of the trust domain.
pub(crate) fn object(value: Value, trust_domain: &str) -> Outcome {
    let head = match Head::read(&value) {
        Ok(head) => head,
        Err((name, invalid)) => {
            return Outcome {
                name,
                reference: None,
                verdict: refused(invalid),
            };
        }
    };
    let Some(kind) = Known::of(&head.kind) else {
        return Outcome {
            reference: None,
            verdict: Verdict::UnknownKind(format!("{} ({})", head.kind, head.api_version)),
            name: head.to_string(),
        };
    };
    let key = match head.key(kind) {
        Ok(key) => key,
        Err(invalid) => {
            return Outcome {
                name: head.to_string(),
                reference: None,
                verdict: refused(invalid),
            };
        }
    };
    let verdict = if head.api_version == kind.api_version() {
        kind.convert(key.clone(), value, trust_domain)
    } else {
        let reason = format!(
            "{:?} is not the version of {} that Weft reads; write {}",
            head.api_version,
            head.kind,
            kind.api_version()
        );
        refused(Invalid::new("apiVersion", reason))
    };
    Outcome {
        name: format!("{} {key}", head.kind),
        reference: Some(ObjectRef {
            kind: kind.in_world(),
            key,
        }),
        verdict,
    }
}

/// The kinds that Weft reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Namespace,
    Service,
    EndpointSlice,
    Pod,
    MeshConfig,
    TrafficPolicy,
    HttpRoute,
    GrpcRoute,
    ReferenceGrant,
}

impl Known {
    pub(crate) fn of(kind: &str) -> Option<Self> {
        Some(match kind {
            "Namespace" => Self::Namespace,
            "Service" => Self::Service,
            "EndpointSlice" => Self::EndpointSlice,
            "Pod" => Self::Pod,
            "MeshConfig" => Self::MeshConfig,
            "TrafficPolicy" => Self::TrafficPolicy,
            "HTTPRoute" => Self::HttpRoute,
            "GRPCRoute" => Self::GrpcRoute,
            "ReferenceGrant" => Self::ReferenceGrant,
            _ => return None,
        })
    }

    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Namespace | Self::Service | Self::Pod => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::MeshConfig | Self::TrafficPolicy => api::API_VERSION,
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io/v1",
            Self::ReferenceGrant => "gateway.networking.k8s.io/v1beta1",
        }
    }

    pub(crate) fn in_world(self) -> Kind {
        match self {
            Self::Namespace => Kind::Namespace,
            Self::Service => Kind::Service,
            Self::EndpointSlice => Kind::EndpointSlice,
            Self::Pod => Kind::Workload,
            Self::MeshConfig => Kind::Mesh,
            Self::TrafficPolicy => Kind::TrafficPolicy,
            Self::HttpRoute => Kind::Route(RouteKind::Http),
            Self::GrpcRoute => Kind::Route(RouteKind::Grpc),
            Self::ReferenceGrant => Kind::ReferenceGrant,
        }
    }

    fn is_namespaced(self) -> bool {
        match self {
            Self::Service
            | Self::EndpointSlice
            | Self::Pod
            | Self::TrafficPolicy
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::ReferenceGrant => true,
            Self::Namespace | Self::MeshConfig => false,
        }
    }

    fn convert(self, key: ObjectKey, value: Value, trust_domain: &str) -> Verdict {
        match self {
            Self::Namespace => namespace::convert(key, value),
            Self::Service => service::convert(key, value),
            Self::EndpointSlice => endpoint_slice::convert(key, value),
            Self::Pod => pod::convert(key, value, trust_domain),
            Self::MeshConfig => mesh_config::convert(&key, value),
            Self::TrafficPolicy => traffic_policy::convert(key, value),
            Self::HttpRoute => http_route::convert(key, value),
            Self::GrpcRoute => grpc_route::convert(key, value),
            Self::ReferenceGrant => reference_grant::convert(key, value),
        }
    }
}

/// What every object says first.
struct Head {
    api_version: String,
    kind: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Head {
    fn read(value: &Value) -> Result<Self, (String, Invalid)> {
        let text = |field: &str, value: Option<&Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Invalid::new(field, "is not a string; put it in quotes")),
        };
        let unnamed = |invalid| ("an object".to_owned(), invalid);
        if !value.is_object() {
            let reason = "is not a mapping; an object starts with apiVersion and kind";
            return Err(unnamed(Invalid::new("", reason)));
        }
        let kind = text("kind", value.get("kind"))
            .map_err(unnamed)?
            .ok_or_else(|| unnamed(Invalid::new("kind", "is missing")))?;
        let named = |invalid| (kind.clone(), invalid);
        let api_version = text("apiVersion", value.get("apiVersion"))
            .map_err(named)?
            .ok_or_else(|| named(Invalid::new("apiVersion", "is missing")))?;
        let metadata = value.get("metadata");
        let part = |field| text(&format!("metadata.{field}"), metadata?.get(field)).transpose();
        let namespace = part("namespace").transpose().map_err(named)?;
        let name = part("name").transpose().map_err(named)?;
        Ok(Self {
            api_version,
            namespace,
            name,
            kind,
        })
    }

    fn key(&self, kind: Known) -> Result<ObjectKey, Invalid> {
        let name = self
            .name
            .as_deref()
            .ok_or_else(|| Invalid::new("metadata.name", "is missing"))?;
        // Names of pods and slices may have dots (RFC 1123 subdomains), those of namespaces and services
        // may not: they are labels of host names.
        let may_have_dots = match kind {
            Known::EndpointSlice
            | Known::Pod
            | Known::MeshConfig
            | Known::TrafficPolicy
            | Known::HttpRoute
            | Known::GrpcRoute
            | Known::ReferenceGrant => true,
            Known::Namespace | Known::Service => false,
        };
        check_name("metadata.name", name, may_have_dots)?;
        if !kind.is_namespaced() {
            return Ok(ObjectKey::of_cluster(name));
        }
        // As kubectl does.
        let namespace = self.namespace.as_deref().unwrap_or("default");
        check_name("metadata.namespace", namespace, false)?;
        Ok(ObjectKey::new(namespace, name))
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (None, Some(name)) => write!(f, " {name}"),
            (_, None) => Ok(()),
        }
    }
}

fn refused(invalid: Invalid) -> Verdict {
    Verdict::Refused {
        invalid,
        instead: None,
    }
}

fn verdict(result: Result<Object, Invalid>) -> Verdict {
    result.map_or_else(refused, Verdict::Accepted)
}

/// Reads a value as a type, and names the field that does not fit.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Invalid> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| Invalid::new(error.path().to_string(), error.inner().to_string()))
}

/// The `spec` of an object whose kind has nothing else to say.
fn spec(value: Value, kind: &str) -> Result<Option<Value>, Invalid> {
    let Value::Object(mut fields) = value else {
        return Ok(None);
    };
    let spec = fields.remove("spec").filter(|spec| !spec.is_null());
    let known = ["apiVersion", "kind", "metadata", "status"];
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        None => Ok(spec),
        Some(unknown) => Err(Invalid::new(
            unknown.as_str(),
            format!("is not a field of {kind}; settings stand in spec"),
        )),
    }
}

/// Reads the `spec` of an object as a type.
fn typed_spec<T: DeserializeOwned>(spec: Value) -> Result<T, Invalid> {
    typed(spec).map_err(|invalid| Invalid {
        // The path of the root is a dot.
        field: match invalid.field.as_str() {
            "." => "spec".to_owned(),
            field => format!("spec.{field}"),
        },
        ..invalid
    })
}

/// When an object says that it was created.
fn created(value: &Value) -> Result<Created, Invalid> {
    let field = "creationTimestamp";
    match value
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
    {
        None | Some(Value::Null) => Ok(Created::UNKNOWN),
        Some(time) => time
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok())
            .map(|time| Created::at(time.as_second()))
            .ok_or_else(|| {
                let reason = format!("{time} is not a time; write 2026-01-31T12:00:00Z");
                Invalid::new(format!("metadata.{field}"), reason)
            }),
    }
}

/// RFC 1123 labels, or with dots subdomains, as Kubernetes validates names.
fn check_name(field: &str, name: &str, may_have_dots: bool) -> Result<(), Invalid> {
    let label = |label: &str| {
        let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inner = |c: u8| alphanumeric(c) || c == b'-';
        label.len() <= 63
            && label.bytes().all(inner)
            && label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().last().is_some_and(alphanumeric)
    };
    let valid = if may_have_dots {
        name.len() <= 253 && name.split('.').all(label)
    } else {
        label(name)
    };
    if valid {
        return Ok(());
    }
    let reason =
        format!("{name:?} is not a name of lower-case letters, digits and dashes (RFC 1123)");
    Err(Invalid::new(field, reason))
}

fn port(field: impl Into<String>, number: i32) -> Result<u16, Invalid> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Invalid::new(field, format!("{number} is not a port; write 1 to 65535")))
}

fn is_tcp(field: impl Into<String>, protocol: Option<&str>) -> Result<bool, Invalid> {
    match protocol {
        None | Some("TCP") => Ok(true),
        Some("UDP" | "SCTP") => Ok(false),
        Some(other) => {
            let reason = format!("{other:?} is not a protocol; write TCP, UDP or SCTP");
            Err(Invalid::new(field, reason))
        }
    }
}

fn ip(field: impl Into<String>, text: &str) -> Result<std::net::IpAddr, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(field, format!("{text:?} is not an IP address")))
}

/// Overrides what a workload or all of a namespace take.
const MTLS_MODE: &str = "weft.dev/mtls-mode";
/// Overrides what the ports of a pod take: `8080=Strict,9090=Permissive`.
const MTLS_MODE_PORTS: &str = "weft.dev/mtls-mode-ports";

type Annotations = BTreeMap<String, String>;

fn annotation_field(name: &str) -> String {
    format!("metadata.annotations[\"{name}\"]")
}

fn mtls_mode(annotations: &Annotations) -> Result<Option<MtlsMode>, Invalid> {
    let Some(text) = annotations.get(MTLS_MODE) else {
        return Ok(None);
    };
    parse_mode(text)
        .map(Some)
        .map_err(|reason| Invalid::new(annotation_field(MTLS_MODE), reason))
}

fn parse_mode(text: &str) -> Result<MtlsMode, String> {
    match text.trim() {
        "Permissive" => Ok(MtlsMode::Permissive),
        "Strict" => Ok(MtlsMode::Strict),
        other => Err(format!(
            "{other:?} is not a mode; write Permissive or Strict"
        )),
    }
}

/// A misspelt rule of security must not pass for no rule.
fn check_annotation_names(annotations: &Annotations, known: &[&str]) -> Result<(), Invalid> {
    let misspelt = annotations
        .keys()
        .find(|name| name.starts_with("weft.dev/mtls") && !known.contains(&name.as_str()));
    match misspelt {
        None => Ok(()),
        Some(name) => Err(Invalid::new(
            annotation_field(name),
            format!(
                "is not an annotation that Weft reads here; write {}",
                known.join(" or ")
            ),
        )),
    }
}

#[cfg(test)]
mod examples;
#[cfg(test)]
mod tests;

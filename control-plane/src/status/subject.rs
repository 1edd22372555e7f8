//! An object that is spoken of, as the API has it.

use serde_json::{Value, json};

use crate::{
    api::{API_VERSION, gateway::GROUP, status::Reference},
    source::convert::{self, Invalid, Verdict},
    world::{Kind, Object, ObjectKey, ObjectRef, World, route::RouteKind},
};

/// A kind of object that is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Spoken {
    MeshConfig,
    TrafficPolicy,
    HttpRoute,
    GrpcRoute,
}

/// An object, less what is not needed to speak of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subject {
    pub(super) spoken: Spoken,
    pub(super) key: ObjectKey,
    pub(super) uid: String,
    pub(super) generation: Option<i64>,
    /// The version that a write has to be of.
    pub(super) version: String,
    /// What it names as targets or parents.
    pub(super) references: Vec<Reference>,
    pub(super) verdict: Told,
    pub(super) status: Value,
}

/// Whether an object is good.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Good(Object),
    Bad(Invalid),
    /// It is none of Weft's business.
    Foreign,
}

impl Spoken {
    pub(super) const ALL: [Self; 4] = [
        Self::MeshConfig,
        Self::TrafficPolicy,
        Self::HttpRoute,
        Self::GrpcRoute,
    ];

    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::MeshConfig => "MeshConfig",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::HttpRoute => RouteKind::Http.name(),
            Self::GrpcRoute => RouteKind::Grpc.name(),
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::MeshConfig => "meshconfigs",
            Self::TrafficPolicy => "trafficpolicies",
            Self::HttpRoute => "httproutes",
            Self::GrpcRoute => "grpcroutes",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::MeshConfig | Self::TrafficPolicy => API_VERSION,
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io/v1",
        }
    }

    pub(super) fn in_world(self) -> Kind {
        match self {
            Self::MeshConfig => Kind::Mesh,
            Self::TrafficPolicy => Kind::TrafficPolicy,
            Self::HttpRoute => Kind::Route(RouteKind::Http),
            Self::GrpcRoute => Kind::Route(RouteKind::Grpc),
        }
    }

    /// The field of the specification that lists what an object is for.
    fn references(self) -> Option<&'static str> {
        match self {
            Self::MeshConfig => None,
            Self::TrafficPolicy => Some("targetRefs"),
            Self::HttpRoute | Self::GrpcRoute => Some("parentRefs"),
        }
    }
}

impl Subject {
    /// Reads an object; `None` for one without a name.
    pub(super) fn read(spoken: Spoken, mut object: Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let text = |field: &str| metadata.get(field).and_then(Value::as_str);
        let key = ObjectKey::new(text("namespace").unwrap_or_default(), text("name")?);
        let uid = text("uid").unwrap_or_default().to_owned();
        let version = text("resourceVersion").unwrap_or_default().to_owned();
        let generation = metadata.get("generation").and_then(Value::as_i64);
        let references = spoken
            .references()
            .and_then(|field| object["spec"][field].as_array())
            .map(|listed| listed.iter().map(|item| reference(spoken, item)).collect())
            .unwrap_or_default();
        let status = object["status"].take();
        let read = json!({
            "apiVersion": spoken.api_version(),
            "kind": spoken.kind(),
            "metadata": {
                "name": &*key.name,
                "namespace": Some(&*key.namespace).filter(|namespace| !namespace.is_empty()),
                "creationTimestamp": object["metadata"]["creationTimestamp"],
            },
            "spec": object["spec"].take(),
        });
        // Identities are those of pods, which are not spoken of.
        let verdict = match convert::object(read, "").verdict {
            Verdict::Accepted(object) => Told::Good(object),
            Verdict::Refused { invalid, .. } => Told::Bad(invalid),
            Verdict::Unused | Verdict::UnknownKind(_) => Told::Foreign,
        };
        Some(Self {
            spoken,
            key,
            uid,
            generation,
            version,
            references,
            verdict,
            status,
        })
    }

    pub(super) fn object_ref(&self) -> ObjectRef {
        ObjectRef {
            kind: self.spoken.in_world(),
            key: self.key.clone(),
        }
    }

    /// Whether what the world has is what the API has, so that what is found there is of this generation.
    pub(super) fn is_in(&self, world: &World) -> bool {
        match &self.verdict {
            Told::Good(Object::TrafficPolicy(policy)) => {
                world.traffic_policy(&self.key) == Some(policy)
            }
            Told::Good(Object::Route(route)) => world.route(&route.reference) == Some(route),
            Told::Good(Object::Mesh(mesh)) => world.mesh() == &**mesh,
            Told::Good(_) | Told::Bad(_) | Told::Foreign => true,
        }
    }
}

/// What an object names, as far as it says; what is wrong with it is said elsewhere.
fn reference(spoken: Spoken, item: &Value) -> Reference {
    let text = |field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
    let kind = text("kind");
    let group = text("group").or_else(|| {
        // That of the kind, in our own; in routes everything means what it says.
        let of_policy = spoken == Spoken::TrafficPolicy;
        let group = match kind.as_deref() {
            Some("Service") => "",
            _ => GROUP,
        };
        of_policy.then(|| group.to_owned())
    });
    Reference {
        group,
        kind,
        namespace: text("namespace"),
        name: text("name").unwrap_or_default(),
        section_name: text("sectionName"),
        port: item
            .get("port")
            .and_then(Value::as_i64)
            .and_then(|port| i32::try_from(port).ok()),
    }
}

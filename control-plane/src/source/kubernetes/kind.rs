//! What is watched: which kinds there are, and where the API serves them.

use crate::{source::convert::Known, world::Kind};
use kube::core::{
    Request,
    params::{ListParams, WatchParams},
};

/// A kind of object that is watched, in the order in which they are told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Watched {
    Namespace,
    Node,
    Service,
    EndpointSlice,
    Pod,
    MeshConfig,
    TrafficPolicy,
    HttpRoute,
    GrpcRoute,
    ReferenceGrant,
}

impl Watched {
    pub(super) const ALL: [Self; 10] = [
        Self::Namespace,
        Self::Node,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::MeshConfig,
        Self::TrafficPolicy,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::ReferenceGrant,
    ];

    /// As objects name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::MeshConfig => "MeshConfig",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::ReferenceGrant => "ReferenceGrant",
        }
    }

    pub(super) fn api_version(self) -> &'static str {
        self.known().map_or("v1", Known::api_version)
    }

    /// What it is in the world. Nothing there is a node.
    pub(super) fn in_world(self) -> Option<Kind> {
        self.known().map(Known::in_world)
    }

    /// What objects of the kind are read as. Of nodes nothing but a label is used.
    fn known(self) -> Option<Known> {
        Known::of(self.name())
    }

    /// The watched kind that a kind of the world is.
    pub(super) fn of(kind: Kind) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|watched| watched.in_world() == Some(kind))
    }

    /// Who brings the kind, where that is not Kubernetes itself.
    pub(super) fn installed_by(self) -> Option<&'static str> {
        match self {
            Self::MeshConfig | Self::TrafficPolicy => Some("the CRDs of Weft's chart"),
            Self::HttpRoute | Self::GrpcRoute | Self::ReferenceGrant => {
                Some("the CRDs of Gateway API, without which there are no routes")
            }
            _ => None,
        }
    }

    pub(super) fn list(self, params: &ListParams) -> Result<http::Request<Vec<u8>>, kube::Error> {
        let request = self.request();
        if self.is_metadata_only() {
            request.list_metadata(params)
        } else {
            request.list(params)
        }
        .map_err(kube::Error::BuildRequest)
    }

    pub(super) fn watch(
        self,
        params: &WatchParams,
        version: &str,
    ) -> Result<http::Request<Vec<u8>>, kube::Error> {
        let request = self.request();
        if self.is_metadata_only() {
            request.watch_metadata(params, version)
        } else {
            request.watch(params, version)
        }
        .map_err(kube::Error::BuildRequest)
    }

    /// Of these nothing but labels and annotations is used, and a node's list of images alone is kilobytes.
    fn is_metadata_only(self) -> bool {
        matches!(self, Self::Namespace | Self::Node)
    }

    fn request(self) -> Request {
        let root = match self.api_version() {
            "v1" => "/api/v1".to_owned(),
            group => format!("/apis/{group}"),
        };
        let plural = match self {
            Self::TrafficPolicy => "trafficpolicies".to_owned(),
            regular => format!("{}s", regular.name().to_ascii_lowercase()),
        };
        Request::new(format!("{root}/{plural}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::convert::{Verdict, object};
    use serde_json::json;

    #[test]
    fn every_watched_kind_but_nodes_is_one_that_is_read() {
        for watched in Watched::ALL {
            let outcome = object(
                json!({"apiVersion": watched.api_version(), "kind": watched.name(), "metadata": {"name": "default", "namespace": "demo"}}),
                "cluster.local",
            );
            let is_unknown = matches!(outcome.verdict, Verdict::UnknownKind(_));
            assert_eq!(is_unknown, watched == Watched::Node, "{watched:?}");
            let kind = outcome.reference.map(|reference| reference.kind);
            assert_eq!(kind, watched.in_world(), "{watched:?}");
            assert_eq!(kind.and_then(Watched::of), kind.map(|_| watched));
        }
    }

    #[test]
    fn kinds_are_asked_for_where_the_api_serves_them_and_as_little_of_them_as_is_used() {
        let asked = |watched: Watched| {
            let request = watched.list(&ListParams::default()).unwrap();
            let accept = request.headers().get(http::header::ACCEPT);
            let accept = accept.map(|value| value.to_str().unwrap().to_owned());
            let metadata = accept.is_some_and(|accept| accept.contains("PartialObjectMetadata"));
            (request.uri().path().to_owned(), metadata)
        };
        assert_eq!(
            Watched::ALL.map(asked),
            [
                ("/api/v1/namespaces", true),
                ("/api/v1/nodes", true),
                ("/api/v1/services", false),
                ("/apis/discovery.k8s.io/v1/endpointslices", false),
                ("/api/v1/pods", false),
                ("/apis/weft.dev/v1alpha1/meshconfigs", false),
                ("/apis/weft.dev/v1alpha1/trafficpolicies", false),
                ("/apis/gateway.networking.k8s.io/v1/httproutes", false),
                ("/apis/gateway.networking.k8s.io/v1/grpcroutes", false),
                (
                    "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
                    false
                ),
            ]
            .map(|(path, metadata)| (path.to_owned(), metadata))
        );
    }
}

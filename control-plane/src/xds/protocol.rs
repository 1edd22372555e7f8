//! The two variants of the protocol as the stream task sees them.

use std::{sync::Arc, time::Instant};

use prost::Message;
use weft_xds_proto::{
    delta,
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        },
    },
    exchange::{Catalogue, Received, UnknownType},
    resource::ResourceType,
    sotw,
};

/// A protocol machine of the server's end.
pub(super) trait Protocol: Send + Unpin + 'static {
    /// What clients say.
    type Request: Message + Default + 'static;
    /// What the server says.
    type Response: Message + 'static;

    /// A metric label.
    const LABEL: &'static str;

    /// For a peer of which is known whether it needs endpoints again with their cluster.
    fn new(resend_endpoints: bool) -> Self;
    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_of(response: &Self::Response) -> Option<ResourceType>;
    fn receive(&mut self, request: Self::Request) -> Result<Received, UnknownType>;
    fn changed(&mut self, ty: ResourceType, name: &Arc<str>, since: Instant) -> bool;
    fn is_wildcard(&self, ty: ResourceType) -> bool;
    fn next_response(&mut self, catalogue: &impl Catalogue) -> Option<Self::Response>;
}

macro_rules! protocol {
    ($machine:ty, $label:literal, $request:ty, $response:ty) => {
        impl Protocol for $machine {
            type Request = $request;
            type Response = $response;

            const LABEL: &'static str = $label;

            fn new(resend_endpoints: bool) -> Self {
                <$machine>::new().resend_endpoints(resend_endpoints)
            }

            fn node(request: &Self::Request) -> Option<&Node> {
                request.node.as_ref()
            }

            fn type_of(response: &Self::Response) -> Option<ResourceType> {
                ResourceType::from_url(&response.type_url)
            }

            fn receive(&mut self, request: Self::Request) -> Result<Received, UnknownType> {
                self.receive(request)
            }

            fn changed(&mut self, ty: ResourceType, name: &Arc<str>, since: Instant) -> bool {
                self.changed(ty, name, since)
            }

            fn is_wildcard(&self, ty: ResourceType) -> bool {
                self.is_wildcard(ty)
            }

            fn next_response(&mut self, catalogue: &impl Catalogue) -> Option<Self::Response> {
                self.next_response(catalogue)
            }
        }
    };
}

protocol!(
    delta::Server,
    "delta",
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse
);
protocol!(sotw::Server, "sotw", DiscoveryRequest, DiscoveryResponse);

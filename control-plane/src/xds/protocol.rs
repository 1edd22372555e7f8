//! The two variants of the protocol as the stream task sees them.

use std::{sync::Arc, time::Instant};

use prost::{Message, bytes::Bytes};
use weft_xds_proto::{
    delta,
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
    exchange::{Catalogue, Received, UnknownType},
    resource::ResourceType,
    sotw,
};

/// A protocol machine of the server's end.
pub(super) trait Protocol: Send + Unpin + 'static {
    /// What clients say.
    type Request: Message + Default + 'static;

    /// A metric label.
    const LABEL: &'static str;

    /// For a peer of which is known whether it needs endpoints again with their cluster.
    fn new(resend_endpoints: bool) -> Self;
    fn node(request: &Self::Request) -> Option<&Node>;
    fn receive(&mut self, request: Self::Request) -> Result<Received, UnknownType>;
    fn changed(&mut self, ty: ResourceType, name: &Arc<str>, since: Instant) -> bool;
    fn is_wildcard(&self, ty: ResourceType) -> bool;
    fn is_answered(&self) -> bool;
    /// The next response, encoded.
    fn next_response(&mut self, catalogue: &impl Catalogue) -> Option<(ResourceType, Bytes)>;
}

macro_rules! protocol {
    ($machine:ty, $label:literal, $request:ty, $encode:expr) => {
        impl Protocol for $machine {
            type Request = $request;

            const LABEL: &'static str = $label;

            fn new(resend_endpoints: bool) -> Self {
                <$machine>::new().resend_endpoints(resend_endpoints)
            }

            fn node(request: &Self::Request) -> Option<&Node> {
                request.node.as_ref()
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

            fn is_answered(&self) -> bool {
                self.is_answered()
            }

            fn next_response(
                &mut self,
                catalogue: &impl Catalogue,
            ) -> Option<(ResourceType, Bytes)> {
                self.next_response(catalogue).map($encode)
            }
        }
    };
}

protocol!(delta::Server, "delta", DeltaDiscoveryRequest, |response| (
    response.ty,
    response.message
));
protocol!(sotw::Server, "sotw", DiscoveryRequest, |response| {
    let ty = ResourceType::from_url(&response.type_url);
    let ty = ty.expect("the machine responds with types that it knows");
    (ty, response.encode_to_vec().into())
});

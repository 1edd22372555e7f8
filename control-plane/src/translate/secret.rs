//! The one secret that travels: the roots of the trust domain. Keys never do.

use crate::world::World;
use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret as Message, secret::Type,
    },
};
use std::sync::Arc;
use weft_xds_proto::names::ROOT_SECRET;

/// The roots, as PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Roots(Arc<str>);

impl Roots {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        (name == ROOT_SECRET).then(|| world.roots().cloned().map(Self))?
    }

    pub(super) fn message(&self) -> Message {
        Message {
            name: ROOT_SECRET.to_owned(),
            r#type: Some(Type::ValidationContext(CertificateValidationContext {
                trusted_ca: Some(DataSource {
                    specifier: Some(Specifier::InlineString(self.0.to_string())),
                    ..DataSource::default()
                }),
                ..CertificateValidationContext::default()
            })),
        }
    }
}

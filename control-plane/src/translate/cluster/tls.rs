//! How an Envoy that has a certificate speaks to endpoints of the mesh.

use super::super::{
    endpoints::{TLS_MODE, tls_mode},
    name::Destination,
    proto::{file, tls},
};
use crate::world::{Protocol, World};
use envoy_types::pb::envoy::{
    config::cluster::v3::cluster::TransportSocketMatch,
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, TlsCertificate,
        TlsParameters, UpstreamTlsContext, common_tls_context::ValidationContextType,
        subject_alt_name_matcher::SanType, tls_parameters::TlsProtocol,
    },
    r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
};
use std::{collections::BTreeSet, sync::Arc};
use weft_xds_proto::spiffe::SpiffeId;

/// What an Envoy needs to know of the endpoints and of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct EnvoyTls {
    /// Where its certificate is.
    directory: Arc<str>,
    /// Envoy cannot tell endpoints apart here, so these are the identities of all of them.
    identities: BTreeSet<SpiffeId>,
}

impl EnvoyTls {
    /// Absent where no endpoint is of the mesh.
    pub(super) fn plan(
        world: &World,
        directory: &Arc<str>,
        destination: &Destination<'_>,
    ) -> Option<Self> {
        let identities: BTreeSet<_> = destination
            .endpoints(world)
            .iter()
            .filter_map(|endpoint| endpoint.workload.as_ref())
            .filter(|workload| workload.meshed)
            .map(|workload| workload.identity.clone())
            .collect();
        (!identities.is_empty()).then(|| Self {
            directory: directory.clone(),
            identities,
        })
    }

    /// Taken for endpoints whose metadata says so; the others get the cluster's own socket, plaintext.
    pub(super) fn transport_socket(&self, protocol: Protocol) -> TransportSocketMatch {
        let path = |name: &str| file(format!("{}/{name}", self.directory));
        let alpn: &[&str] = match protocol {
            Protocol::Http => &["http/1.1"],
            Protocol::Http2 => &["h2"],
            // What will be spoken is not known when the connection is made.
            Protocol::Undeclared | Protocol::Tcp => &[],
        };
        TransportSocketMatch {
            name: TLS_MODE.to_owned(),
            r#match: Some(tls_mode()),
            transport_socket: tls(UpstreamTlsContext {
                common_tls_context: Some(CommonTlsContext {
                    // Sidecars speak nothing older, and Envoy as a client stops at TLS 1.2 unless told.
                    tls_params: Some(TlsParameters {
                        tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
                        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                        ..TlsParameters::default()
                    }),
                    alpn_protocols: alpn.iter().map(|&alpn| alpn.to_owned()).collect(),
                    tls_certificates: vec![TlsCertificate {
                        certificate_chain: path("cert-chain.pem"),
                        private_key: path("key.pem"),
                        ..TlsCertificate::default()
                    }],
                    validation_context_type: Some(ValidationContextType::ValidationContext(
                        CertificateValidationContext {
                            trusted_ca: path("root-cert.pem"),
                            match_typed_subject_alt_names: self
                                .identities
                                .iter()
                                .map(uri_matcher)
                                .collect(),
                            ..CertificateValidationContext::default()
                        },
                    )),
                    ..CommonTlsContext::default()
                }),
                ..UpstreamTlsContext::default()
            }),
        }
    }
}

fn uri_matcher(identity: &SpiffeId) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(identity.to_string())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    }
}

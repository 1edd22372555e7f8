//! `envoy.extensions.transport_sockets.tls.v3.Secret`: the roots of the trust domain.

use super::{
    Invalid,
    field::{At, Fault, required, unsupported},
};
use crate::tls::Roots;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::core::v3::{DataSource, data_source::Specifier},
            extensions::transport_sockets::tls::v3::{
                CertificateValidationContext, Secret, secret::Type,
            },
        },
        google::protobuf::Any,
    },
    resource::ResourceType,
};

/// Converts a Secret, which must hold roots: private keys are made here and never travel.
pub fn convert(name: &str, body: &Any) -> Result<Roots, Invalid> {
    super::resource(
        ResourceType::Secret,
        name,
        body,
        |secret: &Secret| &secret.name,
        roots,
    )
}

fn roots(secret: Secret) -> Result<Roots, Fault> {
    match required("type", secret.r#type)? {
        Type::ValidationContext(context) => trusted(context).at("validation_context"),
        Type::TlsCertificate(_) | Type::SessionTicketKeys(_) | Type::GenericSecret(_) => {
            Err(Fault::new("only a validation_context is taken").at("type"))
        }
    }
}

fn trusted(context: CertificateValidationContext) -> Result<Roots, Fault> {
    // Each of these narrows whom to trust: ignoring one would trust more than was asked for.
    unsupported("crl", context.crl.is_some())?;
    unsupported(
        "verify_certificate_spki",
        !context.verify_certificate_spki.is_empty(),
    )?;
    unsupported(
        "verify_certificate_hash",
        !context.verify_certificate_hash.is_empty(),
    )?;
    unsupported(
        "match_typed_subject_alt_names",
        !context.match_typed_subject_alt_names.is_empty(),
    )?;
    unsupported(
        "custom_validator_config",
        context.custom_validator_config.is_some(),
    )?;
    let source = required("trusted_ca", context.trusted_ca)?;
    parse(source).at("trusted_ca")
}

fn parse(source: DataSource) -> Result<Roots, Fault> {
    let pem = match required("specifier", source.specifier)? {
        Specifier::InlineBytes(bytes) => bytes,
        Specifier::InlineString(text) => text.into_bytes(),
        Specifier::Filename(_) | Specifier::EnvironmentVariable(_) => {
            return Err(Fault::new("only inline bytes or text are taken"));
        }
    };
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Fault::new(format!("not PEM: {error}")))?;
    Roots::new(certificates).map_err(|error| Fault::new(error.to_string()))
}

use super::any;
use crate::{tls::testing::TestCa, xds::convert::secret::convert};
use weft_xds_proto::envoy::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, TlsCertificate, secret::Type,
    },
};

fn inline(pem: &str) -> CertificateValidationContext {
    CertificateValidationContext {
        trusted_ca: Some(DataSource {
            specifier: Some(Specifier::InlineString(pem.to_owned())),
            ..DataSource::default()
        }),
        ..CertificateValidationContext::default()
    }
}

fn secret(context: CertificateValidationContext) -> Secret {
    Secret {
        name: "ROOTCA".to_owned(),
        r#type: Some(Type::ValidationContext(context)),
    }
}

#[test]
fn roots_are_taken_one_after_the_other() {
    let (old, new) = (TestCa::root("old"), TestCa::root("new"));
    let pem = format!("{}{}", old.root_pem(), new.root_pem());
    let roots = convert("ROOTCA", &any(&secret(inline(&pem)))).unwrap();
    assert_eq!(
        roots.certificates(),
        [old.root_certificate(), new.root_certificate()]
    );
}

#[test]
fn what_is_wrong_is_named() {
    let ca = TestCa::root("mesh");
    let file = DataSource {
        specifier: Some(Specifier::Filename("roots.pem".to_owned())),
        ..DataSource::default()
    };
    let cases = [
        (
            Secret {
                r#type: None,
                ..secret(inline(""))
            },
            "type: is required",
        ),
        (
            Secret {
                r#type: Some(Type::TlsCertificate(TlsCertificate::default())),
                ..secret(inline(""))
            },
            "type: only a validation_context is taken",
        ),
        (
            secret(inline("")),
            "validation_context.trusted_ca: no root certificate",
        ),
        (
            secret(CertificateValidationContext::default()),
            "validation_context.trusted_ca: is required",
        ),
        (
            secret(CertificateValidationContext {
                trusted_ca: Some(file),
                ..CertificateValidationContext::default()
            }),
            "validation_context.trusted_ca: only inline bytes or text are taken",
        ),
        (
            secret(CertificateValidationContext {
                verify_certificate_hash: vec!["00".to_owned()],
                ..inline(ca.root_pem())
            }),
            "validation_context.verify_certificate_hash: is not supported by this proxy",
        ),
    ];
    for (secret, expected) in cases {
        let error = convert("ROOTCA", &any(&secret)).unwrap_err().to_string();
        assert_eq!(error, format!("Secret \"ROOTCA\": {expected}"));
    }
}

#[test]
fn a_certificate_that_is_none_is_refused() {
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = convert("ROOTCA", &any(&secret(inline(pem)))).unwrap_err();
    assert!(
        error
            .reason
            .starts_with("root certificate 0: not an X.509 certificate"),
        "{error}"
    );
}

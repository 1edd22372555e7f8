//! What a certificate says, as plain values.

use rustls_pki_types::CertificateDer;
use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime};
use weft_xds_proto::spiffe::SpiffeId;
use x509_parser::{prelude::*, time::ASN1Time};

/// What people and metrics want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The SPIFFE identity in its URI SAN; absent for certificate authorities without one.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub identity: Option<SpiffeId>,
    /// The distinguished name.
    pub subject: String,
    /// The distinguished name of the issuer.
    pub issuer: String,
    /// The serial number in hexadecimal.
    pub serial: String,
    /// Valid from.
    #[serde(serialize_with = "as_rfc3339")]
    pub not_before: SystemTime,
    /// Valid until.
    #[serde(serialize_with = "as_rfc3339")]
    pub not_after: SystemTime,
}

/// Why bytes are no certificate that Weft can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCertificate {
    /// It cannot be read.
    #[error("not an X.509 certificate: {0}")]
    Malformed(String),
    /// SPIFFE X509-SVID section 2: exactly one URI SAN.
    #[error(
        "the certificate of {subject:?} has {count} URI names, a SPIFFE certificate has exactly one"
    )]
    UriNames {
        /// Its distinguished name.
        subject: String,
        /// How many there are.
        count: usize,
    },
    /// Its URI SAN is not an identity of a workload.
    #[error("the certificate of {subject:?}: {reason}")]
    Identity {
        /// Its distinguished name.
        subject: String,
        /// What is wrong with the name.
        reason: String,
    },
}

impl Summary {
    /// Reads any certificate. Its identity is left out when it has none, or a malformed one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, InvalidCertificate> {
        let parsed = parse(certificate)?;
        Ok(Self::from_parsed(&parsed, identity(&parsed).ok()))
    }

    /// Reads the certificate of a workload: exactly one URI SAN, which is its identity.
    pub fn of_workload(
        certificate: &CertificateDer<'_>,
    ) -> Result<(SpiffeId, Self), InvalidCertificate> {
        let parsed = parse(certificate)?;
        let id = identity(&parsed)?;
        Ok((id.clone(), Self::from_parsed(&parsed, Some(id))))
    }

    fn from_parsed(parsed: &X509Certificate<'_>, identity: Option<SpiffeId>) -> Self {
        Self {
            identity,
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: hex(parsed.raw_serial()),
            not_before: system_time(parsed.validity().not_before),
            not_after: system_time(parsed.validity().not_after),
        }
    }

    /// How messages call it: by identity if it has one, else by subject.
    pub fn who(&self) -> String {
        match &self.identity {
            Some(id) => id.to_string(),
            None => format!("{:?}", self.subject),
        }
    }
}

/// A time as people and JSON read it: `2026-11-21T12:00:00Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    };
    let Ok(time) = ASN1Time::from_timestamp(seconds) else {
        return format!("{seconds} s since 1970");
    };
    let time = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, InvalidCertificate> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(error) => Err(InvalidCertificate::Malformed(error.to_string())),
    }
}

fn identity(parsed: &X509Certificate<'_>) -> Result<SpiffeId, InvalidCertificate> {
    let subject = || parsed.subject().to_string();
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| InvalidCertificate::Malformed(error.to_string()))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    let [uri] = uris[..] else {
        return Err(InvalidCertificate::UriNames {
            subject: subject(),
            count: uris.len(),
        });
    };
    uri.parse::<SpiffeId>()
        .map_err(|error| InvalidCertificate::Identity {
            subject: subject(),
            reason: error.to_string(),
        })
}

fn system_time(time: ASN1Time) -> SystemTime {
    let offset = Duration::from_secs(time.timestamp().unsigned_abs());
    if time.timestamp() < 0 {
        SystemTime::UNIX_EPOCH - offset
    } else {
        SystemTime::UNIX_EPOCH + offset
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn as_rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

fn as_text<S: Serializer>(id: &Option<SpiffeId>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_some(&id.as_ref().map(SpiffeId::as_str))
}

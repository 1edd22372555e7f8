//! What signs and what is trusted at one moment: a certificate with its key, and all roots. Immutable.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::root::{BACKDATE, random, serial_number};

const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A certificate that signs, its key, and the roots that are trusted with it.
#[derive(Debug)]
pub struct Authority {
    pub(super) issuer: Issuer<'static, KeyPair>,
    signing: CertificateDer<'static>,
    /// When everything between a leaf and its root is valid.
    pub(super) valid: Range<SystemTime>,
    /// What stands between a leaf and its root; empty when a root signs.
    pub(super) intermediates: Vec<CertificateDer<'static>>,
    /// The same as PEM.
    pub(super) intermediates_pem: Option<String>,
    roots: Vec<String>,
}

/// The texts that an authority is made of.
#[derive(Debug, Clone)]
pub(super) struct Material<'a> {
    /// The private key, PEM.
    pub(super) key: &'a str,
    /// The certificate of the key, PEM; intermediates may follow.
    pub(super) certificate: &'a str,
    /// Further roots: what they are called, and PEM.
    pub(super) further: Vec<(&'a str, &'a str)>,
}

/// Which part of the material cannot be used, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) part: Part,
    pub(super) reason: String,
}

/// A part of [`Material`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Certificate,
    /// The certificate is a good one, of another trust domain.
    TrustDomain,
    /// A further root, by what it is called.
    Further(String),
}

/// A new root, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewRoot {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    /// Checks everything: an authority that exists can sign for this trust domain.
    pub(super) fn parse(
        material: &Material<'_>,
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<Self, Flaw> {
        let key = KeyPair::from_pem(material.key).map_err(|error| Part::Key.flaw(error))?;
        let unusable = |reason: String| Part::Certificate.flaw(reason);
        let chain = certificates(material.certificate).map_err(unusable)?;
        let (signing, _) = chain.split_first().expect("there is at least one");
        check_signer(signing, &key, trust_domain)?;

        let mut roots: Vec<String> = Vec::new();
        let mut trusted: Vec<CertificateDer<'static>> = Vec::new();
        let mut trust = |pem: &str, certificates: Vec<CertificateDer<'static>>| {
            if certificates.iter().any(|der| !trusted.contains(der)) {
                trusted.extend(certificates);
                roots.push(pem.to_owned());
            }
        };
        let is_root = is_self_issued(signing).map_err(unusable)?;
        if is_root {
            trust(material.certificate, chain.clone());
        }
        for (name, pem) in &material.further {
            let certificates = certificates(pem)
                .map_err(|reason| Part::Further((*name).to_owned()).flaw(reason))?;
            trust(pem, certificates);
        }
        let (intermediates, intermediates_pem) = if is_root {
            (Vec::new(), None)
        } else {
            (chain.clone(), Some(material.certificate.to_owned()))
        };
        let valid = validity(signing, &intermediates, &trusted).map_err(unusable)?;
        if !valid.contains(&now) {
            return Err(unusable(format!(
                "it is valid from {} to {} only",
                rfc3339(valid.start),
                rfc3339(valid.end)
            )));
        }
        let issuer = Issuer::from_ca_cert_der(signing, key)
            .map_err(|error| Part::Certificate.flaw(error))?;
        Ok(Self {
            issuer,
            signing: signing.clone(),
            valid,
            intermediates,
            intermediates_pem,
            roots,
        })
    }

    /// The roots that the mesh trusts, each as PEM, the signing one first.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// The roots as one PEM text.
    pub fn bundle(&self) -> String {
        self.roots
            .iter()
            .map(|pem| format!("{}\n", pem.trim_end()))
            .collect()
    }

    /// When nothing can be signed any more.
    pub fn not_after(&self) -> SystemTime {
        self.valid.end
    }
}

/// Whether they sign and trust the same. A certificate stands for its key.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.signing == other.signing
            && self.intermediates == other.intermediates
            && self.roots == other.roots
    }
}

impl Part {
    fn flaw(self, reason: impl ToString) -> Flaw {
        Flaw {
            part: self,
            reason: reason.to_string(),
        }
    }
}

impl NewRoot {
    /// A key that nobody has had before, and its root.
    pub(super) fn generate(trust_domain: &str, now: SystemTime) -> Self {
        let key = new_key();
        Self {
            certificate: self_signed(trust_domain, &key, now),
            key: key.serialize_pem(),
        }
    }
}

/// An ECDSA P-256 key.
pub(super) fn new_key() -> KeyPair {
    KeyPair::generate().expect("an ECDSA P-256 key can be made whenever there is randomness")
}

/// A root for a key, as PEM.
pub(super) fn self_signed(trust_domain: &str, key: &KeyPair, now: SystemTime) -> String {
    let serial = random::<4>().map(|byte| format!("{byte:02x}")).concat();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, trust_domain);
    // Distinct names, so that an old and a new root can be told apart.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Weft root {serial}"));
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + ROOT_LIFETIME).into();
    params.serial_number = Some(serial_number());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // SPIFFE X.509-SVID section 4.1: a signing certificate names its trust domain.
    params.subject_alt_names = vec![SanType::URI(
        format!("spiffe://{trust_domain}")
            .try_into()
            .expect("a trust domain is checked to be ASCII before it gets here"),
    )];
    params
        .self_signed(key)
        .expect("parameters of our own making can be signed")
        .pem()
}

/// The certificates of a PEM text: at least one, each of which can be read.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|error| error.to_string())?;
        X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        certificates.push(der);
    }
    if certificates.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    Ok(certificates)
}

/// When the first certificate of a PEM text ends.
pub(super) fn not_after(pem: &str) -> Result<SystemTime, String> {
    let certificates = certificates(pem)?;
    let first = certificates.first().expect("there is at least one");
    Ok(range(&parse(first)?).end)
}

/// A point in time as people and Kubernetes write it, to the second.
pub(super) fn rfc3339(time: SystemTime) -> String {
    k8s_openapi::jiff::Timestamp::try_from(time)
        .and_then(|time| time.round(k8s_openapi::jiff::Unit::Second))
        .map_or_else(
            |_| "a time beyond all calendars".to_owned(),
            |time| time.to_string(),
        )
}

/// Checks that a certificate can sign for this trust domain with this key.
fn check_signer(der: &CertificateDer<'_>, key: &KeyPair, trust_domain: &str) -> Result<(), Flaw> {
    let certificate = parse(der).map_err(|reason| Part::Certificate.flaw(reason))?;
    if !certificate.is_ca() {
        return Err(Part::Certificate.flaw("it is not a CA certificate"));
    }
    if *certificate.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(Part::Certificate.flaw("it does not belong to the key"));
    }
    let domains = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .into_iter()
        .flat_map(|san| &san.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
    for domain in domains {
        if domain != trust_domain {
            return Err(Part::TrustDomain.flaw(format!(
                "it is the root of the trust domain {domain}, not of {trust_domain}"
            )));
        }
    }
    Ok(())
}

/// Follows the chain from what signs to a root, and gives when all of it is valid.
fn validity(
    signing: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'_>],
) -> Result<Range<SystemTime>, String> {
    let mut current = parse(signing)?;
    let mut valid = range(&current);
    // Each step leads to another certificate of the list, or the chain is none.
    for _ in 0..=intermediates.len() {
        if roots.iter().any(|root| root.as_ref() == current.as_raw()) {
            return Ok(valid);
        }
        let mut issuer = None;
        for candidate in roots.iter().chain(intermediates) {
            let candidate = parse(candidate)?;
            if candidate.subject() == current.issuer()
                && current
                    .verify_signature(Some(candidate.public_key()))
                    .is_ok()
            {
                issuer = Some(candidate);
                break;
            }
        }
        current = issuer.ok_or_else(|| {
            format!(
                "its chain ends with {:?}, which was issued by none of the roots",
                current.subject().to_string()
            )
        })?;
        let step = range(&current);
        valid = valid.start.max(step.start)..valid.end.min(step.end);
    }
    Ok(valid)
}

fn is_self_issued(der: &CertificateDer<'_>) -> Result<bool, String> {
    let certificate = parse(der)?;
    Ok(certificate.subject() == certificate.issuer())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|error| error.to_string())
}

fn range(certificate: &X509Certificate<'_>) -> Range<SystemTime> {
    let at = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    let validity = certificate.validity();
    at(validity.not_before.timestamp())..at(validity.not_after.timestamp())
}

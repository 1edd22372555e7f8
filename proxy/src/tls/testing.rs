//! A certificate authority for tests.

use super::Issued;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::time::{Duration, SystemTime};

/// Signs certificates for tests.
pub(crate) struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// Intermediates from this one up to the root, without the root.
    intermediates: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

/// What a test certificate says.
pub(crate) struct Leaf<'a> {
    /// URI SANs.
    pub(crate) uris: &'a [&'a str],
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    pub(crate) usages: &'a [ExtendedKeyUsagePurpose],
}

pub(crate) const BOTH: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ClientAuth,
    ExtendedKeyUsagePurpose::ServerAuth,
];

impl<'a> Leaf<'a> {
    /// Valid for an hour, for clients and servers.
    pub(crate) fn of(uris: &'a [&'a str]) -> Self {
        let now = SystemTime::now();
        Self {
            uris,
            not_before: now - Duration::from_secs(60),
            not_after: now + Duration::from_secs(3600),
            usages: BOTH,
        }
    }
}

impl TestCa {
    pub(crate) fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root: certificate.clone(),
            certificate,
            intermediates: Vec::new(),
        }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let mut intermediates = vec![certificate.clone()];
        intermediates.extend(self.intermediates.iter().cloned());
        Self {
            issuer: Issuer::new(params, key),
            root: self.root.clone(),
            certificate,
            intermediates,
        }
    }

    pub(crate) fn root_certificate(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    pub(crate) fn issue(&self, leaf: &Leaf<'_>) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf_params(leaf).signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.intermediates.iter().cloned());
        Issued {
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            chain,
            roots: vec![self.root.clone()],
        }
    }

    pub(crate) fn workload(&self, uri: &str) -> Issued {
        self.issue(&Leaf::of(&[uri]))
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(leaf: &Leaf<'_>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = leaf
        .uris
        .iter()
        .map(|uri| SanType::URI((*uri).try_into().unwrap()))
        .collect();
    params.not_before = leaf.not_before.into();
    params.not_after = leaf.not_after.into();
    params.extended_key_usages = leaf.usages.to_vec();
    params
}

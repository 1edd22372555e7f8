//! A certificate authority for tests and benchmarks.

use super::Issued;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::time::{Duration, SystemTime};

/// Signs certificates for tests.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    /// Intermediates from this one up to the root, without the root.
    intermediates: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
    root_pem: String,
}

/// The files that a `--certificate-dir` holds.
pub struct Files {
    /// The workload's certificate, PEM.
    pub chain: String,
    /// Its key, PEM.
    pub key: String,
    /// Who signed it, PEM.
    pub root: String,
}

/// What a test certificate says.
pub struct Leaf<'a> {
    /// URI SANs.
    pub uris: &'a [&'a str],
    /// Valid from here on.
    pub not_before: SystemTime,
    /// Valid until here.
    pub not_after: SystemTime,
    /// Extended key usages.
    pub usages: &'a [ExtendedKeyUsagePurpose],
}

/// For clients and servers.
pub const BOTH: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ClientAuth,
    ExtendedKeyUsagePurpose::ServerAuth,
];

impl<'a> Leaf<'a> {
    /// Valid for an hour, for clients and servers.
    pub fn of(uris: &'a [&'a str]) -> Self {
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
    /// A root of this common name.
    pub fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            intermediates: Vec::new(),
            root: certificate.der().clone(),
            root_pem: certificate.pem(),
        }
    }

    /// An authority that this one has signed.
    pub fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = ca_params(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let mut intermediates = vec![certificate];
        intermediates.extend(self.intermediates.iter().cloned());
        Self {
            issuer: Issuer::new(params, key),
            intermediates,
            root: self.root.clone(),
            root_pem: self.root_pem.clone(),
        }
    }

    /// The root, which is this authority or above it.
    pub fn root_certificate(&self) -> CertificateDer<'static> {
        self.root.clone()
    }

    /// A certificate that says what it is told, with its key.
    pub fn issue(&self, leaf: &Leaf<'_>) -> Issued {
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

    /// A workload's certificate as files. The CA must be a root.
    pub fn files(&self, uri: &str) -> Files {
        let key = KeyPair::generate().unwrap();
        let chain = leaf_params(&Leaf::of(&[uri]))
            .signed_by(&key, &self.issuer)
            .unwrap()
            .pem();
        Files {
            chain,
            key: key.serialize_pem(),
            root: self.root_pem.clone(),
        }
    }

    /// A certificate for a server with a DNS name or address, and its key.
    pub fn server(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (
            certificate.der().clone(),
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
    }

    /// Signs a request as it is, identity and all, and returns the PEM chain with the root last.
    pub fn sign(&self, csr: &str, life: Duration) -> Vec<String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let now = SystemTime::now();
        request.params.not_before = (now - Duration::from_secs(60)).into();
        request.params.not_after = (now + life).into();
        request.params.extended_key_usages = BOTH.to_vec();
        let leaf = request.signed_by(&self.issuer).unwrap().pem();
        vec![leaf, self.root_pem.clone()]
    }

    /// The root as PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A certificate for a workload, valid for an hour.
    pub fn workload(&self, uri: &str) -> Issued {
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

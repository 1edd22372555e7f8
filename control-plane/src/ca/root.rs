//! The root of the trust domain, and the certificates that it signs.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use weft_xds_proto::spiffe::SpiffeId;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::directory::{Directory, StorageError};

/// The private key that signs.
const KEY: &str = "ca-key.pem";
/// The root that the key belongs to.
const CERTIFICATE: &str = "ca-cert.pem";
/// Files with this ending hold further roots to trust: the one before a change of roots, or after.
const FURTHER_ROOTS: &str = ".root.pem";
/// All roots, written for proxies to read.
const BUNDLE: &str = "root-cert.pem";

const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks differ: a certificate that is valid from this very second is refused by half the mesh.
const BACKDATE: Duration = Duration::from_secs(60);
/// Below this a proxy would do little else than renew.
const MIN_LEAF_TTL: Duration = Duration::from_secs(10);

/// What a CA needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it keeps its root.
    pub directory: PathBuf,
    /// The trust domain that it signs for.
    pub trust_domain: Arc<str>,
    /// The longest lifetime of a workload's certificate, and the one of those who ask for none.
    pub max_leaf_ttl: Duration,
}

/// Signs certificates with a root of its own.
#[derive(Debug)]
pub struct Ca {
    settings: Settings,
    issuer: Issuer<'static, KeyPair>,
    valid: std::ops::Range<SystemTime>,
    roots: Vec<String>,
}

/// A certificate with its key, for the control plane itself.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub not_after: SystemTime,
}

/// Why a certificate is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request cannot be read, or its signature is not by its own key.
    #[error("csr: {0}; send a PKCS#10 request as PEM, signed by the key that it holds")]
    Request(rcgen::Error),
    /// It asks for a name that is not the caller's.
    #[error("csr: it asks for the name {requested}, but the caller is {caller}")]
    Identity {
        /// The name asked for.
        requested: String,
        /// Who asks.
        caller: SpiffeId,
    },
    /// The caller is of another trust domain.
    #[error("the caller {caller} is not of the trust domain {trust_domain}")]
    TrustDomain {
        /// Who asks.
        caller: SpiffeId,
        /// The domain that is signed for.
        trust_domain: Arc<str>,
    },
    /// The root has ended, or ends too soon.
    #[error(
        "the root of the mesh ends too soon to sign with it; replace ca-key.pem and ca-cert.pem in --ca-dir and keep the old root as old.root.pem"
    )]
    RootEnds,
    /// Signing failed.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Ca {
    /// Loads the root of a directory, or makes one when there is none, and writes the bundle of roots.
    ///
    /// Errors with the file at fault. A root that is there is never replaced: every workload trusts it.
    pub fn open(settings: Settings) -> Result<Self, StorageError> {
        let directory = Directory::open(&settings.directory)?;
        let key = load_key(&directory)?;
        let certificate = directory.read_or_create(CERTIFICATE, 0o644, || {
            self_signed(&settings.trust_domain, &key)
        })?;
        let valid = check_root(&directory, &certificate, &key, &settings.trust_domain)?;
        let mut roots = vec![certificate];
        for name in directory.names_ending(FURTHER_ROOTS)? {
            let text = directory.read(&name)?.unwrap_or_default();
            parse_roots(&text).map_err(|reason| {
                directory.unusable(
                    &name,
                    reason,
                    "it must hold PEM certificates; repair or remove it",
                )
            })?;
            roots.push(text);
        }
        let issuer = Issuer::from_ca_cert_pem(&roots[0], key)
            .map_err(|error| directory.unusable(CERTIFICATE, error, REPAIR))?;
        let ca = Self {
            settings,
            issuer,
            valid,
            roots,
        };
        directory.write(BUNDLE, 0o644, &ca.bundle())?;
        Ok(ca)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &Arc<str> {
        &self.settings.trust_domain
    }

    /// The roots that the mesh trusts, each as PEM, the signing one first.
    pub fn roots(&self) -> &[String] {
        &self.roots
    }

    /// The roots as one PEM text.
    pub fn bundle(&self) -> String {
        self.roots.iter().map(|pem| with_newline(pem)).collect()
    }

    /// When the signing root ends.
    pub fn root_not_after(&self) -> SystemTime {
        self.valid.end
    }

    /// Signs a workload's request (PKCS#10, PEM) for the identity of the caller. Gives the leaf and
    /// last the roots, as PEM.
    ///
    /// `ttl` of `None` asks for the longest lifetime there is; any other is brought within bounds.
    pub fn sign(
        &self,
        csr: &str,
        caller: &SpiffeId,
        ttl: Option<Duration>,
    ) -> Result<Vec<String>, SignError> {
        if *caller.trust_domain() != *self.settings.trust_domain {
            return Err(SignError::TrustDomain {
                caller: caller.clone(),
                trust_domain: self.settings.trust_domain.clone(),
            });
        }
        let request = CertificateSigningRequestParams::from_pem(csr).map_err(SignError::Request)?;
        check_names(&request.params.subject_alt_names, caller)?;
        let max = self.settings.max_leaf_ttl.max(MIN_LEAF_TTL);
        let ttl = ttl.unwrap_or(max).clamp(MIN_LEAF_TTL, max);
        let mut params = self.leaf(ttl, SystemTime::now())?;
        params.subject_alt_names = vec![SanType::URI(caller.as_str().try_into()?)];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        let leaf = params.signed_by(&request.public_key, &self.issuer)?;
        Ok(vec![leaf.pem(), self.bundle()])
    }

    /// Issues a certificate for the control plane's own listeners, by names and addresses.
    pub fn issue(&self, names: &[String]) -> Result<Leaf, SignError> {
        let key = KeyPair::generate()?;
        let mut params = self.leaf(
            self.settings.max_leaf_ttl.max(MIN_LEAF_TTL),
            SystemTime::now(),
        )?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        let not_after = params.not_after.into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after,
        })
    }

    /// What all leaves have in common. The subject stays empty, which makes the SAN critical (RFC 5280
    /// section 4.1.2.6): there is no other name to go by.
    fn leaf(&self, ttl: Duration, now: SystemTime) -> Result<CertificateParams, SignError> {
        let not_before = (now - BACKDATE).max(self.valid.start);
        let not_after = (now + ttl).min(self.valid.end);
        if not_after < now + MIN_LEAF_TTL {
            return Err(SignError::RootEnds);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.serial_number = Some(serial_number());
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

const REPAIR: &str = "restore it from a backup, or move ca-key.pem and ca-cert.pem away to start a \
                      new root, which every workload must then be given";

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("aws-lc seeds itself from the kernel, or aborts");
    bytes
}

fn load_key(directory: &Directory) -> Result<KeyPair, StorageError> {
    let pem = directory.read_or_create(KEY, 0o600, || {
        KeyPair::generate()
            .expect("an ECDSA P-256 key can be made whenever there is randomness")
            .serialize_pem()
    })?;
    if directory.is_exposed(KEY) {
        tracing::warn!(
            file = %directory.path(KEY).display(),
            "others than the owner can read the key of the mesh's root; chmod 600 it"
        );
    }
    KeyPair::from_pem(&pem).map_err(|error| directory.unusable(KEY, error, REPAIR))
}

fn self_signed(trust_domain: &str, key: &KeyPair) -> String {
    let now = SystemTime::now();
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

/// Checks that the root can sign for this trust domain with this key. Gives its validity.
fn check_root(
    directory: &Directory,
    pem: &str,
    key: &KeyPair,
    trust_domain: &str,
) -> Result<std::ops::Range<SystemTime>, StorageError> {
    let unusable = |reason: String| directory.unusable(CERTIFICATE, reason, REPAIR);
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| unusable(error.to_string()))?;
    let (_, root) = X509Certificate::from_der(&der).map_err(|error| unusable(error.to_string()))?;
    if !root.is_ca() {
        return Err(unusable("it is not a CA certificate".to_owned()));
    }
    if *root.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(unusable(format!("its key is not the one in {KEY}")));
    }
    let domains = root
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
            return Err(directory.unusable(
                CERTIFICATE,
                format!("it is the root of the trust domain {domain}, not of {trust_domain}"),
                "set --trust-domain accordingly, or use another --ca-dir",
            ));
        }
    }
    let at = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    let validity = root.validity();
    let valid = at(validity.not_before.timestamp())..at(validity.not_after.timestamp());
    if !valid.contains(&SystemTime::now()) {
        return Err(unusable(format!(
            "it is valid from {} to {} only",
            validity.not_before, validity.not_after
        )));
    }
    Ok(valid)
}

fn parse_roots(pem: &str) -> Result<(), String> {
    let mut count = 0;
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|error| error.to_string())?;
        X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        count += 1;
    }
    if count == 0 {
        return Err("it holds no certificate".to_owned());
    }
    Ok(())
}

/// Who asks is known already: a request may name the caller, or nobody.
fn check_names(names: &[SanType], caller: &SpiffeId) -> Result<(), SignError> {
    for name in names {
        let requested = match name {
            SanType::URI(uri) if uri.as_str() == caller.as_str() => continue,
            SanType::URI(uri) => uri.to_string(),
            SanType::DnsName(name) => name.to_string(),
            SanType::IpAddress(address) => address.to_string(),
            other => format!("{other:?}"),
        };
        return Err(SignError::Identity {
            requested,
            caller: caller.clone(),
        });
    }
    Ok(())
}

/// 127 random bits: positive in DER, and never the same for two certificates of one key.
fn serial_number() -> SerialNumber {
    let mut bytes = random::<16>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn with_newline(pem: &str) -> String {
    format!("{}\n", pem.trim_end())
}

#[cfg(test)]
mod tests;

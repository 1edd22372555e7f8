//! The CA of the trust domain: the certificates that it signs, with whatever authority is in force.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use weft_xds_proto::spiffe::SpiffeId;

use super::{
    authority::Authority,
    directory::{self, StorageError},
};

/// Clocks differ: a certificate that is valid from this very second is refused by half the mesh.
pub(super) const BACKDATE: Duration = Duration::from_secs(60);
/// Below this a proxy would do little else than renew.
const MIN_LEAF_TTL: Duration = Duration::from_secs(10);

/// What a CA needs to know that keeps its root in a directory.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it keeps its root.
    pub directory: PathBuf,
    /// What it signs.
    pub leaves: Leaves,
}

/// What a CA signs.
#[derive(Debug, Clone)]
pub struct Leaves {
    /// The trust domain that it signs for.
    pub trust_domain: Arc<str>,
    /// The longest lifetime of a workload's certificate, and the one of those who ask for none.
    pub max_ttl: Duration,
}

/// Signs certificates with the authority in force, which whoever keeps it may replace at any time.
#[derive(Debug)]
pub struct Ca {
    leaves: Leaves,
    authority: watch::Sender<Arc<Authority>>,
}

/// A certificate with its key, for the control plane itself.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate, then what stands between it and a root.
    pub chain: Vec<CertificateDer<'static>>,
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
        "the root of the mesh ends too soon to sign with it; replace it as docs/identity.md says"
    )]
    RootEnds,
    /// Signing failed.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
}

impl Ca {
    /// A CA whose root is in a directory: loaded, or made when there is none.
    ///
    /// Errors with the file at fault. A root that is there is never replaced: every workload trusts it.
    pub fn open(settings: Settings) -> Result<Self, StorageError> {
        let authority =
            directory::load_authority(&settings.directory, &settings.leaves.trust_domain)?;
        Ok(Self::new(settings.leaves, authority))
    }

    pub(super) fn new(leaves: Leaves, authority: Authority) -> Self {
        Self {
            leaves,
            authority: watch::Sender::new(Arc::new(authority)),
        }
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &Arc<str> {
        &self.leaves.trust_domain
    }

    /// The longest lifetime of a certificate that is signed here.
    pub fn max_leaf_ttl(&self) -> Duration {
        self.leaves.max_ttl.max(MIN_LEAF_TTL)
    }

    /// What signs and what is trusted now.
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.borrow().clone()
    }

    /// Tells of every change of what signs and what is trusted.
    pub fn follow(&self) -> watch::Receiver<Arc<Authority>> {
        self.authority.subscribe()
    }

    /// The roots that the mesh trusts as one PEM text, the signing one first.
    pub fn bundle(&self) -> String {
        self.authority().bundle()
    }

    /// Signs with this authority from now on. What was signed before stays valid as long as its root is
    /// among those of the new authority.
    pub(super) fn replace(&self, authority: Authority) {
        self.authority.send_replace(Arc::new(authority));
    }

    /// Signs a workload's request (PKCS#10, PEM) for the identity of the caller. Gives the leaf, what
    /// stands between it and a root if a root does not sign, and last the roots, as PEM.
    ///
    /// `ttl` of `None` asks for the longest lifetime there is; any other is brought within bounds.
    pub fn sign(
        &self,
        csr: &str,
        caller: &SpiffeId,
        ttl: Option<Duration>,
    ) -> Result<Vec<String>, SignError> {
        if *caller.trust_domain() != *self.leaves.trust_domain {
            return Err(SignError::TrustDomain {
                caller: caller.clone(),
                trust_domain: self.leaves.trust_domain.clone(),
            });
        }
        let request = CertificateSigningRequestParams::from_pem(csr).map_err(SignError::Request)?;
        check_names(&request.params.subject_alt_names, caller)?;
        let max = self.max_leaf_ttl();
        let ttl = ttl.unwrap_or(max).clamp(MIN_LEAF_TTL, max);
        let authority = self.authority();
        let mut params = leaf(&authority, ttl, SystemTime::now())?;
        params.subject_alt_names = vec![SanType::URI(caller.as_str().try_into()?)];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        let leaf = params.signed_by(&request.public_key, &authority.issuer)?;
        Ok([leaf.pem()]
            .into_iter()
            .chain(authority.intermediates_pem.clone())
            .chain([authority.bundle()])
            .collect())
    }

    /// Issues a certificate for the control plane's own listeners, by names and addresses.
    pub fn issue(&self, names: &[String]) -> Result<Leaf, SignError> {
        let key = KeyPair::generate()?;
        let authority = self.authority();
        let mut params = leaf(&authority, self.max_leaf_ttl(), SystemTime::now())?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        let not_after = params.not_after.into();
        let certificate = params.signed_by(&key, &authority.issuer)?;
        Ok(Leaf {
            chain: [certificate.der().clone()]
                .into_iter()
                .chain(authority.intermediates.iter().cloned())
                .collect(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after,
        })
    }
}

/// What all leaves have in common. The subject stays empty, which makes the SAN critical (RFC 5280
/// section 4.1.2.6): there is no other name to go by.
fn leaf(
    authority: &Authority,
    ttl: Duration,
    now: SystemTime,
) -> Result<CertificateParams, SignError> {
    let not_before = (now - BACKDATE).max(authority.valid.start);
    let not_after = (now + ttl).min(authority.valid.end);
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

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("aws-lc seeds itself from the kernel, or aborts");
    bytes
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
pub(super) fn serial_number() -> SerialNumber {
    let mut bytes = random::<16>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests;

//! A root that somebody else keeps: a Secret of type `kubernetes.io/tls`, as cert-manager writes it.

use std::time::{Duration, SystemTime};

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::{
    ledger::{CERTIFICATE, Ledger, Malformed},
    rotation::Policy,
};
use crate::ca::authority::{Authority, Flaw, Material};

/// What signs, and below it what leads to a root.
pub(super) const TLS_CERTIFICATE: &str = "tls.crt";
/// Its key.
pub(super) const TLS_KEY: &str = "tls.key";
/// The root, if what signs is none.
pub(super) const CA_CERTIFICATE: &str = "ca.crt";

/// A new root is trusted for so long before it signs: whoever keeps the Secret knows of no overlap, but every
/// replica and every proxy that is connected hears of the root in this time.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// The content of the Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Supplied {
    certificate: String,
    key: String,
    roots: Option<String>,
}

/// Who signs while the Secret changes.
#[derive(Debug)]
pub(super) struct Succession {
    signing: Supplied,
    /// Trusted already, and signs from then on.
    next: Option<(Supplied, SystemTime)>,
    /// Roots of what signed before, and until when leaves may chain to them. The ledger has them too, once
    /// the leader has written it.
    former: Vec<(String, SystemTime)>,
}

impl Supplied {
    /// Reads the Secret.
    pub(super) fn read(secret: &Secret) -> Result<Self, Malformed> {
        let text = |key: &str| {
            let Some(ByteString(value)) = secret.data.as_ref().and_then(|data| data.get(key))
            else {
                return Ok(None);
            };
            String::from_utf8(value.clone())
                .map(|text| (!text.trim().is_empty()).then_some(text))
                .map_err(|_| Malformed {
                    key: key.to_owned(),
                    reason: "it is no text".to_owned(),
                })
        };
        let required = |key: &str| {
            text(key)?.ok_or_else(|| Malformed {
                key: key.to_owned(),
                reason: "it is not there".to_owned(),
            })
        };
        Ok(Self {
            certificate: required(TLS_CERTIFICATE)?,
            key: required(TLS_KEY)?,
            roots: text(CA_CERTIFICATE)?,
        })
    }

    /// Signs with it, and trusts its roots and these.
    pub(super) fn authority<'a>(
        &'a self,
        further: impl IntoIterator<Item = (&'a str, &'a str)>,
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<Authority, Flaw> {
        let own = self.roots.as_deref().map(|roots| (CA_CERTIFICATE, roots));
        let material = Material {
            key: &self.key,
            certificate: &self.certificate,
            further: own.into_iter().chain(further).collect(),
        };
        Authority::parse(&material, trust_domain, now)
    }

    /// Its own roots, PEM.
    pub(super) fn bundle(&self, trust_domain: &str, now: SystemTime) -> Result<String, Flaw> {
        Ok(self.authority([], trust_domain, now)?.bundle())
    }
}

impl Succession {
    pub(super) fn new(signing: Supplied) -> Self {
        Self {
            signing,
            next: None,
            former: Vec::new(),
        }
    }

    /// Takes in the content of the Secret as of now.
    ///
    /// Errors when it cannot sign; what signed before goes on.
    pub(super) fn take(
        &mut self,
        supplied: Supplied,
        policy: &Policy,
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<(), Flaw> {
        if supplied == *self.latest() {
            return Ok(());
        }
        supplied.bundle(trust_domain, now)?;
        self.next = Some((supplied, now + GRACE));
        // One that has ended cannot be waited for.
        if let Ok(former) = self.signing.bundle(trust_domain, now) {
            let until = now + GRACE + policy.leaf_ttl + policy.slack();
            self.former.push((former, until));
        } else {
            self.advance(now + GRACE);
        }
        Ok(())
    }

    /// Lets the next one sign when its time has come, and forgets what no leaf can chain to.
    pub(super) fn advance(&mut self, now: SystemTime) {
        if let Some((next, _)) = self.next.take_if(|(_, signs_at)| *signs_at <= now) {
            self.signing = next;
        }
        self.former.retain(|(_, until)| now < *until);
    }

    /// When [`Self::advance`] has something to do.
    pub(super) fn due(&self) -> Option<SystemTime> {
        let ends = self.former.iter().map(|(_, until)| *until);
        let signs = self.next.as_ref().map(|(_, signs_at)| *signs_at);
        ends.chain(signs).min()
    }

    /// What the Secret said last.
    pub(super) fn latest(&self) -> &Supplied {
        self.next.as_ref().map_or(&self.signing, |(next, _)| next)
    }

    /// What signs now, with all roots that are trusted.
    pub(super) fn authority(
        &self,
        ledger: &Ledger,
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<Authority, Flaw> {
        let next = match &self.next {
            Some((next, _)) => Some(next.bundle(trust_domain, now)?),
            None => None,
        };
        // Until the leader has noted that a supplied root signs instead of the one here.
        let own = ledger.text(CERTIFICATE).map(|own| (CERTIFICATE, own));
        let further = (next.iter().map(|next| (CA_CERTIFICATE, next.as_str())))
            .chain(
                self.former
                    .iter()
                    .map(|(former, _)| (CA_CERTIFICATE, former.as_str())),
            )
            .chain(own)
            .chain(ledger.further());
        self.signing.authority(further, trust_domain, now)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls_pki_types::pem::PemObject as _;

    use super::*;
    use crate::ca::authority::{NewRoot, Part};

    const DOMAIN: &str = "cluster.local";
    const POLICY: Policy = Policy {
        leaf_ttl: Duration::from_secs(3600),
        overlap: Duration::from_secs(60),
    };

    fn supplied(root: &NewRoot) -> Supplied {
        Supplied {
            certificate: root.certificate.clone(),
            key: root.key.clone(),
            roots: Some(root.certificate.clone()),
        }
    }

    fn roots(succession: &Succession, now: SystemTime) -> Vec<String> {
        let authority = succession.authority(&Ledger::default(), DOMAIN, now);
        let mut roots = authority.unwrap().roots().to_vec();
        for root in &mut roots {
            *root = format!("{}\n", root.trim_end());
        }
        roots
    }

    #[test]
    fn a_new_root_is_trusted_before_it_signs_and_the_former_after() {
        let now = SystemTime::now();
        let [first, second] = [(); 2].map(|()| NewRoot::generate(DOMAIN, now));
        let pem = |root: &NewRoot| format!("{}\n", root.certificate.trim_end());
        let mut succession = Succession::new(supplied(&first));
        assert_eq!(roots(&succession, now), [pem(&first)]);

        let taken = succession.take(supplied(&second), &POLICY, DOMAIN, now);
        taken.unwrap();
        assert_eq!(roots(&succession, now), [pem(&first), pem(&second)]);
        let due = succession.due().unwrap();
        assert_eq!(due, now + GRACE);
        succession.advance(due);
        assert_eq!(roots(&succession, now), [pem(&second), pem(&first)]);
        let due = succession.due().unwrap();
        assert_eq!(due, now + GRACE + POLICY.leaf_ttl + POLICY.overlap);
        succession.advance(due);
        assert_eq!(roots(&succession, now), [pem(&second)]);
        assert_eq!(succession.due(), None);
    }

    #[test]
    fn what_cannot_sign_leaves_the_last_one_in_force() {
        let now = SystemTime::now();
        let first = supplied(&NewRoot::generate(DOMAIN, now));
        let other = supplied(&NewRoot::generate(DOMAIN, now));
        let mut succession = Succession::new(first.clone());
        let torn = Supplied {
            key: other.key,
            ..first.clone()
        };
        let flaw = succession.take(torn, &POLICY, DOMAIN, now).unwrap_err();
        assert_eq!(flaw.part, Part::Certificate);
        assert_eq!(*succession.latest(), first);
        assert_eq!(succession.due(), None);
    }

    #[test]
    fn an_intermediate_signs_when_its_root_is_there() {
        let now = SystemTime::now();
        let root = NewRoot::generate(DOMAIN, now);
        let issuer =
            Issuer::from_ca_cert_pem(&root.certificate, KeyPair::from_pem(&root.key).unwrap())
                .unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "issuing");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let issuing = params.signed_by(&key, &issuer).unwrap();
        let supplied = Supplied {
            certificate: issuing.pem(),
            key: key.serialize_pem(),
            roots: Some(root.certificate.clone()),
        };
        let authority = supplied.authority([], DOMAIN, now).unwrap();
        assert_eq!(authority.roots(), std::slice::from_ref(&root.certificate));
        assert_eq!(authority.intermediates, [issuing.der().clone()]);
        let der = rustls_pki_types::CertificateDer::from_pem_slice(root.certificate.as_bytes());
        assert_ne!(authority.intermediates[0], der.unwrap());

        let rootless = Supplied {
            roots: None,
            ..supplied
        };
        let flaw = rootless.authority([], DOMAIN, now).unwrap_err();
        assert!(flaw.reason.contains("none of the roots"), "{}", flaw.reason);
    }

    #[test]
    fn a_key_as_cert_manager_encodes_it_signs() {
        // Made for this test: SEC 1, not PKCS#8.
        let key = "-----BEGIN EC PRIVATE KEY-----\n\
            MHcCAQEEIJYbtnl/irspp9WMn8MnDtzjChHC53klKYcDoqIUqxoKoAoGCCqGSM49\n\
            AwEHoUQDQgAERtKObr4YU0OrXvW1ZOnzU8xFKVgHtBc6myePTXpmYDhn8J1EgZKV\n\
            3IQZ7sUCWm5RtiVJuzLtG8eMlu9wHLfCdg==\n\
            -----END EC PRIVATE KEY-----\n";
        let now = SystemTime::now();
        let pair = KeyPair::from_pem(key).unwrap();
        let supplied = Supplied {
            certificate: crate::ca::authority::self_signed(DOMAIN, &pair, now),
            key: key.to_owned(),
            roots: None,
        };
        assert!(supplied.authority([], DOMAIN, now).is_ok());
    }
}

//! Certificates of the peers that have no control plane: a root, and a leaf for either side, like those that Weft's
//! control plane issues: ECDSA P-256, with a SPIFFE identity, signed by the root itself.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use weft_tests::mesh::{NAMESPACE, TRUST_DOMAIN};

/// The files.
pub(crate) struct Certificates {
    /// The root.
    pub(crate) root: PathBuf,
    /// Of the caller's sidecar.
    pub(crate) client: Leaf,
    /// Of the server's sidecar.
    pub(crate) server: Leaf,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    /// The SPIFFE identity.
    pub(crate) identity: String,
    /// The common name, for a peer that cannot read the identity of a caller.
    pub(crate) common_name: &'static str,
    /// The DNS name, for a peer that verifies nothing else of a server.
    pub(crate) dns_name: String,
    /// The certificate.
    pub(crate) chain: PathBuf,
    /// Its key.
    pub(crate) key: PathBuf,
    /// Both in one file.
    pub(crate) bundle: PathBuf,
}

impl Certificates {
    /// Makes keys and certificates and writes them into a directory.
    pub(crate) fn issue(directory: &Path) -> anyhow::Result<Self> {
        let directory = directory.join("certificates");
        fs::create_dir_all(&directory)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "benchmark root");
        let certificate = params.self_signed(&key)?;
        let root = directory.join("root.pem");
        fs::write(&root, certificate.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Self {
            root,
            client: Leaf::issue("client", &issuer, &directory)?,
            server: Leaf::issue("server", &issuer, &directory)?,
        })
    }
}

impl Leaf {
    /// Issues one by an authority whose certificate and key are in files.
    pub(crate) fn signed_by(
        account: &'static str,
        certificate: &Path,
        key: &Path,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(&fs::read_to_string(key)?)?;
        let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(certificate)?, key)?;
        Self::issue(account, &issuer, directory)
    }

    fn issue(
        account: &'static str,
        issuer: &Issuer<'_, KeyPair>,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let identity = format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{account}");
        let dns_name = format!("{account}.{NAMESPACE}.{TRUST_DOMAIN}");
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::URI(identity.as_str().try_into()?),
            SanType::DnsName(dns_name.as_str().try_into()?),
        ];
        params.distinguished_name.push(DnType::CommonName, account);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(&key, issuer)?.pem();
        let file = |kind: &str| directory.join(format!("{account}.{kind}.pem"));
        let leaf = Self {
            identity,
            common_name: account,
            dns_name,
            chain: file("chain"),
            key: file("key"),
            bundle: file("bundle"),
        };
        fs::write(&leaf.chain, &certificate)?;
        fs::write(&leaf.key, key.serialize_pem())?;
        fs::write(&leaf.bundle, certificate + &key.serialize_pem())?;
        Ok(leaf)
    }
}

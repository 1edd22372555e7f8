//! A certificate of the mesh for a peer that is not ours, asked for as any workload asks.

use crate::mesh::{Mesh, NAMESPACE, TRUST_DOMAIN};
use anyhow::{Context, ensure};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpStream;
use tonic::{Request, transport::Endpoint};
use weft_xds_proto::{
    csr::{
        IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
    },
    names,
    spiffe::SpiffeId,
};

/// Has a key signed for a workload and writes `cert-chain.pem`, `key.pem` and `root-cert.pem` into a directory
/// of the mesh, which it returns.
pub fn issue(mesh: &Mesh, name: &str, lifetime: Duration) -> anyhow::Result<PathBuf> {
    let id = SpiffeId::new(TRUST_DOMAIN, NAMESPACE, name)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    let csr = params.serialize_request(&key)?.pem()?;

    let roots = mesh.roots();
    let token = mesh.join_token(name)?;
    let address = mesh.control_plane_address(names::XDS_TLS_PORT);
    let chain = mesh.network().node().run(move || async move {
        let mut store = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(&roots)? {
            store.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        let connector = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::from(address.ip());
                Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, stream).await?))
            }
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_with_connector(connector)
            .await?;
        let mut request = Request::new(IstioCertificateRequest {
            csr,
            validity_duration: i64::try_from(lifetime.as_secs())?,
            metadata: None,
        });
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse()?);
        let response = IstioCertificateServiceClient::new(channel)
            .create_certificate(request)
            .await?;
        anyhow::Ok(response.into_inner().cert_chain)
    });
    let chain = chain.join().context("the control plane signs the key")?;
    ensure!(
        chain.len() >= 2,
        "a chain is a leaf and its root: {chain:?}"
    );

    let directory = mesh.directory().join(format!("{name}-certificates"));
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("cert-chain.pem"), &chain[0])?;
    fs::write(directory.join("root-cert.pem"), chain[1..].join("\n"))?;
    fs::write(directory.join("key.pem"), key.serialize_pem())?;
    fs::set_permissions(directory.join("key.pem"), Permissions::from_mode(0o644))?;
    Ok(directory)
}

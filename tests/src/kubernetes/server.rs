//! The sockets of the stand-in: HTTP/1.1 and HTTP/2 over TLS on one port, which can be closed and opened again.

use super::{
    answer::{self, Body},
    state::State,
    status::Status,
};
use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::Incoming,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use std::{
    convert::Infallible,
    error::Error,
    net::{IpAddr, TcpListener},
    sync::Arc,
};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The longest body, as Kubernetes has it.
const LONGEST_BODY: usize = 3 * 1024 * 1024;

/// A certificate of the stand-in, and what clients trust.
pub(super) struct Identity {
    /// The root, as PEM.
    pub root: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    /// Makes a root, and a certificate for these addresses.
    pub(super) fn new(addresses: Vec<IpAddr>) -> anyhow::Result<Self> {
        let root_key = KeyPair::generate()?;
        let mut root = CertificateParams::new(Vec::new())?;
        root.distinguished_name
            .push(DnType::CommonName, "stand-in of Kubernetes");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_certificate = root.self_signed(&root_key)?;
        let issuer = Issuer::new(root, root_key);
        let key = KeyPair::generate()?;
        let names = ["localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names)?;
        let addresses = addresses.into_iter().map(SanType::IpAddress);
        leaf.subject_alt_names.extend(addresses);
        let certificate = leaf.signed_by(&key, &issuer)?;
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            root: root_certificate.pem(),
            config: Arc::new(config),
        })
    }
}

/// Answers requests of the API until it is dropped, with every connection that it has.
pub(super) async fn serve(
    state: Arc<State>,
    identity: Arc<Identity>,
    listener: TcpListener,
) -> anyhow::Result<()> {
    let service = service_fn(move |request| respond(Arc::clone(&state), request));
    accept(identity, listener, service).await
}

/// Accepts connections, and has a service answer what comes over them.
pub(super) async fn accept<S, B>(
    identity: Arc<Identity>,
    listener: TcpListener,
    service: S,
) -> anyhow::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: hyper::body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept a connection")?;
                stream.set_nodelay(true)?;
                let (acceptor, service) = (acceptor.clone(), service.clone());
                connections.spawn(async move {
                    // A client that breaks off is no matter.
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn respond(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, LONGEST_BODY).collect().await;
    let body = match body {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let status = Status::bad_request(error.to_string());
            return Ok(answer::refuse(&status));
        }
    };
    Ok(answer::answer(&state, Request::from_parts(head, body)).await)
}

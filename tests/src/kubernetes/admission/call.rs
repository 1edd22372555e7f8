//! One call of a webhook: where it is, over TLS that its configuration trusts, within its time.

use crate::kubernetes::{endpoints, state::State};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio_rustls::TlsConnector;

/// A webhook of a configuration.
pub(super) struct Webhook(Value);

/// Where a webhook is.
struct Address {
    socket: SocketAddr,
    server: String,
    path: String,
    url: String,
}

impl Webhook {
    pub(super) fn new(webhook: Value) -> Self {
        Self(webhook)
    }

    pub(super) fn name(&self) -> &str {
        self.0["name"].as_str().unwrap_or_default()
    }

    /// Whether a request goes on without it.
    pub(super) fn may_fail(&self) -> bool {
        self.0["failurePolicy"] == "Ignore"
    }

    pub(super) fn wants_reinvocation(&self) -> bool {
        self.0["reinvocationPolicy"] == "IfNeeded"
    }

    /// Sends a review and reads the answer.
    pub(super) async fn call(&self, state: &State, review: Value) -> Result<Value, String> {
        let seconds = self.0["timeoutSeconds"].as_u64().unwrap_or(10);
        let timeout = Duration::from_secs(seconds);
        let address = self.address(state)?;
        let url = format!("{}?timeout={seconds}s", address.url);
        let failed = |error: String| format!("failed to call webhook: Post \"{url}\": {error}");
        let answered = tokio::time::timeout(timeout, self.send(state, &address, review, seconds));
        match answered.await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    async fn send(
        &self,
        state: &State,
        address: &Address,
        review: Value,
        seconds: u64,
    ) -> Result<Value, String> {
        let (place, socket) = (state.place.clone(), address.socket);
        let connect = move || place.connect(socket, Duration::from_secs(seconds));
        let stream = tokio::task::spawn_blocking(connect).await;
        let stream = stream
            .map_err(text)?
            .map_err(|error| format!("dial tcp {socket}: {error}"))?;
        stream.set_nonblocking(true).map_err(text)?;
        let stream = tokio::net::TcpStream::from_std(stream).map_err(text)?;
        let server = ServerName::try_from(address.server.clone()).map_err(text)?;
        let connector = TlsConnector::from(Arc::new(self.tls()?));
        let stream = connector.connect(server, stream).await;
        let stream =
            stream.map_err(|error| format!("tls: failed to verify certificate: {error}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        let connection = tokio::spawn(connection);
        let uri = Uri::try_from(format!("{}?timeout={seconds}s", address.path)).map_err(text)?;
        let request = Request::post(uri)
            .header(header::HOST, &address.server)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(review.to_string())))
            .map_err(text)?;
        let response = sender.send_request(request).await.map_err(text)?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(text)?
            .to_bytes();
        connection.abort();
        if !status.is_success() {
            return Err(format!(
                "an error on the server ({}) has prevented the request from succeeding: {status}",
                String::from_utf8_lossy(&body)
            ));
        }
        serde_json::from_slice(&body).map_err(text)
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        let bundle = self.0["clientConfig"]["caBundle"]
            .as_str()
            .unwrap_or_default();
        let bundle = STANDARD
            .decode(bundle)
            .map_err(|error| format!("unable to load root certificates: {error}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&bundle) {
            let certificate = certificate
                .map_err(|error| format!("unable to load root certificates: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("unable to load root certificates: {error}"))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(text)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(config)
    }

    fn address(&self, state: &State) -> Result<Address, String> {
        let config = &self.0["clientConfig"];
        if let Some(url) = config["url"].as_str() {
            let uri: Uri = url.parse().map_err(text)?;
            let host = uri
                .host()
                .unwrap_or_default()
                .trim_matches(['[', ']'])
                .to_owned();
            let ip: IpAddr = host
                .parse()
                .map_err(|_| format!("lookup {host}: the stand-in has no DNS; give an address"))?;
            return Ok(Address {
                socket: SocketAddr::new(ip, uri.port_u16().unwrap_or(443)),
                server: host,
                path: uri.path().to_owned(),
                url: url.to_owned(),
            });
        }
        let service = &config["service"];
        let field = |name: &str| service[name].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (field("namespace"), field("name"));
        let port = service["port"].as_u64().unwrap_or(443);
        let server = format!("{name}.{namespace}.svc");
        let path = service["path"].as_str().unwrap_or("/").to_owned();
        Ok(Address {
            socket: endpoints::find(&state.data().store, &namespace, &name, port)?,
            url: format!("https://{server}:{port}{path}"),
            server,
            path,
        })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

//! Asking the application, once, as the kubelet asks.

use super::Ask;
use crate::tls;
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, StatusCode,
    header::{ACCEPT, CONNECTION, HOST, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};
use tonic_prost::ProstCodec;

/// As much of a body as the kubelet reads.
const BODY_BYTES: usize = 10 * 1024;

/// What the kubelet is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("{0}: cannot connect: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("{0}: no TLS: {1}")]
    Tls(SocketAddr, io::Error),
    #[error("{0}: no HTTP: {1}")]
    Http(SocketAddr, hyper::Error),
    #[error("the question cannot be asked: {0}")]
    Question(#[from] http::Error),
    #[error("{0}: no gRPC: {1}")]
    Grpc(SocketAddr, tonic::transport::Error),
    #[error("{0}: {1}")]
    Status(SocketAddr, tonic::Status),
}

/// Asks the application at one of the pod's addresses.
pub(super) async fn ask(
    ask: &Ask,
    address: IpAddr,
    user_agent: Option<&HeaderValue>,
) -> Result<Answer, AskError> {
    match ask {
        Ask::Tcp { port } => {
            connect((address, port.get()).into()).await?;
            Ok(Answer::fine())
        }
        Ask::Http {
            port,
            path,
            tls,
            headers,
        } => {
            let address = (address, port.get()).into();
            let request = request(address, path, headers, user_agent)?;
            let stream = connect(address).await?;
            if *tls {
                let stream = encrypt(address, stream).await?;
                http(address, stream, request).await
            } else {
                http(address, stream, request).await
            }
        }
        Ask::Grpc { port, service } => grpc((address, port.get()).into(), service).await,
    }
}

impl Answer {
    fn fine() -> Self {
        Self {
            status: StatusCode::OK,
            body: Bytes::new(),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, AskError> {
    let connected = TcpStream::connect(address).await;
    connected.map_err(|error| AskError::Connect(address, error))
}

fn request(
    address: SocketAddr,
    path: &PathAndQuery,
    headers: &[(HeaderName, HeaderValue)],
    user_agent: Option<&HeaderValue>,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let mut request = Request::get(path.as_str()).body(Empty::new())?;
    let fields = request.headers_mut();
    for (name, value) in headers {
        if name == HOST {
            fields.insert(name, value.clone());
        } else {
            fields.append(name, value.clone());
        }
    }
    if !fields.contains_key(HOST) {
        fields.insert(HOST, HeaderValue::try_from(address.to_string())?);
    }
    if !fields.contains_key(ACCEPT) {
        fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
    }
    if let Some(kubelet) = user_agent.filter(|_| !fields.contains_key(USER_AGENT)) {
        fields.insert(USER_AGENT, kubelet.clone());
    }
    fields.insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

async fn http<S>(
    address: SocketAddr,
    stream: S,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error| AskError::Http(address, error);
    let begun = http1::handshake(TokioIo::new(stream)).await;
    let (mut send, connection) = begun.map_err(failed)?;
    // Ends with the exchange, or is dropped with it when time is over.
    let exchange = async {
        let response = send.send_request(request).await?;
        Ok(answer(response).await)
    };
    tokio::select! {
        answer = exchange => answer.map_err(failed),
        Err(error) = connection => Err(failed(error)),
    }
}

/// Failures keep their status, for the kubelet's events. What the kubelet takes for success is 200: it would
/// follow a redirect to us.
async fn answer(response: http::Response<Incoming>) -> Answer {
    let status = response.status();
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while body.len() < BODY_BYTES {
        let Some(Ok(frame)) = incoming.frame().await else {
            break;
        };
        body.extend(frame.into_data().unwrap_or_default());
    }
    body.truncate(BODY_BYTES);
    let fine = (200..400).contains(&status.as_u16());
    Answer {
        status: if fine { StatusCode::OK } else { status },
        body: body.into(),
    }
}

async fn encrypt(
    address: SocketAddr,
    stream: TcpStream,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, AskError> {
    let provider = tls::provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for every version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let encrypted = TlsConnector::from(Arc::new(config)).connect(name, stream);
    encrypted
        .await
        .map_err(|error| AskError::Tls(address, error))
}

/// The kubelet's own trust in probes: they stay on the node, and say nothing but that somebody is there.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// `ServingStatus.SERVING`.
pub(super) const SERVING: i32 = 1;

async fn grpc(address: SocketAddr, service: &str) -> Result<Answer, AskError> {
    let failed = |error| AskError::Grpc(address, error);
    // A connection that is refused has a better reason than tonic tells.
    let mut stream = Some(TokioIo::new(connect(address).await?));
    let connector = tower::service_fn(move |_: Uri| {
        let taken = stream.take();
        std::future::ready(taken.ok_or_else(|| io::Error::other("it was closed")))
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(failed)?;
    let channel = endpoint.connect_with_connector(connector).await;
    let mut client = tonic::client::Grpc::new(channel.map_err(failed)?);
    client.ready().await.map_err(failed)?;
    let question = HealthCheckRequest {
        service: service.to_owned(),
    };
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answered = client.unary(tonic::Request::new(question), path, codec);
    let answered = answered
        .await
        .map_err(|status| AskError::Status(address, status))?;
    let status = answered.into_inner().status;
    if status == SERVING {
        return Ok(Answer::fine());
    }
    Ok(Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        body: format!("status {status}, not SERVING\n").into(),
    })
}

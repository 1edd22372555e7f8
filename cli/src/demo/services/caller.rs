//! How an application reaches a service: directly, which a sidecar may intercept, or through a proxy it knows of.

use std::{
    env,
    task::{Context, Poll},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tonic::{
    codegen::Service,
    transport::{Channel, Endpoint},
};

/// Names a proxy, `127.0.0.1:15001`, through which all calls go; they are told apart by their authority.
pub(in crate::demo) const PROXY_VARIABLE: &str = "DEMO_PROXY";

/// Calls one service over connections that it keeps.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    origin: Uri,
    proxy: Option<Uri>,
    http: Client<Dialler, Full<Bytes>>,
}

impl Caller {
    /// Calls `host:port`, through the proxy if there is one.
    pub(crate) fn new(authority: &str, proxy: Option<&str>) -> anyhow::Result<Self> {
        let uri = |authority: &str| -> anyhow::Result<Uri> {
            format!("http://{authority}")
                .parse()
                .with_context(|| format!("{authority:?} is not host:port"))
        };
        let proxy = proxy.map(uri).transpose()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let dialler = Dialler {
            connector,
            proxy: proxy.clone(),
        };
        Ok(Self {
            origin: uri(authority)?,
            proxy,
            http: Client::builder(TokioExecutor::new()).build(dialler),
        })
    }

    /// Calls the service that the environment describes as Kubernetes does.
    pub(super) fn from_environment(service: &str) -> anyhow::Result<Self> {
        let variable = |suffix: &str| {
            let name = format!("{service}_SERVICE_{suffix}");
            env::var(&name).with_context(|| format!("{name} is not set"))
        };
        let (host, port) = (variable("HOST")?, variable("PORT")?);
        Self::new(
            &format!("{host}:{port}"),
            env::var(PROXY_VARIABLE).ok().as_deref(),
        )
    }

    /// Sends a request whose target is a path, and gives back the body of a successful response.
    pub(crate) async fn http(
        &self,
        method: http::Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let origin = self.origin.to_string();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", origin.trim_end_matches('/')))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let response = self.http.request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::ensure!(
            head.status == StatusCode::OK,
            "{} {} {}",
            head.status,
            head.headers
                .get("weft-error")
                .and_then(|reason| reason.to_str().ok())
                .unwrap_or_default(),
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    /// A channel for gRPC, which connects when first used.
    pub(super) fn grpc(&self) -> Channel {
        let target = self.proxy.clone().unwrap_or_else(|| self.origin.clone());
        Endpoint::from(target)
            .origin(self.origin.clone())
            .tcp_nodelay(true)
            .connect_lazy()
    }
}

/// Connects to the proxy if there is one, whatever is asked for.
#[derive(Debug, Clone)]
struct Dialler {
    connector: HttpConnector,
    proxy: Option<Uri>,
}

impl Service<Uri> for Dialler {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = <HttpConnector as Service<Uri>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, origin: Uri) -> Self::Future {
        self.connector.call(self.proxy.clone().unwrap_or(origin))
    }
}

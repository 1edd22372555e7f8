//! An admission webhook on loopback that answers as a test says.

use super::server::{self, Identity};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
};
use tokio::runtime::Runtime;

/// A running webhook. It ends when it is dropped.
pub struct Webhook {
    address: SocketAddr,
    root: String,
    _runtime: Runtime,
}

impl Webhook {
    /// Starts one; the closure makes the `response` of a `request`.
    pub fn start(
        respond: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let loopback = Ipv4Addr::LOCALHOST;
        let listener = TcpListener::bind((loopback, 0))?;
        let address = listener.local_addr()?;
        let identity = Identity::new(vec![loopback.into()])?;
        let root = identity.root.clone();
        let respond = Arc::new(respond);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let respond = Arc::clone(&respond);
            async move {
                let body = request.into_body().collect().await;
                let body = body.map(|body| body.to_bytes()).unwrap_or_default();
                let review: Value = serde_json::from_slice(&body).unwrap_or_default();
                let mut response = respond(&review["request"]);
                response["uid"] = review["request"]["uid"].clone();
                let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response });
                let body = Full::new(review.to_string().into());
                Ok::<_, Infallible>(Response::new(body))
            }
        });
        runtime.spawn(server::accept(Arc::new(identity), listener, service));
        Ok(Self {
            address,
            root,
            _runtime: runtime,
        })
    }

    /// The `clientConfig` of its configuration.
    pub fn client_config(&self) -> Value {
        json!({
            "url": format!("https://{}/admit", self.address),
            "caBundle": STANDARD.encode(&self.root),
        })
    }
}

/// The response that lets an object through with a JSON patch.
pub fn patched(patch: &Value) -> Value {
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()) })
}

/// The response that refuses an object.
pub fn denied(why: &str) -> Value {
    json!({ "allowed": false, "status": { "message": why, "code": 403 } })
}

//! A Kubernetes API that answers as a test says.

use std::sync::Arc;

use kube::{Client, client::Body};
use serde_json::Value;

/// What the API is asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    /// What follows the `?`.
    pub(crate) query: String,
    /// `null` when there is none.
    pub(crate) body: Value,
}

/// A client whose requests are answered with a status code and an object. The answer to a watch is the
/// event that ends it, or `null` to end it without.
pub(crate) fn client<F, A>(answer: F) -> Client
where
    F: Fn(Request) -> A + Send + Sync + 'static,
    A: Future<Output = (u16, Value)> + Send + 'static,
{
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let answer = answer.clone();
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await?;
            let request = Request {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            let (code, object) = answer(request).await;
            let body = match object {
                Value::Null => Vec::new(),
                object => format!("{object}\n").into_bytes(),
            };
            let response = http::Response::builder()
                .status(code)
                .body(Body::from(body))?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(response)
        }
    });
    Client::new(service, "weft-system")
}

//! A client of whichever API the conformance suite is run against: the stand-in, or the real one that
//! `WEFT_TEST_KUBECONFIG` names.

use super::{Api, Place};
use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use kube::{
    Client, Config,
    client::Body,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{env, fmt, path::Path, time::Duration};
use tokio::runtime::Runtime;

/// The variable that names the kubeconfig of a real API.
pub const VARIABLE: &str = "WEFT_TEST_KUBECONFIG";
/// How long an event may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An administrator of an API, with a namespace for what a test makes.
pub struct Session {
    runtime: Runtime,
    config: Config,
    client: Client,
    stand_in: Option<Api>,
    namespace: String,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status of the response.
    pub code: u16,
    /// Its body.
    pub body: Value,
    /// What it warned of.
    pub warnings: Vec<String>,
}

/// An open watch.
pub struct Watch<'a> {
    session: &'a Session,
    body: Body,
    read: BytesMut,
}

impl Session {
    /// Starts a stand-in, or connects to the real API where there is one, and makes a namespace.
    pub fn open() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (file, stand_in) = match env::var_os(VARIABLE) {
            Some(path) => (Kubeconfig::read_from(Path::new(&path))?, None),
            None => {
                let api = Api::start(Place::Loopback)?;
                api.guard();
                (Kubeconfig::from_yaml(&api.admin_kubeconfig())?, Some(api))
            }
        };
        let _inside = runtime.enter();
        let options = KubeConfigOptions::default();
        let config = runtime.block_on(Config::from_custom_kubeconfig(file, &options))?;
        let client = Client::try_from(config.clone())?;
        let session = Self {
            client,
            config,
            stand_in,
            namespace: format!("weft-suite-{:08x}", fastrand::u32(..)),
            runtime,
        };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": session.namespace } });
        session.post("/api/v1/namespaces", &namespace)?.created()?;
        Ok(session)
    }

    /// The stand-in, unless the API is real.
    pub fn stand_in(&self) -> Option<&Api> {
        self.stand_in.as_ref()
    }

    /// The namespace of this test.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The path of a resource of the core in the namespace.
    pub fn core(&self, plural: &str) -> String {
        format!("/api/v1/namespaces/{}/{plural}", self.namespace)
    }

    /// The path of a resource of a group and version in the namespace.
    pub fn group(&self, version: &str, plural: &str) -> String {
        format!("/apis/{version}/namespaces/{}/{plural}", self.namespace)
    }

    /// GETs.
    pub fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, "", &Value::Null)
    }

    /// GETs in a form of an `Accept`.
    pub fn get_as(&self, path: &str, accept: &str) -> anyhow::Result<Answer> {
        let mut request = request("GET", path, "", &Value::Null)?;
        let accept = http::HeaderValue::from_str(accept)?;
        request.headers_mut().insert(http::header::ACCEPT, accept);
        self.answer(&self.client, request)
    }

    /// POSTs.
    pub fn post(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, "application/json", object)
    }

    /// PUTs.
    pub fn put(&self, path: &str, object: &Value) -> anyhow::Result<Answer> {
        self.send("PUT", path, "application/json", object)
    }

    /// DELETEs.
    pub fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send("DELETE", path, "", &Value::Null)
    }

    /// PATCHes with a merge patch.
    pub fn merge(&self, path: &str, patch: &Value) -> anyhow::Result<Answer> {
        self.send("PATCH", path, "application/merge-patch+json", patch)
    }

    /// Applies on the server. `query` names the manager: `fieldManager=a&force=true`.
    pub fn apply(&self, path: &str, query: &str, object: &Value) -> anyhow::Result<Answer> {
        let path = format!("{path}?{query}");
        self.send("PATCH", &path, "application/apply-patch+yaml", object)
    }

    /// Sends any request as the administrator.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        self.send_with(&self.client, method, path, content_type, body)
    }

    /// Sends a request as whoever has a token.
    pub fn send_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        let _inside = self.runtime.enter();
        let mut config = self.config.clone();
        config.auth_info = AuthInfo {
            token: Some(token.to_owned().into()),
            ..AuthInfo::default()
        };
        let client = Client::try_from(config)?;
        self.send_with(&client, method, path, "application/json", body)
    }

    fn send_with(
        &self,
        client: &Client,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> anyhow::Result<Answer> {
        self.answer(client, request(method, path, content_type, body)?)
    }

    fn answer(&self, client: &Client, request: Request<Body>) -> anyhow::Result<Answer> {
        self.runtime.block_on(async {
            let response = client.send(request).await?;
            let code = response.status().as_u16();
            let warnings = response.headers().get_all(http::header::WARNING).iter();
            let warnings = warnings.filter_map(|warning| warning.to_str().ok());
            let warnings = warnings.map(str::to_owned).collect();
            let body = response.into_body().collect().await?.to_bytes();
            let text = String::from_utf8_lossy(&body);
            let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(text.as_ref()));
            Ok(Answer {
                code,
                body,
                warnings,
            })
        })
    }

    /// Opens a watch; the path has its query.
    pub fn watch(&self, path: &str) -> anyhow::Result<Watch<'_>> {
        let request = request("GET", path, "", &Value::Null)?;
        let response = self.runtime.block_on(self.client.send(request))?;
        ensure!(
            response.status() == 200,
            "watch {path}: {}",
            response.status()
        );
        Ok(Watch {
            session: self,
            body: response.into_body(),
            read: BytesMut::new(),
        })
    }

    /// A token of a service account for an audience (empty: the API), bound to a pod if one is given by name and uid.
    pub fn token(
        &self,
        account: &str,
        audience: &str,
        pod: Option<(&str, &str)>,
    ) -> anyhow::Result<String> {
        let mut spec = json!({ "expirationSeconds": 3600 });
        if !audience.is_empty() {
            spec["audiences"] = json!([audience]);
        }
        if let Some((name, uid)) = pod {
            spec["boundObjectRef"] =
                json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid });
        }
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
        let path = format!("{}/{account}/token", self.core("serviceaccounts"));
        let answer = self.post(&path, &request)?.created()?;
        let token = answer["status"]["token"].as_str();
        Ok(token
            .context("a token request answers with a token")?
            .to_owned())
    }
}

impl Drop for Session {
    /// Takes away what a test made in a cluster that outlives it.
    fn drop(&mut self) {
        if self.stand_in.is_none() {
            let path = format!("/api/v1/namespaces/{}", self.namespace);
            // A namespace that stays is the cluster's to show.
            let _ = self.delete(&path);
        }
    }
}

fn request(
    method: &str,
    path: &str,
    content_type: &str,
    body: &Value,
) -> anyhow::Result<Request<Body>> {
    let bytes = if body.is_null() {
        Bytes::new()
    } else {
        Bytes::from(body.to_string())
    };
    let mut request = Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header(http::header::CONTENT_TYPE, content_type);
    }
    request = request.header(http::header::USER_AGENT, "weft-suite/1");
    Ok(request.body(Body::from(bytes.to_vec()))?)
}

impl Answer {
    /// The body of a success.
    pub fn ok(self) -> anyhow::Result<Value> {
        ensure!(self.code == 200, "{self}");
        Ok(self.body)
    }

    /// The body of what was created.
    pub fn created(self) -> anyhow::Result<Value> {
        ensure!(self.code == 201, "{self}");
        Ok(self.body)
    }

    /// The message of a refusal with a status and a reason.
    pub fn refused(self, code: u16, reason: &str) -> anyhow::Result<String> {
        ensure!(
            self.code == code && self.body["reason"] == reason,
            "not {code} {reason}: {self}"
        );
        let message = self.body["message"].as_str();
        Ok(message.context("a refusal has a message")?.to_owned())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.body)
    }
}

impl Watch<'_> {
    /// The next event: its type and its object. Nothing when the watch ends.
    pub fn event(&mut self) -> anyhow::Result<Option<(String, Value)>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                let event: Value = serde_json::from_slice(&line)?;
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                return Ok(Some((kind, event["object"].clone())));
            }
            let frame = self
                .session
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, self.body.frame()).await });
            match frame {
                Err(_) => bail!("no event within {PATIENCE:?}"),
                Ok(None) => return Ok(None),
                Ok(Some(frame)) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The next event that must come: type and name, bookmarks passed over.
    pub fn expect(&mut self) -> anyhow::Result<(String, String)> {
        loop {
            let (kind, object) = self.event()?.context("the watch goes on")?;
            if kind != "BOOKMARK" {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                return Ok((kind, name.to_owned()));
            }
        }
    }
}

//! A stand-in for the Kubernetes API, for machines without one.
//!
//! It is not Kubernetes: it keeps objects in memory, and is faithful where Weft looks. Lists with pages, watches with
//! bookmarks, streamed lists and 410, every kind of patch with managers of fields, the status subresource, custom
//! resources with their schemas and rules, tokens and their reviews, rights, and admission webhooks. The suite
//! `kubernetes::api` of the scenarios checks it, and checks a real API with the same expectations.
//!
//! What it does not have: controllers (no Deployment makes pods, no Service makes EndpointSlices), finalizers, garbage
//! collection, protobuf, OpenAPI, conversion between versions, validation of built-in kinds beyond their names, and
//! one storage for the two groups of events.

mod admission;
mod answer;
pub mod apply;
pub mod authentication;
pub mod authorization;
pub mod cluster;
mod defaults;
mod discovery;
mod endpoints;
mod faults;
mod kubeconfig;
mod kubelet;
mod patch;
mod place;
mod read;
mod request;
mod requests;
pub mod resource;
mod reviews;
pub mod schema;
pub mod selector;
mod server;
pub mod session;
mod state;
pub mod status;
mod store;
mod watch;
pub mod webhook;
mod write;

pub use faults::Faults;
pub use kubeconfig::kubeconfig;
pub use kubelet::Running;
pub use place::Place;
pub use requests::{Asked, Requests};
pub use status::Status;

use anyhow::{Context, anyhow};
use authentication::{Claims, User};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use serde_json::Value;
use server::Identity;
use state::State;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{runtime::Runtime, task::JoinHandle};

/// A running stand-in. It ends when it is dropped.
pub struct Api {
    state: Arc<State>,
    identity: Arc<Identity>,
    address: SocketAddr,
    server: Option<JoinHandle<anyhow::Result<()>>>,
    runtime: Runtime,
}

impl Api {
    /// Starts with no more than what every cluster has, open to everybody.
    pub fn start(place: Place) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("kubernetes")
            .enable_all()
            .build()?;
        let identity = Arc::new(Identity::new(place.names())?);
        let state = Arc::new(State::new(place));
        let mut api = Self {
            address: state.place.address(),
            state,
            identity,
            server: None,
            runtime,
        };
        for object in defaults::first_objects() {
            api.put(&object)?;
        }
        api.listen()?;
        Ok(api)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The root that clients trust, as PEM.
    pub fn root(&self) -> &str {
        &self.identity.root
    }

    /// A kubeconfig of the administrator.
    pub fn admin_kubeconfig(&self) -> String {
        self.kubeconfig(&self.admin_token())
    }

    /// A kubeconfig of whoever has this token.
    pub fn kubeconfig(&self, token: &str) -> String {
        kubeconfig(self.address, self.root(), token)
    }

    /// The token of the administrator.
    pub fn admin_token(&self) -> String {
        self.state.data().tokens.admin().to_owned()
    }

    /// Mints a token of a service account for an audience (empty: the API), bound to a pod if that is given by name.
    pub fn token(
        &self,
        namespace: &str,
        service_account: &str,
        pod: Option<&str>,
        audience: &str,
        lifetime: Duration,
    ) -> String {
        let mut data = self.state.data();
        let uid = |plural: &str, name: &str| {
            let table = (String::new(), plural.to_owned());
            let object = data
                .store
                .get(&table, &(namespace.to_owned(), name.to_owned()));
            let uid = object.and_then(|object| object.value["metadata"]["uid"].as_str());
            uid.unwrap_or_default().to_owned()
        };
        let claims = Claims {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            service_account_uid: uid("serviceaccounts", service_account),
            pod: pod.map(|name| (name.to_owned(), uid("pods", name))),
            audiences: [audience]
                .iter()
                .filter(|audience| !audience.is_empty())
                .map(ToString::to_string)
                .collect(),
            expires: SystemTime::now() + lifetime,
        };
        data.tokens.mint(claims)
    }

    /// Checks rights from now on: only what a binding grants, and the administrator.
    pub fn guard(&self) {
        self.state.guard(true);
    }

    /// What may go wrong.
    pub fn faults(&self) -> &Faults {
        &self.state.faults
    }

    /// What was asked so far.
    pub fn requests(&self) -> &Requests {
        &self.state.requests
    }

    /// Sets how often watches are told how far they are. Default one minute, as in Kubernetes.
    pub fn set_bookmarks(&self, interval: Duration) {
        self.state.set_bookmarks(interval);
    }

    /// Sets how many changes are known. Default 10,000.
    pub fn set_window(&self, changes: usize) {
        self.state.data().store.keep(changes);
    }

    /// Forgets every change: who watches from an older revision is told 410.
    pub fn compact(&self) {
        self.state.data().store.compact();
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.state.data().store.revision()
    }

    /// Closes the port and every connection, as a crash does. Objects stay, the history of changes does not.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // The port is closed when the task is gone.
            let _ = self.runtime.block_on(server);
        }
        self.compact();
    }

    /// Opens the port again.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.listen()
    }

    /// Sends a request as the administrator, without a socket.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            Bytes::from(body.to_string())
        };
        let method = Method::from_bytes(method.as_bytes());
        let request = Request::builder()
            .method(method.map_err(Status::internal)?)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::USER_AGENT, "test")
            .header(
                header::AUTHORIZATION,
                format!("Bearer {}", self.admin_token()),
            )
            .body(body)
            .map_err(Status::internal)?;
        self.runtime.block_on(async {
            let response = answer::answer(&self.state, request).await;
            let code = response.status().as_u16();
            let body = response.into_body().collect().await;
            let body = body.map_err(Status::internal)?.to_bytes();
            let value: Value = serde_json::from_slice(&body).map_err(Status::internal)?;
            if code < 400 {
                Ok(value)
            } else {
                Err(refusal(code, &value))
            }
        })
    }

    /// Creates an object through admission and validation, as a client does.
    pub fn create(&self, object: &Value) -> anyhow::Result<Value> {
        let path = self.collection(object)?;
        let created = self.request("POST", &path, "application/json", object);
        created.with_context(|| format!("create {}", described(object)))
    }

    /// Writes an object as it is, its status with it, whether it was there or not: what a cluster's own controllers do.
    /// Neither webhooks nor schemas are asked.
    pub fn put(&self, object: &Value) -> anyhow::Result<Value> {
        let mut object = object.clone();
        let mut data = self.state.data();
        let resource = data.registry.of(&object).cloned();
        let resource = resource
            .ok_or_else(|| anyhow!("{} is of no kind that is served", described(&object)))?;
        let name = read::name_of(&object);
        let table = (resource.group.clone(), resource.plural.clone());
        let old = data.store.get(&table, &name).map(|old| old.value.clone());
        let metadata = &mut object["metadata"];
        for (field, first) in [("uid", write::uid()), ("creationTimestamp", state::now())] {
            if metadata[field].is_null() {
                let kept = old.as_ref().and_then(|old| old["metadata"].get(field));
                metadata[field] = kept.cloned().unwrap_or_else(|| first.into());
            }
        }
        if resource.kind == "CustomResourceDefinition" {
            data.registry.define(&object)?;
        }
        defaults::fill(&resource, &mut object, old.as_ref(), &mut data.addresses);
        Ok(data.store.put(&table, name, object).value.clone())
    }

    /// An object as it is.
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let data = self.state.data();
        let of = serde_json::json!({ "apiVersion": api_version, "kind": kind });
        let resource = data.registry.of(&of)?;
        let table = (resource.group.clone(), resource.plural.clone());
        let object = data
            .store
            .get(&table, &(namespace.to_owned(), name.to_owned()))?;
        Some(object.value.clone())
    }

    /// Every object of a kind.
    pub fn all(&self, api_version: &str, kind: &str) -> Vec<Value> {
        let data = self.state.data();
        let of = serde_json::json!({ "apiVersion": api_version, "kind": kind });
        let Some(resource) = data.registry.of(&of) else {
            return Vec::new();
        };
        let table = (resource.group.clone(), resource.plural.clone());
        let objects = data.store.list(&table, "", None);
        objects.map(|object| object.value.clone()).collect()
    }

    /// Takes an object away, if it is there.
    pub fn remove(&self, object: &Value) {
        let resource = self.state.data().registry.of(object).cloned();
        if let Some(resource) = resource {
            write::remove(&self.state, &resource, &read::name_of(object));
        }
    }

    /// An endpoint of a service by its name and port: `name.namespace.svc:443`.
    pub fn resolve(&self, authority: &str) -> anyhow::Result<SocketAddr> {
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "443"));
        let mut labels = host.split('.');
        let name = labels.next().unwrap_or_default();
        let namespace = labels.next().unwrap_or("default");
        let found = endpoints::find(&self.state.data().store, namespace, name, port.parse()?);
        found.map_err(|error| anyhow!("{authority}: {error}"))
    }

    /// The path of the collection that an object belongs to.
    fn collection(&self, object: &Value) -> anyhow::Result<String> {
        let data = self.state.data();
        let resource = data.registry.of(object);
        let resource = resource
            .with_context(|| format!("{} is of no kind that is served", described(object)))?;
        let root = if resource.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let version = resource.api_version();
        let (namespace, _) = read::name_of(object);
        Ok(if resource.is_namespaced {
            format!(
                "{root}/{version}/namespaces/{namespace}/{}",
                resource.plural
            )
        } else {
            format!("{root}/{version}/{}", resource.plural)
        })
    }

    fn listen(&mut self) -> anyhow::Result<()> {
        let listener = self.state.place.listen(self.address);
        let listener = listener.with_context(|| format!("listen on {}", self.address))?;
        self.address = listener.local_addr()?;
        let served = server::serve(
            Arc::clone(&self.state),
            Arc::clone(&self.identity),
            listener,
        );
        self.server = Some(self.runtime.spawn(served));
        Ok(())
    }
}

/// The name of the user of a service account.
pub fn user_name(namespace: &str, service_account: &str) -> String {
    User::service_account(namespace, service_account).name
}

fn described(object: &Value) -> String {
    let (namespace, name) = read::name_of(object);
    format!(
        "{} {namespace}/{name}",
        object["kind"].as_str().unwrap_or("object")
    )
}

/// A refusal as it was written.
fn refusal(code: u16, object: &Value) -> Status {
    Status {
        code,
        message: object["message"].as_str().unwrap_or_default().to_owned(),
        details: object["details"].clone(),
        ..Status::internal("")
    }
}

//! Scripted exchanges, written down as a transcript of both directions.

mod client;
mod conversation;
mod server;

use std::{sync::Arc, time::Instant};

use prost::Message as _;

use super::{Client, Server};
use crate::{
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    },
    exchange::{Answer, Nack, Received, RefusedResource, Rejection, UnknownType, WILDCARD},
    resource::ResourceType::{self, Cluster, Endpoints, Listener, Route, Secret},
    shelf::{Shelf, body},
};

/// A request as a raw peer would send it.
fn request(ty: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ty.url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn subscribe(ty: ResourceType, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..request(ty)
    }
}

fn unsubscribe(ty: ResourceType, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_unsubscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..request(ty)
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// A response as `type: +name@version -removed`.
fn line(response: &DeltaDiscoveryResponse) -> String {
    let ty = ResourceType::from_url(&response.type_url).unwrap();
    let mut line = format!("{}:", ty.label());
    for resource in &response.resources {
        let expected = body(ty, &resource.name, &resource.version);
        assert_eq!(resource.resource.as_ref(), Some(&expected));
        line.push_str(&format!(" +{}@{}", resource.name, resource.version));
    }
    for name in &response.removed_resources {
        line.push_str(&format!(" -{name}"));
    }
    line
}

/// What the server has to send next.
fn next(server: &mut Server, shelf: &Shelf) -> Option<DeltaDiscoveryResponse> {
    let response = server.next_response(shelf)?;
    Some(response.decode().unwrap())
}

/// Everything that the server has to send now.
fn drain(server: &mut Server, shelf: &Shelf) -> Vec<DeltaDiscoveryResponse> {
    std::iter::from_fn(|| next(server, shelf)).collect()
}

/// Everything that the server sends to a client that answers at once.
fn answered(server: &mut Server, shelf: &Shelf) -> Vec<DeltaDiscoveryResponse> {
    std::iter::from_fn(|| {
        let response = next(server, shelf)?;
        server.receive(ack(&response)).unwrap();
        Some(response)
    })
    .collect()
}

fn lines(server: &mut Server, shelf: &Shelf) -> Vec<String> {
    answered(server, shelf).iter().map(line).collect()
}

/// Notes a change as the control plane does.
fn change(server: &mut Server, ty: ResourceType, name: &str) -> bool {
    server.changed(ty, &Arc::from(name), Instant::now())
}

fn rejection(name: &str) -> Rejection {
    Rejection {
        name: name.to_owned(),
        field: "lb_policy".to_owned(),
        reason: "MAGLEV is not supported".to_owned(),
    }
}

/// Carries messages both ways until neither end has more to say. Resources of version `bad` are
/// rejected. Gives what the server said.
fn converse(client: &mut Client, server: &mut Server, shelf: &Shelf) -> Vec<String> {
    let mut said = Vec::new();
    loop {
        let mut silent = true;
        while let Some(request) = client.next_request() {
            server.receive(request).unwrap();
            silent = false;
        }
        while let Some(response) = next(server, shelf) {
            said.push(line(&response));
            let update = client.receive(response).unwrap();
            let rejections: Vec<_> = update
                .resources
                .iter()
                .filter(|resource| resource.version == "bad")
                .map(|resource| rejection(&resource.name))
                .collect();
            client.answer(update.pending, &rejections);
            silent = false;
        }
        if silent {
            return said;
        }
    }
}

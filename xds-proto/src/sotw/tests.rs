//! Scripted exchanges of the state-of-the-world variant.

use std::{sync::Arc, time::Instant};

use super::{Client, Server};
use crate::{
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    },
    exchange::{Answer, Rejection, WILDCARD},
    resource::ResourceType::{self, Cluster, Endpoints, Listener, Route},
    shelf::Shelf,
};

fn request(ty: ResourceType, names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: ty.url().to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

/// A response as `type: name@version ...`.
fn line(response: &DiscoveryResponse) -> String {
    let ty = ResourceType::from_url(&response.type_url).unwrap();
    let bodies = response.resources.iter().map(|body| {
        assert_eq!(body.type_url, ty.url());
        format!(" {}", String::from_utf8(body.value.clone()).unwrap())
    });
    format!("{}:{}", ty.label(), bodies.collect::<String>())
}

/// The next response, as a line, and the nonce to answer it with.
fn next(server: &mut Server, shelf: &Shelf) -> Option<(String, String)> {
    let response = server.next_response(shelf)?;
    Some((line(&response), response.nonce))
}

fn change(server: &mut Server, ty: ResourceType, name: &str) -> bool {
    server.changed(ty, &Arc::from(name), Instant::now())
}

#[test]
fn a_wildcard_gets_the_whole_list_at_every_change() {
    for names in [&[][..], &[WILDCARD][..]] {
        let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
        let mut server = Server::new();
        server.receive(request(Cluster, names, "")).unwrap();
        let (first, nonce) = next(&mut server, &shelf).unwrap();
        assert_eq!(first, "cluster: a@1 b@1");
        server.receive(request(Cluster, names, &nonce)).unwrap();
        assert_eq!(next(&mut server, &shelf), None);
        shelf.put(Cluster, "b", "2");
        change(&mut server, Cluster, "b");
        let (second, nonce) = next(&mut server, &shelf).unwrap();
        assert_eq!(second, "cluster: a@1 b@2");
        server.receive(request(Cluster, names, &nonce)).unwrap();
        shelf.take(Cluster, "a");
        change(&mut server, Cluster, "a");
        assert_eq!(next(&mut server, &shelf).unwrap().0, "cluster: b@2");
    }
}

#[test]
fn an_empty_list_is_an_answer_too() {
    let mut server = Server::new();
    server.receive(request(Listener, &[], "")).unwrap();
    assert_eq!(next(&mut server, &Shelf::default()).unwrap().0, "listener:");
    let mut server = Server::new();
    server.receive(request(Listener, &["ghost"], "")).unwrap();
    assert_eq!(next(&mut server, &Shelf::default()).unwrap().0, "listener:");
}

#[test]
fn endpoints_and_routes_come_one_by_one_and_only_when_there_are_any() {
    let mut shelf = Shelf::with(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    let mut server = Server::new();
    server
        .receive(request(Endpoints, &["a", "b", "ghost"], ""))
        .unwrap();
    server.receive(request(Route, &["ghost"], "")).unwrap();
    let (first, nonce) = next(&mut server, &shelf).unwrap();
    assert_eq!(first, "endpoints: a@1 b@1");
    assert_eq!(next(&mut server, &shelf), None);
    server
        .receive(request(Endpoints, &["a", "b", "ghost"], &nonce))
        .unwrap();
    shelf.put(Endpoints, "b", "2");
    change(&mut server, Endpoints, "b");
    assert_eq!(next(&mut server, &shelf).unwrap().0, "endpoints: b@2");
}

#[test]
fn a_name_added_later_is_sent_though_others_are_current() {
    let shelf = Shelf::with(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    let mut server = Server::new();
    server.receive(request(Endpoints, &["a"], "")).unwrap();
    let (_, nonce) = next(&mut server, &shelf).unwrap();
    let received = server
        .receive(request(Endpoints, &["a", "b"], &nonce))
        .unwrap();
    assert_eq!(received.subscribed, [Arc::from("b")]);
    assert_eq!(next(&mut server, &shelf).unwrap().0, "endpoints: b@1");
}

#[test]
fn a_stale_nonce_changes_nothing() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    server.receive(request(Cluster, &["a"], "")).unwrap();
    let (_, first) = next(&mut server, &shelf).unwrap();
    server.receive(request(Cluster, &["a"], &first)).unwrap();
    shelf.put(Cluster, "a", "2");
    change(&mut server, Cluster, "a");
    let (_, second) = next(&mut server, &shelf).unwrap();
    let stale = server
        .receive(request(Cluster, &["a", "b"], &first))
        .unwrap();
    assert_eq!((stale.answer, stale.subscribed), (None, vec![]));
    let current = server
        .receive(request(Cluster, &["a", "b"], &second))
        .unwrap();
    assert!(current.answer.is_some());
    assert_eq!(current.subscribed, [Arc::from("b")]);
}

#[test]
fn changes_wait_for_the_answer_and_then_travel_as_one() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server.receive(request(Cluster, &["a"], "")).unwrap();
    let (_, nonce) = next(&mut server, &shelf).unwrap();
    let since = Instant::now();
    for version in ["2", "3"] {
        shelf.put(Cluster, "a", version);
        server.changed(Cluster, &"a".into(), since);
        assert_eq!(next(&mut server, &shelf), None);
    }
    server.receive(request(Cluster, &["a"], &nonce)).unwrap();
    let (second, nonce) = next(&mut server, &shelf).unwrap();
    assert_eq!(second, "cluster: a@3");
    let answer = server
        .receive(request(Cluster, &["a"], &nonce))
        .unwrap()
        .answer;
    assert_eq!(
        answer,
        Some(Answer {
            since: Some(since),
            resources: 1,
            nack: None
        })
    );
}

#[test]
fn naming_nothing_after_naming_something_follows_nothing() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server.receive(request(Cluster, &["a"], "")).unwrap();
    let (_, nonce) = next(&mut server, &shelf).unwrap();
    let received = server.receive(request(Cluster, &[], &nonce)).unwrap();
    assert_eq!(received.unsubscribed, [Arc::from("a")]);
    assert!(!server.is_wildcard(Cluster));
    shelf.put(Cluster, "a", "2");
    assert!(!change(&mut server, Cluster, "a"));
}

#[test]
fn clusters_go_before_endpoints_and_listeners_before_routes() {
    let shelf = Shelf::with(&ResourceType::ALL.map(|ty| (ty, "a", "1")));
    let mut server = Server::new();
    for ty in ResourceType::ALL.into_iter().rev() {
        server.receive(request(ty, &["a"], "")).unwrap();
    }
    let said: Vec<_> = std::iter::from_fn(|| next(&mut server, &shelf))
        .map(|(line, _)| line)
        .collect();
    assert_eq!(
        said,
        [
            "secret: a@1",
            "cluster: a@1",
            "endpoints: a@1",
            "listener: a@1",
            "route: a@1"
        ]
    );
}

#[test]
fn endpoints_follow_their_cluster_where_the_peer_needs_it() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Endpoints, "a", "1")]);
    let mut server = Server::new().resend_endpoints(true);
    server.receive(request(Cluster, &[], "")).unwrap();
    let (_, cluster) = next(&mut server, &shelf).unwrap();
    server.receive(request(Cluster, &[], &cluster)).unwrap();
    server.receive(request(Endpoints, &["a"], "")).unwrap();
    let (_, endpoints) = next(&mut server, &shelf).unwrap();
    server
        .receive(request(Endpoints, &["a"], &endpoints))
        .unwrap();
    shelf.put(Cluster, "a", "2");
    change(&mut server, Cluster, "a");
    assert_eq!(next(&mut server, &shelf).unwrap().0, "cluster: a@2");
    assert_eq!(next(&mut server, &shelf).unwrap().0, "endpoints: a@1");
}

#[test]
fn the_same_resources_have_the_same_version_on_every_stream() {
    let shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let version = |server: &mut Server| {
        server.receive(request(Cluster, &[], "")).unwrap();
        server.next_response(&shelf).unwrap().version_info
    };
    assert_eq!(version(&mut Server::new()), version(&mut Server::new()));
}

#[test]
fn a_client_keeps_what_it_can_use_and_names_what_it_cannot() {
    let shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, WILDCARD);
    server.receive(client.next_request().unwrap()).unwrap();
    let update = client
        .receive(server.next_response(&shelf).unwrap())
        .unwrap();
    let rejection = Rejection {
        name: "b".to_owned(),
        field: "lb_policy".to_owned(),
        reason: "MAGLEV is not supported".to_owned(),
    };
    client.answer(update.pending, ["a", "b"], &[rejection]);
    let nack = client.next_request().unwrap();
    assert_eq!(nack.version_info, "", "no response was accepted as a whole");
    let answer = server.receive(nack).unwrap().answer.unwrap();
    assert_eq!(
        answer.nack.unwrap().message,
        "b: lb_policy: MAGLEV is not supported"
    );
    assert_eq!(next(&mut server, &shelf), None, "it would be refused again");
}

#[test]
fn a_client_learns_from_a_complete_list_what_is_gone() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, "a");
    client.subscribe(Cluster, "b");
    server.receive(client.next_request().unwrap()).unwrap();
    let update = client
        .receive(server.next_response(&shelf).unwrap())
        .unwrap();
    assert!(client.answer(update.pending, ["a", "b"], &[]).is_empty());
    server.receive(client.next_request().unwrap()).unwrap();
    shelf.take(Cluster, "a");
    change(&mut server, Cluster, "a");
    let update = client
        .receive(server.next_response(&shelf).unwrap())
        .unwrap();
    assert_eq!(client.answer(update.pending, ["b"], &[]), ["a"]);
}

#[test]
fn a_client_asks_for_everything_again_on_the_next_stream() {
    let mut client = Client::new(Node {
        id: "node".to_owned(),
        ..Node::default()
    });
    client.subscribe(Cluster, "a");
    assert!(client.next_request().unwrap().node.is_some());
    client.disconnected();
    let again = client.next_request().unwrap();
    assert!(again.node.is_some());
    assert_eq!(again.resource_names, ["a"]);
    assert_eq!(again.response_nonce, "");
}

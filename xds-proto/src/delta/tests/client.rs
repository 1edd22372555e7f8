//! What the client's end says.

use super::*;

fn node() -> Node {
    Node {
        id: "user-0.demo".to_owned(),
        ..Node::default()
    }
}

fn response(ty: ResourceType, nonce: &str, names: &[&str]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: ty.url().to_owned(),
        nonce: nonce.to_owned(),
        resources: names
            .iter()
            .map(|name| Resource {
                name: (*name).to_owned(),
                version: "1".to_owned(),
                ..Resource::default()
            })
            .collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[test]
fn the_first_request_introduces_the_node_and_later_ones_do_not() {
    let mut client = Client::new(node());
    client.subscribe(Listener, "a");
    client.subscribe(Cluster, "a");
    assert_eq!(
        client.next_request(),
        Some(DeltaDiscoveryRequest {
            node: Some(node()),
            ..subscribe(Cluster, &["a"])
        })
    );
    assert_eq!(client.next_request(), Some(subscribe(Listener, &["a"])));
    assert_eq!(client.next_request(), None);
}

#[test]
fn subscriptions_made_together_travel_together() {
    let mut client = Client::new(Node::default());
    for name in ["a", "b", "c"] {
        assert!(client.subscribe(Cluster, name));
    }
    assert!(!client.subscribe(Cluster, "a"));
    assert!(client.unsubscribe(Cluster, "b"));
    let request = client.next_request().unwrap();
    assert_eq!(request.resource_names_subscribe, ["a", "c"]);
    assert!(request.resource_names_unsubscribe.is_empty());
}

#[test]
fn an_ack_carries_the_subscriptions_made_meanwhile() {
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, "a");
    client.next_request();
    let update = client.receive(response(Cluster, "7", &["a"])).unwrap();
    client.subscribe(Cluster, "b");
    client.answer(update.pending, &[]);
    assert_eq!(
        client.next_request(),
        Some(DeltaDiscoveryRequest {
            response_nonce: "7".to_owned(),
            ..subscribe(Cluster, &["b"])
        })
    );
    assert_eq!(client.next_request(), None);
}

#[test]
fn every_response_is_answered_in_order() {
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, "a");
    client.next_request();
    let first = client.receive(response(Cluster, "1", &["a"])).unwrap();
    let second = client.receive(response(Cluster, "2", &["a"])).unwrap();
    client.answer(first.pending, &[]);
    client.answer(second.pending, &[]);
    let nonces: Vec<_> = std::iter::from_fn(|| client.next_request())
        .map(|request| request.response_nonce)
        .collect();
    assert_eq!(nonces, ["1", "2"]);
}

#[test]
fn a_resource_that_is_no_longer_followed_is_not_applied() {
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, "a");
    client.subscribe(Cluster, "b");
    client.next_request();
    client.unsubscribe(Cluster, "a");
    let update = client.receive(response(Cluster, "1", &["a", "b"])).unwrap();
    assert_eq!(update.resources.len(), 1);
    client.answer(update.pending, &[]);
    assert_eq!(client.version(Cluster, "a"), None);
    assert_eq!(client.version(Cluster, "b"), Some("1"));
}

#[test]
fn a_name_dropped_and_taken_up_again_is_asked_for_again() {
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, "a");
    client.next_request();
    client.unsubscribe(Cluster, "a");
    client.subscribe(Cluster, "a");
    assert_eq!(client.next_request(), Some(subscribe(Cluster, &["a"])));
    assert_eq!(client.next_request(), None);
}

#[test]
fn an_answer_to_an_earlier_stream_is_not_sent_on_the_next() {
    let mut client = Client::new(Node::default());
    client.subscribe(Cluster, "a");
    client.next_request();
    let update = client.receive(response(Cluster, "1", &["a"])).unwrap();
    client.disconnected();
    client.answer(update.pending, &[]);
    let request = client.next_request().unwrap();
    assert_eq!(request.response_nonce, "");
    assert_eq!(
        request.initial_resource_versions,
        [("a".to_owned(), "1".to_owned())].into(),
        "what was applied is held all the same"
    );
}

//! What the server's end says.

use super::*;

#[test]
fn a_subscription_is_answered_with_what_there_is_and_what_there_is_not() {
    let shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    let received = server.receive(subscribe(Cluster, &["a", "ghost"])).unwrap();
    assert_eq!(
        received,
        Received {
            ty: Cluster,
            subscribed: vec!["a".into(), "ghost".into()],
            unsubscribed: vec![],
            answer: None,
        }
    );
    assert_eq!(
        lines(&mut server, &shelf),
        ["cluster: +a@1", "cluster: -ghost"]
    );
}

#[test]
fn a_change_goes_only_to_a_stream_that_follows_it_and_only_when_the_version_differs() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    drain(&mut server, &shelf);
    shelf.put(Cluster, "b", "2");
    assert!(!change(&mut server, Cluster, "b"));
    assert!(change(&mut server, Cluster, "a"));
    assert!(lines(&mut server, &shelf).is_empty());
    shelf.put(Cluster, "a", "2");
    assert!(change(&mut server, Cluster, "a"));
    assert_eq!(lines(&mut server, &shelf), ["cluster: +a@2"]);
}

#[test]
fn what_goes_away_is_removed_once_and_comes_back_when_it_does() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    drain(&mut server, &shelf);
    shelf.take(Cluster, "a");
    change(&mut server, Cluster, "a");
    assert_eq!(lines(&mut server, &shelf), ["cluster: -a"]);
    change(&mut server, Cluster, "a");
    assert!(lines(&mut server, &shelf).is_empty());
    shelf.put(Cluster, "a", "1");
    change(&mut server, Cluster, "a");
    assert_eq!(lines(&mut server, &shelf), ["cluster: +a@1"]);
}

#[test]
fn additions_go_out_make_before_break_and_removals_the_other_way_round() {
    let mut shelf = Shelf::with(&[(Listener, "old", "1"), (Cluster, "old", "1")]);
    let mut server = Server::new();
    for ty in [Route, Listener, Endpoints, Cluster, Secret] {
        server.receive(subscribe(ty, &["new", "old"])).unwrap();
    }
    answered(&mut server, &shelf);
    for ty in ResourceType::ALL {
        shelf.put(ty, "new", "1");
        shelf.take(ty, "old");
        change(&mut server, ty, "new");
        change(&mut server, ty, "old");
    }
    assert_eq!(
        lines(&mut server, &shelf),
        [
            "secret: +new@1",
            "cluster: +new@1",
            "endpoints: +new@1",
            "listener: +new@1",
            "route: +new@1",
            "listener: -old",
            "cluster: -old",
        ]
    );
}

#[test]
fn changes_made_before_the_next_response_travel_as_one() {
    let mut shelf = Shelf::with(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Endpoints, &["a", "b"])).unwrap();
    drain(&mut server, &shelf);
    for version in ["2", "3", "4"] {
        shelf.put(Endpoints, "a", version);
        change(&mut server, Endpoints, "a");
    }
    shelf.put(Endpoints, "b", "2");
    change(&mut server, Endpoints, "b");
    assert_eq!(lines(&mut server, &shelf), ["endpoints: +a@4 +b@2"]);
}

#[test]
fn streams_that_are_told_of_the_same_change_share_the_response() {
    let mut shelf = Shelf::with(&[(Endpoints, "a", "1"), (Endpoints, "b", "1")]);
    let mut servers = [Server::new(), Server::new()];
    for server in &mut servers {
        server.receive(subscribe(Endpoints, &["a", "b"])).unwrap();
        answered(server, &shelf);
    }
    shelf.put(Endpoints, "a", "2");
    let messages = servers.each_mut().map(|server| {
        change(server, Endpoints, "a");
        server.next_response(&shelf).unwrap().message
    });
    assert_eq!(messages[0], messages[1]);
    assert_eq!(messages[0].as_ptr(), messages[1].as_ptr());
    for server in &mut servers {
        let response = DeltaDiscoveryResponse::decode(messages[0].clone()).unwrap();
        assert_eq!(line(&response), "endpoints: +a@2");
        let answer = server.receive(ack(&response)).unwrap().answer.unwrap();
        assert_eq!((answer.resources, answer.nack), (1, None));
    }
}

#[test]
fn responses_in_flight_are_told_apart_by_their_nonces() {
    let mut shelf = Shelf::with(&[(Endpoints, "a", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Endpoints, &["a"])).unwrap();
    answered(&mut server, &shelf);
    let sent = ["2", "3"].map(|version| {
        shelf.put(Endpoints, "a", version);
        let since = Instant::now();
        server.changed(Endpoints, &Arc::from("a"), since);
        (next(&mut server, &shelf).unwrap(), since)
    });
    assert_ne!(sent[0].0.nonce, sent[1].0.nonce);
    for (response, since) in sent.iter().rev() {
        let answer = server.receive(ack(response)).unwrap().answer.unwrap();
        assert_eq!(answer.since, Some(*since));
    }
}

#[test]
fn a_resource_that_is_sent_again_has_another_nonce() {
    let shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    let mut nonces = std::collections::BTreeSet::new();
    for name in ["b", "a", "b", "a", "a"] {
        server.receive(subscribe(Cluster, &[name])).unwrap();
        let [response] = &answered(&mut server, &shelf)[..] else {
            panic!("one response")
        };
        assert_eq!(line(response), format!("cluster: +{name}@1"));
        assert!(nonces.insert(response.nonce.clone()), "{nonces:?}");
    }
}

#[test]
fn a_name_subscribed_again_is_sent_again() {
    let shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    drain(&mut server, &shelf);
    let received = server.receive(subscribe(Cluster, &["a"])).unwrap();
    assert!(received.subscribed.is_empty());
    assert_eq!(lines(&mut server, &shelf), ["cluster: +a@1"]);
}

#[test]
fn a_name_unsubscribed_is_followed_no_more() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    drain(&mut server, &shelf);
    let received = server.receive(unsubscribe(Cluster, &["a"])).unwrap();
    assert_eq!(received.unsubscribed, [Arc::from("a")]);
    shelf.put(Cluster, "a", "2");
    assert!(!change(&mut server, Cluster, "a"));
    assert!(lines(&mut server, &shelf).is_empty());
}

#[test]
fn after_a_reconnect_only_differences_are_sent() {
    let shelf = Shelf::with(&[(Cluster, "same", "1"), (Cluster, "changed", "2")]);
    let mut server = Server::new();
    let mut first = subscribe(Cluster, &["same", "changed", "gone", "new"]);
    for name in ["same", "changed", "gone", "not-followed"] {
        first
            .initial_resource_versions
            .insert(name.to_owned(), "1".to_owned());
    }
    server.receive(first).unwrap();
    assert_eq!(
        lines(&mut server, &shelf),
        ["cluster: +changed@2", "cluster: -gone -new"]
    );
}

#[test]
fn a_wildcard_covers_what_is_there_and_what_comes() {
    for first in [request(Cluster), subscribe(Cluster, &[WILDCARD])] {
        let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
        let mut server = Server::new();
        server.receive(first).unwrap();
        assert!(server.is_wildcard(Cluster));
        assert_eq!(lines(&mut server, &shelf), ["cluster: +a@1 +b@1"]);
        shelf.put(Cluster, "c", "1");
        assert!(change(&mut server, Cluster, "c"));
        shelf.take(Cluster, "a");
        assert!(change(&mut server, Cluster, "a"));
        assert_eq!(lines(&mut server, &shelf), ["cluster: +c@1", "cluster: -a"]);
    }
}

#[test]
fn a_wildcard_that_covers_nothing_is_answered_once() {
    let shelf = Shelf::default();
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &[WILDCARD])).unwrap();
    assert_eq!(lines(&mut server, &shelf), ["cluster:"]);
    assert_eq!(lines(&mut server, &shelf), Vec::<String>::new());
}

#[test]
fn a_wildcard_after_a_reconnect_removes_what_is_gone() {
    let shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    let mut first = request(Cluster);
    first.initial_resource_versions = [
        ("a".to_owned(), "1".to_owned()),
        ("gone".to_owned(), "1".to_owned()),
    ]
    .into();
    server.receive(first).unwrap();
    assert_eq!(lines(&mut server, &shelf), ["cluster: -gone"]);
}

#[test]
fn naming_nothing_is_a_wildcard_for_listeners_and_clusters_only() {
    let shelf = Shelf::with(&[(Endpoints, "a", "1")]);
    let mut server = Server::new();
    server.receive(request(Endpoints)).unwrap();
    assert!(!server.is_wildcard(Endpoints));
    assert!(lines(&mut server, &shelf).is_empty());
}

#[test]
fn a_wildcard_ends_when_it_is_unsubscribed_and_names_stay() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    server.receive(request(Cluster)).unwrap();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    drain(&mut server, &shelf);
    server.receive(unsubscribe(Cluster, &[WILDCARD])).unwrap();
    shelf.put(Cluster, "a", "2");
    assert!(change(&mut server, Cluster, "a"));
    assert!(!change(&mut server, Cluster, "b"));
    assert_eq!(lines(&mut server, &shelf), ["cluster: +a@2"]);
}

#[test]
fn a_name_dropped_under_a_wildcard_is_confirmed() {
    let shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server
        .receive(subscribe(Cluster, &[WILDCARD, "a", "ghost"]))
        .unwrap();
    answered(&mut server, &shelf);
    server
        .receive(unsubscribe(Cluster, &["a", "ghost"]))
        .unwrap();
    assert_eq!(
        lines(&mut server, &shelf),
        ["cluster: +a@1", "cluster: -ghost"]
    );
}

#[test]
fn a_wildcard_takes_back_what_was_in_flight_for_a_name_dropped_before() {
    for dropped in ["a", WILDCARD] {
        let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
        let mut server = Server::new();
        server.receive(subscribe(Cluster, &[dropped])).unwrap();
        drain(&mut server, &shelf);
        server.receive(unsubscribe(Cluster, &[dropped])).unwrap();
        shelf.take(Cluster, "a");
        server.receive(subscribe(Cluster, &[WILDCARD])).unwrap();
        assert_eq!(lines(&mut server, &shelf), ["cluster: -a"]);
    }
}

#[test]
fn an_ack_tells_when_the_change_it_answers_happened() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    let [first] = &drain(&mut server, &shelf)[..] else {
        panic!("one response")
    };
    let answer = server.receive(ack(first)).unwrap().answer;
    assert_eq!(
        answer,
        Some(Answer {
            since: None,
            resources: 1,
            nack: None
        })
    );
    let since = Instant::now();
    shelf.put(Cluster, "a", "2");
    server.changed(Cluster, &"a".into(), since);
    server.changed(Cluster, &"a".into(), Instant::now());
    let [second] = &drain(&mut server, &shelf)[..] else {
        panic!("one response")
    };
    let answer = server.receive(ack(second)).unwrap().answer;
    assert_eq!(answer.unwrap().since, Some(since));
}

#[test]
fn an_unknown_nonce_answers_nothing_but_its_subscriptions_count() {
    let shelf = Shelf::with(&[(Cluster, "a", "1"), (Cluster, "b", "1")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    drain(&mut server, &shelf);
    let received = server
        .receive(DeltaDiscoveryRequest {
            response_nonce: "of another stream".to_owned(),
            ..subscribe(Cluster, &["b"])
        })
        .unwrap();
    assert_eq!(received.answer, None);
    assert_eq!(lines(&mut server, &shelf), ["cluster: +b@1"]);
}

#[test]
fn a_client_that_never_answers_is_not_sent_more_and_more() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "0"), (Endpoints, "a", "0")]);
    let mut server = Server::new();
    server.receive(subscribe(Cluster, &["a"])).unwrap();
    server.receive(subscribe(Endpoints, &["a"])).unwrap();
    let mut sent = drain(&mut server, &shelf);
    for version in 1..100 {
        shelf.put(Cluster, "a", &version.to_string());
        change(&mut server, Cluster, "a");
        sent.extend(drain(&mut server, &shelf));
    }
    assert_eq!(sent.len(), 3, "one of endpoints and two of clusters");
    server.receive(ack(&sent[0])).unwrap();
    assert_eq!(lines(&mut server, &shelf), ["cluster: +a@99"]);
}

#[test]
fn what_does_not_fit_one_response_comes_in_several() {
    let mut shelf = Shelf::default();
    let long = "x".repeat(1 << 20);
    for name in ["a", "b", "c"] {
        shelf.put(Cluster, name, &long);
    }
    let mut server = Server::new();
    server.receive(request(Cluster)).unwrap();
    let sizes: Vec<_> = answered(&mut server, &shelf)
        .iter()
        .map(|response| response.resources.len())
        .collect();
    assert_eq!(sizes, [1, 1, 1]);
}

#[test]
fn endpoints_follow_their_cluster_where_the_peer_needs_it() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1"), (Endpoints, "a", "1")]);
    let mut server = Server::new().resend_endpoints(true);
    server.receive(request(Cluster)).unwrap();
    server.receive(subscribe(Endpoints, &["a"])).unwrap();
    drain(&mut server, &shelf);
    shelf.put(Cluster, "a", "2");
    change(&mut server, Cluster, "a");
    assert_eq!(
        lines(&mut server, &shelf),
        ["cluster: +a@2", "endpoints: +a@1"]
    );
}

#[test]
fn an_unknown_type_is_an_error_that_leaves_the_stream_usable() {
    let mut server = Server::new();
    let unknown = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/other".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(
        server.receive(unknown),
        Err(UnknownType {
            url: "type.googleapis.com/other".to_owned()
        })
    );
    assert!(server.receive(subscribe(Cluster, &["a"])).is_ok());
}

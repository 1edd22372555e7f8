//! Both ends, talking to each other.

use super::*;

#[test]
fn a_rejected_resource_is_named_and_its_siblings_are_in_force() {
    let shelf = Shelf::with(&[(Cluster, "good", "1"), (Cluster, "worse", "bad")]);
    let (mut client, mut server) = (Client::new(Node::default()), Server::new());
    client.subscribe(Cluster, "good");
    client.subscribe(Cluster, "worse");
    server.receive(client.next_request().unwrap()).unwrap();
    let update = client.receive(next(&mut server, &shelf).unwrap()).unwrap();
    client.answer(update.pending, &[rejection("worse")]);
    let answer = server
        .receive(client.next_request().unwrap())
        .unwrap()
        .answer;
    assert_eq!(
        answer.unwrap().nack,
        Some(Nack {
            message: "worse: lb_policy: MAGLEV is not supported".to_owned(),
            resources: vec![RefusedResource {
                name: "worse".to_owned(),
                version: Some("bad".into()),
                message: "lb_policy: MAGLEV is not supported".to_owned(),
            }],
        })
    );
    assert_eq!(client.version(Cluster, "good"), Some("1"));
    assert_eq!(client.version(Cluster, "worse"), None);
}

#[test]
fn a_rejected_version_is_not_sent_again_on_the_stream_and_the_next_one_is() {
    let mut shelf = Shelf::with(&[(Cluster, "a", "1")]);
    let (mut client, mut server) = (Client::new(Node::default()), Server::new());
    client.subscribe(Cluster, "a");
    converse(&mut client, &mut server, &shelf);
    shelf.put(Cluster, "a", "bad");
    change(&mut server, Cluster, "a");
    assert_eq!(
        converse(&mut client, &mut server, &shelf),
        ["cluster: +a@bad"]
    );
    assert_eq!(client.version(Cluster, "a"), Some("1"), "the last good one");
    change(&mut server, Cluster, "a");
    assert!(converse(&mut client, &mut server, &shelf).is_empty());
    shelf.put(Cluster, "a", "2");
    change(&mut server, Cluster, "a");
    assert_eq!(
        converse(&mut client, &mut server, &shelf),
        ["cluster: +a@2"]
    );
}

#[test]
fn a_reconnect_brings_what_changed_meanwhile_and_nothing_else() {
    let mut shelf = Shelf::with(&[
        (Cluster, "a", "1"),
        (Cluster, "b", "1"),
        (Endpoints, "a", "1"),
        (Listener, "a", "1"),
    ]);
    let (mut client, mut server) = (Client::new(Node::default()), Server::new());
    for ty in [Cluster, Endpoints, Listener] {
        client.subscribe(ty, "a");
    }
    client.subscribe(Cluster, "b");
    converse(&mut client, &mut server, &shelf);

    client.disconnected();
    shelf.put(Endpoints, "a", "2");
    shelf.take(Cluster, "b");
    let mut restarted = Server::new();
    assert_eq!(
        converse(&mut client, &mut restarted, &shelf),
        ["endpoints: +a@2", "cluster: -b"]
    );
    client.disconnected();
    assert!(
        converse(&mut client, &mut Server::new(), &shelf)
            .iter()
            .all(|line| line == "cluster: -b")
    );
}

#[test]
fn a_subscription_to_nothing_is_told_when_something_comes() {
    let mut shelf = Shelf::default();
    let (mut client, mut server) = (Client::new(Node::default()), Server::new());
    client.subscribe(Listener, "10.96.3.4:80");
    assert_eq!(
        converse(&mut client, &mut server, &shelf),
        ["listener: -10.96.3.4:80"]
    );
    shelf.put(Listener, "10.96.3.4:80", "1");
    assert!(change(&mut server, Listener, "10.96.3.4:80"));
    assert_eq!(
        converse(&mut client, &mut server, &shelf),
        ["listener: +10.96.3.4:80@1"]
    );
}

//! HTTP/1.1 connections: which are reused, which are not, and what happens when one was closed underneath.

use super::{servers, *};
use futures_util::future::join_all;
use tokio::task::{JoinHandle, spawn_local};

async fn send(cluster: &Rc<LiveCluster>, path: &str) -> Result<Sent, Box<Failed>> {
    cluster.send(Version::HTTP_11, &mut get(path)).await
}

fn send_in_background(
    cluster: &Rc<LiveCluster>,
    path: &'static str,
) -> JoinHandle<Result<Sent, Box<Failed>>> {
    let cluster = cluster.clone();
    spawn_local(async move { send(&cluster, path).await })
}

/// So many idle connections to the endpoint, numbered in the order in which they were given back.
async fn warm(cluster: &Rc<LiveCluster>, server: &servers::Observed, connections: usize) {
    let mut requests = Vec::new();
    for connection in 1..=connections {
        requests.push(send_in_background(cluster, "/wait"));
        server
            .until(|server| server.waiting.get() == connection)
            .await;
    }
    server.go(connections);
    for (request, connection) in requests.into_iter().zip(1..) {
        assert_eq!(answered_on(request.await.unwrap()).await, connection);
    }
}

#[test]
fn the_connection_given_back_last_is_used_first() {
    worker(async {
        let (address, server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster(&[address]));
        warm(&cluster, &server, 3).await;
        for _ in 0..5 {
            assert_eq!(answered_on(send(&cluster, "/").await).await, 3);
        }
        let endpoint = only_endpoint(&cluster);
        assert_eq!(endpoint.counters.http1_idle.read(), 3);
        assert_eq!(endpoint.counters.http1_active.read(), 0);
        assert_eq!(endpoint.counters.in_flight.read(), 0);
    });
}

#[test]
fn a_request_is_in_flight_until_the_end_of_its_response() {
    worker(async {
        let (address, server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let response = send(&cluster, "/slow").await.unwrap().response;
        let counters = only_endpoint(&cluster).counters.clone();
        let in_use = || (counters.in_flight.read(), counters.http1_active.read());
        assert_eq!(in_use(), (1, 1));
        server.go(1);
        response.into_body().collect().await.unwrap();
        assert_eq!((in_use(), counters.http1_idle.read()), ((0, 0), 1));

        drop(send(&cluster, "/slow").await.unwrap().response);
        assert_eq!((in_use(), counters.http1_idle.read()), ((0, 0), 0));
    });
}

#[test]
fn connections_that_were_not_used_for_the_idle_timeout_are_closed() {
    worker(async {
        let (address, server) = servers::http1().await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster(&[address]));
        warm(&cluster, &server, 3).await;
        upstreams.sweep(now() + Duration::from_secs(59));
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 3);
        upstreams.sweep(now() + Duration::from_secs(61));
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 0);
        server.until(|server| server.open.get() == 0).await;
    });
}

#[test]
fn connections_that_a_burst_left_behind_are_closed_before_the_idle_timeout() {
    worker(async {
        let (address, server) = servers::http1().await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster(&[address]));
        warm(&cluster, &server, 20).await;
        upstreams.sweep(now() + Duration::from_secs(19));
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 20);
        upstreams.sweep(now() + Duration::from_secs(21));
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 16);
        server.until(|server| server.open.get() == 16).await;
    });
}

#[test]
fn a_connection_is_retired_before_the_endpoint_closes_it_as_it_said() {
    worker(async {
        let (address, server) = servers::http1().await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster(&[address]));
        answered_on(send(&cluster, "/announce").await).await;
        upstreams.sweep(now() + Duration::from_secs(7));
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 1);
        upstreams.sweep(now() + Duration::from_secs(9));
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 0);
        server.until(|server| server.open.get() == 0).await;
    });
}

#[test]
fn an_idle_connection_that_the_endpoint_closed_is_not_used() {
    worker(async {
        let (address, server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster(&[address]));
        answered_on(send(&cluster, "/last").await).await;
        server.until(|server| server.open.get() == 0).await;
        let mut post = request(Method::POST, "/", Body::Empty);
        let sent = cluster.send(Version::HTTP_11, &mut post).await;
        assert_eq!(answered_on(sent).await, 2);
        assert_eq!(only_endpoint(&cluster).counters.failures.read(), 0);
    });
}

#[test]
fn an_idle_connection_that_the_endpoint_closed_is_closed_by_the_sweep_too() {
    worker(async {
        let (address, server) = servers::http1().await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster(&[address]));
        answered_on(send(&cluster, "/last").await).await;
        server.until(|server| server.open.get() == 0).await;
        upstreams.sweep(now());
        assert_eq!(only_endpoint(&cluster).counters.http1_idle.read(), 0);
    });
}

#[test]
fn an_idempotent_request_without_body_is_sent_again_once_when_its_idle_connection_was_closed() {
    worker(async {
        let (address, server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster(&[address]));
        for path in ["/", "/close"] {
            answered_on(send(&cluster, path).await).await;
        }
        assert_eq!((server.requests.get(), server.accepted.get()), (3, 2));
        assert_eq!(only_endpoint(&cluster).counters.failures.read(), 0);
    });
}

#[test]
fn what_may_have_been_processed_and_is_not_idempotent_is_not_sent_again() {
    worker(async {
        let (address, server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster(&[address]));
        answered_on(send(&cluster, "/").await).await;
        let mut post = request(Method::POST, "/close", Body::Empty);
        let (error, detail) = failed(cluster.send(Version::HTTP_11, &mut post).await);
        assert_eq!(error, RequestError::UpstreamReset);
        assert!(detail.contains(&address.to_string()), "{detail}");
        assert_eq!(server.requests.get(), 2);
        assert_eq!(only_endpoint(&cluster).counters.failures.read(), 1);
    });
}

#[test]
fn an_endpoint_that_closes_fresh_connections_fails_the_request() {
    worker(async {
        let (address, server) = servers::serve(|tcp, _, _| async move { drop(tcp) }).await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let (error, _) = failed(send(&cluster, "/").await);
        assert_eq!(error, RequestError::UpstreamReset);
        assert!(server.accepted.get() <= 4);
    });
}

#[test]
fn at_the_connection_limit_requests_are_served_in_turn_by_what_is_given_back() {
    worker(async {
        let (address, server) = servers::http1().await;
        let config = Cluster {
            limits: Limits {
                connections: NonZeroU32::new(2).unwrap(),
                pending: NonZeroU32::new(3).unwrap(),
                ..Limits::default()
            },
            ..cluster(&[address])
        };
        let cluster = live(&upstreams(), config);
        let mut busy = Vec::new();
        for waiting in 1..=2 {
            busy.push(send_in_background(&cluster, "/wait"));
            server.until(|server| server.waiting.get() == waiting).await;
        }
        let pending: Vec<_> = (0..3).map(|_| send_in_background(&cluster, "/")).collect();
        tokio::task::yield_now().await;
        let (error, _) = failed(send(&cluster, "/").await);
        assert_eq!(error, RequestError::MaxPendingRequests);

        server.go(2);
        for (request, connection) in busy.into_iter().zip(1..) {
            assert_eq!(answered_on(request.await.unwrap()).await, connection);
        }
        let answers = pending
            .into_iter()
            .map(|request| async { answered_on(request.await.unwrap()).await });
        join_all(answers).await;
        assert_eq!(server.accepted.get(), 2);
        assert_eq!(only_endpoint(&cluster).counters.requests.read(), 6);
    });
}

#[test]
fn a_connection_given_back_serves_a_request_meant_for_another_endpoint() {
    worker(async {
        let (one, first) = servers::http1().await;
        let (other, second) = servers::http1().await;
        let config = Cluster {
            limits: Limits {
                connections: NonZeroU32::MIN,
                ..Limits::default()
            },
            ..cluster(&[one, other])
        };
        let cluster = live(&upstreams(), config);
        let busy = send(&cluster, "/slow").await.unwrap();
        let pending = send_in_background(&cluster, "/");
        tokio::task::yield_now().await;
        first.go(1);
        second.go(1);
        busy.response.into_body().collect().await.unwrap();

        let sent = pending.await.unwrap().unwrap();
        assert!(Rc::ptr_eq(&sent.endpoint, &busy.endpoint));
        assert_eq!(first.accepted.get() + second.accepted.get(), 1);
        assert_eq!(sent.endpoint.counters.requests.read(), 2);
    });
}

#[test]
fn an_upgrade_counts_for_as_long_as_its_tunnel_is_held() {
    worker(async {
        let (address, _) = servers::serve(|mut tcp, _, server| async move {
            let answer = b"HTTP/1.1 101 Switching Protocols\r\n\
                connection: upgrade\r\nupgrade: echo\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut tcp, answer)
                .await
                .unwrap();
            server.until(|_| false).await;
        })
        .await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let mut upgrade = get("/");
        let fields = upgrade.headers_mut();
        fields.insert("connection", "upgrade".parse().unwrap());
        fields.insert("upgrade", "echo".parse().unwrap());
        let sent = cluster.send(Version::HTTP_11, &mut upgrade).await.unwrap();
        assert!(matches!(sent.response.body(), Body::Upgrade(_)));
        drop(sent.response);
        assert_eq!(sent.endpoint.counters.in_flight.read(), 1);
        drop(sent.hold);
        assert_eq!(sent.endpoint.counters.in_flight.read(), 0);
    });
}

#[test]
fn a_caller_of_http2_reaches_an_http1_endpoint_when_the_cluster_insists() {
    worker(async {
        let (address, _) = servers::http1().await;
        let config = Cluster {
            http_version: UpstreamHttp::Http1,
            ..cluster(&[address])
        };
        let cluster = live(&upstreams(), config);
        let mut request = get("http://user.demo/cart");
        request.headers_mut().clear();
        let sent = cluster.send(Version::HTTP_2, &mut request).await;
        assert_eq!(answered_on(sent).await, 1);
    });
}

#[test]
fn a_connection_that_has_carried_what_it_may_is_closed() {
    worker(async {
        let (address, server) = servers::http1().await;
        let config = Cluster {
            max_requests_per_connection: NonZeroU32::new(2),
            ..cluster(&[address])
        };
        let cluster = live(&upstreams(), config);
        for connection in [1, 1, 2, 2, 3] {
            assert_eq!(answered_on(send(&cluster, "/").await).await, connection);
        }
        server.until(|server| server.open.get() == 1).await;
    });
}

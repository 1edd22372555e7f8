//! Limits: what is shed at once, what waits, and what it waits for.

use super::{servers, *};
use tokio::task::{JoinHandle, spawn_local};

fn limited(addresses: &[SocketAddr], connections: u32, pending: u32, requests: u32) -> Cluster {
    let limit = |n| NonZeroU32::new(n).unwrap();
    Cluster {
        limits: Limits {
            connections: limit(connections),
            pending: limit(pending),
            requests: limit(requests),
        },
        ..cluster(addresses)
    }
}

fn send(
    cluster: &Rc<LiveCluster>,
    version: Version,
    path: &'static str,
) -> JoinHandle<Result<Sent, Box<Failed>>> {
    let cluster = cluster.clone();
    spawn_local(async move { cluster.send(version, &mut get(path)).await })
}

#[test]
fn a_request_over_the_limit_is_shed_at_once_and_not_held_against_the_endpoint() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let cluster = live(&upstreams(), limited(&[address], 10, 10, 1));
        let first = send(&cluster, Version::HTTP_2, "/wait");
        server.until(|server| server.waiting.get() == 1).await;

        let shed = cluster
            .send(Version::HTTP_2, &mut get("/cart"))
            .await
            .unwrap_err();
        assert_eq!(shed.error, RequestError::MaxRequests);
        assert!(shed.detail.contains("its limit is 1"), "{}", shed.detail);
        assert_eq!(only_endpoint(&cluster).counters.failures.read(), 0);

        server.go(1);
        let response = first.await.unwrap().unwrap().response;
        let still = cluster.send(Version::HTTP_2, &mut get("/")).await;
        assert_eq!(failed(still).0, RequestError::MaxRequests);
        response.into_body().collect().await.unwrap();
        answered_on(cluster.send(Version::HTTP_2, &mut get("/")).await).await;
    });
}

#[test]
fn opaque_connections_over_the_limit_are_shed_at_once() {
    worker(async {
        let (address, _) = servers::http2(100).await;
        let cluster = live(&upstreams(), limited(&[address], 1, 10, 10));
        let connected = cluster.connect().await.unwrap();
        assert_eq!(
            failed(cluster.connect().await).0,
            RequestError::MaxConnections
        );
        drop(connected);
        cluster.connect().await.unwrap();
    });
}

#[test]
fn at_the_connection_limit_http2_waits_for_a_free_stream() {
    worker(async {
        let (address, server) = servers::http2(1).await;
        let cluster = live(&upstreams(), limited(&[address], 1, 1, 10));
        answered_on(cluster.send(Version::HTTP_2, &mut get("/")).await).await;
        let first = send(&cluster, Version::HTTP_2, "/wait");
        server.until(|server| server.waiting.get() == 1).await;
        let second = send(&cluster, Version::HTTP_2, "/");
        tokio::task::yield_now().await;

        let third = cluster.send(Version::HTTP_2, &mut get("/")).await;
        assert_eq!(failed(third).0, RequestError::MaxPendingRequests);
        server.go(1);
        assert_eq!(answered_on(first.await.unwrap()).await, 1);
        assert_eq!(answered_on(second.await.unwrap()).await, 1);
    });
}

#[test]
fn waiting_for_a_connection_ends_with_the_connect_timeout() {
    worker(async {
        let (address, server) = servers::http2(1).await;
        let config = Cluster {
            connect_timeout: Duration::from_millis(50),
            ..limited(&[address], 1, 1, 10)
        };
        let cluster = live(&upstreams(), config);
        answered_on(cluster.send(Version::HTTP_2, &mut get("/")).await).await;
        let _first = send(&cluster, Version::HTTP_2, "/wait");
        server.until(|server| server.waiting.get() == 1).await;
        let (error, detail) = failed(cluster.send(Version::HTTP_2, &mut get("/")).await);
        assert_eq!(error, RequestError::MaxConnections);
        assert!(detail.contains("1 connections open"), "{detail}");
    });
}

#[test]
fn an_idle_connection_to_another_endpoint_makes_room() {
    worker(async {
        let (one, first) = servers::http2(100).await;
        let (other, second) = servers::http2(100).await;
        let cluster = live(&upstreams(), limited(&[one, other], 1, 1, 10));
        for _ in 0..2 {
            answered_on(cluster.send(Version::HTTP_2, &mut get("/")).await).await;
        }
        assert_eq!((first.accepted.get(), second.accepted.get()), (1, 1));
        // The balancer may begin with either.
        tokio::select! {
            () = first.until(|server| server.open.get() == 0) => {}
            () = second.until(|server| server.open.get() == 0) => {}
        }
    });
}

#[test]
fn what_a_worker_keeps_idle_is_closed_for_one_who_waits_on_another_worker() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let (limits, status) = (Arc::default(), Arc::default());
        let config = Arc::new(limited(&[address], 1, 1, 10));
        let workers = [(); 2].map(|()| {
            let connector = WorkloadConnector::new(Identity::new(), []);
            sharing(connector, &limits, &status)
        });
        let [idle, waits] = workers.each_ref().map(|worker| worker.cluster(&config));
        answered_on(idle.send(Version::HTTP_2, &mut get("/")).await).await;
        let request = send(&waits, Version::HTTP_2, "/");
        tokio::task::yield_now().await;
        assert_eq!(server.accepted.get(), 1);

        workers[0].sweep(now());
        assert_eq!(answered_on(request.await.unwrap()).await, 2);
    });
}

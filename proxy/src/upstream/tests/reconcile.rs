//! What a push of configuration changes, and what it keeps.

use super::{servers, *};

async fn send(cluster: &Rc<LiveCluster>) -> usize {
    answered_on(cluster.send(Version::HTTP_2, &mut get("/")).await).await
}

#[test]
fn an_endpoint_that_stays_keeps_its_connections_and_counts() {
    worker(async {
        let (stays, server) = servers::http2(100).await;
        let (leaves, left) = servers::http2(100).await;
        let upstreams = upstreams();
        let before = live(&upstreams, cluster(&[stays, leaves]));
        for _ in 0..4 {
            send(&before).await;
        }
        let endpoints = before.endpoints();

        let after = live(&upstreams, cluster(&[stays]));
        assert!(Rc::ptr_eq(&before, &after));
        assert!(Rc::ptr_eq(&only_endpoint(&after), &endpoints[0]));
        assert_eq!(endpoints[0].counters.requests.read(), 2);
        assert!(endpoints[1].is_retired());
        left.until(|left| left.open.get() == 0).await;
        assert_eq!(send(&after).await, 1);
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn what_an_endpoint_that_left_has_in_hand_finishes() {
    worker(async {
        let (leaves, server) = servers::http2(100).await;
        let (comes, _) = servers::http2(100).await;
        let upstreams = upstreams();
        let cluster_before = live(&upstreams, cluster(&[leaves]));
        let request = tokio::task::spawn_local({
            let cluster = cluster_before.clone();
            async move { cluster.send(Version::HTTP_2, &mut get("/wait")).await }
        });
        server.until(|server| server.waiting.get() == 1).await;
        live(&upstreams, cluster(&[comes]));
        server.go(1);
        assert_eq!(answered_on(request.await.unwrap()).await, 1);
        server.until(|server| server.open.get() == 0).await;
    });
}

#[test]
fn an_endpoint_with_another_identity_is_another_endpoint() {
    worker(async {
        let upstreams = upstreams();
        let address = nobody();
        let before = only_endpoint(&live(&upstreams, cluster(&[address])));
        let identity = "spiffe://cluster.local/ns/demo/sa/user".parse().unwrap();
        let config = Cluster {
            endpoints: Arc::new([Arc::new(Endpoint {
                identity: Some(identity),
                ..Endpoint::clone(&endpoint(address))
            })]),
            ..cluster(&[])
        };
        let after = only_endpoint(&live(&upstreams, config));
        assert!(!Rc::ptr_eq(&before, &after));
        assert!(before.is_retired());
    });
}

#[test]
fn a_request_with_an_older_snapshot_does_not_undo_a_push() {
    worker(async {
        let upstreams = upstreams();
        let old = Arc::new(cluster(&[nobody()]));
        let new = Arc::new(cluster(&[nobody(), nobody()]));
        upstreams.cluster(&old);
        assert_eq!(upstreams.cluster(&new).endpoints().len(), 2);
        assert_eq!(upstreams.cluster(&old).endpoints().len(), 2);
        let newest = Arc::new(Cluster::clone(&old));
        assert_eq!(upstreams.cluster(&newest).endpoints().len(), 1);
    });
}

#[test]
fn a_cluster_that_nobody_uses_is_forgotten() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let status = Arc::default();
        let connector = WorkloadConnector::new(Identity::new(), []);
        let upstreams = sharing(connector, &Arc::default(), &status);
        send(&live(&upstreams, cluster(&[address]))).await;
        upstreams.sweep(now() + Duration::from_secs(30));
        assert_eq!(status.summary().len(), 1);
        upstreams.sweep(now() + Duration::from_secs(400));
        assert_eq!(status.summary(), []);
        server.until(|server| server.open.get() == 0).await;
    });
}

#[test]
fn the_summary_adds_up_the_workers() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let (limits, status) = (Arc::default(), Arc::default());
        let config = Arc::new(cluster(&[address]));
        let workers = [(); 2].map(|()| {
            let connector = WorkloadConnector::new(Identity::new(), []);
            sharing(connector, &limits, &status)
        });
        for worker in &workers {
            let cluster = worker.cluster(&config);
            tokio::task::spawn_local(async move {
                let sent = cluster.send(Version::HTTP_2, &mut get("/wait")).await;
                answered_on(sent).await;
            });
        }
        server.until(|server| server.waiting.get() == 2).await;

        let summary = status.summary();
        assert_eq!(summary.len(), 1);
        let cluster = &summary[0];
        assert_eq!(
            (cluster.name.as_str(), cluster.load_balancer),
            (NAME, "round-robin")
        );
        assert_eq!((cluster.requests.used, cluster.connections.used), (2, 2));
        let [endpoint] = cluster.endpoints.as_slice() else {
            panic!("{cluster:?}");
        };
        assert_eq!(endpoint.address, address);
        assert_eq!((endpoint.in_flight, endpoint.requests), (2, 2));
        assert_eq!(endpoint.connections.http2_active, 2);
    });
}

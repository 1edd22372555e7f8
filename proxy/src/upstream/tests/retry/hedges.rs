//! A second attempt beside the first.

use super::*;

#[test]
fn a_hedge_takes_over_from_an_endpoint_that_takes_its_time() {
    worker(async {
        let (silent, silent_server) = http1_that(|_| Reply::Nothing).await;
        let (good, good_server, bodies) = answering(200).await;
        let cluster = live(&upstreams(), cluster_of(&[silent, good]));
        begin_at(&cluster, silent);
        let hedged = Retry {
            hedge: Some(Hedge {
                delay: Duration::from_millis(20),
            }),
            ..policy()
        };
        let put = request(Method::PUT, "/", Body::full("hello"));
        let called = call(&cluster, Version::HTTP_11, put, &hedged).await;
        assert_eq!(called.status(), 200);
        let expected = Tries {
            attempts: 2,
            hedges: 1,
            ending: None,
        };
        assert_eq!(called.tries, expected);
        assert_eq!(*bodies.borrow(), [b"hello"]);
        assert_eq!(good_server.requests.get(), 1);
        silent_server.until(|server| server.open.get() == 0).await;
    });
}

#[test]
fn a_hedge_that_fails_leaves_the_first_attempt_alone() {
    worker(async {
        let (slow, server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster_of(&[slow, nobody()]));
        begin_at(&cluster, slow);
        let hedged = Retry {
            hedge: Some(Hedge {
                delay: Duration::from_millis(20),
            }),
            ..policy()
        };
        let waits = tokio::task::spawn_local({
            let cluster = cluster.clone();
            async move { call(&cluster, Version::HTTP_11, get("/wait"), &hedged).await }
        });
        let refused = cluster.endpoints()[1].clone();
        while refused.counters.connect_failures.read() == 0 {
            tokio::task::yield_now().await;
        }
        server.go(1);
        let called = waits.await.unwrap();
        assert_eq!(called.status(), 200);
        assert_eq!((called.tries.attempts, called.tries.hedges), (2, 1));
    });
}

#[test]
fn a_request_that_may_not_be_processed_twice_is_not_hedged() {
    worker(async {
        let (slow, server) = servers::http1().await;
        let (other, other_server) = servers::http1().await;
        let cluster = live(&upstreams(), cluster_of(&[slow, other]));
        begin_at(&cluster, slow);
        let hedged = Retry {
            hedge: Some(Hedge {
                delay: Duration::ZERO,
            }),
            ..policy()
        };
        let waits = tokio::task::spawn_local(async move {
            let post = request(Method::POST, "/wait", Body::Empty);
            call(&cluster, Version::HTTP_11, post, &hedged).await
        });
        server.until(|server| server.waiting.get() == 1).await;
        server.go(1);
        let called = waits.await.unwrap();
        assert_eq!(called.tries, tried(1, None));
        assert_eq!(other_server.requests.get(), 0);
    });
}

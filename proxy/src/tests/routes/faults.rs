//! Faults on purpose.

use super::*;

fn failing(app: &App, status: AbortStatus) -> Route {
    Route {
        fault: Some(Arc::new(Fault {
            headers: Box::default(),
            delay: None,
            abort: Some(Abort {
                share: Share::ALL,
                status,
            }),
        })),
        ..forwarding(to(app))
    }
}

#[tokio::test]
async fn a_fault_is_answered_without_the_application_and_counted_with_its_reason() {
    scenario(async {
        let app = app("user").await;
        let order = order(vec![failing(
            &app,
            AbortStatus::Http(StatusCode::IM_A_TEAPOT),
        )]);
        for version in VERSIONS {
            let answer = ask(&order, get(version, "http://user/")).await;
            assert_eq!(answer.status, StatusCode::IM_A_TEAPOT);
            assert_eq!(answer.header("weft-error"), Some("fault-injected"));
        }
        assert_eq!(app.count(), 0);
        let edges = order.edges();
        let [(key, edge)] = &edges[..] else {
            panic!("one edge: {edges:?}");
        };
        assert_eq!((&*key.route, &*key.service), ("default", "user"));
        assert_eq!(edge.requests[0], [0, 0, 0, 2, 0]);
        assert_eq!(edge.errors[RequestError::FaultInjected.index()], 2);
        assert_eq!(edge.errors.iter().sum::<u64>(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_grpc_call_is_failed_with_a_status_of_grpc() {
    scenario(async {
        let app = app("user").await;
        let order = order(vec![failing(&app, AbortStatus::Grpc(10))]);
        let call = get(Version::HTTP_2, "http://user/a").header("content-type", "application/grpc");
        let answer = ask(&order, call).await;
        assert_eq!(answer.header("grpc-status"), Some("10"));
        assert_eq!(answer.header("weft-error"), Some("fault-injected"));
        assert_eq!(order.edges()[0].1.grpc[10], 1);
        let answer = ask(&order, get(Version::HTTP_11, "http://user/a")).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
    })
    .await;
}

fn slow(app: &App, duration: Duration) -> Route {
    Route {
        fault: Some(Arc::new(Fault {
            headers: Box::default(),
            delay: Some(Delay {
                share: Share::ALL,
                duration,
            }),
            abort: None,
        })),
        ..forwarding(to(app))
    }
}

#[tokio::test]
async fn a_delayed_request_goes_on_when_its_time_is_over() {
    scenario(async {
        let app = app("user").await;
        let order = order(vec![slow(&app, Duration::from_millis(50))]);
        let started = Instant::now();
        let answer = ask(&order, get(Version::HTTP_2, "http://user/")).await;
        assert_eq!(answer.header("answered-by"), Some("user"));
        assert!(started.elapsed() >= Duration::from_millis(50));
        assert_eq!(order.edges()[0].1.errors.iter().sum::<u64>(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_delay_ends_with_its_caller() {
    scenario(async {
        let app = app("user").await;
        let order = order(vec![slow(&app, Duration::from_secs(3600))]);
        let send = connection(&order).await;
        let mut asking = send.clone();
        let waits = spawn_local(async move {
            let request = get(Version::HTTP_2, "http://user/")
                .body(nothing())
                .unwrap();
            let _ = asking.send_request(request).await;
        });
        while order.drain.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        waits.abort();
        drop(send);
        order.drain.start();
        order.drain.all_done().await;
        assert_eq!(app.count(), 0);
        for (_, edge) in order.edges() {
            assert_eq!(edge.errors[RequestError::DownstreamReset.index()], 1);
        }
    })
    .await;
}

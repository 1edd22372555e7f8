//! HTTP/2 connections: how many, for how long, and whose fault their end is.

use super::{servers, *};
use futures_util::future::join_all;

async fn send(cluster: &Rc<LiveCluster>, path: &str) -> Result<Sent, Box<Failed>> {
    cluster.send(Version::HTTP_2, &mut get(path)).await
}

fn send_in_background(
    cluster: &Rc<LiveCluster>,
    path: &'static str,
) -> tokio::task::JoinHandle<Result<Sent, Box<Failed>>> {
    let cluster = cluster.clone();
    tokio::task::spawn_local(async move { send(&cluster, path).await })
}

#[test]
fn concurrent_requests_share_one_handshake_and_one_connection() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let answers = (0..50).map(|_| async { answered_on(send(&cluster, "/").await).await });
        assert_eq!(join_all(answers).await, [1; 50]);
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn another_connection_opens_when_none_has_a_free_stream_and_streams_are_spread() {
    worker(async {
        let (address, server) = servers::http2(2).await;
        let cluster = live(&upstreams(), cluster(&[address]));
        answered_on(send(&cluster, "/").await).await;

        let waiting: Vec<_> = (0..5)
            .map(|_| send_in_background(&cluster, "/wait"))
            .collect();
        server.until(|server| server.waiting.get() == 5).await;
        assert_eq!(server.accepted.get(), 3);
        server.go(5);
        let mut per_connection = [0; 3];
        for answer in join_all(waiting).await {
            per_connection[answered_on(answer.unwrap()).await - 1] += 1;
        }
        assert!(per_connection.iter().all(|&streams| streams <= 2));

        let endpoint = only_endpoint(&cluster);
        assert_eq!(endpoint.counters.http2_idle.read(), 3);
        assert_eq!(endpoint.counters.in_flight.read(), 0);
    });
}

#[test]
fn an_endpoint_that_goes_away_on_every_connection_is_not_dialled_for_ever() {
    worker(async {
        let (address, server) = servers::http2_always_going().await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let failed = send(&cluster, "/").await.unwrap_err();
        assert_eq!(failed.error, RequestError::UpstreamRefusedStream);
        assert!(server.accepted.get() <= 10, "{}", server.accepted.get());
    });
}

#[test]
fn a_connection_told_to_go_away_finishes_what_it_has_and_takes_nothing_new() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let before = send_in_background(&cluster, "/wait");
        server.until(|server| server.waiting.get() == 1).await;

        server.go_away();
        while answered_on(send(&cluster, "/").await).await == 1 {}
        server.go(1);
        assert_eq!(answered_on(before.await.unwrap()).await, 1);
        server.until(|server| server.open.get() == 1).await;
        assert_eq!(answered_on(send(&cluster, "/").await).await, 2);
    });
}

#[test]
fn a_connection_that_broke_is_replaced() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster(&[address]));
        assert_eq!(answered_on(send(&cluster, "/").await).await, 1);
        server.break_off();
        server.until(|server| server.open.get() == 0).await;
        while only_endpoint(&cluster).counters.http2_idle.read() > 0 {
            tokio::task::yield_now().await;
            upstreams.sweep(now());
        }
        assert_eq!(answered_on(send(&cluster, "/").await).await, 2);
    });
}

#[test]
fn an_endpoint_that_speaks_no_http2_gets_no_request() {
    worker(async {
        let (address, _) = servers::serve(|mut tcp, _, _| async move {
            let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut tcp, answer)
                .await
                .unwrap();
        })
        .await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let failed = send(&cluster, "/cart").await.unwrap_err();
        assert_eq!(failed.error, RequestError::UpstreamConnectFailed);
        assert!(failed.detail.contains(&address.to_string()));
    });
}

#[test]
fn giving_up_resets_the_stream_and_leaves_the_connection() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let request = send_in_background(&cluster, "/wait");
        server.until(|server| server.waiting.get() == 1).await;
        request.abort();
        server.until(|server| server.waiting.get() == 0).await;
        assert_eq!(answered_on(send(&cluster, "/").await).await, 1);
        assert_eq!(only_endpoint(&cluster).counters.in_flight.read(), 0);
    });
}

/// Answers every stream with a reset.
async fn reset_with(reason: h2::Reason) -> (SocketAddr, Rc<servers::Observed>) {
    servers::serve(move |tcp, _, _| async move {
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(reason);
        }
    })
    .await
}

#[test]
fn a_refused_stream_was_provably_not_processed_and_another_reset_may_have_been() {
    for (reason, error) in [
        (
            h2::Reason::REFUSED_STREAM,
            RequestError::UpstreamRefusedStream,
        ),
        (h2::Reason::INTERNAL_ERROR, RequestError::UpstreamReset),
    ] {
        worker(async {
            let (address, _) = reset_with(reason).await;
            let cluster = live(&upstreams(), cluster(&[address]));
            let (failed_with, detail) = failed(send(&cluster, "/").await);
            assert_eq!(failed_with, error);
            assert!(detail.contains(&address.to_string()), "{detail}");
            assert_eq!(only_endpoint(&cluster).counters.failures.read(), 1);
        });
    }
}

#[test]
fn a_response_with_too_many_fields_is_refused() {
    worker(async {
        let (address, _) = servers::serve(|tcp, _, _| async move {
            let mut connection = h2::server::handshake(tcp).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut response = http::Response::new(());
                for _ in 0..=HttpLimits::HEADER_FIELDS {
                    response
                        .headers_mut()
                        .append("x", http::HeaderValue::from_static("y"));
                }
                respond.send_response(response, true).unwrap();
            }
        })
        .await;
        let cluster = live(&upstreams(), cluster(&[address]));
        let (error, _) = failed(send(&cluster, "/").await);
        assert_eq!(error, RequestError::UpstreamProtocolError);
    });
}

#[test]
fn an_idle_connection_is_closed_after_the_idle_timeout_and_a_busy_one_is_not() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster(&[address]));
        let request = send_in_background(&cluster, "/wait");
        server.until(|server| server.waiting.get() == 1).await;
        let much_later = now() + Duration::from_secs(3600);
        upstreams.sweep(much_later);
        server.go(1);
        answered_on(request.await.unwrap()).await;
        assert_eq!(only_endpoint(&cluster).counters.http2_idle.read(), 1);

        upstreams.sweep(now() + Duration::from_secs(59));
        assert_eq!(only_endpoint(&cluster).counters.http2_idle.read(), 1);
        upstreams.sweep(much_later);
        assert_eq!(only_endpoint(&cluster).counters.http2_idle.read(), 0);
        server.until(|server| server.open.get() == 0).await;
    });
}

#[test]
fn a_caller_of_http1_reaches_an_http2_endpoint_when_the_cluster_insists() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let config = Cluster {
            http_version: UpstreamHttp::Http2,
            ..cluster(&[address])
        };
        let cluster = live(&upstreams(), config);
        let sent = cluster.send(Version::HTTP_11, &mut get("/")).await;
        assert_eq!(answered_on(sent).await, 1);
        assert_eq!(server.requests.get(), 1);
    });
}

#[test]
fn a_connection_that_has_carried_what_it_may_is_closed() {
    worker(async {
        let (address, server) = servers::http2(100).await;
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

#[test]
fn a_cluster_may_allow_fewer_streams_than_the_endpoint() {
    worker(async {
        let (address, server) = servers::http2(100).await;
        let config = Cluster {
            http2: Http2 {
                concurrent_streams: NonZeroU32::new(1),
                ..Http2::default()
            },
            ..cluster(&[address])
        };
        let cluster = live(&upstreams(), config);
        let first = send_in_background(&cluster, "/wait");
        server.until(|server| server.waiting.get() == 1).await;
        assert_eq!(answered_on(send(&cluster, "/").await).await, 2);
        server.go(1);
        assert_eq!(answered_on(first.await.unwrap()).await, 1);
    });
}

//! Opening connections: who must be at the other end, and what is said when there is no way.

use super::{servers, *};
use crate::{
    net::{self, stream::Stream},
    tls::testing::TestCa,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const US: &str = "spiffe://cluster.local/ns/demo/sa/order";
const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";
const PRODUCT: &str = "spiffe://cluster.local/ns/demo/sa/product";

fn identity(ca: &TestCa, id: &str) -> Identity {
    let identity = Identity::new();
    identity
        .install(ca.workload(id), None, std::time::SystemTime::now())
        .unwrap();
    identity
}

/// Echoes over mutual TLS.
async fn echo(identity: Identity) -> (SocketAddr, Rc<servers::Observed>) {
    servers::serve(move |tcp, _, _| {
        let server = identity.current().unwrap().server.clone();
        async move {
            let Ok(mut stream) = net::tls::accept(Stream::tcp(tcp), server).await else {
                return;
            };
            let mut line = [0; 5];
            if stream.read_exact(&mut line).await.is_ok() {
                stream.write_all(&line).await.unwrap();
            }
        }
    })
    .await
}

/// A cluster with one endpoint that must be someone.
fn meshed(address: SocketAddr, id: &str) -> Cluster {
    Cluster {
        endpoints: Arc::new([Arc::new(Endpoint {
            identity: Some(id.parse().unwrap()),
            ..Endpoint::clone(&endpoint(address))
        })]),
        ..cluster(&[])
    }
}

#[test]
fn an_endpoint_that_proves_its_identity_is_connected_to_under_mutual_tls() {
    worker(async {
        let ca = TestCa::root("mesh");
        let (address, _) = echo(identity(&ca, USER)).await;
        let upstreams = upstreams_as(identity(&ca, US), &[]);
        let cluster = live(&upstreams, meshed(address, USER));

        let mut connected = cluster.connect().await.unwrap();
        assert_eq!(connected.stream.peer_identity().unwrap().as_str(), USER);
        connected.stream.write_all(b"hello").await.unwrap();
        let mut echoed = [0; 5];
        connected.stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"hello");

        let counters = &connected.endpoint.counters;
        assert_eq!((counters.tcp.read(), counters.in_flight.read()), (1, 1));
        drop(connected.hold);
        assert_eq!((counters.tcp.read(), counters.in_flight.read()), (0, 0));
    });
}

#[test]
fn an_endpoint_that_proves_another_identity_gets_not_one_byte() {
    worker(async {
        let ca = TestCa::root("mesh");
        let received = Rc::new(std::cell::Cell::new(None));
        let (address, server) = servers::serve({
            let (received, product) = (received.clone(), identity(&ca, PRODUCT));
            move |tcp, _, _| {
                let server = product.current().unwrap().server.clone();
                let received = received.clone();
                async move {
                    if let Ok(mut stream) = net::tls::accept(Stream::tcp(tcp), server).await {
                        received.set(Some(stream.read(&mut [0; 100]).await.unwrap_or(0)));
                    }
                }
            }
        })
        .await;
        let upstreams = upstreams_as(identity(&ca, US), &[]);
        let cluster = live(&upstreams, meshed(address, USER));

        let (error, detail) = failed(cluster.send(Version::HTTP_11, &mut get("/")).await);
        assert_eq!(error, RequestError::UpstreamIdentityMismatch);
        for part in [&address.to_string(), USER, PRODUCT] {
            assert!(detail.contains(part), "{part} in {detail}");
        }
        server.until(|server| server.open.get() == 0).await;
        assert_eq!(received.get(), Some(0));
    });
}

#[test]
fn an_endpoint_of_another_authority_fails_the_handshake() {
    worker(async {
        let (address, _) = echo(identity(&TestCa::root("other"), USER)).await;
        let upstreams = upstreams_as(identity(&TestCa::root("mesh"), US), &[]);
        let cluster = live(&upstreams, meshed(address, USER));
        let (error, detail) = failed(cluster.connect().await);
        assert_eq!(error, RequestError::UpstreamTlsFailed);
        assert!(detail.contains(&address.to_string()), "{detail}");
    });
}

#[test]
fn without_a_certificate_a_meshed_endpoint_is_not_even_dialled() {
    worker(async {
        let (address, server) = echo(identity(&TestCa::root("mesh"), USER)).await;
        let cluster = live(&upstreams(), meshed(address, USER));
        let (error, _) = failed(cluster.connect().await);
        assert_eq!(error, RequestError::CertificateUnavailable);
        assert_eq!(server.accepted.get(), 0);
        assert_eq!(only_endpoint(&cluster).counters.failures.read(), 0);
    });
}

#[test]
fn a_call_to_an_address_of_our_own_is_in_plaintext() {
    worker(async {
        let (address, _) = servers::http2(100).await;
        let upstreams = upstreams_as(Identity::new(), &[address.ip()]);
        let cluster = live(&upstreams, meshed(address, USER));
        let connected = cluster.connect().await.unwrap();
        assert!(!connected.stream.is_tls());
    });
}

#[test]
fn a_failed_connection_names_the_endpoint_gives_the_request_back_and_is_held_against_it() {
    worker(async {
        let address = nobody();
        let cluster = live(&upstreams(), cluster(&[address]));
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let failed = cluster.send(version, &mut get("/cart")).await.unwrap_err();
            assert_eq!(failed.error, RequestError::UpstreamConnectFailed);
            assert!(failed.detail.contains(&address.to_string()));
            assert_eq!(failed.endpoint.unwrap().address(), address);
        }
        let endpoint = only_endpoint(&cluster);
        assert_eq!(endpoint.counters.connect_failures.read(), 2);
        assert_eq!(endpoint.counters.failures.read(), 2);
        assert!(
            endpoint.counters.latency_us.read() > 1_000_000,
            "penalized twice"
        );
    });
}

#[test]
fn a_handshake_that_is_not_answered_ends_with_the_connect_timeout() {
    worker(async {
        let (address, _) = servers::serve(|tcp, _, server| async move {
            server.until(|_| false).await;
            drop(tcp);
        })
        .await;
        let ca = TestCa::root("mesh");
        let upstreams = upstreams_as(identity(&ca, US), &[]);
        let config = Cluster {
            connect_timeout: Duration::from_millis(20),
            ..meshed(address, USER)
        };
        let (error, detail) = failed(live(&upstreams, config).connect().await);
        assert_eq!(error, RequestError::UpstreamConnectTimeout);
        assert!(detail.contains("TLS"), "{detail}");
    });
}

#[test]
fn a_cluster_without_endpoints_says_so() {
    worker(async {
        let cluster = live(&upstreams(), cluster(&[]));
        let (error, detail) = failed(cluster.send(Version::HTTP_11, &mut get("/")).await);
        assert_eq!(error, RequestError::NoHealthyEndpoint);
        assert!(detail.contains(NAME));
        assert_eq!(failed(cluster.connect().await).0, error);
    });
}

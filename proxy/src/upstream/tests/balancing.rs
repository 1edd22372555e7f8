//! What a cluster makes of its balancer: the proxy's own zone, newcomers, and pushes that change neither.

use super::{balancer::Choice, *};
use crate::snapshot::{
    LoadBalancer, Share,
    cluster::{SlowStart, Zone},
};
use http::Response;
use std::collections::HashMap;

fn in_zone(port: u16, zone: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        zone: zone.into(),
        ..Endpoint::clone(&endpoint(at(port)))
    })
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn picked(cluster: &LiveCluster, avoid: &[SocketAddr], picks: u32) -> HashMap<u16, u32> {
    let mut counts = HashMap::new();
    for _ in 0..picks {
        let choice = Choice { hash: None, avoid };
        let picked = cluster.pick(&choice).unwrap();
        *counts.entry(picked.address().port()).or_default() += 1;
    }
    counts
}

#[test]
fn the_own_zone_is_preferred_from_when_it_is_known() {
    worker(async {
        let upstreams = upstreams();
        let config = Arc::new(Cluster {
            zone: Zone::Prefer,
            endpoints: Arc::new([
                in_zone(1, "a"),
                in_zone(2, "b"),
                in_zone(3, "a"),
                in_zone(4, "b"),
            ]),
            ..cluster(&[])
        });
        let before = upstreams.cluster(&config);
        assert_eq!(
            picked(&before, &[], 100),
            [(1, 25), (2, 25), (3, 25), (4, 25)].into()
        );
        upstreams.locate(&"b".into());
        assert_eq!(picked(&before, &[], 100), [(2, 50), (4, 50)].into());
        assert_eq!(picked(&before, &[at(2)], 100), [(4, 100)].into());

        let after = live(
            &upstreams,
            Cluster {
                name: "other:80".into(),
                ..Cluster::clone(&config)
            },
        );
        assert_eq!(picked(&after, &[], 100), [(2, 50), (4, 50)].into());
        upstreams.locate(&"c".into());
        assert_eq!(
            picked(&after, &[], 100),
            [(1, 25), (2, 25), (3, 25), (4, 25)].into()
        );
    });
}

#[test]
fn those_that_join_later_start_slowly() {
    worker(async {
        let upstreams = upstreams();
        let config = Cluster {
            slow_start: Some(SlowStart {
                window: Duration::from_secs(3_600),
                aggression: 1.0,
                minimum: Share::percent(10),
            }),
            ..cluster(&[at(1), at(2)])
        };
        let cluster = live(&upstreams, config.clone());
        assert_eq!(picked(&cluster, &[], 100), [(1, 50), (2, 50)].into());
        live(
            &upstreams,
            Cluster {
                endpoints: Arc::new([endpoint(at(1)), endpoint(at(2)), endpoint(at(3))]),
                ..config
            },
        );
        let newcomer = picked(&cluster, &[], 2_100)[&3];
        assert!(
            (50..200).contains(&newcomer),
            "{newcomer} of 2100, a tenth of a share is 100"
        );
    });
}

#[test]
fn a_push_that_leaves_the_balancer_alone_leaves_its_turns() {
    worker(async {
        let upstreams = upstreams();
        let config = cluster(&[at(1), at(2), at(3), at(4), at(5)]);
        let cluster = live(&upstreams, config.clone());
        let mut counts = HashMap::new();
        for second in 1..=5 {
            live(
                &upstreams,
                Cluster {
                    idle_timeout: Duration::from_secs(second),
                    ..config.clone()
                },
            );
            for (port, count) in picked(&cluster, &[], 1) {
                *counts.entry(port).or_default() += count;
            }
        }
        assert_eq!(counts, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)].into());
    });
}

#[test]
fn a_push_of_another_balancer_keeps_the_endpoints() {
    worker(async {
        let upstreams = upstreams();
        let config = cluster(&[at(1), at(2)]);
        let cluster = live(&upstreams, config.clone());
        let before = cluster.endpoints();
        for load_balancer in [
            LoadBalancer::Random,
            LoadBalancer::RING_HASH,
            LoadBalancer::MAGLEV,
        ] {
            live(
                &upstreams,
                Cluster {
                    load_balancer,
                    ..config.clone()
                },
            );
            for (before, after) in before.iter().zip(cluster.endpoints()) {
                assert!(Rc::ptr_eq(before, &after));
            }
            let choice = Choice {
                hash: Some(7),
                avoid: &[],
            };
            assert!(cluster.pick(&choice).is_ok());
        }
    });
}

#[test]
fn an_endpoint_that_sheds_requests_fast_looks_slow() {
    worker(async {
        let upstreams = upstreams();
        let config = Cluster {
            load_balancer: LoadBalancer::PEAK_EWMA,
            ..cluster(&[at(1)])
        };
        let response =
            |version: Version, status: u16| Response::builder().version(version).status(status);
        let call = |code| response(Version::HTTP_2, 200).header("grpc-status", code);
        for (response, slow) in [
            (response(Version::HTTP_11, 200), false),
            (call("0"), false),
            (call("8"), true),
            (response(Version::HTTP_11, 429), true),
            (response(Version::HTTP_11, 404), false),
        ] {
            let response = response.body(()).unwrap();
            let name = format!("{} {:?}", response.status(), response.headers());
            let cluster = live(
                &upstreams,
                Cluster {
                    name: name.as_str().into(),
                    ..config.clone()
                },
            );
            let endpoint = only_endpoint(&cluster);
            cluster.attempt(&endpoint).responded(&response);
            let assumed = LoadBalancer::PEAK_EWMA.default_rtt().as_micros() as u64;
            assert_eq!(
                endpoint.counters.latency_us.read() > assumed,
                slow,
                "{name}"
            );
        }
    });
}

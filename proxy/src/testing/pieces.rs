//! The pieces of a request's way whose instructions `benches/instructions` counts one by one.
//!
//! Each makes its surroundings first and then is one call, with the types that serve requests.

use super::world::{self, ORDER, USER};
use crate::{
    http::{h1::pieces as h1, headers, intake, route, trace},
    snapshot::{
        Cluster, Endpoint, LoadBalancer, Protocol, Route, RouteTable,
        cluster::Zone,
        route::{Domain, PathMatch, VirtualHost},
    },
    telemetry::{Edge, Outcome},
    upstream::{
        LiveEndpoint,
        balancer::{Balancer, Choice, arrange},
    },
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header::HOST};
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use weft_xds_proto::spiffe::SpiffeId;

/// One piece.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// What the table calls it.
    pub name: &'static str,
    /// Makes what one iteration calls.
    pub make: fn() -> Box<dyn FnMut()>,
}

/// All of them, in the order of a request.
pub const PIECES: &[Piece] = &[
    Piece {
        name: "head/parse request",
        make: || Box::new(h1::parse_request()),
    },
    Piece {
        name: "head/parse response",
        make: || Box::new(h1::parse_response()),
    },
    Piece {
        name: "head/encode request",
        make: || Box::new(h1::encode_request()),
    },
    Piece {
        name: "head/encode response",
        make: || Box::new(h1::encode_response()),
    },
    Piece {
        name: "intake/as it should be",
        make: || {
            intake_of(
                "/orders/4711/items?page=2",
                "order.demo.svc.cluster.local:8080",
            )
        },
    },
    Piece {
        name: "intake/to be normalised",
        make: || {
            intake_of(
                "/orders/./4711//items?page=2",
                "Order.demo.svc.cluster.local:8080",
            )
        },
    },
    Piece {
        name: "trace/begin",
        make: || trace_of(None),
    },
    Piece {
        name: "trace/continue",
        make: || {
            trace_of(Some(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ))
        },
    },
    Piece {
        name: "identity/strip and set",
        make: identity,
    },
    Piece {
        name: "identity/of a connection",
        make: identity_of_connection,
    },
    Piece {
        name: "route/any host, 1 route",
        make: || route_of(1, "elsewhere", "/"),
    },
    Piece {
        name: "route/exact host of 3",
        make: || route_of(3, "service-1.demo.svc.cluster.local:8080", "/orders/4711"),
    },
    Piece {
        name: "route/exact host of 100",
        make: || {
            route_of(
                100,
                "service-50.demo.svc.cluster.local:8080",
                "/orders/4711",
            )
        },
    },
    Piece {
        name: "route/wildcard host of 100",
        make: || route_of(100, "other.service-50.example:8080", "/orders/4711"),
    },
    Piece {
        name: "route/exact path, first of 20",
        make: || route_of(1, "service-0.demo.svc.cluster.local", "/exact-0"),
    },
    Piece {
        name: "route/prefix, last of 20",
        make: || route_of(1, "service-0.demo.svc.cluster.local", "/segments-9/items"),
    },
    Piece {
        name: "balancer/round robin of 3",
        make: || pick(LoadBalancer::RoundRobin, 3),
    },
    Piece {
        name: "balancer/round robin of 100",
        make: || pick(LoadBalancer::RoundRobin, 100),
    },
    Piece {
        name: "balancer/least request of 3",
        make: || pick(LoadBalancer::LeastRequest, 3),
    },
    Piece {
        name: "balancer/least request of 100",
        make: || pick(LoadBalancer::LeastRequest, 100),
    },
    Piece {
        name: "balancer/peak-EWMA of 3",
        make: || pick(LoadBalancer::PEAK_EWMA, 3),
    },
    Piece {
        name: "balancer/peak-EWMA of 100",
        make: || pick(LoadBalancer::PEAK_EWMA, 100),
    },
    Piece {
        name: "balancer/round robin by weight of 100",
        make: || pick_near(LoadBalancer::RoundRobin, Zone::Off),
    },
    Piece {
        name: "balancer/random by weight of 100",
        make: || pick_near(LoadBalancer::Random, Zone::Off),
    },
    Piece {
        name: "balancer/ring hash of 100",
        make: || pick_near(LoadBalancer::RING_HASH, Zone::Off),
    },
    Piece {
        name: "balancer/Maglev of 100",
        make: || pick_near(LoadBalancer::MAGLEV, Zone::Off),
    },
    Piece {
        name: "balancer/peak-EWMA of 100, own zone first",
        make: || pick_near(LoadBalancer::PEAK_EWMA, Zone::Prefer),
    },
    Piece {
        name: "telemetry/record a request",
        make: record,
    },
];

/// Takes in a request. Its copy is part of the count: a request is taken in once.
fn intake_of(target: &'static str, host: &'static str) -> Box<dyn FnMut()> {
    let request = Request::get(target)
        .header(HOST, host)
        .header("user-agent", "curl/8.5.0")
        .header("accept", "*/*")
        .header("connection", "keep-alive")
        .body(())
        .expect("a request");
    Box::new(move || {
        let mut request = request.clone();
        black_box(intake::request(&mut request).expect("a good request"));
        black_box(request);
    })
}

/// Enters a trace and gives the request an id.
fn trace_of(traceparent: Option<&'static str>) -> Box<dyn FnMut()> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut headers = HeaderMap::with_capacity(8);
    Box::new(move || {
        headers.clear();
        if let Some(traceparent) = traceparent {
            headers.insert("traceparent", HeaderValue::from_static(traceparent));
        }
        black_box(trace::enter(&mut headers, 0.0, &mut rng));
        trace::set_request_id(&mut headers, &mut rng);
        black_box(&headers);
    })
}

/// What the inbound side does to the header fields that say who called.
fn identity() -> Box<dyn FnMut()> {
    let (by, caller) = identities();
    let client_cert = headers::client_cert(&by, &[7; 600], &caller);
    let forwarded_for = headers::forwarded_for(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut fields = HeaderMap::with_capacity(8);
    Box::new(move || {
        headers::strip_identity(&mut fields);
        fields.remove(headers::FORWARDED_FOR);
        fields.insert(headers::FORWARDED_CLIENT_CERT, client_cert.clone());
        headers::set_forwarded(&mut fields, &forwarded_for);
        black_box(&fields);
    })
}

fn identity_of_connection() -> Box<dyn FnMut()> {
    let (by, caller) = identities();
    Box::new(move || {
        black_box(headers::client_cert(&by, black_box(&[7; 600]), &caller));
    })
}

fn identities() -> (SpiffeId, SpiffeId) {
    let id = |id: &str| id.parse().expect("a SPIFFE ID");
    (id(USER), id(ORDER))
}

/// Chooses a route among so many virtual hosts, each with an exact and a wildcard domain and twenty routes
/// before the one for everything; any other host has one route.
fn route_of(hosts: usize, host: &'static str, path: &'static str) -> Box<dyn FnMut()> {
    let table = table(hosts);
    let request = Request::get(path).body(()).expect("a path");
    route::select(&table, host, &request).expect("a route");
    Box::new(move || {
        black_box(route::select(&table, black_box(host), black_box(&request)));
    })
}

fn table(hosts: usize) -> RouteTable {
    let destination = world::destination("user.demo:80", Protocol::Http, &[], true);
    let any = destination
        .routes
        .expect("routes of an HTTP destination")
        .virtual_hosts[0]
        .clone();
    let default = &any.routes[0];
    let on = |path| {
        Arc::new(Route {
            path,
            ..Route::clone(default)
        })
    };
    let exact = (0..10).map(|i| on(PathMatch::Exact(format!("/exact-{i}").into())));
    let segments = (0..10).map(|i| on(PathMatch::SegmentPrefix(format!("/segments-{i}").into())));
    let routes: Vec<_> = exact.chain(segments).chain([default.clone()]).collect();
    let named = (0..hosts).map(|i| VirtualHost {
        domains: vec![
            Domain::Exact(format!("service-{i}.demo.svc.cluster.local:8080").into()),
            Domain::Suffix(format!(".service-{i}.example").into()),
        ],
        routes: routes.clone(),
    });
    RouteTable::new("user.demo:80".into(), named.chain([any.clone()]).collect())
}

/// Picks among so many endpoints that were never used.
fn pick(load_balancer: LoadBalancer, endpoints: u16) -> Box<dyn FnMut()> {
    pick_of(Cluster {
        load_balancer,
        endpoints: (0..endpoints).map(|port| endpoint(port, 1, "")).collect(),
        ..Cluster::new("user.demo:80".into())
    })
}

/// Picks among a hundred endpoints of three weights in three zones, as the zone of one of them prefers.
fn pick_near(load_balancer: LoadBalancer, zone: Zone) -> Box<dyn FnMut()> {
    let zones = ["a", "b", "c"];
    let endpoint =
        |port: u16| endpoint(port, u32::from(port % 3) + 1, zones[usize::from(port % 3)]);
    pick_of(Cluster {
        load_balancer,
        zone,
        endpoints: (0..100).map(endpoint).collect(),
        ..Cluster::new("user.demo:80".into())
    })
}

fn pick_of(cluster: Cluster) -> Box<dyn FnMut()> {
    let now = Instant::now();
    let mut rng = fastrand::Rng::with_seed(7);
    let (configs, zones) = arrange(&cluster.endpoints, cluster.zone, "a");
    let mut balancer = Balancer::new(&cluster, &configs, zones, now, 7);
    let default_rtt = cluster.load_balancer.default_rtt();
    let endpoints: Vec<_> = configs
        .into_iter()
        .map(|config| {
            Rc::new(LiveEndpoint::new(
                config,
                default_rtt,
                None,
                Rc::default(),
                now,
            ))
        })
        .collect();
    let now = now + Duration::from_secs(1);
    Box::new(move || {
        black_box(balancer.pick(black_box(&endpoints), &Choice::default(), now, rng.u64(..)));
    })
}

fn endpoint(port: u16, weight: u32, zone: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        identity: None,
        workload: world::workload("user"),
        weight: NonZeroU32::new(weight).expect("a weight"),
        zone: zone.into(),
    })
}

fn record() -> Box<dyn FnMut()> {
    let edge = Edge::default();
    Box::new(move || {
        edge.request(black_box(&Outcome {
            method: &Method::GET,
            status: StatusCode::OK,
            error: None,
            grpc_status: None,
            duration: Duration::from_micros(1_300),
        }));
    })
}

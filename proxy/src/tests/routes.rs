//! What routes do to requests, from a caller through its proxy to applications in plaintext.

mod faults;
mod mirrors;

use super::{
    http::{Answer, call, get, nothing},
    tunnel,
};
use crate::{
    error::RequestError,
    snapshot::{
        Cluster, Destination, Endpoint, LoadBalancer, Protocol, Route, RouteTable, Share,
        route::{
            Abort, AbortStatus, Action, Backend, Backends, Conditions, Delay, Domain, Fault, Field,
            Forward, HashCookie, HashPolicy, HashSource, HeaderChange, HeaderChanges, HeaderMatch,
            HostRewrite, IssuedCookie, Mirror, MirrorHost, PathMatch, PathRewrite, Redirect,
            Respond, ValueMatch, VirtualHost,
        },
    },
    telemetry::Mirrored,
    testing::world::{ORDER, Proxy, proxy, scenario, workload},
    tls::testing::TestCa,
};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{cell::RefCell, convert::Infallible, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::spawn_local,
    time::Instant,
};

const VERSIONS: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// An application that keeps what it is asked.
#[derive(Clone)]
struct App {
    name: &'static str,
    address: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    came: Rc<Notify>,
}

/// A request as an application saw it.
#[derive(Debug, Clone)]
struct Seen {
    target: String,
    host: String,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

async fn app(name: &'static str) -> App {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = App {
        name,
        address: listener.local_addr().unwrap(),
        seen: Rc::default(),
        came: Rc::default(),
    };
    let own = app.clone();
    spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let builder = hyper_util::server::conn::auto::Builder::new(LocalExecutor);
            let app = own.clone();
            spawn_local(async move {
                let answer = service_fn(|request| app.clone().answer(request));
                let _ = builder.serve_connection(TokioIo::new(tcp), answer).await;
            });
        }
    });
    app
}

impl App {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap();
        let host = match head.uri.authority() {
            Some(authority) => authority.as_str(),
            None => head.headers["host"].to_str().unwrap(),
        };
        self.seen.borrow_mut().push(Seen {
            target: head.uri.path_and_query().unwrap().to_string(),
            host: host.to_owned(),
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
            headers: head.headers,
        });
        self.came.notify_one();
        let response = Response::builder()
            .header("answered-by", self.name)
            .header("x-internal", "1");
        Ok(response.body(Full::default()).unwrap())
    }

    fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// The next request that comes, and no other.
    async fn only(&self) -> Seen {
        self.came.notified().await;
        let seen = self.seen.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].clone()
    }
}

/// Runs what hyper spawns on the thread of the test.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

fn cluster(name: &str, address: SocketAddr) -> Arc<Cluster> {
    Arc::new(cluster_of(name, &[address]))
}

fn cluster_of(name: &str, addresses: &[SocketAddr]) -> Cluster {
    let endpoint = |&address| {
        Arc::new(Endpoint {
            address,
            identity: None,
            workload: workload(name),
            weight: std::num::NonZeroU32::MIN,
            zone: "".into(),
        })
    };
    Cluster {
        service: name.into(),
        namespace: "demo".into(),
        connect_timeout: Duration::from_secs(60),
        endpoints: addresses.iter().map(endpoint).collect(),
        ..Cluster::new(name.into())
    }
}

/// A proxy whose destination `user.demo:80` has these routes.
fn order(routes: Vec<Route>) -> Proxy {
    let order = proxy(&TestCa::root("mesh"), ORDER, &["--mode", "explicit"]);
    let host = VirtualHost {
        domains: vec![Domain::Any],
        routes: routes.into_iter().map(Arc::new).collect(),
    };
    order.feed.publish(Destination {
        name: "user.demo:80".into(),
        protocol: Protocol::Http,
        routes: Some(Arc::new(RouteTable::new("user".into(), vec![host]))),
        tcp: None,
    });
    order
}

fn forwarding(forward: Forward) -> Route {
    Route {
        action: Action::Forward(forward.clone()),
        ..Route::to(forward.backends.all()[0].cluster.clone())
    }
}

fn to(app: &App) -> Forward {
    Forward::to(cluster(app.name, app.address))
}

fn mirror(address: SocketAddr) -> Arc<[Mirror]> {
    [Mirror {
        cluster: cluster("shadow", address),
        share: Share::ALL,
        host: MirrorHost::Shadow,
        headers: Arc::default(),
    }]
    .into()
}

fn name(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

fn value(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

async fn ask(order: &Proxy, request: ::http::request::Builder) -> Answer {
    call(order.outbound, request.body(nothing()).unwrap()).await
}

/// A connection for many requests.
async fn connection(order: &Proxy) -> SendRequest<Full<Bytes>> {
    let tcp = TcpStream::connect(order.outbound).await.unwrap();
    let io = TokioIo::new(tcp);
    let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    spawn_local(connection);
    send
}

#[tokio::test]
async fn backends_get_requests_by_their_weights() {
    scenario(async {
        let apps = [app("a").await, app("b").await, app("c").await];
        let weights = [75, 25, 0];
        let backends = apps.iter().zip(weights).map(|(app, weight)| Backend {
            weight,
            ..Backend::new(cluster(app.name, app.address))
        });
        let order = order(vec![forwarding(Forward {
            backends: Backends::new(backends.collect()).unwrap(),
            ..to(&apps[0])
        })]);
        let mut send = connection(&order).await;
        for _ in 0..400 {
            let request = get(Version::HTTP_2, "http://user/")
                .body(nothing())
                .unwrap();
            assert!(
                send.send_request(request)
                    .await
                    .unwrap()
                    .status()
                    .is_success()
            );
        }
        let [a, b, c] = apps.each_ref().map(App::count);
        assert_eq!((a + b, c), (400, 0));
        // Five standard deviations of a binomial distribution.
        assert!(b.abs_diff(100) < 44, "{a} {b}");
        // Each cluster has an edge of its own.
        let mut edges = order.edges();
        edges.sort_by_key(|(_, edge)| edge.requests.iter().flatten().sum::<u64>());
        let services: Vec<_> = edges.iter().map(|(key, _)| &*key.service).collect();
        assert_eq!(services, ["b", "a"]);
    })
    .await;
}

#[tokio::test]
async fn routes_are_told_apart_by_method_and_fields() {
    scenario(async {
        let (posts, canary, rest) = (app("posts").await, app("canary").await, app("rest").await);
        let when = |conditions, app: &App| Route {
            conditions: Some(Arc::new(conditions)),
            ..forwarding(to(app))
        };
        let order = order(vec![
            when(
                Conditions {
                    method: Some(Method::POST),
                    ..Conditions::default()
                },
                &posts,
            ),
            when(
                Conditions {
                    headers: [HeaderMatch {
                        field: Field::Named(name("x-canary")),
                        value: ValueMatch::Present,
                        invert: false,
                        absent_is_empty: false,
                    }]
                    .into(),
                    ..Conditions::default()
                },
                &canary,
            ),
            forwarding(to(&rest)),
        ]);
        for version in VERSIONS {
            let post = Request::post("http://user/")
                .version(version)
                .header("host", "user");
            let answers = [
                ask(&order, post).await,
                ask(&order, get(version, "http://user/").header("x-canary", "1")).await,
                ask(&order, get(version, "http://user/")).await,
            ];
            let by = answers.map(|answer| answer.header("answered-by").map(str::to_owned));
            assert_eq!(
                by,
                ["posts", "canary", "rest"].map(|name| Some(name.to_owned()))
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_redirect_is_no_error_and_reaches_no_backend() {
    scenario(async {
        let redirect = Redirect {
            scheme: Some("https".into()),
            host: None,
            port: None,
            path: Some(PathRewrite::Prefix("/new".into())),
            status: StatusCode::PERMANENT_REDIRECT,
            strip_query: false,
            headers: [HeaderChange::Set(name("x-by"), value("route"))].into(),
        };
        let order = order(vec![Route {
            path: PathMatch::SegmentPrefix("/old".into()),
            action: Action::Redirect(Arc::new(redirect)),
            ..Route::to(Arc::new(Cluster::new("unused".into())))
        }]);
        for version in VERSIONS {
            let answer = ask(&order, get(version, "http://user/old/a?b=c")).await;
            assert_eq!(answer.status, StatusCode::PERMANENT_REDIRECT);
            assert_eq!(answer.header("location"), Some("https://user/new/a?b=c"));
            assert_eq!(answer.header("x-by"), Some("route"));
            assert_eq!(answer.header("weft-error"), None);
        }
        let edges = order.edges();
        let [(key, edge)] = &edges[..] else {
            panic!("one edge: {edges:?}");
        };
        assert_eq!((&*key.route, &*key.service), ("default", "unknown"));
        assert_eq!(edge.requests[0], [0, 0, 2, 0, 0]);
        assert_eq!(edge.errors.iter().sum::<u64>(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_route_may_answer_by_itself() {
    scenario(async {
        let answer = Respond {
            status: StatusCode::IM_A_TEAPOT,
            body: Bytes::from_static(b"closed"),
            headers: [HeaderChange::Add(name("x-by"), value("route"))].into(),
        };
        let order = order(vec![Route {
            action: Action::Respond(Arc::new(answer)),
            ..Route::to(Arc::new(Cluster::new("unused".into())))
        }]);
        for version in VERSIONS {
            let answer = ask(&order, get(version, "http://user/")).await;
            assert_eq!(answer.status, StatusCode::IM_A_TEAPOT);
            assert_eq!(answer.header("x-by"), Some("route"));
            assert_eq!(answer.body, "closed");
        }
        let call = get(Version::HTTP_2, "http://user/a").header("content-type", "application/grpc");
        let answer = ask(&order, call).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("grpc-status"), Some("2"));
    })
    .await;
}

#[tokio::test]
async fn path_host_and_fields_are_changed_on_the_way() {
    scenario(async {
        let app = app("user").await;
        let mut forward = Forward {
            path: Some(PathRewrite::Prefix("/new".into())),
            ..to(&app)
        };
        forward.backends = Backends::only(Backend {
            host: HostRewrite::new("other:8080"),
            headers: HeaderChanges {
                request: [
                    HeaderChange::Remove(name("cookie")),
                    HeaderChange::Set(name("x-tenant"), value("acme")),
                ]
                .into(),
                response: [
                    HeaderChange::Remove(name("x-internal")),
                    HeaderChange::Add(name("x-by"), value("route")),
                ]
                .into(),
            },
            ..forward.backends.all()[0].clone()
        });
        let order = order(vec![Route {
            path: PathMatch::SegmentPrefix("/old".into()),
            ..forwarding(forward)
        }]);
        for version in VERSIONS {
            let request = get(version, "http://user/old/a?b=c")
                .header("cookie", "secret")
                .header("x-tenant", "evil");
            let answer = ask(&order, request).await;
            assert_eq!(answer.header("answered-by"), Some("user"));
            assert_eq!(answer.header("x-internal"), None);
            assert_eq!(answer.header("x-by"), Some("route"));
            let seen = app.only().await;
            assert_eq!(seen.target, "/new/a?b=c");
            assert_eq!(seen.host, "other:8080");
            assert_eq!(seen.headers["x-tenant"], "acme");
            assert!(!seen.headers.contains_key("cookie"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_does_not_exist_is_named_as_the_reason() {
    scenario(async {
        let mut forward = Forward::to(Arc::new(Cluster::new("nobody".into())));
        forward.backends.mark_absent(|_| true);
        let order = order(vec![forwarding(forward)]);
        let answer = ask(&order, get(Version::HTTP_2, "http://user/")).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.header("weft-error"), Some("backend-not-found"));
    })
    .await;
}

#[tokio::test]
async fn requests_of_one_user_stay_with_one_endpoint() {
    scenario(async {
        let apps = [app("a").await, app("b").await, app("c").await];
        let cluster = Cluster {
            load_balancer: LoadBalancer::RING_HASH,
            ..cluster_of("user", &apps.each_ref().map(|app| app.address))
        };
        let order = order(vec![forwarding(Forward {
            hash: [HashPolicy {
                source: HashSource::Header(Field::Named(name("x-user")), None),
                terminal: false,
            }]
            .into(),
            ..Forward::to(Arc::new(cluster))
        })]);
        let mut send = connection(&order).await;
        for user in 0..60 {
            let mut answered = Vec::new();
            for _ in 0..3 {
                let request = get(Version::HTTP_2, "http://user/").header("x-user", user);
                let request = request.body(nothing()).unwrap();
                let response = send.send_request(request).await.unwrap();
                answered.push(response.headers()["answered-by"].clone());
            }
            assert!(answered.iter().all(|by| *by == answered[0]), "{answered:?}");
        }
        assert!(apps.iter().all(|app| app.count() > 0));
    })
    .await;
}

#[tokio::test]
async fn a_caller_without_the_cookie_is_given_one_and_keeps_it() {
    scenario(async {
        let app = app("user").await;
        let cookie = HashSource::Cookie(HashCookie {
            name: "session".into(),
            issue: Some(IssuedCookie {
                ttl: Duration::from_secs(60),
                attributes: "; Path=/".into(),
            }),
        });
        let order = order(vec![forwarding(Forward {
            hash: [HashPolicy {
                source: cookie,
                terminal: false,
            }]
            .into(),
            ..to(&app)
        })]);
        let answer = ask(&order, get(Version::HTTP_2, "http://user/")).await;
        let issued = answer.header("set-cookie").unwrap();
        let (pair, rest) = issued.split_once(';').unwrap();
        assert_eq!(rest, " Max-Age=60; Path=/; HttpOnly");
        assert!(pair.starts_with("session="), "{pair}");
        let again = get(Version::HTTP_2, "http://user/").header("cookie", pair);
        assert_eq!(ask(&order, again).await.header("set-cookie"), None);
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_takes_its_route_and_is_not_mirrored() {
    scenario(async {
        let (address, shadow) = (tunnel::websocket().await, app("shadow").await);
        let upgrades = Conditions {
            headers: [HeaderMatch {
                field: Field::Named(name("upgrade")),
                value: ValueMatch::Present,
                invert: false,
                absent_is_empty: false,
            }]
            .into(),
            ..Conditions::default()
        };
        let mut forward = Forward::to(cluster("user", address));
        forward.mirrors = mirror(shadow.address);
        forward.backends = Backends::only(Backend {
            headers: HeaderChanges {
                request: Arc::default(),
                response: [HeaderChange::Set(name("x-by"), value("route"))].into(),
            },
            ..forward.backends.all()[0].clone()
        });
        let order = order(vec![Route {
            conditions: Some(Arc::new(upgrades)),
            ..forwarding(forward)
        }]);
        let mut tcp = BufReader::new(TcpStream::connect(order.outbound).await.unwrap());
        let request = "GET /chat HTTP/1.1\r\nhost: user\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n";
        tcp.write_all(request.as_bytes()).await.unwrap();
        let head = tunnel::head(&mut tcp).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("x-by: route"), "{head}");
        tcp.write_all(b"frames").await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = String::new();
        tcp.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "helloframes");
        assert_eq!(shadow.count(), 0);
    })
    .await;
}

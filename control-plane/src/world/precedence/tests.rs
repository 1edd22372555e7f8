//! Held against the text of Gateway API v1.3: `HTTPRouteSpec.hostnames`, `HTTPRouteRule.matches` and
//! `GRPCRouteRule.matches`.

use super::*;
use crate::world::{
    Object, ObjectKey, Protocol, Update,
    route::{TextMatch, ValueMatch},
};
use proptest::{collection::vec, option, prelude::*, sample::select};

fn service() -> Service {
    Service {
        key: ObjectKey::new("demo", "user"),
        addresses: vec![],
        primary_family: None,
        ports: vec![port(80, "http"), port(81, "rpc")],
        external_name: None,
        prefers_zone: false,
    }
}

fn port(port: u16, name: &str) -> ServicePort {
    ServicePort {
        port,
        name: name.into(),
        protocol: Protocol::Http,
    }
}

fn route(name: &str, created: Created, hostnames: &[&str], rules: Vec<Vec<Match>>) -> Route {
    Route {
        reference: RouteRef {
            kind: RouteKind::Http,
            key: ObjectKey::new("demo", name),
        },
        created,
        parents: vec![parent(None, None)],
        hostnames: hostnames.iter().map(|text| hostname(text)).collect(),
        rules: rules.into_iter().map(rule).collect(),
    }
}

fn rule(matches: Vec<Match>) -> Arc<Rule> {
    Arc::new(Rule {
        name: None,
        matches,
        filters: vec![],
        backends: vec![],
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
    })
}

fn parent(port: Option<u16>, section: Option<&str>) -> Parent {
    Parent {
        position: 0,
        service: ObjectKey::new("demo", "user"),
        port,
        section: section.map(Into::into),
    }
}

fn hostname(text: &str) -> Hostname {
    let below = text.strip_prefix("*.");
    Hostname {
        name: below.unwrap_or(text).into(),
        wildcard: below.is_some(),
    }
}

fn world(routes: Vec<Route>) -> World {
    let mut world = World::new("cluster.local");
    let objects = routes.into_iter().map(|route| Object::Route(route.into()));
    crate::fixture::apply(&mut world, objects.map(Update::Set));
    world
}

fn prefix(path: &str) -> Match {
    Match {
        path: PathMatch::Prefix(path.into()),
        ..Match::everything()
    }
}

/// The names of the routes for each host, in order.
fn order(world: &World, port: &ServicePort) -> Vec<(String, Vec<String>)> {
    let virtual_hosts = world.virtual_hosts(&service(), port);
    let names = |host: VirtualHost| {
        let hostname = host.hostname.map_or("*".to_owned(), |h| h.to_string());
        let candidates = host.candidates.iter();
        let names = candidates.map(|candidate| candidate.route.reference.key.name.to_string());
        (hostname, names.collect())
    };
    virtual_hosts.into_iter().map(names).collect()
}

#[test]
fn without_a_route_there_is_no_virtual_host() {
    assert_eq!(order(&world(vec![]), &port(80, "http")), []);
}

#[test]
fn a_host_has_the_rules_of_every_hostname_that_covers_it_the_most_specific_first() {
    let of = |name: &str, hostnames: &[&str]| {
        route(name, Created::UNKNOWN, hostnames, vec![vec![prefix("/")]])
    };
    let world = world(vec![
        of("any", &[]),
        of("com", &["*.com"]),
        of("below", &["*.example.com"]),
        of("exact", &["a.example.com", "*.com"]),
    ]);
    let expected = [
        ("a.example.com", vec!["exact", "below", "com", "any"]),
        ("*.example.com", vec!["below", "com", "exact", "any"]),
        ("*.com", vec!["com", "exact", "any"]),
        ("*", vec!["any"]),
    ];
    let expected = expected.map(|(host, names)| {
        (
            host.to_owned(),
            names.into_iter().map(str::to_owned).collect(),
        )
    });
    assert_eq!(order(&world, &port(80, "http")), expected);
}

#[test]
fn a_route_is_for_the_ports_that_its_parent_says_and_for_services_of_its_namespace() {
    let with = |name: &str, parents| Route {
        parents,
        ..route(name, Created::UNKNOWN, &[], vec![vec![prefix("/")]])
    };
    let mut foreign = with("foreign", vec![parent(None, None)]);
    foreign.reference.key = ObjectKey::new("other", "foreign");
    let world = world(vec![
        with("all", vec![parent(None, None)]),
        with("number", vec![parent(Some(80), None)]),
        with("section", vec![parent(None, Some("rpc"))]),
        with("neither", vec![parent(Some(80), Some("rpc"))]),
        foreign,
    ]);
    let names = |number, name| {
        let routes = world.routes_for(&service(), &port(number, name));
        let names = routes
            .iter()
            .map(|route| route.reference.key.name.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(80, "http"), ["all", "number"]);
    assert_eq!(names(81, "rpc"), ["all", "section"]);
}

#[test]
fn a_grpc_route_keeps_http_routes_out() {
    let mut grpc = route("grpc", Created::UNKNOWN, &[], vec![vec![prefix("/")]]);
    grpc.reference.kind = RouteKind::Grpc;
    grpc.parents = vec![parent(Some(81), None)];
    let http = route("http", Created::UNKNOWN, &[], vec![vec![prefix("/")]]);
    let world = world(vec![grpc, http]);
    let any = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        [("*".to_owned(), names)]
    };
    assert_eq!(order(&world, &port(80, "http")), any(&["http"]));
    assert_eq!(order(&world, &port(81, "rpc")), any(&["grpc"]));
}

#[test]
fn of_grpc_the_longer_service_counts_then_the_longer_method() {
    let rule = |name: &str, method: &str| {
        format!(
            "{{name: {name}, matches: [{{method: {method}}}], backendRefs: [{{name: user, port: 81}}]}}"
        )
    };
    let rules = [
        "{name: rest, backendRefs: [{name: user, port: 81}]}".to_owned(),
        rule("any-get", "{method: Get}"),
        rule("service", "{service: demo.Users}"),
        rule(
            "expression",
            "{type: RegularExpression, service: 'demo.U.+'}",
        ),
        rule("longer-service", "{service: demo.Users.Admin}"),
        rule("both", "{service: demo.Users, method: Get}"),
    ];
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r, namespace: demo}}\nspec: {{parentRefs: [{{kind: Service, name: user}}], rules: [{}]}}\n",
        rules.join(", ")
    );
    let virtual_hosts = crate::fixture::world(&route).virtual_hosts(&service(), &port(81, "rpc"));
    let candidates = virtual_hosts[0].candidates.iter();
    let names = candidates.map(|candidate| candidate.rule().name.as_deref().unwrap());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "longer-service",
            "both",
            "service",
            "expression",
            "any-get",
            "rest"
        ]
    );
}

#[derive(Debug, Clone)]
struct Request {
    host: &'static str,
    path: &'static str,
    method: &'static str,
    headers: Vec<&'static str>,
    query: Vec<&'static str>,
}

fn requests() -> impl Strategy<Value = Request> {
    (
        select(vec!["a.x.com", "x.com", "b.a.x.com", "c.x.com", "z.org"]),
        select(vec!["/", "/a", "/a/b", "/a/b/c", "/ab"]),
        select(vec!["GET", "POST"]),
        proptest::sample::subsequence(vec!["h1", "h2"], 0..=2),
        proptest::sample::subsequence(vec!["q1", "q2"], 0..=2),
    )
        .prop_map(|(host, path, method, headers, query)| Request {
            host,
            path,
            method,
            headers,
            query,
        })
}

fn matches() -> impl Strategy<Value = Match> {
    let path = prop_oneof![
        select(vec!["/", "/a", "/a/b", "/a/b/c"]).prop_map(|path| PathMatch::Exact(path.into())),
        select(vec!["/", "/a", "/a/b"]).prop_map(|path| PathMatch::Prefix(path.into())),
        select(vec!["/a.*", "/.*", "/[a-z]*"]).prop_map(|path| PathMatch::Regex(path.into())),
    ];
    let values = |names: Vec<&'static str>| {
        let present = proptest::sample::subsequence(names, 0..=2);
        present.prop_map(|names| {
            let value = |name: &str| ValueMatch {
                name: name.into(),
                value: TextMatch::Exact("yes".into()),
            };
            names.into_iter().map(value).collect::<Vec<_>>()
        })
    };
    (
        path,
        values(vec!["h1", "h2"]),
        values(vec!["q1", "q2"]),
        option::of(select(vec!["GET", "POST"])),
    )
        .prop_map(|(path, headers, query, method)| Match {
            path,
            headers,
            query,
            method: method.map(Into::into),
        })
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let hostnames = vec!["a.x.com", "*.x.com", "x.com", "*.a.x.com", "*.com"];
    let one = (
        option::of(0..3i64),
        proptest::sample::subsequence(hostnames, 0..=3),
        vec(vec(matches(), 1..3), 1..4),
    );
    vec(one, 1..5).prop_map(|parts| {
        let routes = parts.into_iter().zip(["d", "b", "c", "a"]);
        routes
            .map(|((created, hostnames, rules), name)| {
                route(
                    name,
                    created.map_or(Created::UNKNOWN, Created::at),
                    &hostnames,
                    rules,
                )
            })
            .collect()
    })
}

fn covers(hostname: &Hostname, host: &str) -> bool {
    match hostname.wildcard {
        true => host.ends_with(&format!(".{}", hostname.name)),
        false => *hostname.name == *host,
    }
}

fn fits(fit: &Match, request: &Request) -> bool {
    let path = match &fit.path {
        PathMatch::Exact(path) => **path == *request.path,
        PathMatch::Prefix(prefix) => {
            **prefix == *"/"
                || request
                    .path
                    .strip_prefix(&**prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        PathMatch::Regex(pattern) => match &**pattern {
            "/a.*" => request.path.starts_with("/a"),
            "/.*" => true,
            "/[a-z]*" => !request.path[1..].contains('/'),
            other => panic!("{other} is not among the expressions of the test"),
        },
    };
    let has = |list: &[ValueMatch], present: &[&str]| {
        list.iter().all(|item| present.contains(&&*item.name))
    };
    path && fit
        .method
        .as_deref()
        .is_none_or(|method| method == request.method)
        && has(&fit.headers, &request.headers)
        && has(&fit.query, &request.query)
}

type Place = (String, usize, usize);

/// As a proxy decides: the virtual host of the host, then the first match that fits.
fn by_order(world: &World, request: &Request) -> Option<Place> {
    let virtual_hosts = world.virtual_hosts(&service(), &port(80, "http"));
    let mut of_host: Vec<_> = virtual_hosts
        .iter()
        .filter(|host| {
            host.hostname
                .as_ref()
                .is_none_or(|h| covers(h, request.host))
        })
        .collect();
    // Exact before wildcards, of which the longest counts, before any.
    of_host.sort_by_key(|host| match &host.hostname {
        None => (2, 0),
        Some(hostname) if hostname.wildcard => (1, usize::MAX - hostname.name.len()),
        Some(_) => (0, 0),
    });
    let candidates = &of_host.first()?.candidates;
    let found = candidates
        .iter()
        .find(|candidate| fits(candidate.fit(), request))?;
    let name = found.route.reference.key.name.to_string();
    Some((name, found.rule, found.alternative))
}

/// As the text says: everything that fits, less what yields, criterion by criterion.
fn by_text(routes: &[Route], request: &Request) -> Option<Place> {
    let mut left = Vec::new();
    for route in routes {
        let covering: Vec<_> = route
            .hostnames
            .iter()
            .filter(|h| covers(h, request.host))
            .collect();
        if covering.is_empty() && !route.hostnames.is_empty() {
            continue;
        }
        for (i, rule) in route.rules.iter().enumerate() {
            for (j, fit) in rule.matches.iter().enumerate() {
                if fits(fit, request) {
                    left.push((route, covering.clone(), fit, i, j));
                }
            }
        }
    }
    macro_rules! keep_most {
        (|$route:pat_param, $hosts:pat_param, $fit:pat_param| $by:expr) => {
            let by =
                |(route, hosts, fit, _, _): &(&Route, Vec<&Hostname>, &Match, usize, usize)| {
                    let ($route, $hosts, $fit): (&Route, &Vec<&Hostname>, &Match) =
                        (route, hosts, fit);
                    $by
                };
            let most = left.iter().map(by).max()?;
            left.retain(|candidate| by(candidate) == most);
        };
    }
    let characters = |hostname: &Hostname| hostname.to_string().len();
    // "Characters in a matching non-wildcard hostname."
    keep_most!(|_, hosts, _| hosts
        .iter()
        .filter(|h| !h.wildcard)
        .map(|h| characters(h))
        .max()
        .unwrap_or(0));
    // "Characters in a matching hostname."
    keep_most!(|_, hosts, _| hosts.iter().map(|h| characters(h)).max().unwrap_or(0));
    // "'Exact' path match."
    keep_most!(|_, _, fit| matches!(fit.path, PathMatch::Exact(_)));
    // "'Prefix' path match with largest number of characters"; expressions are "implementation-specific": last, the
    // longest first.
    keep_most!(|_, _, fit| match &fit.path {
        PathMatch::Exact(_) => (2, 0),
        PathMatch::Prefix(prefix) => (1, prefix.len()),
        PathMatch::Regex(regex) => (0, regex.len()),
    });
    // "Method match."
    keep_most!(|_, _, fit| fit.method.is_some());
    // "Largest number of header matches."
    keep_most!(|_, _, fit| fit.headers.len());
    // "Largest number of query param matches."
    keep_most!(|_, _, fit| fit.query.len());
    // "The oldest Route based on creation timestamp."
    keep_most!(|route, _, _| Reverse(route.created));
    // "The Route appearing first in alphabetical order by {namespace}/{name}."
    keep_most!(|route, _, _| Reverse(route.reference.key.to_string()));
    // "The first matching rule (in list order)."
    let (route, _, _, rule, alternative) = left.first()?;
    Some((route.reference.key.name.to_string(), *rule, *alternative))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_request_is_for_the_rule_that_the_text_of_gateway_api_says(
        routes in routes(),
        requests in vec(requests(), 1..8),
    ) {
        let world = world(routes.clone());
        for request in &requests {
            prop_assert_eq!(by_order(&world, request), by_text(&routes, request), "{:?}", request);
        }
    }
}

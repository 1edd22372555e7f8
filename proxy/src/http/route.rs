//! Which route serves a request: a pure function of the route table, the host and the request.

use super::matches;
use crate::snapshot::{Route, RouteTable, route::without_port};
use http::Request;
use std::sync::Arc;

/// The route of a request, if any matches.
///
/// `host` is the authority in lower case, with or without a port, which plays no part: the connection's
/// destination has decided the port already (`RouteConfiguration.ignore_port_in_host_matching`).
/// The path is normalised. Only the best virtual host is searched for a route; the first that matches wins.
pub fn select<'t, B>(
    table: &'t RouteTable,
    host: &str,
    request: &Request<B>,
) -> Option<&'t Arc<Route>> {
    let virtual_host = table.virtual_host(without_port(host))?;
    let mut routes = virtual_host.routes.iter();
    routes.find(|route| matches::request(&route.path, route.conditions.as_deref(), host, request))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{
        Cluster,
        route::{Conditions, Domain, PathMatch, VirtualHost},
    };
    use http::Method;

    fn route(name: &str, path: PathMatch) -> Arc<Route> {
        Arc::new(Route {
            name: name.into(),
            path,
            ..Route::to(Arc::new(Cluster::new(name.into())))
        })
    }

    fn table(hosts: &[(&[Domain], &str)]) -> RouteTable {
        let hosts = hosts.iter().map(|(domains, name)| VirtualHost {
            domains: domains.to_vec(),
            routes: vec![route(name, PathMatch::Prefix("/".into()))],
        });
        RouteTable::new("table".into(), hosts.collect())
    }

    fn selected<'t>(table: &'t RouteTable, host: &str, path: &str) -> Option<&'t str> {
        let request = Request::get(path).body(()).unwrap();
        select(table, host, &request).map(|route| &*route.name)
    }

    #[test]
    fn the_most_specific_domain_wins_wherever_it_stands() {
        let table = table(&[
            (&[Domain::Any], "any"),
            (&[Domain::Prefix("user.".into())], "prefix"),
            (&[Domain::Suffix(".local".into())], "short suffix"),
            (
                &[Domain::Suffix(".demo.svc.cluster.local".into())],
                "suffix",
            ),
            (
                &[Domain::Exact("user.demo.svc.cluster.local:80".into())],
                "exact",
            ),
        ]);
        for (host, name) in [
            ("user.demo.svc.cluster.local", "exact"),
            ("user.demo.svc.cluster.local:80", "exact"),
            ("user.demo.svc.cluster.local:8080", "exact"),
            ("order.demo.svc.cluster.local:80", "suffix"),
            ("user.local", "short suffix"),
            ("user.other", "prefix"),
            ("user.", "any"),
            ("[fd00::1]:80", "any"),
        ] {
            assert_eq!(selected(&table, host, "/"), Some(name), "{host}");
        }
    }

    #[test]
    fn of_two_hosts_with_one_domain_the_first_counts() {
        let exact = |authority: &str| [Domain::Exact(authority.into())];
        let table = table(&[(&exact("user:80"), "first"), (&exact("user:81"), "second")]);
        assert_eq!(selected(&table, "user:81", "/"), Some("first"));
    }

    #[test]
    fn a_host_that_no_domain_names_has_no_route() {
        let table = table(&[(&[Domain::Exact("user".into())], "user")]);
        assert_eq!(selected(&table, "order", "/"), None);
    }

    #[test]
    fn the_first_route_whose_path_matches_wins() {
        let host = VirtualHost {
            domains: vec![Domain::Any],
            routes: vec![
                route("exact", PathMatch::Exact("/a".into())),
                route("segment", PathMatch::SegmentPrefix("/a".into())),
                route("slash", PathMatch::SegmentPrefix("/b/".into())),
                route("prefix", PathMatch::Prefix("/ab".into())),
            ],
        };
        let table = RouteTable::new("table".into(), vec![host]);
        for (path, name) in [
            ("/a", Some("exact")),
            ("/a/", Some("segment")),
            ("/a/b", Some("segment")),
            ("/b/c", Some("slash")),
            ("/abc", Some("prefix")),
            ("/A", None),
            ("/", None),
        ] {
            assert_eq!(selected(&table, "user", path), name, "{path}");
        }
    }

    #[test]
    fn a_route_whose_conditions_are_not_met_is_passed_over() {
        let posts = Route {
            conditions: Some(Arc::new(Conditions {
                method: Some(Method::POST),
                ..Conditions::default()
            })),
            ..Route::clone(&route("posts", PathMatch::Prefix("/".into())))
        };
        let host = VirtualHost {
            domains: vec![Domain::Any],
            routes: vec![
                Arc::new(posts),
                route("rest", PathMatch::Prefix("/".into())),
            ],
        };
        let table = RouteTable::new("table".into(), vec![host]);
        assert_eq!(selected(&table, "user", "/"), Some("rest"));
        let post = Request::post("/").body(()).unwrap();
        assert_eq!(&*select(&table, "user", &post).unwrap().name, "posts");
    }

    #[test]
    fn a_port_is_told_from_an_ipv6_address() {
        for (authority, host) in [
            ("user", "user"),
            ("user:80", "user"),
            ("user:", "user"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[fd00::1]", "[fd00::1]"),
            ("[fd00::1]:80", "[fd00::1]"),
            ("fd00::1", "fd00::1"),
        ] {
            assert_eq!(without_port(authority), host, "{authority}");
        }
    }
}

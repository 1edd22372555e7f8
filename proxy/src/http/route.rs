//! Which route serves a request: a pure function of the route table, the host and the path.

use crate::snapshot::{
    Route, RouteTable,
    route::{PathMatch, without_port},
};
use std::sync::Arc;

/// The route of a request, if any matches.
///
/// `host` is the authority in lower case, with or without a port, which plays no part: the connection's
/// destination has decided the port already (`RouteConfiguration.ignore_port_in_host_matching`).
/// `path` is normalised and has no query. Only the best virtual host is searched for a route.
pub fn select<'t>(table: &'t RouteTable, host: &str, path: &str) -> Option<&'t Arc<Route>> {
    table
        .virtual_host(without_port(host))?
        .routes
        .iter()
        .find(|route| matches(&route.path, path))
}

fn matches(pattern: &PathMatch, path: &str) -> bool {
    match pattern {
        PathMatch::Exact(exact) => path == &**exact,
        PathMatch::Prefix(prefix) => path.starts_with(&**prefix),
        PathMatch::SegmentPrefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{
        Cluster,
        route::{Domain, VirtualHost},
    };

    fn route(name: &str, path: PathMatch) -> Arc<Route> {
        Arc::new(Route {
            name: name.into(),
            path,
            cluster: Arc::new(Cluster::new(name.into())),
            timeout: None,
            idle_timeout: None,
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
        select(table, host, path).map(|route| &*route.name)
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

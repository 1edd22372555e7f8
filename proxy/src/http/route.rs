//! Which route serves a request: a pure function of the route table, the host and the path.

use crate::snapshot::{
    Route, RouteTable,
    route::{Domain, PathMatch, VirtualHost},
};
use std::sync::Arc;

/// The route of a request, if any matches.
///
/// `host` is the authority in lower case, with or without a port, which plays no part: the connection's
/// destination has decided the port already (`RouteConfiguration.ignore_port_in_host_matching`).
/// `path` is normalised and has no query.
pub fn select<'t>(table: &'t RouteTable, host: &str, path: &str) -> Option<&'t Arc<Route>> {
    virtual_host(table, without_port(host))?
        .routes
        .iter()
        .find(|route| matches(&route.path, path))
}

/// `VirtualHost.domains`: exact before suffix before prefix before any, the longest of a kind first. Only
/// the best virtual host is searched for a route.
fn virtual_host<'t>(table: &'t RouteTable, host: &str) -> Option<&'t VirtualHost> {
    let candidates = table
        .virtual_hosts
        .iter()
        .flat_map(|vhost| vhost.domains.iter().map(move |domain| (domain, vhost)));
    let mut best: Option<((u8, usize), &VirtualHost)> = None;
    for (domain, vhost) in candidates {
        let Some(rank) = rank(domain, host) else {
            continue;
        };
        if best.is_none_or(|(so_far, _)| rank > so_far) {
            best = Some((rank, vhost));
        }
    }
    best.map(|(_, vhost)| vhost)
}

/// How well a domain fits a host: its kind, then its length.
fn rank(domain: &Domain, host: &str) -> Option<(u8, usize)> {
    match domain {
        Domain::Exact(exact) => (without_port(exact) == host).then_some((3, 0)),
        // A star stands for at least one character.
        Domain::Suffix(suffix) => {
            let suffix = without_port(suffix);
            (host.len() > suffix.len() && host.ends_with(suffix)).then_some((2, suffix.len()))
        }
        Domain::Prefix(prefix) => {
            (host.len() > prefix.len() && host.starts_with(&**prefix)).then_some((1, prefix.len()))
        }
        Domain::Any => Some((0, 0)),
    }
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

/// The host of an authority: `user.demo:80` and `[fd00::1]:80` without their port.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // Without brackets, more than one colon is an IPv6 address and no port.
        Some((host, port))
            if port.bytes().all(|c| c.is_ascii_digit())
                && (host.ends_with(']') || !host.contains(':')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Cluster, Limits, LoadBalancer, cluster::UpstreamHttp};
    use std::time::Duration;

    fn route(name: &str, path: PathMatch) -> Arc<Route> {
        Arc::new(Route {
            name: name.into(),
            path,
            cluster: Arc::new(Cluster {
                name: name.into(),
                service: name.into(),
                namespace: "demo".into(),
                load_balancer: LoadBalancer::RoundRobin,
                connect_timeout: Duration::from_secs(5),
                idle_timeout: Duration::from_secs(60),
                limits: Limits::default(),
                http_version: UpstreamHttp::AsDownstream,
                endpoints: Arc::new([]),
            }),
            timeout: None,
            idle_timeout: None,
        })
    }

    fn table(hosts: &[(&[Domain], &str)]) -> RouteTable {
        RouteTable {
            name: "table".into(),
            virtual_hosts: hosts
                .iter()
                .map(|(domains, name)| VirtualHost {
                    domains: domains.to_vec(),
                    routes: vec![route(name, PathMatch::Prefix("/".into()))],
                })
                .collect(),
        }
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
    fn a_host_that_no_domain_names_has_no_route() {
        let table = table(&[(&[Domain::Exact("user".into())], "user")]);
        assert_eq!(selected(&table, "order", "/"), None);
    }

    #[test]
    fn the_first_route_whose_path_matches_wins() {
        let table = RouteTable {
            name: "table".into(),
            virtual_hosts: vec![VirtualHost {
                domains: vec![Domain::Any],
                routes: vec![
                    route("exact", PathMatch::Exact("/a".into())),
                    route("segment", PathMatch::SegmentPrefix("/a".into())),
                    route("slash", PathMatch::SegmentPrefix("/b/".into())),
                    route("prefix", PathMatch::Prefix("/ab".into())),
                ],
            }],
        };
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

use super::{NAME, action, any_path, converted, number, refused, route};
use crate::{
    snapshot::route::{Action, HeaderChange, HeaderChanges},
    xds::convert::{route::convert, tests::any},
};
use http::{HeaderName, HeaderValue};
use weft_xds_proto::envoy::{
    envoy::config::{
        core::v3::{
            HeaderValue as ProtoValue, HeaderValueOption, header_value_option::HeaderAppendAction,
        },
        route::v3::{
            Route, RouteAction, RouteConfiguration, VirtualHost, WeightedCluster,
            route_action::ClusterSpecifier, weighted_cluster::ClusterWeight,
        },
    },
    google::protobuf::BoolValue,
};

fn option(value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(ProtoValue {
            key: "X-Level".to_owned(),
            value: value.to_owned(),
            ..ProtoValue::default()
        }),
        append_action: action.into(),
        ..HeaderValueOption::default()
    }
}

fn add(value: &str) -> Vec<HeaderValueOption> {
    vec![option(value, HeaderAppendAction::AppendIfExistsOrAdd)]
}

fn name() -> HeaderName {
    HeaderName::from_static("x-level")
}

fn added(value: &'static str) -> HeaderChange {
    HeaderChange::Add(name(), HeaderValue::from_static(value))
}

fn of_backend(rule: &crate::xds::convert::route::Rule) -> &HeaderChanges {
    match &rule.action {
        Action::Forward(forward) => &forward.backends.all()[0].headers,
        other => panic!("it forwards: {other:?}"),
    }
}

/// One change on each of the four levels.
fn on_all_levels(most_specific_wins: bool) -> HeaderChanges {
    let backend = ClusterWeight {
        name: "user".to_owned(),
        weight: number(1),
        request_headers_to_add: add("backend"),
        response_headers_to_add: add("backend"),
        ..ClusterWeight::default()
    };
    let weighted = WeightedCluster {
        clusters: vec![backend],
        ..WeightedCluster::default()
    };
    let route = Route {
        request_headers_to_add: add("route"),
        response_headers_to_add: add("route"),
        ..route(
            any_path(),
            RouteAction {
                cluster_specifier: Some(ClusterSpecifier::WeightedClusters(weighted)),
                ..action()
            },
        )
    };
    let host = VirtualHost {
        domains: vec!["*".to_owned()],
        routes: vec![route],
        request_headers_to_add: add("host"),
        response_headers_to_add: add("host"),
        ..VirtualHost::default()
    };
    let config = RouteConfiguration {
        name: NAME.to_owned(),
        virtual_hosts: vec![host],
        request_headers_to_add: add("table"),
        response_headers_to_add: add("table"),
        most_specific_header_mutations_wins: most_specific_wins,
        ..RouteConfiguration::default()
    };
    let routes = convert(NAME, &any(&config)).unwrap();
    of_backend(&routes.virtual_hosts[0].routes[0]).clone()
}

#[test]
fn the_changes_of_all_levels_become_one_list() {
    let inside_out = ["backend", "route", "host", "table"].map(added);
    assert_eq!(
        on_all_levels(false),
        HeaderChanges {
            request: inside_out.clone().into(),
            response: inside_out.into(),
        }
    );
    let outside_in = ["table", "host", "route", "backend"].map(added);
    assert_eq!(*on_all_levels(true).request, outside_in);
}

#[test]
fn every_kind_of_change_is_taken_in_envoys_order() {
    let rule = converted(Route {
        request_headers_to_add: vec![
            option("1", HeaderAppendAction::AppendIfExistsOrAdd),
            option("2", HeaderAppendAction::AddIfAbsent),
            option("3", HeaderAppendAction::OverwriteIfExistsOrAdd),
            option("4", HeaderAppendAction::OverwriteIfExists),
        ],
        request_headers_to_remove: vec!["X-Level".to_owned()],
        ..route(any_path(), action())
    });
    assert_eq!(
        *of_backend(&rule).request,
        [
            HeaderChange::Remove(name()),
            HeaderChange::Set(name(), HeaderValue::from_static("3")),
            HeaderChange::Replace(name(), HeaderValue::from_static("4")),
            added("1"),
            HeaderChange::AddIfAbsent(name(), HeaderValue::from_static("2")),
        ]
    );
}

#[test]
#[expect(deprecated, reason = "control planes still send append")]
fn append_is_understood() {
    for (append, expected) in [
        (true, added("1")),
        (
            false,
            HeaderChange::Set(name(), HeaderValue::from_static("1")),
        ),
    ] {
        let option = HeaderValueOption {
            append: Some(BoolValue { value: append }),
            ..option("1", HeaderAppendAction::AppendIfExistsOrAdd)
        };
        let rule = converted(Route {
            request_headers_to_add: vec![option],
            ..route(any_path(), action())
        });
        assert_eq!(*of_backend(&rule).request, [expected]);
    }
}

#[test]
fn an_empty_value_counts_only_when_it_is_kept() {
    let empty = option("", HeaderAppendAction::AppendIfExistsOrAdd);
    let kept = HeaderValueOption {
        keep_empty_value: true,
        ..empty.clone()
    };
    for (option, expected) in [(empty, vec![]), (kept, vec![added("")])] {
        let rule = converted(Route {
            response_headers_to_add: vec![option],
            ..route(any_path(), action())
        });
        assert_eq!(*of_backend(&rule).response, expected);
    }
}

#[test]
fn two_percent_signs_are_one() {
    let rule = converted(Route {
        request_headers_to_add: add("100%% %%"),
        ..route(any_path(), action())
    });
    assert_eq!(*of_backend(&rule).request, [added("100% %")]);
}

#[test]
fn what_is_wrong_with_a_change_is_named() {
    let with_key = |key: &str| HeaderValueOption {
        header: Some(ProtoValue {
            key: key.to_owned(),
            value: "1".to_owned(),
            ..ProtoValue::default()
        }),
        ..HeaderValueOption::default()
    };
    for (option, expected) in [
        (HeaderValueOption::default(), "header: is required"),
        (
            with_key("a b"),
            "header.key: \"a b\" is not the name of a header field",
        ),
        (
            with_key(":path"),
            "header.key: \":path\" is not the name of a header field",
        ),
        (
            with_key("Host"),
            "header.key: the host is changed by host_rewrite_literal",
        ),
        (
            with_key("transfer-encoding"),
            "header.key: transfer-encoding is the business of the proxy",
        ),
        (
            add("%REQ(x-user)%").remove(0),
            "header.value: commands are not supported by this proxy, got \"%REQ(x-user)%\"; \
             write %% for a percent sign",
        ),
        (
            add("a\nb").remove(0),
            "header.value: is not the value of a header field",
        ),
        (
            HeaderValueOption {
                append_action: 9,
                ..with_key("a")
            },
            "append_action: is unknown",
        ),
    ] {
        let route = Route {
            request_headers_to_add: vec![option],
            ..route(any_path(), action())
        };
        assert_eq!(
            refused(route),
            format!("request_headers_to_add[0].{expected}")
        );
    }
    let removed = Route {
        response_headers_to_remove: vec!["a".to_owned(), "content-length".to_owned()],
        ..route(any_path(), action())
    };
    assert_eq!(
        refused(removed),
        "response_headers_to_remove[1]: content-length is the business of the proxy"
    );
}

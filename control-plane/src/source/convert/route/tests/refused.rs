use super::{PARENT, verdict};
use crate::source::convert::{Invalid, Verdict};

fn refusal(kind: &str, spec: &str) -> (String, String) {
    match verdict(kind, spec) {
        Verdict::Refused {
            invalid: Invalid { field, reason },
            instead: None,
        } => (field, reason),
        other => panic!("{spec}: {other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_refused_by_field_with_the_way_out() {
    let backend = "backendRefs: [{name: a, port: 1}]";
    for (rule, field, reason) in [
        ("{}", "backendRefs", "is empty"),
        (
            "{backendRefs: [{name: a, port: 1, weight: 0}, {name: b, port: 1, weight: 0}]}",
            "backendRefs",
            "have a weight of 0 all",
        ),
        (
            "{backendRefs: [{name: a, port: 1, weight: -1}]}",
            "backendRefs[0].weight",
            "write 0 to 1000000",
        ),
        (
            "{backendRefs: [{name: a}]}",
            "backendRefs[0].port",
            "is missing",
        ),
        (
            "{backendRefs: [{name: a, port: 70000}]}",
            "backendRefs[0].port",
            "70000 is not a port",
        ),
        (
            "{backendRefs: [{name: a_b, port: 1}]}",
            "backendRefs[0].name",
            "RFC 1123",
        ),
        (
            "{backendRefs: [{kind: Bucket, name: a, port: 1}]}",
            "backendRefs[0].kind",
            "write a Service",
        ),
        (
            "{backendRefs: [{name: a, port: 1, filters: [{type: RequestMirror}]}]}",
            "backendRefs[0].filters",
            "put them in the rule",
        ),
        (
            "{matches: [{path: {value: users}}]}",
            "matches[0].path.value",
            "begins with a slash",
        ),
        (
            "{matches: [{path: {value: /a//b}}]}",
            "matches[0].path.value",
            "has \"//\" in it",
        ),
        (
            "{matches: [{path: {value: /a%2fb}}]}",
            "matches[0].path.value",
            "has \"%2f\" in it",
        ),
        (
            "{matches: [{path: {value: /a/..}}]}",
            "matches[0].path.value",
            "ends with \"/..\"",
        ),
        (
            "{matches: [{path: {value: '/a b'}}]}",
            "matches[0].path.value",
            "percent-encoded",
        ),
        (
            "{matches: [{path: {type: Glob, value: /a}}]}",
            "matches[0].path.type",
            "write Exact, PathPrefix or RegularExpression",
        ),
        (
            r"{matches: [{path: {type: RegularExpression, value: '/\p{L}'}}]}",
            "matches[0].path.value",
            "not a regular expression",
        ),
        (
            "{matches: [{path: {type: RegularExpression, value: '/a('}}]}",
            "matches[0].path.value",
            "unclosed group",
        ),
        (
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '[z-a]'}]}]}",
            "matches[0].headers[0].value",
            "not a regular expression",
        ),
        (
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '(a{1000}){1000}'}]}]}",
            "matches[0].headers[0].value",
            "is too large",
        ),
        (
            "{matches: [{headers: [{name: 'a b', value: c}]}]}",
            "matches[0].headers[0].name",
            "not the name of a header",
        ),
        (
            "{matches: [{headers: [{name: A, value: b}, {name: a, value: c}]}]}",
            "matches[0].headers[1].name",
            "matched twice",
        ),
        (
            "{matches: [{queryParams: [{name: '', value: b}]}]}",
            "matches[0].queryParams[0].name",
            "is empty",
        ),
        (
            "{matches: [{method: FETCH}]}",
            "matches[0].method",
            "\"FETCH\" is not a method",
        ),
        (
            "{filters: [{type: Unheard}]}",
            "filters[0].type",
            "\"Unheard\" is not a filter that Weft has",
        ),
        (
            "{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}",
            "filters[0].type",
            "\"ExtensionRef\" is not a filter that Weft has",
        ),
        (
            "{filters: [{type: CORS, cors: {}}]}",
            "filters[0].type",
            "\"CORS\" is not a filter that Weft has",
        ),
        (
            "{filters: [{type: RequestMirror}]}",
            "filters[0].requestMirror",
            "is missing",
        ),
        (
            "{filters: [{type: RequestMirror, urlRewrite: {}}]}",
            "filters[0].urlRewrite",
            "is not of type RequestMirror",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 101}}]}",
            "filters[0].requestMirror.percent",
            "write 0 to 100",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}]}",
            "filters[0].requestMirror.fraction",
            "remove one of them",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 2, denominator: 1}}}]}",
            "filters[0].requestMirror.fraction",
            "is no share",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}]}",
            "filters[0].requestHeaderModifier",
            "changes nothing",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [A]}}]}",
            "filters[0].requestHeaderModifier.remove[0]",
            "changed twice",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b}]}}]}",
            "filters[0].requestHeaderModifier.set[0].name",
            "URLRewrite with hostname",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\nc\"}]}}]}",
            "filters[0].requestHeaderModifier.set[0].value",
            "leave out line breaks",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: a}}]}",
            "filters[1]",
            "stands in the rule before",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {}}]}",
            "filters[0].urlRewrite",
            "changes nothing",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {hostname: 10.0.0.1}}]}",
            "filters[0].urlRewrite.hostname",
            "is an address",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]}",
            "filters[0].urlRewrite.path.replaceFullPath",
            "is missing",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {path: {type: Replace}}}]}",
            "filters[0].urlRewrite.path.type",
            "write ReplaceFullPath or ReplacePrefixMatch",
        ),
        (
            "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
            "filters[0].urlRewrite.path.replacePrefixMatch",
            "needs a prefix",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}",
            "filters[0].requestRedirect.statusCode",
            "write 301, 302",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}",
            "filters[0].requestRedirect.scheme",
            "write http or https",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}]}",
            "backendRefs",
            "stands beside RequestRedirect",
        ),
        (
            "{timeouts: {request: 1s, backendRequest: 2s}}",
            "timeouts.backendRequest",
            "no more than timeouts.request",
        ),
        (
            "{timeouts: {request: 1}}",
            "timeouts.request",
            "expected a string",
        ),
        (
            "{retry: {codes: [200]}}",
            "retry.codes[0]",
            "write 400 to 599",
        ),
        ("{retry: {attempts: -1}}", "retry.attempts", "write 0 to 99"),
        ("{retry: {backoff: 0s}}", "retry.backoff", "is 0s"),
        (
            "{sessionPersistence: {}}",
            "sessionPersistence",
            "is not supported; write a TrafficPolicy",
        ),
        ("{name: A_b}", "name", "RFC 1123"),
        ("{macthes: []}", "macthes", "unknown field"),
    ] {
        let rule = match rule.contains("backendRefs") || rule == "{}" {
            true => rule.to_owned(),
            false => rule.replacen('{', &format!("{{{backend}, "), 1),
        };
        let (found_field, found_reason) = refusal("HTTPRoute", &format!("{PARENT}rules: [{rule}]"));
        assert_eq!(
            found_field,
            format!("spec.rules[0].{field}"),
            "{rule}: {found_reason}"
        );
        assert!(found_reason.contains(reason), "{rule}: {found_reason}");
    }
}

#[test]
fn what_is_wrong_with_the_rest_of_a_route_is_refused_by_field() {
    let rules = "rules: [{name: a, backendRefs: [{name: a, port: 1}]}, {name: a, backendRefs: [{name: a, port: 1}]}]";
    let rule = "rules: [{backendRefs: [{name: a, port: 1}]}]";
    for (kind, spec, field) in [
        (
            "ReferenceGrant",
            "from: []\nto: [{group: '', kind: Service}]".to_owned(),
            "spec.from",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}{rules}"),
            "spec.rules[1].name",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}hostnames: [10.0.0.1]\n{rule}"),
            "spec.hostnames[0]",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}hostnames: ['*.*.a']\n{rule}"),
            "spec.hostnames[0]",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}hostnames: [A.example]\n{rule}"),
            "spec.hostnames[0]",
        ),
        (
            "HTTPRoute",
            "parentRefs: [{kind: Service, name: user, port: 0}]".to_owned(),
            "spec.parentRefs[0].port",
        ),
        (
            "HTTPRoute",
            "parentRefs: [{kind: Service, name: a.b}]".to_owned(),
            "spec.parentRefs[0].name",
        ),
        (
            "HTTPRoute",
            "parentRefs: [{kind: Service, name: a}, {kind: Service, name: a}]".to_owned(),
            "spec.parentRefs[1]",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}rules: [{{name: '1', backendRefs: [{{name: a, port: 1}}]}}]"),
            "spec.rules[0].name",
        ),
        (
            "GRPCRoute",
            format!(
                "{PARENT}rules: [{{matches: [{{method: {{}}}}], backendRefs: [{{name: a, port: 1}}]}}]"
            ),
            "spec.rules[0].matches[0].method",
        ),
        (
            "GRPCRoute",
            format!(
                "{PARENT}rules: [{{matches: [{{method: {{service: a/b}}}}], backendRefs: [{{name: a, port: 1}}]}}]"
            ),
            "spec.rules[0].matches[0].method.service",
        ),
        (
            "GRPCRoute",
            format!(
                "{PARENT}rules: [{{filters: [{{type: URLRewrite}}], backendRefs: [{{name: a, port: 1}}]}}]"
            ),
            "spec.rules[0].filters[0].type",
        ),
    ] {
        let (found, reason) = refusal(kind, &spec);
        assert_eq!(found, field, "{spec}: {reason}");
    }
}

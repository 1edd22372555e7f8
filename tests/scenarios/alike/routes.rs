//! Routes: what they match, where they lead, what they change.

use super::both::{
    Answer, Both, PROXIES, Question, backend, http_route, server, three, two, whoami,
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use weft_tests::apps::moody::{Mood, Moody};

pub(super) fn routes() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (_apps, echo) = two(&both)?;
    let prefix = |path: &str| json!({ "type": "PathPrefix", "value": path });
    let rules = json!([
        { "matches": [{ "path": { "type": "Exact", "value": "/whoami/exact" } }], "backendRefs": backend("canary") },
        { "matches": [{ "path": prefix("/whoami/long/prefix") }], "backendRefs": backend("canary") },
        { "matches": [{ "path": prefix("/whoami/long") }], "backendRefs": backend("stable") },
        {
            "matches": [{ "path": { "type": "RegularExpression", "value": "/number/[0-9]+" } }],
            "filters": [{ "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplaceFullPath", "replaceFullPath": "/whoami" } } }],
            "backendRefs": backend("canary"),
        },
        {
            "matches": [{ "path": prefix("/whoami/by"), "headers": [{ "name": "x-canary", "value": "yes" }] },
                        { "path": prefix("/whoami/by"), "queryParams": [{ "name": "canary", "value": "yes" }] },
                        { "path": prefix("/whoami/by"), "method": "DELETE" }],
            "backendRefs": backend("canary"),
        },
        {
            "matches": [{ "path": prefix("/moved") }],
            "filters": [{ "type": "RequestRedirect", "requestRedirect": {
                "scheme": "https", "hostname": "new.example", "port": 8443, "statusCode": 301,
                "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/here" },
            } }],
        },
        {
            "matches": [{ "path": prefix("/rewritten") }],
            "filters": [
                { "type": "URLRewrite", "urlRewrite": {
                    "hostname": "inner.example", "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/whoami" },
                } },
                { "type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{ "name": "x-set", "value": "new" }], "add": [{ "name": "x-added", "value": "more" }], "remove": ["x-gone"],
                } },
                { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "set": [{ "name": "x-answer", "value": "set" }], "remove": ["date"],
                } },
            ],
            "backendRefs": backend("stable"),
        },
        { "matches": [{ "path": prefix("/whoami") }], "backendRefs": backend("stable") },
    ]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    both.until_both(
        "the routes are in force",
        echo,
        &Question::get("/whoami/exact"),
        |answer| server(answer) == "canary",
    )?;

    let by = Question::get("/whoami/by");
    for (question, name) in [
        (Question::get("/whoami"), "stable"),
        (Question::get("/whoami/exact"), "canary"),
        (Question::get("/whoami/exact?query=1"), "canary"),
        (Question::get("/whoami/exactly"), "stable"),
        (Question::get("/whoami/long"), "stable"),
        (Question::get("/whoami/long/prefix"), "canary"),
        (Question::get("/whoami/long/prefix/more"), "canary"),
        (Question::get("/whoami/long/prefixes"), "stable"),
        (Question::get("/number/42"), "canary"),
        (by, "stable"),
        (
            Question {
                headers: &[("x-canary", "yes")],
                ..by
            },
            "canary",
        ),
        (
            Question {
                headers: &[("x-canary", "no")],
                ..by
            },
            "stable",
        ),
        (Question::get("/whoami/by?canary=yes"), "canary"),
        (Question::get("/whoami/by?canary=no"), "stable"),
        (
            Question {
                method: "DELETE",
                ..by
            },
            "canary",
        ),
    ] {
        both.agree(echo, &question, &name.to_owned(), server)?;
    }

    both.agree(echo, &Question::get("/number/42x"), &404, |answer| {
        answer.status
    })?;

    let redirect = |answer: &Answer| (answer.status, answer.headers.get("location").cloned());
    both.agree(
        echo,
        &Question::get("/moved/a?b=c"),
        &(301, Some("https://new.example:8443/here/a?b=c".to_owned())),
        redirect,
    )?;

    let question = Question {
        headers: &[("x-set", "old"), ("x-added", "some"), ("x-gone", "gone")],
        ..Question::get("/rewritten/a?b=c")
    };
    for (name, proxy) in PROXIES {
        let answer = both.ask(proxy, echo, &question)?;
        let seen = whoami(&answer).with_context(|| format!("{name}: {answer:?}"))?;
        let header = |name: &str| seen["headers"][name].as_str().map(str::to_owned);
        ensure!(seen["uri"] == "/whoami/a?b=c", "{name}: {seen}");
        ensure!(
            header("host").as_deref() == Some("inner.example"),
            "{name}: {seen}"
        );
        ensure!(header("x-set").as_deref() == Some("new"), "{name}: {seen}");
        ensure!(header("x-gone").is_none(), "{name}: {seen}");
        ensure!(
            header("x-added").is_some_and(|value| value.contains("more")),
            "{name}: {seen}"
        );
        ensure!(
            answer
                .headers
                .get("x-answer")
                .is_some_and(|value| value == "set"),
            "{name}: {answer:?}"
        );
    }
    Ok(())
}

pub(super) fn weights() -> anyhow::Result<()> {
    const TIMES: u32 = 1_000;
    let both = Both::start()?;
    let (_apps, echo) = two(&both)?;
    let weighted = |name: &str, weight: u32| json!({ "name": name, "port": 80, "weight": weight });
    let rules = json!([{ "backendRefs": [weighted("stable", 80), weighted("canary", 20)] }]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    let question = Question::get("/whoami");
    both.until_both("the weights are in force", echo, &question, |answer| {
        server(answer) == "canary"
    })?;
    for (name, proxy) in PROXIES {
        let found = both.distribution(proxy, echo, &question, TIMES)?;
        let canary = found.get("canary").copied().unwrap_or_default();
        // Five standard deviations of 1,000 throws at one in five.
        ensure!(canary.abs_diff(200) < 64, "{name}: {found:?}");
    }
    Ok(())
}

pub(super) fn expressions() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (_apps, echo) = two(&both)?;
    let path = json!({ "type": "PathPrefix", "value": "/whoami" });
    let expression = |name: &str, value: &str| json!({ "type": "RegularExpression", "name": name, "value": value });
    let rules = json!([
        {
            "matches": [
                { "path": path, "headers": [expression("x-version", "v[12]")] },
                { "path": path, "queryParams": [expression("id", "[0-9]+")] },
                { "path": path, "headers": [{ "name": "x-a", "value": "1" }, { "name": "x-b", "value": "2" }] },
                { "path": path, "headers": [{ "name": "x-c", "value": "3" }], "queryParams": [{ "name": "c", "value": "3" }] },
            ],
            "backendRefs": backend("canary"),
        },
        { "matches": [{ "path": path }], "backendRefs": backend("stable") },
    ]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    let question = Question::get("/whoami");
    both.until_both(
        "the routes are in force",
        echo,
        &Question::get("/whoami?id=42"),
        |answer| server(answer) == "canary",
    )?;
    let fields: [(&[(&str, &str)], &str); 6] = [
        (&[("x-version", "v1")], "canary"),
        (&[("x-version", "v3")], "stable"),
        // An expression is for the whole value.
        (&[("x-version", "v12")], "stable"),
        (&[("x-a", "1")], "stable"),
        (&[("x-a", "1"), ("x-b", "2")], "canary"),
        (&[("x-c", "3")], "stable"),
    ];
    for (headers, name) in fields {
        let question = Question {
            headers,
            ..question
        };
        both.agree(echo, &question, &name.to_owned(), server)?;
    }
    for (path, name) in [
        ("/whoami?id=4x", "stable"),
        ("/whoami?other=1&id=4", "canary"),
        ("/whoami?c=3", "stable"),
    ] {
        both.agree(echo, &Question::get(path), &name.to_owned(), server)?;
    }
    let question = Question {
        headers: &[("x-c", "3")],
        ..Question::get("/whoami?c=3")
    };
    both.agree(echo, &question, &"canary".to_owned(), server)
}

pub(super) fn redirects() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (_apps, echo) = two(&both)?;
    let redirect = |path: &str, redirect: Value| {
        json!({
            "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
            "filters": [{ "type": "RequestRedirect", "requestRedirect": redirect }],
        })
    };
    let rewrite = |path: &str, rewrite: Value| {
        json!({
            "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
            "filters": [{ "type": "URLRewrite", "urlRewrite": rewrite }],
            "backendRefs": backend("stable"),
        })
    };
    let rules = json!([
        redirect("/full", json!({ "path": { "type": "ReplaceFullPath", "replaceFullPath": "/there" } })),
        redirect("/host", json!({ "hostname": "new.example", "statusCode": 308 })),
        redirect("/secure", json!({ "scheme": "https", "statusCode": 307 })),
        redirect("/port", json!({ "port": 8080, "statusCode": 303 })),
        rewrite("/strip", json!({ "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } })),
        rewrite("/whole", json!({ "path": { "type": "ReplaceFullPath", "replaceFullPath": "/whoami/new" } })),
        {
            "matches": [{ "path": { "type": "PathPrefix", "value": "/whoami" } }],
            "filters": [{ "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                "add": [{ "name": "x-added", "value": "more" }],
            } }],
            "backendRefs": backend("stable"),
        },
    ]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    both.until_both(
        "the routes are in force",
        echo,
        &Question::get("/host"),
        |answer| answer.status == 308,
    )?;
    let host = Question::get("").host;
    for (path, status, location) in [
        ("/full/a?b=c", 302, format!("http://{host}/there?b=c")),
        (
            "/host/a?b=c",
            308,
            "http://new.example/host/a?b=c".to_owned(),
        ),
        ("/secure/a", 307, format!("https://{host}/secure/a")),
        ("/port/a", 303, format!("http://{host}:8080/port/a")),
    ] {
        // Envoy is told the port, or it would keep the one of the request, and writes it even if the scheme says it.
        let found = |answer: &Answer| {
            let location = answer.headers.get("location");
            (
                answer.status,
                location.map(|location| location.replace(":443/", "/")),
            )
        };
        both.agree(echo, &Question::get(path), &(status, Some(location)), found)?;
    }
    let uri = |answer: &Answer| whoami(answer).map(|seen| seen["uri"].clone());
    for (path, expected) in [
        ("/strip/whoami?a=b", "/whoami?a=b"),
        ("/strip/whoami/a", "/whoami/a"),
        ("/whole/a/b?c=d", "/whoami/new?c=d"),
    ] {
        both.agree(echo, &Question::get(path), &Some(json!(expected)), uri)?;
    }
    let added = |answer: &Answer| answer.headers.get("x-added").cloned();
    both.agree(
        echo,
        &Question::get("/whoami"),
        &Some("more".to_owned()),
        added,
    )
}

/// The `timeouts` and the `retry` that a rule of a route has by itself.
pub(super) fn limits_of_a_rule() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    let rule = |path: &str, mut rule: Value| {
        rule["matches"] = json!([{ "path": { "type": "PathPrefix", "value": path } }]);
        rule["backendRefs"] = backend("echo");
        rule
    };
    let rules = json!([
        rule("/request", json!({ "timeouts": { "request": "200ms" } })),
        rule(
            "/backend",
            json!({ "timeouts": { "backendRequest": "200ms" } })
        ),
        rule(
            "/retry",
            json!({ "retry": { "codes": [503], "attempts": 2, "backoff": "1ms" } })
        ),
        rule("/", json!({})),
    ]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    for endpoint in &endpoints {
        endpoint.becomes(Mood::Slow(Duration::from_secs(1)));
    }
    for path in ["/request", "/backend"] {
        both.until_both(
            "a request takes too long",
            echo,
            &Question::get(path),
            |answer| answer.status == 504,
        )?;
    }
    both.agree(echo, &Question::get("/"), &200, |answer| answer.status)?;
    for (status, path, processed) in [(503, "/retry", 3), (500, "/retry", 1), (503, "/", 1)] {
        for endpoint in &endpoints {
            endpoint.becomes(Mood::Failing(status));
        }
        for (name, proxy) in PROXIES {
            let sum = || endpoints.iter().map(Moody::processed).sum::<u64>();
            let before = sum();
            let answer = both.ask(proxy, echo, &Question::get(path))?;
            let found = (answer.status, sum() - before);
            ensure!(
                found == (status, processed),
                "{name}, {path}, {status}: {found:?}\n{}",
                both.logs()
            );
        }
    }
    Ok(())
}

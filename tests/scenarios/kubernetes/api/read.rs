//! Lists and watches.

use super::{config_map, labelled, text};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use weft_tests::{Need, Suite, kubernetes::session::Session};

pub(super) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "kubernetes_api::a_list_comes_in_pages_of_one_revision",
            &[],
            pages,
        )
        .test(
            "kubernetes_api::a_watch_continues_from_a_revision",
            &[],
            watch,
        )
        .test(
            "kubernetes_api::a_watch_can_begin_with_the_list",
            &[],
            streamed_list,
        )
        .test(
            "kubernetes_api::a_revision_that_is_forgotten_is_gone",
            &[Need::StandIn],
            gone,
        )
        .test(
            "kubernetes_api::what_stops_to_match_is_deleted_for_who_selects",
            &[],
            selected,
        )
        .test("kubernetes_api::pods_are_selected_by_node", &[], by_node)
        .test(
            "kubernetes_api::metadata_alone_can_be_asked_for",
            &[],
            metadata,
        )
        .test(
            "kubernetes_api::a_name_is_taken_once_and_can_be_generated",
            &[],
            names,
        )
        .test(
            "kubernetes_api::what_is_served_can_be_discovered",
            &[],
            discovery,
        )
}

fn names_of(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().into_iter().flatten();
    items
        .map(|item| text(item, "/metadata/name").to_owned())
        .collect()
}

fn pages() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("secrets");
    let secret = |name: String| json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name } });
    for number in 0..7 {
        session
            .post(&path, &secret(format!("s{number}")))?
            .created()?;
    }
    let first = session.get(&format!("{path}?limit=3"))?.ok()?;
    ensure!(first["kind"] == "SecretList", "{}", first["kind"]);
    ensure!(
        first["metadata"]["remainingItemCount"] == 4,
        "{}",
        first["metadata"]
    );
    session.post(&path, &secret("s00".to_owned()))?.created()?;
    session.delete(&format!("{path}/s5"))?.ok()?;
    let mut names = names_of(&first);
    let mut token = text(&first, "/metadata/continue").to_owned();
    while !token.is_empty() {
        let page = session
            .get(&format!("{path}?limit=3&continue={token}"))?
            .ok()?;
        ensure!(
            page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"],
            "every page is of one revision"
        );
        names.extend(names_of(&page));
        token = text(&page, "/metadata/continue").to_owned();
    }
    ensure!(
        names == ["s0", "s1", "s2", "s3", "s4", "s5", "s6"],
        "{names:?}"
    );
    Ok(())
}

fn watch() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("configmaps");
    session
        .post(&path, &config_map("before", json!({})))?
        .created()?;
    let list = session.get(&path)?.ok()?;
    let from = text(&list, "/metadata/resourceVersion");
    session
        .post(&path, &config_map("a", json!({ "x": "1" })))?
        .created()?;
    let changed = session
        .merge(&format!("{path}/a"), &json!({ "data": { "x": "2" } }))?
        .ok()?;
    session.delete(&format!("{path}/a"))?.ok()?;
    let mut watch = session.watch(&format!("{path}?watch=1&resourceVersion={from}"))?;
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        ensure!(
            watch.expect()? == (kind.to_owned(), "a".to_owned()),
            "{kind}"
        );
    }
    let from = text(&changed, "/metadata/resourceVersion");
    let mut later = session.watch(&format!("{path}?watch=1&resourceVersion={from}"))?;
    let (kind, object) = later.event()?.context("the watch goes on")?;
    ensure!(
        kind == "DELETED" && object["data"]["x"] == "2",
        "{kind} {object}"
    );
    let revision = |object: &Value| text(object, "/metadata/resourceVersion").parse::<u64>();
    ensure!(
        revision(&object)? > revision(&changed)?,
        "a deletion has a revision of its own"
    );
    Ok(())
}

fn streamed_list() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("secrets");
    for name in ["a", "b"] {
        session
            .post(&path, &json!({ "metadata": { "name": name } }))?
            .created()?;
    }
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = session.watch(&format!("{path}?{query}"))?;
    let mut added = BTreeSet::new();
    for _ in 0..2 {
        let (kind, object) = watch.event()?.context("the watch goes on")?;
        ensure!(kind == "ADDED", "{kind}");
        added.insert(text(&object, "/metadata/name").to_owned());
    }
    ensure!(
        added == BTreeSet::from(["a".to_owned(), "b".to_owned()]),
        "{added:?}"
    );
    let (kind, object) = watch.event()?.context("the watch goes on")?;
    let is_end = object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
    ensure!(kind == "BOOKMARK" && is_end, "{kind} {object}");
    session.delete(&format!("{path}/a"))?.ok()?;
    ensure!(
        watch.expect()? == ("DELETED".to_owned(), "a".to_owned()),
        "the watch goes on"
    );
    let wrong = session.get(&format!("{path}?watch=1&sendInitialEvents=true"))?;
    wrong.refused(422, "Invalid")?;
    Ok(())
}

fn gone() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("configmaps");
    session
        .post(&path, &config_map("a", json!({})))?
        .created()?;
    session.stand_in().context("history can be cut")?.compact();
    let mut watch = session.watch(&format!("{path}?watch=1&resourceVersion=1"))?;
    let (kind, object) = watch.event()?.context("there is an event")?;
    ensure!(kind == "ERROR" && object["code"] == 410, "{kind} {object}");
    ensure!(object["reason"] == "Expired", "{object}");
    ensure!(watch.event()?.is_none(), "the watch is over");
    Ok(())
}

fn selected() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("configmaps");
    let from = session.post(&path, &labelled("first", "web"))?.created()?;
    let from = text(&from, "/metadata/resourceVersion");
    let selector = "labelSelector=app%3Dweb";
    let mut watch = session.watch(&format!("{path}?watch=1&resourceVersion={from}&{selector}"))?;
    session.post(&path, &labelled("a", "other"))?.created()?;
    let relabel = |app: &str| {
        session.merge(
            &format!("{path}/a"),
            &json!({ "metadata": { "labels": { "app": app } } }),
        )
    };
    for (app, event) in [("web", "ADDED"), ("other", "DELETED"), ("web", "ADDED")] {
        relabel(app)?.ok()?;
        ensure!(
            watch.expect()? == (event.to_owned(), "a".to_owned()),
            "{app}: {event}"
        );
    }
    let list = session.get(&format!("{path}?{selector}"))?.ok()?;
    ensure!(names_of(&list) == ["a", "first"], "{:?}", names_of(&list));
    let by_name = session
        .get(&format!("{path}?fieldSelector=metadata.name%3Da"))?
        .ok()?;
    ensure!(names_of(&by_name) == ["a"], "{:?}", names_of(&by_name));
    session
        .get(&format!("{path}?fieldSelector=data.x%3Da"))?
        .refused(400, "BadRequest")?;
    Ok(())
}

fn by_node() -> anyhow::Result<()> {
    let session = Session::open()?;
    let accounts = session.core("serviceaccounts");
    let account = json!({ "metadata": { "name": "app" } });
    session.post(&accounts, &account)?.created()?;
    let path = session.core("pods");
    for (name, node) in [("a", "one"), ("b", "two")] {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name },
            "spec": { "nodeName": node, "serviceAccountName": "app", "containers": [{ "name": "app", "image": "app" }] },
        });
        session.post(&path, &pod)?.created()?;
    }
    let list = session
        .get(&format!("{path}?fieldSelector=spec.nodeName%3Dtwo"))?
        .ok()?;
    ensure!(names_of(&list) == ["b"], "{:?}", names_of(&list));
    Ok(())
}

fn metadata() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("configmaps");
    session
        .post(&path, &config_map("a", json!({ "x": "1" })))?
        .created()?;
    let list = session.get_as(
        &path,
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )?;
    let list = list.ok()?;
    ensure!(
        list["kind"] == "PartialObjectMetadataList",
        "{}",
        list["kind"]
    );
    let items = list["items"].as_array().context("a list has items")?;
    let item = items
        .iter()
        .find(|item| text(item, "/metadata/name") == "a");
    ensure!(item.is_some_and(|item| item["data"].is_null()), "{item:?}");
    Ok(())
}

fn names() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("configmaps");
    session
        .post(&path, &config_map("a", json!({})))?
        .created()?;
    let taken = session.post(&path, &config_map("a", json!({})))?;
    let message = taken.refused(409, "AlreadyExists")?;
    ensure!(message == "configmaps \"a\" already exists", "{message}");
    let generated = json!({ "metadata": { "generateName": "gen-" } });
    let generated = session.post(&path, &generated)?.created()?;
    let name = text(&generated, "/metadata/name");
    ensure!(name.len() == 9 && name.starts_with("gen-"), "{name}");
    ensure!(!text(&generated, "/metadata/uid").is_empty(), "{generated}");
    session
        .post(&path, &config_map("Not-A-Name", json!({})))?
        .refused(422, "Invalid")?;
    let message = session
        .get(&format!("{path}/b"))?
        .refused(404, "NotFound")?;
    ensure!(message == "configmaps \"b\" not found", "{message}");
    Ok(())
}

fn discovery() -> anyhow::Result<()> {
    let session = Session::open()?;
    let resources = session.get("/apis/coordination.k8s.io/v1")?.ok()?;
    let leases = resources["resources"].as_array().into_iter().flatten();
    let mut leases = leases.filter(|resource| resource["name"] == "leases");
    let leases = leases.next().context("leases are served")?;
    ensure!(
        leases["namespaced"] == true && leases["kind"] == "Lease",
        "{leases}"
    );
    let groups = session.get("/apis")?.ok()?;
    let names = groups["groups"].as_array().into_iter().flatten();
    ensure!(
        names.into_iter().any(|group| group["name"] == "apps"),
        "{groups}"
    );
    ensure!(session.get("/version")?.ok()?["major"] == "1", "a version");
    session.get("/apis/no.such.group/v1/things")?;
    Ok(())
}

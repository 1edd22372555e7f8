use super::*;
use crate::{
    fixture::world,
    world::{Kind, ObjectKey, ObjectRef, World},
    xds::Refusal,
};

/// A service of the demo, and one of another namespace.
const AROUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: user, namespace: lab}
spec: {ports: [{name: http, port: 80}]}
";

fn subject(spoken: Spoken, yaml: &str) -> Subject {
    Subject::read(spoken, serde_saphyr::from_str(yaml).unwrap()).unwrap()
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p, namespace: demo, uid: u, resourceVersion: '1', generation: 3}}\nspec: {spec}\n"
    )
}

fn route(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: demo}}\nspec: {spec}\n"
    )
}

/// What is said, a line for each condition.
fn said(spoken: Spoken, yaml: &str, others: &str, progress: &Progress) -> Vec<String> {
    let subject = subject(spoken, yaml);
    let world = match &subject.verdict {
        Told::Good(_) => world(&format!("{AROUND}---\n{yaml}{others}")),
        _ => World::new("cluster.local"),
    };
    let object = ObjectRef {
        kind: spoken.in_world(),
        key: subject.key.clone(),
    };
    let findings: Vec<_> = world
        .findings()
        .into_iter()
        .filter(|finding| finding.object == object)
        .collect();
    let lines = |entry: Entry| {
        let of = entry.reference.map(|reference| reference.name);
        let of = of.unwrap_or_default();
        entry.statements.into_iter().map(move |statement| {
            let Statement {
                ty,
                truth,
                reason,
                message,
            } = statement;
            format!("{of} {ty}={truth:?} {reason}: {message}")
        })
    };
    let entries = report(&subject, &findings, progress);
    entries.into_iter().flat_map(lines).collect()
}

fn all(count: usize) -> Progress {
    Progress {
        concerned: count,
        acked: count,
        refusals: Vec::new(),
    }
}

#[test]
fn a_policy_in_force_says_how_many_proxies_have_it() {
    let yaml = policy("{targetRefs: [{kind: Service, name: user}], timeout: {request: 1s}}");
    assert_eq!(
        said(Spoken::TrafficPolicy, &yaml, "", &all(37)),
        [
            "user Accepted=True Accepted: ",
            "user ResolvedRefs=True ResolvedRefs: ",
            "user Programmed=True Programmed: 37/37 proxies",
        ]
    );
}

#[test]
fn proxies_that_are_behind_or_refuse_are_told_of() {
    let yaml = policy("{targetRefs: [{kind: Service, name: user}]}");
    let programmed = |acked, refusals: &[&str]| {
        let refusal = |node: &&str| Refusal {
            node: (*node).to_owned(),
            message: "lb_policy: no".to_owned(),
        };
        let progress = Progress {
            concerned: 9,
            acked,
            refusals: refusals.iter().map(refusal).collect(),
        };
        said(Spoken::TrafficPolicy, &yaml, "", &progress)
            .pop()
            .unwrap()
    };
    assert_eq!(
        programmed(8, &[]),
        "user Programmed=False Pending: 8/9 proxies"
    );
    assert_eq!(
        programmed(8, &["demo/a"]),
        "user Programmed=False Refused: 8/9 proxies; refused by demo/a: lb_policy: no"
    );
    assert!(programmed(4, &["a", "b", "c", "d", "e"]).ends_with("; and by 2 more"));
}

#[test]
fn each_target_has_its_own_verdict() {
    let yaml = policy(
        "{targetRefs: [{kind: Service, name: nobody}, {kind: Service, name: user}, {kind: Service, name: user, sectionName: web}]}",
    );
    let older = "---\napiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a, namespace: demo, creationTimestamp: '2020-01-01T00:00:00Z'}\nspec: {targetRefs: [{kind: Service, name: user}]}\n";
    let found = said(Spoken::TrafficPolicy, &yaml, older, &all(2));
    let starts = [
        "nobody Accepted=False TargetNotFound: spec.targetRefs[0].name: there is no Service demo/nobody",
        "nobody ResolvedRefs=True",
        "nobody Programmed=False Invalid",
        "user Accepted=False Conflicted: spec.targetRefs[1]: is the target of TrafficPolicy demo/a, too",
        "user ResolvedRefs=True",
        "user Programmed=False Invalid",
        "user Accepted=False TargetNotFound: spec.targetRefs[2].sectionName: ",
        "user ResolvedRefs=True",
        "user Programmed=False Invalid",
    ];
    assert_eq!(found.len(), starts.len());
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}");
    }
}

#[test]
fn a_refused_policy_names_the_field() {
    let yaml = policy("{targetRefs: [{kind: Service, name: user}], fault: {}}");
    assert_eq!(
        said(Spoken::TrafficPolicy, &yaml, "", &Progress::default()),
        [
            "user Accepted=False Invalid: spec.fault: does nothing; write delay or abort",
            "user Programmed=False Invalid: not as it is written; see Accepted",
        ]
    );
}

#[test]
fn a_policy_whose_targets_cannot_be_read_is_spoken_of_itself() {
    let yaml = policy("{fault: {}}");
    let found = said(Spoken::TrafficPolicy, &yaml, "", &Progress::default());
    assert_eq!(
        found[0],
        "p Accepted=False Invalid: spec.targetRefs: is missing; write a list"
    );
}

#[test]
fn a_route_tells_of_backends_that_are_missing_or_not_permitted() {
    let parent = "parentRefs: [{group: '', kind: Service, name: user, port: 80}, {name: gateway}]";
    let backend = |reference: &str| {
        let yaml = route(&format!(
            "{{{parent}, rules: [{{backendRefs: [{reference}]}}]}}"
        ));
        said(Spoken::HttpRoute, &yaml, "", &all(1))
    };
    let missing = backend("{name: nobody, port: 80}");
    assert_eq!(missing.len(), 3, "the gateway is none of Weft's business");
    assert_eq!(missing[0], "user Accepted=True Accepted: ");
    assert!(
        missing[1].starts_with(
            "user ResolvedRefs=False BackendNotFound: spec.rules[0].backendRefs[0]: there is no Service demo/nobody"
        ),
        "{missing:?}"
    );
    let foreign = backend("{name: user, namespace: lab, port: 80}");
    assert!(
        foreign[1].starts_with("user ResolvedRefs=False RefNotPermitted: "),
        "{foreign:?}"
    );
    let kind = backend("{name: user, kind: Bucket, port: 80}");
    assert!(
        kind[0].starts_with("user Accepted=False UnsupportedValue: "),
        "{kind:?}"
    );
    assert!(
        kind[1].starts_with("user ResolvedRefs=False InvalidKind: "),
        "{kind:?}"
    );
}

#[test]
fn a_route_whose_parent_is_not_there_is_not_accepted() {
    let yaml = route(
        "{parentRefs: [{group: '', kind: Service, name: nobody}], rules: [{backendRefs: [{name: user, port: 80}]}]}",
    );
    let found = said(Spoken::HttpRoute, &yaml, "", &all(0));
    assert!(
        found[0].starts_with("nobody Accepted=False NoMatchingParent: spec.parentRefs[0].name: "),
        "{found:?}"
    );
}

#[test]
fn nothing_is_said_of_a_route_that_is_for_gateways_only() {
    let yaml = route("{parentRefs: [{name: gateway}]}");
    assert_eq!(said(Spoken::HttpRoute, &yaml, "", &all(1)), [""; 0]);
}

#[test]
fn the_settings_of_the_mesh_say_how_many_proxies_have_them() {
    let yaml = "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {mtls: {mode: Strict}}\n";
    assert_eq!(
        said(Spoken::MeshConfig, yaml, "", &all(5)),
        [
            " Accepted=True Accepted: ",
            " Programmed=True Programmed: 5/5 proxies",
        ]
    );
    let finding = Finding {
        object: ObjectRef {
            kind: Kind::Mesh,
            key: ObjectKey::of_cluster("default"),
        },
        field: "spec".to_owned(),
        reason: "of no target".to_owned(),
        cause: Cause::NoTarget,
    };
    let subject = subject(Spoken::MeshConfig, yaml);
    assert_eq!(
        report(&subject, &[finding], &all(5)),
        report(&subject, &[], &all(5))
    );
}

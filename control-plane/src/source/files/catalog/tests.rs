use super::*;
use crate::world::{Change, MtlsMode, ObjectKey, World};
use std::time::Instant;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {ports: [{port: 80}]}
";

/// A catalog and the world that its updates make.
struct Files {
    catalog: Catalog,
    world: World,
}

impl Files {
    fn new() -> Self {
        Self {
            catalog: Catalog::new("cluster.local".into()),
            world: World::new("cluster.local"),
        }
    }

    /// Sets a file, and gives the problems of all files that may have others now.
    fn set(&mut self, path: &str, content: &str) -> Vec<String> {
        self.change(|catalog, applied| {
            let read = catalog.read(path.as_ref(), content.as_bytes());
            catalog.set(path.as_ref(), read, applied);
        })
    }

    fn remove(&mut self, path: &str) -> Vec<String> {
        self.change(|catalog, applied| catalog.remove(path.as_ref(), applied))
    }

    fn change(&mut self, change: impl FnOnce(&mut Catalog, &mut Applied)) -> Vec<String> {
        let mut applied = Applied::default();
        change(&mut self.catalog, &mut applied);
        let mut noted = Change::none(Instant::now());
        for update in applied.updates {
            self.world.apply(update, &mut noted);
        }
        let problems = applied
            .files
            .iter()
            .flat_map(|file| self.catalog.problems(file));
        problems.map(|problem| problem.to_string()).collect()
    }

    fn port(&self) -> Option<u16> {
        let service = self.world.service(&ObjectKey::new("demo", "user"))?;
        Some(service.ports[0].port)
    }

    fn mode(&self, pod: &str) -> Option<MtlsMode> {
        let workload = self.world.workload(&ObjectKey::new("demo", pod))?;
        Some(self.world.mtls_mode(workload, None))
    }
}

#[test]
fn a_bad_object_is_told_by_document_name_and_field_and_its_last_good_version_stays() {
    let mut files = Files::new();
    files.set("a.yaml", SERVICE);
    let other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n---\n";
    let bad = format!("{other}{}", SERVICE.replace("80", "80000"));
    assert_eq!(
        files.set("a.yaml", &bad),
        [
            "a.yaml, document 2, Service demo/user, spec.ports[0].port: 80000 is not a port; write 1 to \
             65535; its last good version stays in force"
        ]
    );
    assert_eq!(files.port(), Some(80));
    assert_eq!(files.set("a.yaml", SERVICE), Vec::<String>::new());
}

#[test]
fn a_bad_object_that_was_never_good_is_not_in_force() {
    let mut files = Files::new();
    let problems = files.set("a.yaml", &SERVICE.replace("80", "eighty"));
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0]
            .starts_with("a.yaml, document 1, Service demo/user, spec.ports[0].port: invalid type")
            && problems[0].ends_with("not in force until it is mended"),
        "{problems:?}"
    );
    assert_eq!(files.port(), None);
}

#[test]
fn unknown_kinds_are_told_by_name_and_their_siblings_are_read() {
    let mut files = Files::new();
    let unknown =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: user, namespace: demo}\n---\n";
    assert_eq!(
        files.set("a.yaml", &format!("{unknown}{SERVICE}")),
        [
            "a.yaml, document 1, Deployment demo/user: Deployment (apps/v1) is not a kind that Weft reads; it is ignored"
        ]
    );
    assert_eq!(files.port(), Some(80));
}

#[test]
fn of_two_files_with_the_same_object_the_first_by_name_counts() {
    let mut files = Files::new();
    files.set("b.yaml", &SERVICE.replace("80", "82"));
    assert_eq!(
        files.set("a.yaml", &SERVICE.replace("80", "81")),
        [
            "b.yaml, document 1, Service demo/user: is in a.yaml, too, which counts as it is first by name; \
             remove one of them"
        ]
    );
    assert_eq!(files.port(), Some(81));
    assert_eq!(files.remove("a.yaml"), Vec::<String>::new());
    assert_eq!(files.port(), Some(82));
    files.remove("b.yaml");
    assert_eq!(files.port(), None);
}

#[test]
fn of_two_objects_of_the_same_name_in_a_file_the_first_counts() {
    let mut files = Files::new();
    let twice = format!("{SERVICE}---\n{}", SERVICE.replace("80", "81"));
    let problems = files.set("a.yaml", &twice);
    assert_eq!(
        problems,
        ["a.yaml, document 2, Service demo/user: stands in this file before; remove one of them"]
    );
    assert_eq!(files.port(), Some(80));
}

#[test]
fn an_object_without_a_name_may_be_any_of_the_file() {
    let mut files = Files::new();
    files.set("a.yaml", SERVICE);
    let problems = files.set("a.yaml", "apiVersion: v1\nkind: Service\n");
    assert_eq!(
        problems,
        [
            "a.yaml, document 1, Service, metadata.name: is missing; objects that the file held before stay as they were"
        ]
    );
    assert_eq!(files.port(), Some(80));
}

#[test]
fn a_list_is_its_items() {
    let mut files = Files::new();
    let item = SERVICE.replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}");
    assert_eq!(files.set("a.yaml", &list), Vec::<String>::new());
    assert_eq!(files.port(), Some(80));
}

#[test]
fn documents_that_did_not_change_are_told_by_their_new_place() {
    let mut files = Files::new();
    let other = SERVICE.replace("name: user", "name: other");
    files.set("a.yaml", &format!("{SERVICE}---\n{other}"));
    let twice =
        "a.yaml, document 3, Service demo/user: stands in this file before; remove one of them";
    assert_eq!(
        files.set("a.yaml", &format!("{other}---\n{SERVICE}---\n{SERVICE}")),
        [twice]
    );
    let first = files.set("0.yaml", &other);
    let shadowed = "a.yaml, document 1, Service demo/other: is in 0.yaml, too, which counts as it is first by name; remove one of them";
    assert!(first.iter().any(|problem| problem == shadowed), "{first:?}");
    assert_eq!(files.port(), Some(80));
}

#[test]
fn a_document_that_comes_back_is_in_force_again() {
    let mut files = Files::new();
    files.set("a.yaml", SERVICE);
    files.set("a.yaml", &SERVICE.replace("80", "81"));
    assert_eq!(files.port(), Some(81));
    assert_eq!(
        files.set("a.yaml", &SERVICE.replace("80", "eighty")).len(),
        1
    );
    assert_eq!(files.port(), Some(81));
    assert_eq!(files.set("a.yaml", SERVICE), Vec::<String>::new());
    assert_eq!(files.port(), Some(80));
}

#[test]
fn an_object_that_became_external_is_gone_even_beside_a_broken_document() {
    let mut files = Files::new();
    files.set("a.yaml", SERVICE);
    let spec = "spec: {type: ExternalName, externalName: db.example}";
    let external = SERVICE.replace("spec: {ports: [{port: 80}]}", spec);
    files.set("a.yaml", &format!("{external}---\n[\n"));
    assert_eq!(files.port(), None);
}

#[test]
fn a_malformed_mode_that_was_never_good_is_strict() {
    let mut files = Files::new();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: user-0, namespace: demo}\nspec: {containers: []}\n";
    files.set("pod.yaml", pod);
    assert_eq!(files.mode("user-0"), Some(MtlsMode::Permissive));
    for (name, bad) in [
        (
            "namespace.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo, annotations: {weft.dev/mtls-mode: strict}}\n",
        ),
        (
            "namespace.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: demo, annotations: {weft.dev/mtls-mod: Strict}}\n",
        ),
        (
            "mesh.yaml",
            "apiVersion: weft.dev/v1alpha1\nkind: MeshConfig\nmetadata: {name: default}\nspec: {mtls: {mode: Stict}}\n",
        ),
    ] {
        for _ in 0..2 {
            let problems = files.set(name, bad);
            assert!(
                problems[0].ends_with("until it is mended, mTLS is Strict there"),
                "{problems:?}"
            );
            assert_eq!(files.mode("user-0"), Some(MtlsMode::Strict), "{bad}");
        }
        files.remove(name);
        assert_eq!(files.mode("user-0"), Some(MtlsMode::Permissive));
    }
}

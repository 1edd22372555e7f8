use super::*;
use crate::world::{Changes, ObjectKey, Service, World};
use std::{os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

/// A running source over a directory of its own.
struct Harness {
    directory: TempDir,
    store: Arc<Store>,
    changes: Changes,
    problems: Problems,
    _source: Source,
}

impl Harness {
    async fn start(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            write(directory.path(), name, content);
        }
        let store = Store::new(World::new("cluster.local"));
        let problems = Problems::new();
        let settings = Settings {
            directory: directory.path().to_owned(),
            trust_domain: "cluster.local".into(),
        };
        let source = start(settings, store.clone(), problems.clone()).unwrap();
        store.synced().await;
        Self {
            changes: store.follow(),
            directory,
            store,
            problems,
            _source: source,
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ports(&self, service: &str) -> Option<Vec<u16>> {
        ports(&self.store.current(), service)
    }

    /// Waits until the world satisfies a condition, change by change.
    async fn until(&mut self, condition: impl Fn(&World) -> bool) {
        let wait = async {
            while !condition(self.changes.seen()) {
                self.changes.next().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .is_err()
        {
            panic!("it did not come; problems: {:#?}", self.problems.list());
        }
    }

    /// Waits until the source has dealt with everything written before.
    async fn settled(&mut self) {
        write(self.path(), "zz-settled.yaml", &service("settled", 1));
        self.until(|world| ports(world, "settled").is_some()).await;
        fs::remove_file(self.path().join("zz-settled.yaml")).unwrap();
        self.until(|world| ports(world, "settled").is_none()).await;
    }

    fn problem_texts(&self) -> Vec<String> {
        let prefix = format!("{}/", self.path().display());
        let problems = self.problems.list();
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }
}

fn write(directory: &Path, name: &str, content: &str) {
    fs::write(directory.join(name), content).unwrap();
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

fn ports(world: &World, service: &str) -> Option<Vec<u16>> {
    let service: &Arc<Service> = world.service(&ObjectKey::new("demo", service))?;
    Some(service.ports.iter().map(|port| port.port).collect())
}

#[tokio::test]
async fn what_is_there_at_the_start_is_in_the_world_when_it_is_synced() {
    let harness = Harness::start(&[
        ("a.yaml", &service("a", 80)),
        ("b.json", r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b", "namespace": "demo"}, "spec": {"ports": [{"port": 81}]}}"#),
        (".hidden.yaml", &service("hidden", 80)),
        ("notes.txt", "not an object"),
    ])
    .await;
    assert_eq!(harness.ports("a"), Some(vec![80]));
    assert_eq!(harness.ports("b"), Some(vec![81]));
    assert_eq!(harness.ports("hidden"), None);
    assert_eq!(harness.problem_texts(), Vec::<String>::new());
}

#[tokio::test]
async fn a_change_in_place_a_new_file_and_a_deleted_one_are_followed() {
    let mut harness = Harness::start(&[("a.yaml", &service("a", 80))]).await;
    write(harness.path(), "a.yaml", &service("a", 81));
    harness
        .until(|world| ports(world, "a") == Some(vec![81]))
        .await;
    write(harness.path(), "b.yml", &service("b", 80));
    harness.until(|world| ports(world, "b").is_some()).await;
    fs::remove_file(harness.path().join("a.yaml")).unwrap();
    harness.until(|world| ports(world, "a").is_none()).await;
    assert!(harness.ports("b").is_some());
}

#[tokio::test]
async fn a_file_renamed_over_another_replaces_it() {
    let mut harness = Harness::start(&[("a.yaml", &service("a", 80))]).await;
    for temporary in ["a.yaml.tmp", ".a.yaml.swp", "next.yaml"] {
        let port = u16::try_from(temporary.len()).unwrap();
        write(harness.path(), temporary, &service("a", port));
        fs::rename(
            harness.path().join(temporary),
            harness.path().join("a.yaml"),
        )
        .unwrap();
        harness
            .until(|world| ports(world, "a") == Some(vec![port]))
            .await;
    }
    harness.settled().await;
    assert_eq!(harness.problem_texts(), Vec::<String>::new());
}

#[tokio::test]
async fn a_renamed_file_never_leaves_the_world() {
    let mut harness = Harness::start(&[("a.yaml", &service("a", 80))]).await;
    for _ in 0..20 {
        fs::rename(harness.path().join("a.yaml"), harness.path().join("b.yaml")).unwrap();
        fs::rename(harness.path().join("b.yaml"), harness.path().join("a.yaml")).unwrap();
    }
    write(harness.path(), "z.yaml", &service("z", 80));
    while ports(harness.changes.seen(), "z").is_none() {
        let published = harness.changes.next().await;
        assert!(ports(&published.new, "a").is_some());
    }
}

#[tokio::test]
async fn directories_below_are_followed_as_they_come_and_go() {
    let mut harness = Harness::start(&[]).await;
    let below = harness.path().join("team/one");
    fs::create_dir_all(&below).unwrap();
    write(&below, "a.yaml", &service("a", 80));
    harness
        .until(|world| ports(world, "a") == Some(vec![80]))
        .await;
    write(&below, "a.yaml", &service("a", 81));
    harness
        .until(|world| ports(world, "a") == Some(vec![81]))
        .await;
    fs::remove_dir_all(harness.path().join("team")).unwrap();
    harness.until(|world| ports(world, "a").is_none()).await;
}

#[tokio::test]
async fn a_configmap_is_followed_when_its_link_is_swapped() {
    let mut harness = Harness::start(&[]).await;
    let root = harness.path().to_owned();
    let version = |name: &str, port| {
        fs::create_dir(root.join(name)).unwrap();
        write(&root.join(name), "a.yaml", &service("a", port));
        symlink(name, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    version("..2026_1", 80);
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    harness
        .until(|world| ports(world, "a") == Some(vec![80]))
        .await;
    version("..2026_2", 81);
    fs::remove_dir_all(root.join("..2026_1")).unwrap();
    harness
        .until(|world| ports(world, "a") == Some(vec![81]))
        .await;
}

#[tokio::test]
async fn truncated_yaml_keeps_the_last_good_version_of_all_objects_until_it_is_mended() {
    let whole = [service("a", 80), service("b", 80), service("c", 80)].join("---\n");
    let mut harness = Harness::start(&[("all.yaml", &whole)]).await;
    let middle_of_b = whole.find("name: b").unwrap() + "name: b".len();
    for end in [0, 1, 20, middle_of_b] {
        write(harness.path(), "all.yaml", &whole[..end]);
        harness.settled().await;
        for name in ["a", "b", "c"] {
            assert_eq!(harness.ports(name), Some(vec![80]), "{name}, {end} bytes");
        }
        let problems = harness.problem_texts();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("as they were"), "{problems:?}");
    }
    write(harness.path(), "all.yaml", &service("c", 81));
    harness
        .until(|world| ports(world, "c") == Some(vec![81]))
        .await;
    harness.settled().await;
    assert_eq!((harness.ports("a"), harness.ports("b")), (None, None));
    assert_eq!(harness.problem_texts(), Vec::<String>::new());
}

#[test]
fn a_directory_that_does_not_exist_is_refused_at_the_start() {
    let settings = Settings {
        directory: tempfile::tempdir().unwrap().path().join("missing"),
        trust_domain: "cluster.local".into(),
    };
    let store = Store::new(World::new("cluster.local"));
    let error = start(settings, store, Problems::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("missing: ") && error.contains("create it"),
        "{error}"
    );
}

#[test]
fn a_directory_that_goes_away_takes_nothing_with_it() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("mesh");
    fs::create_dir(&root).unwrap();
    write(&root, "a.yaml", &service("a", 80));
    let watcher = notify::recommended_watcher(|_| {}).unwrap();
    let mut directory = Directory::new(root.clone(), watcher);
    let first = directory.look(&Hints::everything());
    assert_eq!(first.changed, [root.join("a.yaml")].into());
    fs::rename(&root, above.path().join("elsewhere")).unwrap();
    let found = directory.look(&Hints::everything());
    assert_eq!(
        (found.changed, found.gone),
        (BTreeSet::new(), BTreeSet::new())
    );
    assert!(
        found.troubled[&root].contains("stay as they were"),
        "{:?}",
        found.troubled
    );
    fs::rename(above.path().join("elsewhere"), &root).unwrap();
    fs::remove_file(root.join("a.yaml")).unwrap();
    let back = directory.look(&Hints::everything());
    assert_eq!(
        (back.gone, back.troubled.len()),
        ([root.join("a.yaml")].into(), 0)
    );
}

#[tokio::test]
async fn what_contradicts_another_file_is_a_problem_until_one_of_them_changes() {
    let policy = |name: &str| {
        format!(
            "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  targetRefs: [{{kind: Service, name: user}}]\n"
        )
    };
    let mut harness = Harness::start(&[("a.yaml", &policy("a"))]).await;
    assert_eq!(
        harness.problem_texts(),
        [
            "a.yaml, document 1, TrafficPolicy demo/a, spec.targetRefs[0].name: there is no Service demo/user; the policy is not in force there until there is: mend the name, or remove the target"
        ]
    );
    write(harness.path(), "user.yaml", &service("user", 80));
    harness.settled().await;
    assert_eq!(harness.problem_texts(), [""; 0]);
    let rival = |document: usize| {
        format!(
            "b.yaml, document {document}, TrafficPolicy demo/b, spec.targetRefs[0]: is the target of TrafficPolicy demo/a, too, which counts there as it is the older or, of the same age, first by name; make the two one, or remove the target from one of them"
        )
    };
    write(harness.path(), "b.yaml", &policy("b"));
    harness.settled().await;
    assert_eq!(harness.problem_texts(), [rival(1)]);
    let behind_another = format!("{}---\n{}", service("other", 80), policy("b"));
    write(harness.path(), "b.yaml", &behind_another);
    harness.settled().await;
    assert_eq!(harness.problem_texts(), [rival(2)]);
    fs::remove_file(harness.path().join("a.yaml")).unwrap();
    harness.settled().await;
    assert_eq!(harness.problem_texts(), [""; 0]);
}

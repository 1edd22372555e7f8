//! The files under `examples/` are what they claim to be.

use super::{Verdict, object};
use crate::{
    fixture::{apply, objects},
    world::{Update, World},
};
use std::{collections::BTreeSet, fs, path::PathBuf};

/// What the examples take to be there.
const AROUND: &str = "
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: user-v1, namespace: demo}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: user-v2, namespace: demo}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: user, namespace: lab}
spec: {ports: [{name: http, port: 80}]}
";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// By file name.
fn examples() -> Vec<(String, String)> {
    let mut examples: Vec<_> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    examples.sort();
    examples
}

#[test]
fn every_example_is_accepted_and_in_force_as_it_stands() {
    for (name, text) in examples() {
        for document in text.split("---\n") {
            let outcome = object(serde_saphyr::from_str(document).unwrap(), "cluster.local");
            let accepted = matches!(outcome.verdict, Verdict::Accepted(_));
            assert!(accepted, "{name}, {}: {:?}", outcome.name, outcome.verdict);
        }
        let mut world = World::new("cluster.local");
        for yaml in [AROUND, &text] {
            apply(&mut world, objects(yaml).into_iter().map(Update::Set));
        }
        assert_eq!(world.findings(), [], "{name}");
    }
}

#[test]
fn every_example_is_listed_and_every_listed_one_is_there() {
    let readme = fs::read_to_string(directory().join("README.md")).unwrap();
    let listed: BTreeSet<_> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|file| file.ends_with(".yaml"))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<_> = examples().into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, there);
}

use super::*;
use crate::tls::{
    Identity, rotation,
    testing::{self, TestCa},
};
use std::sync::Arc;

const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";

fn write(directory: &Path, files: &testing::Files) {
    std::fs::write(directory.join(CHAIN), &files.chain).unwrap();
    std::fs::write(directory.join(KEY), &files.key).unwrap();
    std::fs::write(directory.join(ROOTS), &files.root).unwrap();
}

#[tokio::test(start_paused = true)]
async fn files_are_read_again_when_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let ca = TestCa::root("mesh");
    write(directory.path(), &ca.files(USER));
    let identity = Identity::new();
    let source = Files::new(directory.path().to_owned());
    tokio::spawn(rotation::run(
        source,
        identity.clone(),
        Arc::new(SystemTime::now),
    ));
    assert_eq!(identity.ready().await.id.as_str(), USER);

    let mut changes = identity.changes();
    let order = "spiffe://cluster.local/ns/demo/sa/order";
    write(directory.path(), &ca.files(order));
    changes.changed().await.unwrap();
    assert_eq!(identity.current().unwrap().id.as_str(), order);
}

#[tokio::test]
async fn a_file_that_is_missing_or_not_pem_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = Files::new(directory.path().to_owned());
    let error = source.obtain().await.unwrap_err().to_string();
    assert!(error.contains("key.pem: No such file"), "{error}");

    let files = testing::Files {
        key: "no key".to_owned(),
        ..TestCa::root("mesh").files(USER)
    };
    write(directory.path(), &files);
    let error = source.obtain().await.unwrap_err().to_string();
    assert!(error.contains("key.pem: "), "{error}");
}

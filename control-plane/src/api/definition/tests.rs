use super::*;
use std::{fs, path::Path};

#[test]
fn the_committed_definitions_are_what_the_types_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/weft/crd-bases");
    for (name, definition) in definitions() {
        let path = directory.join(format!("{name}.yaml"));
        let fresh = document(&definition).unwrap();
        if std::env::var_os("WEFT_UPDATE").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &fresh).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "charts/weft/crd-bases/{name}.yaml differs from what the types say; run: make generate"
        );
        let read: Value = serde_saphyr::from_str(&committed).unwrap();
        assert_eq!(read, definition);
    }
}

//! The generated code under `src/generated` is what the protos under `proto` say.
//!
//! `WEFT_UPDATE=1 cargo test -p weft-xds-proto --test generated` regenerates it. A build script would
//! make every build of the workspace pay for the protobuf compiler.

use std::{collections::BTreeMap, error::Error, fs, path::Path};

const PROTOS: [&str; 6] = [
    "istio/v1/auth/ca.proto",
    "weft/v1/breaker.proto",
    "weft/v1/limits.proto",
    "weft/v1/load_balancing.proto",
    "weft/v1/metadata.proto",
    "weft/v1/retry.proto",
];

#[test]
fn generated_code_matches_the_protos() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated");
    let fresh = tempfile::tempdir()?;
    generate(&root.join("proto"), fresh.path())?;
    let fresh = read_sources(fresh.path())?;

    if std::env::var_os("WEFT_UPDATE").is_some() {
        for (name, source) in &fresh {
            fs::write(committed.join(name), source)?;
        }
    }
    assert!(
        read_sources(&committed)? == fresh,
        "src/generated differs from what proto/ generates; \
         run: WEFT_UPDATE=1 cargo test -p weft-xds-proto --test generated"
    );
    Ok(())
}

fn generate(protos: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(PROTOS, [protos])?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        .out_dir(out)
        // One set of well-known types in the whole program: those of envoy-types, not prost-types.
        .compile_well_known_types(true)
        .extern_path(".google.protobuf", "crate::envoy::google::protobuf")
        .extern_path(".envoy", "crate::envoy::envoy")
        // Connections are made by each end over its own TLS, not by tonic.
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn read_sources(dir: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut sources = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .expect("an entry of a directory has a name");
        sources.insert(
            name.to_string_lossy().into_owned(),
            fs::read_to_string(&path)?,
        );
    }
    Ok(sources)
}

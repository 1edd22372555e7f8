//! What is served: groups, versions and resources, for clients that look before they ask.

use super::resource::Registry;
use serde_json::{Value, json};

/// The version that is spoken, as far as it goes.
const MINOR: &str = "36";

/// The answer to a path of discovery, unless it is none.
pub(super) fn answer(registry: &Registry, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(json!({
            "major": "1",
            "minor": MINOR,
            "gitVersion": format!("v1.{MINOR}.0+weft-stand-in"),
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        })),
        ["api"] => Some(
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ),
        ["apis"] => {
            let groups = registry.groups();
            let groups: Vec<Value> = groups
                .iter()
                .map(|(name, versions)| group(name, versions))
                .collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["apis", name] => {
            let groups = registry.groups();
            let mut answer = group(name, groups.get(name)?);
            answer["kind"] = json!("APIGroup");
            answer["apiVersion"] = json!("v1");
            Some(answer)
        }
        ["api", version] => resources(registry, "", version),
        ["apis", group, version] => resources(registry, group, version),
        _ => None,
    }
}

fn group(name: &str, versions: &[&str]) -> Value {
    let version =
        |version: &str| json!({ "groupVersion": format!("{name}/{version}"), "version": version });
    let versions: Vec<Value> = versions.iter().map(|of| version(of)).collect();
    json!({ "name": name, "versions": versions, "preferredVersion": versions.first() })
}

fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let of = registry.of_version(group, version);
    let api_version = of.first()?.api_version();
    let resources: Vec<Value> = of
        .iter()
        .flat_map(|resource| resource.discovery())
        .collect();
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": resources,
    }))
}

//! The Helm chart, as far as it can be judged without a cluster.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use weft_control_plane::inject::Settings;
use weft_tests::{
    Need, Suite,
    chart::{self, documents, matches_file, template},
    peers::{helm::Helm, kubernetes_validate},
};

const HELM: &[Need] = &[Need::Helm(Helm::V3), Need::Helm(Helm::V4)];
const HELM_AND_SCHEMAS: &[Need] = &[Need::Helm(Helm::V4), Need::KubernetesValidate];

/// An older and a newer version of Kubernetes.
const KUBERNETES: [&str; 2] = ["1.29", "1.36"];

/// Sets of values, each with a golden file.
const SETS: [&str; 3] = ["default", "minimal", "full"];

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test("chart_passes_lint", HELM, lint)
        .test("chart_renders_as_committed", HELM, golden)
        .test("chart_is_valid_for_kubernetes", HELM_AND_SCHEMAS, valid)
        .test("chart_refuses_unknown_values", HELM, unknown_values)
        .test(
            "chart_tells_the_injector_what_it_understands",
            HELM,
            injector,
        )
        .test("chart_readme_lists_the_values", &[], readme)
}

fn lint() -> anyhow::Result<()> {
    for helm in Helm::ALL {
        for set in SETS {
            let mut command = Command::new(helm.program()?);
            command.args(["lint", "--strict"]).arg(chart::directory());
            if let Some(values) = values(set) {
                command.arg("--values").arg(values);
            }
            chart::run(&mut command).with_context(|| format!("{helm}, {set}"))?;
        }
    }
    Ok(())
}

fn golden() -> anyhow::Result<()> {
    for set in SETS {
        let [three, four] = Helm::ALL.map(|helm| template(helm, values(set).as_deref(), &[]));
        let rendered = four?;
        ensure!(
            three? == rendered,
            "{set}: Helm 3 and Helm 4 render it differently"
        );
        matches_file(
            &golden_directory().join(format!("{set}.yaml")),
            &without_files(&rendered),
        )?;
    }
    Ok(())
}

/// What templates give that hold nothing but a file of the chart is named only.
fn without_files(rendered: &str) -> String {
    let documents = documents(rendered).into_iter();
    let shown = documents.map(|(template, document)| match template {
        "crds.yaml" | "dashboards.yaml" => format!("---\n# {template}\n"),
        _ => format!("---\n# {template}\n{document}"),
    });
    shown.collect()
}

fn valid() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    for set in SETS {
        let manifest = directory.path().join(format!("{set}.yaml"));
        let rendered = template(Helm::V4, values(set).as_deref(), &[])?;
        fs::write(&manifest, rendered)?;
        kubernetes_validate::validate(&manifest, &KUBERNETES)
            .with_context(|| format!("set {set}"))?;
    }
    Ok(())
}

fn injector() -> anyhow::Result<()> {
    for set in SETS {
        let rendered = template(Helm::V4, values(set).as_deref(), &[])?;
        for (_, document) in documents(&rendered)
            .into_iter()
            .filter(|(template, _)| *template == "injector-config.yaml")
        {
            let config: Value = serde_saphyr::from_str(document)?;
            let text = config["data"]["config.yaml"].as_str();
            Settings::parse(text.context("a key config.yaml")?)
                .with_context(|| format!("set {set}"))?;
        }
    }
    Ok(())
}

fn unknown_values() -> anyhow::Result<()> {
    let schema = fs::read_to_string(chart::directory().join("values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    let mut open = Vec::new();
    find_open(&schema, "", &mut open);
    ensure!(open.is_empty(), "objects that take any property: {open:?}");
    for helm in Helm::ALL {
        for wrong in [
            "nosuch=1",
            "controlPlane.replica=2",
            "meshConfig.spec.mtls.mod=Strict",
            "injector.failurePolicy=Maybe",
            "proxy.env.PATH=/",
            "proxy.resources.limits.memory=lots",
        ] {
            let rendered = template(helm, None, &["--set", wrong]);
            let error = rendered
                .err()
                .with_context(|| format!("{helm} takes {wrong}"))?;
            let field = wrong.rsplit_once('=').map_or(wrong, |(path, _)| path);
            let word = field.rsplit('.').next().unwrap_or(field);
            let error = error.to_string();
            ensure!(error.contains(word), "{helm}, {wrong}: {error}");
        }
    }
    Ok(())
}

/// The paths of objects with listed properties that take others as well.
fn find_open(schema: &Value, path: &str, open: &mut Vec<String>) {
    if let Value::Object(map) = schema {
        if map.contains_key("properties") && schema["additionalProperties"] != Value::Bool(false) {
            open.push(path.to_owned());
        }
        for (key, value) in map {
            find_open(value, &format!("{path}/{key}"), open);
        }
    }
}

fn readme() -> anyhow::Result<()> {
    const START: &str = "<!-- values: generated from values.yaml by `make generate` -->\n";
    const END: &str = "<!-- end of values -->\n";
    let path = chart::directory().join("README.md");
    let page = fs::read_to_string(&path)?;
    let (before, rest) = page
        .split_once(START)
        .context("README.md has a start of values")?;
    let (_, after) = rest
        .split_once(END)
        .context("README.md has an end of values")?;
    let table = chart::table(&fs::read_to_string(chart::directory().join("values.yaml"))?)?;
    matches_file(&path, &format!("{before}{START}\n{table}\n{END}{after}"))
}

fn values(set: &str) -> Option<PathBuf> {
    let path = golden_directory().join(format!("{set}.values.yaml"));
    path.exists().then_some(path)
}

fn golden_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/chart")
}

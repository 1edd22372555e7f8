//! The chart's dashboards: every query returns data from a real Prometheus, which scrapes sidecars under traffic by the
//! annotations that the injector gives pods with the chart's settings.

use crate::pair::{PATIENCE, PORT, Pair};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use weft_control_plane::inject::{Outcome, Place, Settings, inject};
use weft_tests::{
    Need, Suite, apps,
    chart::{self, documents, template},
    peers::{
        helm::Helm,
        prometheus::{INTERVAL, Prometheus, Target},
    },
    wait::{request, until},
};

const NEEDS: &[Need] = &[
    Need::Namespaces,
    Need::Helm(Helm::V4),
    Need::Program("prometheus"),
];

pub(crate) fn add(suite: Suite) -> Suite {
    suite.test(
        "every_query_of_the_dashboards_returns_data",
        NEEDS,
        dashboards,
    )
}

fn dashboards() -> anyhow::Result<()> {
    let queries = queries()?;
    ensure!(queries.len() > 10, "{} queries are few", queries.len());
    let pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let nobody = pair.mesh.service("nobody").protocol("http");
    pair.mesh.apply("nobody", &nobody.objects())?;
    let outsider = pair.mesh.network().pod("outsider")?;
    let _app = apps::http::start(&outsider, PORT, "outsider")?;
    let plain = pair.mesh.service("plain").protocol("http");
    let plain = plain.endpoints([SocketAddr::new(outsider.ipv4().into(), PORT)]);
    pair.mesh.apply("plain", &plain.objects())?;
    let settings = injector_settings()?;
    let targets = [&pair.client, &pair.server].map(|workload| {
        let ip = workload.addresses()[0];
        target(&settings, ip)
    });
    let targets: Vec<Target> = targets.into_iter().collect::<anyhow::Result<_>>()?;
    let prometheus = Prometheus::start(
        pair.mesh.network().pod("prometheus")?,
        pair.mesh.directory(),
        &targets,
    )?;

    let done = AtomicBool::new(false);
    let call = |address: SocketAddr| {
        // What comes of it is for the metrics to tell.
        let _ = pair
            .client
            .pod
            .enter(|| request(address, "GET", "/bytes/1000", ""));
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                call(pair.address());
                call(nobody.addresses()[0]);
                call(plain.addresses()[0]);
            }
        });
        let asked = queries.iter().try_for_each(|query| {
            let answer = || prometheus.query(query);
            until("it returns data", PATIENCE, || {
                answer().is_ok_and(|values| values.iter().any(|value| value.is_finite()))
            })
            .with_context(|| format!("{query}: {:?}", answer()))
        });
        let checked = asked.and_then(|()| edges(&prometheus));
        done.store(true, Ordering::Relaxed);
        checked
    })
}

/// What the dashboard says of the edges is true: a service of the mesh, one outside of it, and one that nobody serves.
fn edges(prometheus: &Prometheus) -> anyhow::Result<()> {
    for (title, values) in [
        (
            "Success by edge",
            [("echo", 1.0), ("plain", 1.0), ("nobody", 0.0)],
        ),
        // What fails before it is sent is not plaintext.
        (
            "Mutual TLS by edge",
            [("echo", 1.0), ("plain", 0.0), ("nobody", 1.0)],
        ),
    ] {
        for (service, expected) in values {
            let panels = panels()?;
            let panel = panels.iter().find(|panel| panel["title"] == title);
            let query = panel.and_then(|panel| panel["targets"][0]["expr"].as_str());
            let query = query.with_context(|| format!("no panel {title}"))?;
            let query = substitute(query).replace(
                "destination_service=~\".*\"",
                &format!("destination_service=\"{service}\""),
            );
            let values = prometheus.query(&query)?;
            ensure!(values == [expected], "{title}, {service}: {values:?}");
        }
    }
    Ok(())
}

/// The queries of all panels, as Grafana would send them.
fn queries() -> anyhow::Result<Vec<String>> {
    let panels = panels()?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array());
    let mut queries = Vec::new();
    for target in targets.flatten() {
        let query = target["expr"].as_str().context("a target has a query")?;
        ensure!(
            !query.contains("rate(") || query.contains("[$__rate_interval]"),
            "{query} has a fixed window"
        );
        queries.push(substitute(query));
    }
    queries.sort();
    queries.dedup();
    Ok(queries)
}

fn panels() -> anyhow::Result<Vec<Value>> {
    let mut panels = Vec::new();
    for entry in fs::read_dir(chart::directory().join("dashboards"))? {
        let dashboard: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        panels.extend(
            dashboard["panels"]
                .as_array()
                .into_iter()
                .flatten()
                .cloned(),
        );
    }
    Ok(panels)
}

fn substitute(query: &str) -> String {
    // Grafana's own choice: four scrapes.
    let window = format!("{}s", 4 * INTERVAL.as_secs());
    let query = query.replace("$__rate_interval", &window);
    [
        "source_namespace",
        "destination_namespace",
        "destination_service",
    ]
    .iter()
    .fold(query, |query, name| {
        query.replace(&format!("\"${name}\""), "\".*\"")
    })
}

/// What the injector is told by the chart.
fn injector_settings() -> anyhow::Result<Settings> {
    let rendered = template(Helm::V4, None, &[])?;
    let documents = documents(&rendered);
    let config = documents
        .iter()
        .find(|(template, _)| *template == "injector-config.yaml");
    let (_, config) = config.context("the chart has a configuration for the injector")?;
    let config: Value = serde_saphyr::from_str(config)?;
    let text = config["data"]["config.yaml"].as_str();
    Ok(Settings::parse(text.context("a key config.yaml")?)?)
}

/// Where a pod that the injector was given is scraped.
fn target(settings: &Settings, ip: IpAddr) -> anyhow::Result<Target> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "app", "namespace": "demo" },
        "spec": { "containers": [{ "name": "app", "image": "app" }] },
    });
    let place = Place {
        namespace: "demo",
        workload: None,
        native_sidecars: true,
    };
    let Outcome::Patched(pod) = inject(&pod, &place, settings)? else {
        anyhow::bail!("the injector leaves a plain pod alone");
    };
    let annotations = &pod["metadata"]["annotations"];
    ensure!(
        annotations["prometheus.io/scrape"] == "true",
        "{annotations}"
    );
    let port = annotations["prometheus.io/port"].as_str();
    let path = annotations["prometheus.io/path"].as_str();
    Ok(Target {
        address: SocketAddr::new(ip, port.context("a port")?.parse()?),
        path: path.context("a path")?.to_owned(),
    })
}

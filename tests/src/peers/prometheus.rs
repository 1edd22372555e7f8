//! Prometheus, of the distribution.

use crate::wait::{self, until};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{fmt::Write, fs, net::SocketAddr, path::Path, time::Duration};
use weft_cli::sandbox::{Child, Pod};

/// The port of its API.
const PORT: u16 = 9090;
/// The time between scrapes.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// What is scraped: an address and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// What is asked for.
    pub path: String,
}

/// A running Prometheus.
pub struct Prometheus {
    process: Child,
    pod: Pod,
}

impl Prometheus {
    /// Starts it in a pod of its own and waits until it is ready.
    pub fn start(pod: Pod, directory: &Path, targets: &[Target]) -> anyhow::Result<Self> {
        let mut config = format!(
            "global: {{scrape_interval: {0}s, scrape_timeout: {0}s}}\nscrape_configs:\n- job_name: pods\n  static_configs:\n",
            INTERVAL.as_secs()
        );
        for Target { address, path } in targets {
            writeln!(
                config,
                "  - {{targets: [\"{address}\"], labels: {{__metrics_path__: {path}}}}}"
            )?;
        }
        let file = directory.join("prometheus.yaml");
        fs::write(&file, config)?;
        let process = pod
            .command("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.join("prometheus").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{PORT}"))
            .arg("--log.level=warn")
            .spawn()?;
        let prometheus = Self { process, pod };
        until("Prometheus is ready", Duration::from_secs(30), || {
            wait::http_get(&prometheus.pod, PORT, "/-/ready").is_ok_and(|(status, _)| status == 200)
        })
        .map_err(|error| error.context(prometheus.process.log_tail(20)))?;
        Ok(prometheus)
    }

    /// What a query gives now: the values of its series. An error names what is wrong with the query.
    pub fn query(&self, query: &str) -> anyhow::Result<Vec<f64>> {
        let path = format!("/api/v1/query?query={}", encode(query));
        let (status, body) = wait::http_get(&self.pod, PORT, &path)?;
        ensure!(status == 200, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let series = answer["data"]["result"].as_array();
        series
            .with_context(|| format!("{query} gives no vector: {body}"))?
            .iter()
            .map(|series| Ok(series["value"][1].as_str().context("a value")?.parse()?))
            .collect()
    }
}

/// Percent-encodes all but letters and digits.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
        encoded
    })
}

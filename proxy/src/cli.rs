//! The command line of `weft-proxy`. Every flag can be given as an environment variable too.
//!
//! What a flag means and defaults to is decided here; whether the values make sense together, in `config`.

use crate::{
    admin::AppProbes,
    app,
    config::{Config, Mode},
    http::limits::HttpLimits,
    nft,
    telemetry::{self, log},
};
use clap::Parser;
use std::{
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use weft_xds_proto::names;

/// Weft's sidecar: serves the connections of one workload, in both directions.
#[derive(Debug, Parser)]
#[command(name = "weft-proxy", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Runs the proxy. The default.
    Run(Box<RunArgs>),
    /// Sets up transparent interception in this network namespace, or takes it away.
    Init(nft::cli::InitArgs),
}

/// The flags of `weft-proxy run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// How connections reach the proxy: redirected by the kernel, or dialled by applications that know it.
    #[arg(long, env = "WEFT_MODE", value_enum, default_value_t = Mode::Transparent)]
    pub mode: Mode,

    /// Namespace of this workload.
    #[arg(
        long,
        env = "WEFT_NAMESPACE",
        value_name = "NAME",
        help_heading = "Workload"
    )]
    pub namespace: Option<String>,
    /// Name of this pod.
    #[arg(long, env = "WEFT_POD", value_name = "NAME", help_heading = "Workload")]
    pub pod: Option<String>,
    /// Service account of this workload: the last part of its identity.
    #[arg(
        long,
        env = "WEFT_SERVICE_ACCOUNT",
        value_name = "NAME",
        default_value = "default",
        help_heading = "Workload"
    )]
    pub service_account: String,
    /// Name of this workload in telemetry. The name of the pod when not given.
    #[arg(
        long,
        env = "WEFT_WORKLOAD",
        value_name = "NAME",
        help_heading = "Workload"
    )]
    pub workload: Option<String>,
    /// Addresses of this pod, by comma. An endpoint with one of them is this workload itself and is
    /// dialled without TLS. Those of the host's interfaces when not given.
    #[arg(
        long,
        env = "WEFT_POD_IPS",
        value_name = "IP",
        value_delimiter = ',',
        help_heading = "Workload"
    )]
    pub pod_ips: Vec<IpAddr>,
    /// Trust domain of the mesh: the first part of every identity.
    #[arg(
        long,
        env = "WEFT_TRUST_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "Workload"
    )]
    pub trust_domain: String,
    /// Domain under which services have their names.
    #[arg(
        long,
        env = "WEFT_CLUSTER_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local",
        help_heading = "Workload"
    )]
    pub cluster_domain: String,

    /// Host and port of the control plane.
    #[arg(
        long,
        env = "WEFT_XDS_ADDRESS",
        value_name = "HOST:PORT",
        default_value = "weft-control-plane.weft-system.svc:15012",
        help_heading = "Control plane"
    )]
    pub xds_address: String,
    /// File with the certificate authorities that the control plane's certificate is verified with.
    #[arg(
        long,
        env = "WEFT_XDS_CA",
        value_name = "FILE",
        default_value = "/var/run/secrets/weft/ca/root-cert.pem",
        help_heading = "Control plane"
    )]
    pub xds_ca: PathBuf,
    /// Name that the control plane's certificate must bear. The host of --xds-address when not given.
    #[arg(
        long,
        env = "WEFT_XDS_SERVER_NAME",
        value_name = "NAME",
        help_heading = "Control plane"
    )]
    pub xds_server_name: Option<String>,
    /// File with the token that proves to the control plane who we are. Read again whenever it is used.
    #[arg(
        long,
        env = "WEFT_XDS_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/weft/token",
        help_heading = "Control plane"
    )]
    pub xds_token: PathBuf,
    /// Directory with cert-chain.pem, key.pem and root-cert.pem, to be used instead of asking the control
    /// plane for a certificate. Watched for changes.
    #[arg(
        long,
        env = "WEFT_CERTIFICATE_DIR",
        value_name = "DIR",
        help_heading = "Control plane"
    )]
    pub certificate_dir: Option<PathBuf>,
    /// Lifetime to ask for in certificates. The control plane decides when not given.
    #[arg(long, env = "WEFT_CERTIFICATE_LIFETIME", value_name = "DURATION", value_parser = duration, help_heading = "Control plane")]
    pub certificate_lifetime: Option<Duration>,
    /// How long the first connection to a destination waits for its configuration.
    #[arg(long, env = "WEFT_DESTINATION_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "5s", help_heading = "Control plane")]
    pub destination_timeout: Duration,
    /// A destination that was not called for so long is unsubscribed and forgotten.
    #[arg(long, env = "WEFT_DESTINATION_IDLE", value_name = "DURATION", value_parser = duration, default_value = "5m", help_heading = "Control plane")]
    pub destination_idle: Duration,

    /// Where outbound connections arrive. Default [::]:15001; in explicit mode 127.0.0.1:15001.
    #[arg(
        long,
        env = "WEFT_OUTBOUND_LISTEN",
        value_name = "ADDRESS",
        help_heading = "Listeners"
    )]
    pub outbound_listen: Option<SocketAddr>,
    /// Where inbound connections arrive. Default [::]:15006. In explicit mode its port stands for the
    /// port that was called.
    #[arg(
        long,
        env = "WEFT_INBOUND_LISTEN",
        value_name = "ADDRESS",
        help_heading = "Listeners"
    )]
    pub inbound_listen: Option<SocketAddr>,
    /// Where the application listens, in explicit mode. Without it, explicit mode serves outbound only.
    #[arg(
        long,
        env = "WEFT_APP_ADDRESS",
        value_name = "ADDRESS",
        help_heading = "Listeners"
    )]
    pub app_address: Option<SocketAddr>,
    /// Admin endpoints. Whoever reaches them controls the proxy: keep them on loopback.
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "ADDRESS", default_value_t = SocketAddr::from(([127, 0, 0, 1], names::ADMIN_PORT)), help_heading = "Listeners")]
    pub admin_listen: SocketAddr,
    /// Prometheus metrics.
    #[arg(
        long,
        env = "WEFT_METRICS_LISTEN",
        value_name = "ADDRESS",
        default_value = "[::]:15020",
        help_heading = "Listeners"
    )]
    pub metrics_listen: SocketAddr,
    /// Liveness and readiness.
    #[arg(
        long,
        env = "WEFT_HEALTH_LISTEN",
        value_name = "ADDRESS",
        default_value = "[::]:15021",
        help_heading = "Listeners"
    )]
    pub health_listen: SocketAddr,
    /// Probes of the application, which the kubelet asks for at /app-health/<container>/<name> of the health
    /// port: JSON, by container and name, as Kubernetes writes them. The injector sets it.
    #[arg(
        long,
        env = "WEFT_APP_PROBES",
        value_name = "JSON",
        default_value = "{}",
        help_heading = "Listeners"
    )]
    pub app_probes: AppProbes,

    /// Data workers. The CPU limit of the container, rounded up, or else the number of cores.
    #[arg(
        long,
        env = "WEFT_WORKERS",
        value_name = "N",
        help_heading = "Resources"
    )]
    pub workers: Option<NonZeroUsize>,
    /// Edges (pairs of workloads with their routes) that metrics tell apart; the rest is summed up.
    #[arg(long, env = "WEFT_MAX_EDGES", value_name = "N", default_value_t = telemetry::registry::DEFAULT_MAX_EDGES, help_heading = "Resources")]
    pub max_edges: NonZeroUsize,

    /// Limits on HTTP.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// How long what is in flight may go on after SIGTERM.
    #[arg(long, env = "WEFT_DRAIN_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "25s", help_heading = "Timeouts")]
    pub drain_timeout: Duration,
    /// The proxy ends before that, once no connection was open, and none came, for so long.
    #[arg(long, env = "WEFT_DRAIN_QUIET", value_name = "DURATION", value_parser = duration, default_value = "1s", help_heading = "Timeouts")]
    pub drain_quiet: Duration,
    /// How long a caller may take for its TLS handshake.
    #[arg(long, env = "WEFT_HANDSHAKE_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "10s", help_heading = "Timeouts")]
    pub handshake_timeout: Duration,

    /// Which requests are logged on standard output: off, all, errors, sample:<share>.
    #[arg(long, env = "WEFT_ACCESS_LOG", value_name = "MODE", default_value_t = telemetry::Mode::Off, help_heading = "Telemetry")]
    pub access_log: telemetry::Mode,
    /// Share of new traces that are marked as sampled, from 0 to 1. What a caller decided is kept.
    #[arg(
        long,
        env = "WEFT_TRACE_SAMPLING",
        value_name = "SHARE",
        default_value_t = 0.01,
        help_heading = "Telemetry"
    )]
    pub trace_sampling: f64,
    /// Level of the proxy's own log on standard error: error, warn, info, debug, trace, or directives.
    #[arg(
        long,
        env = "WEFT_LOG",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Telemetry"
    )]
    pub log_level: String,
    /// Form of the proxy's own log.
    #[arg(
        long,
        env = "WEFT_LOG_FORMAT",
        value_name = "FORM",
        value_enum,
        default_value_t,
        help_heading = "Telemetry"
    )]
    pub log_format: log::Format,
}

/// The limits on HTTP, the same in both directions and versions.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "HTTP limits")]
pub struct LimitArgs {
    /// Bytes of a header section. Above it: 431, or 414 for the request line.
    #[arg(long, env = "WEFT_HEADER_BYTES", value_name = "BYTES", default_value_t = HttpLimits::HEADER_BYTES)]
    pub header_bytes: usize,
    /// Fields of a header section. Above it: 431.
    #[arg(long, env = "WEFT_HEADER_FIELDS", value_name = "N", default_value_t = HttpLimits::HEADER_FIELDS)]
    pub header_fields: usize,
    /// From the first byte of a header section to its last. Above it: 408.
    #[arg(long, env = "WEFT_HEADER_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub header_timeout: Duration,
    /// How long a caller's connection may rest between requests.
    #[arg(long, env = "WEFT_DOWNSTREAM_IDLE_TIMEOUT", value_name = "DURATION", value_parser = duration, default_value = "10m")]
    pub downstream_idle_timeout: Duration,
    /// How long a resting connection is kept when the proxy drains, as a request may be on its way.
    #[arg(long, env = "WEFT_DRAIN_GRACE", value_name = "DURATION", value_parser = duration, default_value = "5s")]
    pub drain_grace: Duration,
    /// Requests at once on one HTTP/2 connection.
    #[arg(long, env = "WEFT_MAX_CONCURRENT_STREAMS", value_name = "N", default_value_t = HttpLimits::MAX_CONCURRENT_STREAMS)]
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window of a stream.
    #[arg(long, env = "WEFT_STREAM_WINDOW", value_name = "BYTES", default_value_t = HttpLimits::STREAM_WINDOW)]
    pub stream_window: u32,
    /// HTTP/2 flow-control window of a connection.
    #[arg(long, env = "WEFT_CONNECTION_WINDOW", value_name = "BYTES", default_value_t = HttpLimits::CONNECTION_WINDOW)]
    pub connection_window: u32,
}

/// Exit code for what the person at the command line can put right (as clap's own).
const USAGE: u8 = 2;

/// Runs the program: parses `args`, of which the first is its name, does what they say and returns how
/// it ended. 0 is success, 1 a failure, 2 a mistake in the flags.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" that go to standard output with code 0.
            let code = if error.use_stderr() { USAGE } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    match cli.command {
        None => proxy(cli.run),
        Some(Command::Run(run)) => proxy(*run),
        Some(Command::Init(init)) => nft::cli::run(init),
    }
}

fn proxy(args: RunArgs) -> ExitCode {
    let log = match log::install(&args.log_level, args.log_format) {
        Ok(log) => log,
        Err(error) => return complain(&format!("--log-level: {error}"), USAGE),
    };
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    match app::run(config, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("{error:#}"), 1),
    }
}

/// The last words of the program are for the person who started it, whatever the log's form and level.
#[expect(clippy::print_stderr, reason = "the log may be JSON or off")]
fn complain(error: &str, code: u8) -> ExitCode {
    eprintln!("weft-proxy: {error}");
    ExitCode::from(code)
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write 500ms, 25s, 5m or 1h"))
}

/// The flags of `weft-proxy run`, as parsed.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn parse(flags: &[&str]) -> RunArgs {
    let args = ["weft-proxy"].iter().chain(flags);
    Cli::try_parse_from(args).unwrap().run
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::{fmt::Write, fs, path::Path};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable_and_a_help() {
        let command = Cli::command();
        for flag in command.get_arguments().filter(|flag| !flag.is_global_set()) {
            let id = flag.get_id();
            assert!(flag.get_help().is_some(), "{id} has no help");
            if id != "help" && id != "version" {
                let env = flag.get_env().expect("a flag has an environment variable");
                assert!(env.to_string_lossy().starts_with("WEFT_"), "{id}: {env:?}");
            }
        }
    }

    /// `WEFT_UPDATE=1 cargo test -p weft-proxy flags` writes the page anew.
    #[test]
    fn the_reference_page_lists_the_flags_as_they_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/proxy-flags.md");
        let page = reference();
        if std::env::var_os("WEFT_UPDATE").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &page).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/reference/proxy-flags.md is out of date; run the test with WEFT_UPDATE=1"
        );
    }

    fn reference() -> String {
        let mut page = String::from(
            "# Flags of weft-proxy\n\n\
             Generated from `proxy/src/cli.rs`. Every flag can be given as an environment variable; the \
             flag wins. `weft-proxy init` has its own `--help`.\n",
        );
        let mut heading = "";
        let command = Cli::command();
        for flag in command.get_arguments() {
            let Some(env) = flag.get_env() else { continue };
            let section = flag.get_help_heading().unwrap_or("Mode");
            if section != heading {
                heading = section;
                write!(
                    page,
                    "\n## {section}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n"
                )
                .unwrap();
            }
            let default: Vec<_> = flag
                .get_default_values()
                .iter()
                .map(|value| format!("`{}`", value.to_string_lossy()))
                .collect();
            let mut meaning = flag.get_help().unwrap().to_string();
            let values: Vec<_> = flag
                .get_possible_values()
                .iter()
                .map(|value| format!("`{}`", value.get_name()))
                .collect();
            if !values.is_empty() {
                write!(meaning, ". One of {}", values.join(", ")).unwrap();
            }
            writeln!(
                page,
                "| `--{}` | `{}` | {} | {} |",
                flag.get_long().unwrap(),
                env.to_string_lossy(),
                default.join(", "),
                meaning.replace('|', "\\|"),
            )
            .unwrap();
        }
        page
    }
}

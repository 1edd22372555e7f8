//! The command line of `weft-control-plane`.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};
use weft_xds_proto::{
    names::{MONITORING_PORT, WEBHOOK_PORT, XDS_TLS_PORT},
    spiffe::SpiffeId,
};

use crate::{
    api,
    app::{Config, ControlPlane, Injector, Source},
    ca::token::{JoinKey, Subject},
    kubernetes,
};

/// Runs the program with these arguments, the name of the program first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before anything can ask for it: several dependencies would choose another one by themselves. It
    // fails only where it is done already, by an embedder.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout and are no failure; a closed pipe leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match cli.command {
        Some(Command::Run(args)) => serve(*args),
        None => serve(cli.run),
        Some(Command::Token(args)) => mint(&args),
        Some(Command::Crds) => print_definitions(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The control plane of the Weft service mesh: configures proxies over xDS and signs their
/// certificates.
#[derive(Debug, Parser)]
#[command(
    name = "weft-control-plane",
    version,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the mesh. This is what happens without a command.
    Run(Box<RunArgs>),
    /// Mint a join token, with which a proxy outside Kubernetes proves who it is.
    Token(TokenArgs),
    /// Print the CustomResourceDefinitions of Weft's own kinds as YAML, for kubectl apply -f -.
    Crds,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Where the objects of the mesh come from.
    #[arg(long, env = "WEFT_SOURCE", value_enum, default_value_t = SourceKind::Files)]
    source: SourceKind,
    /// The directory of Kubernetes objects as YAML that `--source files` watches.
    #[arg(long, env = "WEFT_CONFIG_DIR", default_value = "/etc/weft/config")]
    config_dir: PathBuf,
    #[command(flatten)]
    kubernetes: KubernetesArgs,
    #[command(flatten)]
    ca: CaArgs,
    /// The trust domain of all identities: spiffe://<trust-domain>/ns/...
    #[arg(long, env = "WEFT_TRUST_DOMAIN", default_value = "cluster.local", value_parser = trust_domain)]
    trust_domain: String,
    /// What ends the names of services: user.demo.svc.<cluster-domain>
    #[arg(long, env = "WEFT_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Where xDS and certificates are served, over TLS.
    #[arg(long, env = "WEFT_XDS_ADDRESS", default_value_t = any(XDS_TLS_PORT))]
    xds_address: SocketAddr,
    /// Where xDS is served without TLS and without authentication, for proxyless clients on a trusted
    /// network, usually [::]:15010. Off unless given.
    #[arg(long, env = "WEFT_PLAINTEXT_XDS_ADDRESS")]
    plaintext_xds_address: Option<SocketAddr>,
    /// Where health, readiness and metrics are served.
    #[arg(long, env = "WEFT_MONITORING_ADDRESS", default_value_t = any(MONITORING_PORT))]
    monitoring_address: SocketAddr,
    #[command(flatten)]
    injector: InjectorArgs,
    /// A name or address by which proxies reach this control plane. May be given more than once.
    #[arg(
        long = "tls-san",
        env = "WEFT_TLS_SAN",
        value_delimiter = ',',
        default_values = [
            "localhost",
            "weft-control-plane.weft-system.svc",
            "weft-control-plane.weft-system.svc.cluster.local",
            "127.0.0.1",
            "::1",
        ]
    )]
    tls_names: Vec<String>,
    /// The longest lifetime of a workload's certificate, at least 10s.
    #[arg(long, env = "WEFT_MAX_LEAF_TTL", default_value = "24h", value_parser = duration)]
    max_leaf_ttl: Duration,
    /// How many new streams are brought up to date at a time, when many reconnect at once.
    #[arg(long, env = "WEFT_ADMITTED_STREAMS", default_value_t = 64)]
    admitted_streams: usize,
    /// What is logged, as `tracing` filters: `info`, `weft_control_plane=debug,warn`.
    #[arg(long, env = "WEFT_LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// How it is logged.
    #[arg(long, env = "WEFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Args)]
struct KubernetesArgs {
    /// How `--source kubernetes` reaches the API. By default with the service account of the pod.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of the control plane, where it keeps its Secrets and its Lease.
    #[arg(long, env = "WEFT_NAMESPACE", default_value = "weft-system")]
    namespace: String,
    /// The name of this replica, unlike that of any other: its pod's. By default the host name.
    #[arg(long, env = "WEFT_REPLICA")]
    replica: Option<String>,
    /// A Secret of type kubernetes.io/tls in that namespace, such as cert-manager makes, whose certificate
    /// signs instead of the control plane's own root.
    #[arg(long, env = "WEFT_CA_SECRET")]
    ca_secret: Option<String>,
    /// A file with the spec of the MeshConfig, as YAML, which is applied to the cluster. What others have set
    /// of it stays.
    #[arg(long, env = "WEFT_MESH_CONFIG")]
    mesh_config: Option<PathBuf>,
    /// How long a new root of the control plane's own is trusted before it signs. By default
    /// --max-leaf-ttl, in which every proxy renews its certificate.
    #[arg(long, env = "WEFT_ROOT_OVERLAP", value_parser = duration)]
    root_overlap: Option<Duration>,
}

#[derive(Debug, Args)]
struct CaArgs {
    /// Where the CA keeps its root and the key of join tokens. Made on the first start.
    #[arg(long, env = "WEFT_CA_DIR", default_value = "/var/lib/weft/ca")]
    ca_dir: PathBuf,
}

#[derive(Debug, Args)]
struct InjectorArgs {
    /// The settings of the injector, a YAML file that is followed. Without it there is no webhook.
    #[arg(long, env = "WEFT_INJECTOR_CONFIG")]
    injector_config: Option<PathBuf>,
    /// Where the API server shows new pods to the injector, over TLS.
    #[arg(long, env = "WEFT_WEBHOOK_ADDRESS", default_value_t = any(WEBHOOK_PORT))]
    webhook_address: SocketAddr,
}

#[derive(Debug, Args)]
struct TokenArgs {
    #[command(flatten)]
    ca: CaArgs,
    /// The namespace of the workload.
    #[arg(long)]
    namespace: String,
    /// The service account of the workload, which is its identity.
    #[arg(long)]
    service_account: String,
    /// The name of the pod.
    #[arg(long)]
    pod: String,
    /// How long the token is valid.
    #[arg(long, default_value = "24h", value_parser = duration)]
    ttl: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SourceKind {
    /// A watched directory, see --config-dir.
    Files,
    /// The API of a Kubernetes cluster.
    Kubernetes,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people.
    Text,
    /// Lines for machines.
    Json,
}

fn serve(args: RunArgs) -> anyhow::Result<()> {
    install_log(&args.log_level, args.log_format)?;
    let (ca_secret, root_overlap) = (
        args.kubernetes.ca_secret.clone(),
        args.kubernetes.root_overlap,
    );
    let config = Config {
        source: match args.source {
            SourceKind::Files => Source::Files(args.config_dir),
            SourceKind::Kubernetes => Source::Kubernetes(kubernetes_settings(args.kubernetes)?),
        },
        ca_dir: args.ca.ca_dir,
        ca_secret: ca_secret.map(Into::into),
        root_overlap,
        trust_domain: args.trust_domain.into(),
        cluster_domain: args.cluster_domain.into(),
        xds_address: args.xds_address,
        plaintext_xds_address: args.plaintext_xds_address,
        monitoring_address: args.monitoring_address,
        tls_names: args.tls_names,
        max_leaf_ttl: args.max_leaf_ttl,
        admitted_streams: args.admitted_streams,
        injector: args.injector.injector_config.map(|settings| Injector {
            address: args.injector.webhook_address,
            settings,
        }),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve_until_told(config))
}

fn kubernetes_settings(args: KubernetesArgs) -> anyhow::Result<kubernetes::Settings> {
    let replica = match args.replica {
        Some(replica) => replica,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_err(|error| anyhow::anyhow!("no --replica, and the host has no name: {error}"))?
            .trim()
            .to_owned(),
    };
    let mesh_config = args.mesh_config.map(|path| {
        kubernetes::MeshConfig::read(&path)
            .map_err(|error| anyhow::anyhow!("--mesh-config {}: {error}", path.display()))
    });
    Ok(kubernetes::Settings {
        mesh_config: mesh_config.transpose()?,
        kubeconfig: args.kubeconfig,
        namespace: args.namespace.into(),
        replica: replica.into(),
    })
}

async fn serve_until_told(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let trust_domain: Arc<str> = config.trust_domain.clone();
    let mut control_plane = ControlPlane::start(config).await?;
    tracing::info!(
        %trust_domain,
        xds = %control_plane.xds_address(),
        plaintext_xds = ?control_plane.plaintext_xds_address(),
        monitoring = %control_plane.monitoring_address(),
        "control plane started"
    );
    tokio::select! {
        error = control_plane.failed() => return Err(error.into()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("shutting down");
    control_plane.shut_down().await;
    Ok(())
}

fn mint(args: &TokenArgs) -> anyhow::Result<()> {
    // The trust domain is the control plane's: any will do to check the rest.
    SpiffeId::new("cluster.local", &args.namespace, &args.service_account)?;
    let token = JoinKey::load(&args.ca.ca_dir)?.mint(
        &Subject {
            namespace: args.namespace.clone(),
            service_account: args.service_account.clone(),
            pod: args.pod.clone(),
        },
        args.ttl,
    );
    writeln!(std::io::stdout(), "{token}")?;
    Ok(())
}

fn print_definitions() -> anyhow::Result<()> {
    std::io::stdout().write_all(api::definition::yaml()?.as_bytes())?;
    Ok(())
}

fn install_log(level: &str, format: LogFormat) -> anyhow::Result<()> {
    // What the client of the Kubernetes API says of its requests, whoever made them says with what it means.
    let filter: Targets = format!("kube_client=off,{level}")
        .parse()
        .map_err(|error| anyhow::anyhow!("--log-level {level:?}: {error}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(filter);
    let installed = match format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json()).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

fn any(port: u16) -> SocketAddr {
    (std::net::Ipv6Addr::UNSPECIFIED, port).into()
}

fn trust_domain(text: &str) -> Result<String, String> {
    SpiffeId::new(text, "namespace", "service-account")
        .map(|_| text.to_owned())
        .map_err(|_| {
            "a trust domain is a host name in lower case, for example cluster.local".to_owned()
        })
}

/// A number with a unit: `20s`, `90m`, `24h`.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration such as 20s, 90m or 24h");
    let unit = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or_else(invalid)?;
    let number: u64 = text[..unit].parse().map_err(|_| invalid())?;
    let seconds = match &text[unit..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err(invalid()),
    };
    number
        .checked_mul(seconds)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_and_its_default_stand_in_the_docs() {
        use clap::CommandFactory as _;
        let docs = include_str!("../../docs/reference/control-plane.md");
        for flag in Cli::command().get_arguments() {
            let (Some(long), Some(env)) = (flag.get_long(), flag.get_env()) else {
                continue;
            };
            let start = format!("| `--{long}` | `{}` | ", env.to_string_lossy());
            let row = docs.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("no row {start}"));
            for default in flag.get_default_values().iter().take(2) {
                let default = format!("`{}`", default.to_string_lossy());
                assert!(row.contains(&default), "{row} does not say {default}");
            }
        }
    }

    #[test]
    fn running_is_the_default_and_has_defaults() {
        let cli = Cli::try_parse_from(["weft-control-plane"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.xds_address, "[::]:15012".parse().unwrap());
        assert_eq!(cli.run.monitoring_address, "[::]:15014".parse().unwrap());
        assert_eq!(cli.run.plaintext_xds_address, None);
        assert_eq!(cli.run.max_leaf_ttl, Duration::from_secs(24 * 3600));
        assert_eq!(cli.run.tls_names.len(), 5);
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5400)));
        for text in ["", "10", "h", "0s", "1w", "-1s", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }
}

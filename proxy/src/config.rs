//! The configuration of a proxy, checked: what `app` starts with. It never changes while the proxy runs.

use crate::{
    admin::AppProbes,
    cli::{LimitArgs, RunArgs},
    cpu,
    http::limits::HttpLimits,
    snapshot::WorkloadName,
    telemetry,
};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};
use weft_xds_proto::{
    names,
    spiffe::{InvalidSpiffeId, SpiffeId},
};

/// How connections reach the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Redirected by rules that `weft-proxy init` wrote; applications know nothing.
    Transparent,
    /// Dialled by applications that use it as their HTTP proxy.
    Explicit,
}

/// Everything a proxy is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// How connections reach the proxy.
    pub mode: Mode,
    /// Whom the proxy serves.
    pub workload: Workload,
    /// Where its configuration comes from.
    pub control_plane: ControlPlane,
    /// Where its certificate comes from.
    pub certificates: Certificates,
    /// Where it listens.
    pub listen: Listen,
    /// Where the application listens (explicit mode).
    pub app_address: Option<SocketAddr>,
    /// What the kubelet asks the application, by way of the health port.
    pub app_probes: AppProbes,
    /// Data workers.
    pub workers: NonZeroUsize,
    /// Edges that metrics tell apart.
    pub max_edges: NonZeroUsize,
    /// Limits on HTTP messages and connections.
    pub http: HttpLimits,
    /// How long what is in flight may go on after the signal to stop.
    pub drain_timeout: Duration,
    /// It ends before that, once no connection was open, and none came, for so long.
    pub drain_quiet: Duration,
    /// How long a caller may take for its TLS handshake.
    pub handshake_timeout: Duration,
    /// Which requests are logged.
    pub access_log: telemetry::Mode,
    /// Share of new traces that are marked as sampled.
    pub trace_sampling: f64,
}

/// The workload that a proxy stands beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The pod.
    pub pod: String,
    /// The identity it will have.
    pub identity: SpiffeId,
    /// What telemetry calls it.
    pub name: WorkloadName,
    /// The addresses that are its own; empty for those of the host.
    pub addresses: Vec<IpAddr>,
    /// The domain under which services have their names.
    pub cluster_domain: String,
}

/// Where configuration comes from, and how it is proven to be the right place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// Its host and port.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// The name in its certificate.
    pub server_name: String,
    /// PEM file with the authorities that its certificate is verified with.
    pub ca: PathBuf,
    /// File with our token.
    pub token: PathBuf,
    /// How long a first connection waits for its configuration.
    pub destination_timeout: Duration,
    /// How long a destination is kept that nobody calls.
    pub destination_idle: Duration,
}

/// Where the workload's certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// The control plane signs what we ask for.
    ControlPlane {
        /// What to ask for; its default when absent.
        lifetime: Option<Duration>,
    },
    /// Somebody else puts files into a directory.
    Directory(PathBuf),
}

/// Where a proxy listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Connections of the application.
    pub outbound: SocketAddr,
    /// Connections to the application; absent in explicit mode without an application to serve.
    pub inbound: Option<SocketAddr>,
    /// Admin endpoints.
    pub admin: SocketAddr,
    /// Metrics.
    pub metrics: SocketAddr,
    /// Liveness and readiness.
    pub health: SocketAddr,
}

/// A mistake in the flags, with the flag and what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// A flag without which the proxy does not know whom it serves.
    #[error(
        "{flag} is missing: pass it or set {variable}; in Kubernetes it comes from the downward API field {field}"
    )]
    Missing {
        /// The flag.
        flag: &'static str,
        /// Its environment variable.
        variable: &'static str,
        /// The field of the pod that it usually comes from.
        field: &'static str,
    },
    /// The parts do not make an identity.
    #[error("--trust-domain, --namespace and --service-account do not make an identity: {0}")]
    Identity(#[from] InvalidSpiffeId),
    /// The control plane's address has no host, or no port.
    #[error(
        "--xds-address: {0:?} is not host:port, such as weft-control-plane.weft-system.svc:15012"
    )]
    XdsAddress(String),
    /// A number or duration out of its range.
    #[error("{flag}: {given} is out of range; use {expected}")]
    OutOfRange {
        /// The flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What is taken.
        expected: &'static str,
    },
    /// A flag that means nothing in this mode.
    #[error("{flag} is for --mode {mode} only: remove it, or change --mode")]
    WrongMode {
        /// The flag.
        flag: &'static str,
        /// Where it means something.
        mode: &'static str,
    },
}

impl TryFrom<RunArgs> for Config {
    type Error = InvalidConfig;

    fn try_from(args: RunArgs) -> Result<Self, InvalidConfig> {
        let workload = workload(&args)?;
        let listen = listen(&args)?;
        let control_plane = control_plane(&args)?;
        let certificates = match args.certificate_dir {
            Some(directory) => Certificates::Directory(directory),
            None => Certificates::ControlPlane {
                lifetime: args.certificate_lifetime,
            },
        };
        if !(0.0..=1.0).contains(&args.trace_sampling) {
            return Err(InvalidConfig::OutOfRange {
                flag: "--trace-sampling",
                given: args.trace_sampling.to_string(),
                expected: "a share from 0 to 1",
            });
        }
        at_least_a_millisecond("--handshake-timeout", args.handshake_timeout)?;
        Ok(Self {
            mode: args.mode,
            workload,
            control_plane,
            certificates,
            listen,
            app_address: args.app_address,
            app_probes: args.app_probes,
            workers: args.workers.unwrap_or_else(cpu::workers),
            max_edges: args.max_edges,
            http: http(&args.limits)?,
            drain_timeout: args.drain_timeout,
            drain_quiet: args.drain_quiet,
            handshake_timeout: args.handshake_timeout,
            access_log: args.access_log,
            trace_sampling: args.trace_sampling,
        })
    }
}

fn workload(args: &RunArgs) -> Result<Workload, InvalidConfig> {
    let namespace = args.namespace.clone().ok_or(InvalidConfig::Missing {
        flag: "--namespace",
        variable: "WEFT_NAMESPACE",
        field: "metadata.namespace",
    })?;
    let pod = args.pod.clone().ok_or(InvalidConfig::Missing {
        flag: "--pod",
        variable: "WEFT_POD",
        field: "metadata.name",
    })?;
    let identity = SpiffeId::new(&args.trust_domain, &namespace, &args.service_account)?;
    let name = args.workload.as_ref().unwrap_or(&pod);
    Ok(Workload {
        identity,
        name: WorkloadName {
            name: name.as_str().into(),
            namespace: namespace.into(),
        },
        pod,
        addresses: args.pod_ips.clone(),
        cluster_domain: args.cluster_domain.to_ascii_lowercase(),
    })
}

fn control_plane(args: &RunArgs) -> Result<ControlPlane, InvalidConfig> {
    let invalid = || InvalidConfig::XdsAddress(args.xds_address.clone());
    let (host, port) = args.xds_address.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(invalid());
    }
    at_least_a_millisecond("--destination-timeout", args.destination_timeout)?;
    Ok(ControlPlane {
        host: host.to_owned(),
        port,
        server_name: args
            .xds_server_name
            .clone()
            .unwrap_or_else(|| host.to_owned()),
        ca: args.xds_ca.clone(),
        token: args.xds_token.clone(),
        destination_timeout: args.destination_timeout,
        destination_idle: args.destination_idle,
    })
}

fn listen(args: &RunArgs) -> Result<Listen, InvalidConfig> {
    let any = |port| SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    let (outbound, inbound) = match args.mode {
        Mode::Transparent if args.app_address.is_some() => {
            return Err(InvalidConfig::WrongMode {
                flag: "--app-address",
                mode: "explicit",
            });
        }
        Mode::Transparent => (any(names::OUTBOUND_PORT), Some(any(names::INBOUND_PORT))),
        Mode::Explicit => (
            SocketAddr::from(([127, 0, 0, 1], names::OUTBOUND_PORT)),
            args.app_address.map(|_| any(names::INBOUND_PORT)),
        ),
    };
    Ok(Listen {
        outbound: args.outbound_listen.unwrap_or(outbound),
        inbound: inbound.map(|default| args.inbound_listen.unwrap_or(default)),
        admin: args.admin_listen,
        metrics: args.metrics_listen,
        health: args.health_listen,
    })
}

fn http(args: &LimitArgs) -> Result<HttpLimits, InvalidConfig> {
    // RFC 9113 section 6.9.1: a flow-control window is at most 2^31 - 1 bytes.
    const MAX_WINDOW: u32 = (1 << 31) - 1;
    let in_range = |flag, given: u64, range: std::ops::RangeInclusive<u64>, expected| {
        if range.contains(&given) {
            Ok(())
        } else {
            Err(InvalidConfig::OutOfRange {
                flag,
                given: given.to_string(),
                expected,
            })
        }
    };
    in_range(
        "--header-bytes",
        args.header_bytes as u64,
        1024..=1 << 20,
        "1024 to 1048576 bytes",
    )?;
    in_range(
        "--header-fields",
        args.header_fields as u64,
        1..=10_000,
        "1 to 10000",
    )?;
    in_range(
        "--max-concurrent-streams",
        args.max_concurrent_streams.into(),
        1..=u32::MAX.into(),
        "1 or more",
    )?;
    for (flag, window) in [
        ("--stream-window", args.stream_window),
        ("--connection-window", args.connection_window),
    ] {
        in_range(
            flag,
            window.into(),
            65_535..=MAX_WINDOW.into(),
            "65535 to 2147483647 bytes",
        )?;
    }
    at_least_a_millisecond("--header-timeout", args.header_timeout)?;
    at_least_a_millisecond("--downstream-idle-timeout", args.downstream_idle_timeout)?;
    Ok(HttpLimits {
        header_bytes: args.header_bytes,
        header_fields: args.header_fields,
        header_timeout: args.header_timeout,
        idle_timeout: args.downstream_idle_timeout,
        drain_grace: args.drain_grace,
        max_concurrent_streams: args.max_concurrent_streams,
        stream_window: args.stream_window,
        connection_window: args.connection_window,
        ..HttpLimits::default()
    })
}

/// Zero would mean that everything times out at once; nobody means that.
fn at_least_a_millisecond(flag: &'static str, given: Duration) -> Result<(), InvalidConfig> {
    if given >= Duration::from_millis(1) {
        return Ok(());
    }
    Err(InvalidConfig::OutOfRange {
        flag,
        given: format!("{given:?}"),
        expected: "1ms or more",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn config(flags: &[&str]) -> Result<Config, InvalidConfig> {
        Config::try_from(cli::parse(flags))
    }

    const WHO: [&str; 4] = ["--namespace", "demo", "--pod", "user-0"];

    fn with(flags: &[&str]) -> Result<Config, InvalidConfig> {
        config(&[&WHO, flags].concat())
    }

    #[test]
    fn a_name_is_all_that_a_proxy_must_be_told() {
        let config = with(&[]).unwrap();
        assert_eq!(config.mode, Mode::Transparent);
        assert_eq!(
            config.workload.identity.as_str(),
            "spiffe://cluster.local/ns/demo/sa/default"
        );
        assert_eq!(&*config.workload.name.name, "user-0");
        assert_eq!(config.listen.outbound, "[::]:15001".parse().unwrap());
        assert_eq!(config.listen.inbound, Some("[::]:15006".parse().unwrap()));
        assert_eq!(config.http, HttpLimits::default());
    }

    #[test]
    fn explicit_mode_serves_the_application_it_is_shown() {
        assert_eq!(with(&["--mode", "explicit"]).unwrap().listen.inbound, None);
        let config = with(&[
            "--mode",
            "explicit",
            "--app-address",
            "127.0.0.1:8080",
            "--inbound-listen",
            "127.0.0.2:80",
        ])
        .unwrap();
        assert_eq!(config.listen.inbound, Some("127.0.0.2:80".parse().unwrap()));
        assert_eq!(config.listen.outbound, "127.0.0.1:15001".parse().unwrap());
    }

    #[test]
    fn the_control_plane_may_be_an_ipv6_address() {
        let control_plane = with(&["--xds-address", "[fd00::1]:15012"])
            .unwrap()
            .control_plane;
        assert_eq!(
            (&*control_plane.host, control_plane.port),
            ("fd00::1", 15012)
        );
    }

    #[test]
    fn a_mistake_names_the_flag_and_what_to_do() {
        for (flags, words) in [
            (
                &["--pod", "user-0"][..],
                &["--namespace", "WEFT_NAMESPACE"][..],
            ),
            (&["--namespace", "demo"], &["--pod", "WEFT_POD"]),
            (
                &["--namespace", "De mo", "--pod", "x"],
                &["--namespace", "De mo"],
            ),
        ] {
            let error = config(flags).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        for (flags, words) in [
            (
                &["--xds-address", "nowhere"][..],
                &["--xds-address", "host:port"][..],
            ),
            (&["--xds-address", ":1"], &["--xds-address"]),
            (&["--trace-sampling", "2"], &["--trace-sampling", "0 to 1"]),
            (&["--header-bytes", "1"], &["--header-bytes", "1024"]),
            (&["--stream-window", "1"], &["--stream-window", "65535"]),
            (
                &["--handshake-timeout", "0s"],
                &["--handshake-timeout", "1ms"],
            ),
            (
                &["--app-address", "127.0.0.1:1"],
                &["--app-address", "explicit"],
            ),
        ] {
            let error = with(flags).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}

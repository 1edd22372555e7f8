//! What a scenario needs beside the workspace, and whether this machine has it.

use crate::{
    kubernetes::session,
    peers::{self, helm::Helm},
};
use std::{env, fmt, path::PathBuf, sync::OnceLock};
use weft_cli::sandbox;

/// A component that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Network namespaces, as root or in a user namespace.
    Namespaces,
    /// Envoy, fetched.
    Envoy,
    /// The gRPC client for Python, fetched.
    GrpcPython,
    /// The gRPC client for Node, fetched.
    GrpcNode,
    /// Helm, fetched.
    Helm(Helm),
    /// kubernetes-validate, fetched.
    KubernetesValidate,
    /// The stand-in for the Kubernetes API, and not a real one.
    StandIn,
    /// A program of the distribution, found in `PATH` or where servers are installed.
    Program(&'static str),
}

impl Need {
    /// Ready to be used, or why not and what to do.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Namespaces => {
                static AVAILABLE: OnceLock<Result<(), String>> = OnceLock::new();
                AVAILABLE
                    .get_or_init(|| sandbox::available().map_err(|missing| missing.to_string()))
                    .clone()
            }
            Self::Envoy => fetched(peers::envoy::program()),
            Self::GrpcPython => fetched(peers::grpc::python()),
            Self::GrpcNode => fetched(peers::grpc::node()),
            Self::Helm(helm) => fetched(helm.program()),
            Self::KubernetesValidate => fetched(peers::kubernetes_validate::directory()),
            Self::StandIn => match env::var_os(session::VARIABLE) {
                None => Ok(()),
                Some(_) => Err(format!("{} names a real one", session::VARIABLE)),
            },
            Self::Program(name) => match program(name) {
                Some(_) => Ok(()),
                None => Err(format!(
                    "no {name} in PATH; install the package that has it"
                )),
            },
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaces => f.write_str("network namespaces"),
            Self::Envoy => f.write_str("Envoy"),
            Self::GrpcPython => f.write_str("gRPC for Python"),
            Self::GrpcNode => f.write_str("gRPC for Node"),
            Self::Helm(helm) => helm.fmt(f),
            Self::KubernetesValidate => f.write_str("kubernetes-validate"),
            Self::StandIn => f.write_str("the stand-in for the Kubernetes API"),
            Self::Program(name) => f.write_str(name),
        }
    }
}

/// Finds a program in `PATH`, or in the directories of system programs that a user's `PATH` may lack.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

fn fetched<T>(peer: anyhow::Result<T>) -> Result<(), String> {
    peer.map(drop).map_err(|error| format!("{error:#}"))
}

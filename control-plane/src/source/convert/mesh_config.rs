//! `MeshConfig`.

use super::{Invalid, StandIn, Verdict, refused, spec, typed_spec};
use crate::{
    api::{self, MeshConfigSpec},
    world::{Limits, LoadBalancer, Mesh, MtlsMode, Object, ObjectKey},
};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn convert(key: &ObjectKey, value: Value) -> Verdict {
    if &*key.name != Mesh::NAME {
        let reason = format!(
            "{:?} is not read: the one MeshConfig is named {:?}; rename this",
            key.name,
            Mesh::NAME
        );
        return refused(Invalid::new("metadata.name", reason));
    }
    match read(value).and_then(mesh) {
        Ok(mesh) => Verdict::Accepted(Object::Mesh(Arc::new(mesh))),
        Err(invalid) => Verdict::Refused {
            invalid,
            instead: Some(StandIn::strict(Object::Mesh(Arc::new(Mesh {
                mtls: MtlsMode::Strict,
                ..Mesh::default()
            })))),
        },
    }
}

fn read(value: Value) -> Result<MeshConfigSpec, Invalid> {
    spec(value, "MeshConfig")?.map_or_else(|| Ok(MeshConfigSpec::default()), typed_spec)
}

fn mesh(spec: MeshConfigSpec) -> Result<Mesh, Invalid> {
    let api::Defaults {
        load_balancer,
        request_timeout,
        idle_timeout,
        connect_timeout,
        limits,
    } = spec.defaults;
    Ok(Mesh {
        mtls: match spec.mtls.mode {
            api::MtlsMode::Permissive => MtlsMode::Permissive,
            api::MtlsMode::Strict => MtlsMode::Strict,
        },
        load_balancer: match load_balancer {
            api::LoadBalancer::PeakEwma => LoadBalancer::PeakEwma,
            api::LoadBalancer::LeastRequest => LoadBalancer::LeastRequest,
            api::LoadBalancer::RoundRobin => LoadBalancer::RoundRobin,
        },
        request_timeout: request_timeout.limit(),
        idle_timeout: idle_timeout.limit(),
        connect_timeout: connect_timeout.limit().ok_or_else(|| {
            let reason = "is 0s; a connection that may take for ever is no use: write 5s";
            Invalid::new("spec.defaults.connectTimeout", reason)
        })?,
        limits: Limits {
            connections: limits.connections,
            pending: limits.pending,
            requests: limits.requests,
        },
    })
}

//! Namespaces.

use super::{
    Annotations, Invalid, MTLS_MODE, StandIn, Verdict, check_annotation_names, mtls_mode, typed,
};
use crate::world::{MtlsMode, Namespace, Object, ObjectKey};
use k8s_openapi::api::core::v1 as core;
use serde_json::Value;
use std::sync::Arc;

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    let namespace = |mtls| {
        Object::Namespace(Arc::new(Namespace {
            name: key.name.clone(),
            mtls,
        }))
    };
    let mtls = typed::<core::Namespace>(value)
        .and_then(|namespace| mode(&namespace.metadata.annotations.unwrap_or_default()));
    match mtls {
        Ok(mtls) => Verdict::Accepted(namespace(mtls)),
        Err(invalid) => Verdict::Refused {
            invalid,
            instead: Some(StandIn::strict(namespace(Some(MtlsMode::Strict)))),
        },
    }
}

fn mode(annotations: &Annotations) -> Result<Option<MtlsMode>, Invalid> {
    check_annotation_names(annotations, &[MTLS_MODE])?;
    mtls_mode(annotations)
}

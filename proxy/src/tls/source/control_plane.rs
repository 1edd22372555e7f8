//! Under construction: certificates signed by the control plane.

/// Under construction.
#[derive(Debug)]
pub struct ControlPlane {}

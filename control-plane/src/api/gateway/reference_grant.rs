//! `ReferenceGrant`.

use serde::Deserialize;

/// `ReferenceGrantSpec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may refer.
    pub from: Vec<GrantFrom>,
    /// To what of the grant's namespace.
    pub to: Vec<GrantTo>,
}

/// `ReferenceGrantFrom`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantFrom {
    /// The group of the kind.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
}

/// `ReferenceGrantTo`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTo {
    /// The group of the kind; "" for services.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name; absent: all of the kind.
    pub name: Option<String>,
}

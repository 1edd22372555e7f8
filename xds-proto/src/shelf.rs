//! A catalogue for tests: what is on it, the test has put there.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    envoy::google::protobuf::Any,
    exchange::{Catalogue, Encoded},
    resource::ResourceType,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf(BTreeMap<(ResourceType, Arc<str>), Arc<Encoded>>);

impl Shelf {
    pub(crate) fn with(entries: &[(ResourceType, &str, &str)]) -> Self {
        let mut shelf = Self::default();
        for (ty, name, version) in entries {
            shelf.put(*ty, name, version);
        }
        shelf
    }

    pub(crate) fn put(&mut self, ty: ResourceType, name: &str, version: &str) {
        let encoded = Encoded::new(name.into(), version.into(), body(ty, name, version));
        self.0.insert((ty, name.into()), Arc::new(encoded));
    }

    pub(crate) fn take(&mut self, ty: ResourceType, name: &str) {
        self.0.remove(&(ty, name.into()));
    }
}

impl Catalogue for Shelf {
    fn find(&self, ty: ResourceType, name: &Arc<str>) -> Option<Arc<Encoded>> {
        self.0.get(&(ty, name.clone())).cloned()
    }

    fn names(&self, ty: ResourceType) -> Vec<Arc<str>> {
        let of_type = self.0.keys().filter(|(found, _)| *found == ty);
        of_type.map(|(_, name)| name.clone()).collect()
    }
}

/// A body that tells what it is.
pub(crate) fn body(ty: ResourceType, name: &str, version: &str) -> Any {
    Any {
        type_url: ty.url().to_owned(),
        value: format!("{name}@{version}").into_bytes(),
    }
}

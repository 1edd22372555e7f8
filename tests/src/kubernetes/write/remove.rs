//! What goes with an object that is taken away.

use crate::kubernetes::{read::name_of, resource::Resource, state::State, store::Name};
use serde_json::Value;

/// Takes an object away, and what cannot be without it: the objects of a namespace, or of a definition.
pub(crate) fn remove(state: &State, resource: &Resource, name: &Name) {
    let mut data = state.data();
    let table = (resource.group.clone(), resource.plural.clone());
    let Some(last) = data.store.delete(&table, name) else {
        return;
    };
    match resource.kind.as_str() {
        "Namespace" => {
            for (table, name) in data.store.within(&name.1) {
                data.store.delete(&table, &name);
            }
        }
        "CustomResourceDefinition" => {
            let spec = &last.value["spec"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let table = (text(&spec["group"]), text(&spec["names"]["plural"]));
            let objects = data.store.list(&table, "", None);
            let names: Vec<Name> = objects.map(|object| name_of(&object.value)).collect();
            for name in names {
                data.store.delete(&table, &name);
            }
            data.registry.undefine(&last.value);
        }
        _ => {}
    }
}

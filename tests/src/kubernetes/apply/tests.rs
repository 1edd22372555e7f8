use super::*;

fn manager(name: &str) -> Manager {
    Manager {
        name: name.to_owned(),
        operation: "Apply",
        subresource: String::new(),
    }
}

fn map(data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": data })
}

fn try_apply(
    live: Option<&Value>,
    by: &str,
    applied: &Value,
    is_forced: bool,
) -> Result<Value, Vec<(String, String)>> {
    let lists = Lists::root(None);
    apply(live, applied, &manager(by), is_forced, &json!("now"), lists)
}

fn applied(live: Option<&Value>, by: &str, object: &Value) -> Value {
    try_apply(live, by, object, false).unwrap()
}

#[test]
fn what_is_applied_belongs_to_its_manager() {
    let object = applied(None, "one", &map(json!({ "x": "1" })));
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "one", "operation": "Apply", "apiVersion": "v1", "time": "now", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:data": { "f:x": {} } },
        }])
    );
}

#[test]
fn a_change_of_what_another_manages_is_a_conflict_that_force_decides() {
    let object = applied(None, "one", &map(json!({ "x": "1", "y": "1" })));
    let conflict = try_apply(Some(&object), "two", &map(json!({ "x": "2" })), false);
    assert_eq!(
        conflict.unwrap_err(),
        [("\"one\"".to_owned(), ".data.x".to_owned())]
    );
    let object = try_apply(Some(&object), "two", &map(json!({ "x": "2" })), true).unwrap();
    assert_eq!(object["data"], json!({ "x": "2", "y": "1" }));
    let owners: Vec<_> = object["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(owners[0]["fieldsV1"], json!({ "f:data": { "f:y": {} } }));
    assert_eq!(owners[1]["fieldsV1"], json!({ "f:data": { "f:x": {} } }));
}

#[test]
fn the_same_value_is_shared_and_stays_while_one_applies_it() {
    let object = applied(None, "one", &map(json!({ "x": "1" })));
    let object = applied(Some(&object), "two", &map(json!({ "x": "1" })));
    let object = applied(Some(&object), "one", &map(json!({})));
    assert_eq!(object["data"], json!({ "x": "1" }));
    let object = applied(Some(&object), "two", &map(json!({})));
    assert_eq!(object["data"], Value::Null);
}

#[test]
fn items_of_a_map_list_are_managed_one_by_one() {
    let pod = |conditions: Value| json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" }, "status": { "conditions": conditions } });
    let object = applied(
        None,
        "one",
        &pod(json!([{ "type": "A", "status": "True" }])),
    );
    let object = applied(
        Some(&object),
        "two",
        &pod(json!([{ "type": "B", "status": "False" }])),
    );
    let both = json!([{ "type": "A", "status": "True" }, { "type": "B", "status": "False" }]);
    assert_eq!(object["status"]["conditions"], both);
    let object = applied(Some(&object), "one", &pod(json!([])));
    assert_eq!(
        object["status"]["conditions"],
        json!([{ "type": "B", "status": "False" }])
    );
}

#[test]
fn an_atomic_list_of_a_schema_is_one_field() {
    let schema =
        json!({ "properties": { "spec": { "properties": { "hosts": { "items": {} } } } } });
    let lists = Lists::root(Some(&schema));
    let object = |hosts: Value| json!({ "apiVersion": "e/v1", "kind": "K", "metadata": { "name": "a" }, "spec": { "hosts": hosts } });
    let first = apply(
        None,
        &object(json!(["a"])),
        &manager("one"),
        false,
        &json!("now"),
        lists,
    )
    .unwrap();
    let second = apply(
        Some(&first),
        &object(json!(["b"])),
        &manager("two"),
        false,
        &json!("now"),
        lists,
    );
    assert_eq!(
        second.unwrap_err(),
        [("\"one\"".to_owned(), ".spec.hosts".to_owned())]
    );
}

#[test]
fn an_update_takes_what_it_changes() {
    let lists = Lists::root(None);
    let object = applied(None, "one", &map(json!({ "x": "1", "y": "1" })));
    let mut changed = object.clone();
    changed["data"]["x"] = json!("2");
    changed["data"]["z"] = json!("3");
    let editor = Manager {
        operation: "Update",
        ..manager("edit")
    };
    let managed = track(Some(&object), &changed, &editor, &json!("now"), lists);
    managed.write(&mut changed);
    let owners: Vec<_> = changed["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(owners[0]["fieldsV1"], json!({ "f:data": { "f:y": {} } }));
    assert_eq!(
        owners[1]["fieldsV1"],
        json!({ "f:data": { "f:x": {}, "f:z": {} } })
    );
    let conflict = try_apply(
        Some(&changed),
        "one",
        &map(json!({ "x": "1", "y": "1" })),
        false,
    );
    assert_eq!(
        conflict.unwrap_err(),
        [("\"edit\" using v1".to_owned(), ".data.x".to_owned())]
    );
}

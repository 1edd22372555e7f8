use super::*;
use serde_json::json;

fn schema() -> Schema {
    Schema::new(json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["mode"],
                "x-kubernetes-validations": [
                    { "rule": "has(self.low) ? self.low <= self.high : true", "message": "low must not exceed high" },
                    { "rule": "self.mode == oldSelf.mode", "message": "mode is immutable" },
                    { "rule": "!has(self.wait) || duration(self.wait) >= duration('1s')", "messageExpression": "'wait is ' + self.wait" },
                ],
                "properties": {
                    "mode": { "type": "string", "enum": ["A", "B"] },
                    "low": { "type": "integer", "minimum": 1 },
                    "high": { "type": "integer", "maximum": 10, "default": 5 },
                    "wait": { "type": "string", "pattern": "^[0-9]+(ms|s)$" },
                    "port": { "x-kubernetes-int-or-string": true },
                    "free": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                    "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                    "items": {
                        "type": "array",
                        "maxItems": 2,
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["name"],
                        "items": {
                            "type": "object",
                            "properties": {
                                "name": { "type": "string" },
                                "weight": { "type": "integer", "default": 1 },
                            },
                        },
                    },
                },
            },
        },
    }))
    .unwrap()
}

fn errors(spec: Value) -> Vec<String> {
    let schema = schema();
    let mut object = json!({ "metadata": { "name": "a" }, "spec": spec });
    schema.default(&mut object);
    schema.errors(&object, None)
}

#[test]
fn defaults_are_filled_in_where_their_parent_is() {
    let mut object = json!({ "spec": { "mode": "A", "items": [{ "name": "x" }] } });
    schema().default(&mut object);
    let expected =
        json!({ "spec": { "mode": "A", "high": 5, "items": [{ "name": "x", "weight": 1 }] } });
    assert_eq!(object, expected);
}

#[test]
fn unknown_fields_are_removed_and_named() {
    let mut object = json!({
        "apiVersion": "v1", "kind": "K", "metadata": { "name": "a" },
        "spec": { "mode": "A", "tpyo": 1, "free": { "any": 1 }, "items": [{ "name": "x", "what": 1 }] },
    });
    let unknown = schema().prune(&mut object);
    assert_eq!(unknown, ["spec.tpyo", "spec.items[0].what"]);
    let expected = json!({ "mode": "A", "free": { "any": 1 }, "items": [{ "name": "x" }] });
    assert_eq!(object["spec"], expected);
}

#[test]
fn what_is_right_has_no_errors() {
    let spec =
        json!({ "mode": "B", "low": 2, "wait": "2s", "port": "http", "labels": { "a": "b" } });
    assert_eq!(errors(spec), Vec::<String>::new());
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_kubernetes() {
    assert_eq!(errors(json!({})), ["spec.mode: Required value"]);
    assert_eq!(
        errors(
            json!({ "mode": "C", "low": 0, "wait": "soon", "port": true, "labels": { "a": 1 },
                       "items": [{ "name": "x" }, { "name": "x" }, { "name": "y" }] })
        ),
        [
            "spec.items: Too many: 3: must have at most 2 items",
            "spec.items[1]: Duplicate value: {\"name\":\"x\"}",
            "spec.labels.a: Invalid value: \"integer\": spec.labels.a in body must be of type string: \"integer\"",
            "spec.low: Invalid value: 0: spec.low in body should be greater than or equal to 1",
            "spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\"",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.wait: Invalid value: \"soon\": spec.wait in body should match '^[0-9]+(ms|s)$'",
        ]
    );
}

#[test]
fn rules_are_evaluated_with_their_messages() {
    assert_eq!(
        errors(json!({ "mode": "A", "low": 7, "wait": "500ms" })),
        [
            "spec: Invalid value: low must not exceed high",
            "spec: Invalid value: wait is 500ms",
        ]
    );
}

#[test]
fn rules_know_durations_and_quantities() {
    let holds = |rule: &str| {
        let rule = json!({ "x-kubernetes-validations": [{ "rule": rule }] });
        Schema::new(rule)
            .unwrap()
            .errors(&json!("64Ki"), None)
            .is_empty()
    };
    assert!(holds("quantity(self).asInteger() == 65536"));
    assert!(holds(
        "(type(self) == int ? int(self) : quantity(string(self)).asInteger()) <= 65536"
    ));
    assert!(holds("duration('1m30s') > duration('89s')"));
    assert!(holds("duration('1500ms').getMilliseconds() % 1000 == 500"));
    assert!(!holds("duration(self) > duration('1s')"));
}

#[test]
fn a_rule_about_the_old_value_is_for_updates() {
    let (old, new) = (
        json!({ "spec": { "mode": "A" } }),
        json!({ "spec": { "mode": "B" } }),
    );
    assert_eq!(schema().errors(&new, None), Vec::<String>::new());
    assert_eq!(
        schema().errors(&new, Some(&old)),
        ["spec: Invalid value: mode is immutable"]
    );
}

#[test]
fn a_rule_that_cannot_be_read_is_refused_with_the_definition() {
    let rule = json!({ "x-kubernetes-validations": [{ "rule": "self.a ==" }] });
    assert!(Schema::new(rule).is_err());
}

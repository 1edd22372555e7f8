//! Rules in CEL: `x-kubernetes-validations`.
//!
//! Evaluated with the crate `cel`, its library of strings and, of Kubernetes' own functions, `duration` as a number of
//! nanoseconds and `quantity` as a whole number. A rule that uses more than that cannot be evaluated and is an error of the object, so that it is
//! noticed rather than passed over. Costs are not counted.

use super::field;
use cel::{Context, Env, ExecutionError, Program, Value as Cel, extensions, extractors::This};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, LazyLock},
};

/// What rules are evaluated with.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut environment = Env::stdlib();
    environment
        .add_extension(extensions::strings)
        .expect("the library of strings is added once");
    Arc::new(environment)
});

/// The compiled rules of a schema, by their text.
pub(super) struct Rules(BTreeMap<String, Program>);

impl Rules {
    /// Compiles every rule within a schema.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let mut rules = Self(BTreeMap::new());
        rules.add_all(schema)?;
        Ok(rules)
    }

    fn add_all(&mut self, schema: &Value) -> Result<(), String> {
        match schema {
            Value::Object(fields) => {
                for rule in fields
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    self.add(rule["rule"].as_str().unwrap_or_default())?;
                    if let Some(expression) = rule["messageExpression"].as_str() {
                        self.add(expression)?;
                    }
                }
                fields.values().try_for_each(|value| self.add_all(value))
            }
            Value::Array(values) => values.iter().try_for_each(|value| self.add_all(value)),
            _ => Ok(()),
        }
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        let program = ENVIRONMENT
            .compile(text)
            .map_err(|error| format!("Invalid value: {text:?}: compilation failed: {error}"))?;
        self.0.insert(text.to_owned(), program);
        Ok(())
    }

    /// Appends what breaks a rule, within a value and everything in it.
    pub(super) fn check(
        &self,
        value: &Value,
        old: Option<&Value>,
        schema: &Value,
        path: &str,
        errors: &mut Vec<String>,
    ) {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if let Some(error) = self.broken(rule, value, old, schema, path) {
                errors.push(error);
            }
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let property = &schema["properties"][name];
                    let of = if property.is_null() {
                        &schema["additionalProperties"]
                    } else {
                        property
                    };
                    let old = old.and_then(|old| old.get(name));
                    self.check(value, old, of, &field(path, name), errors);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let old = old.and_then(|old| counterpart(item, old, schema));
                    let path = format!("{path}[{index}]");
                    self.check(item, old, &schema["items"], &path, errors);
                }
            }
            _ => {}
        }
    }

    /// The error of a rule that does not hold. A rule about `oldSelf` holds where there is none.
    fn broken(
        &self,
        rule: &Value,
        value: &Value,
        old: Option<&Value>,
        schema: &Value,
        path: &str,
    ) -> Option<String> {
        let text = rule["rule"].as_str()?;
        if old.is_none() && text.contains("oldSelf") {
            return None;
        }
        let mut context = context();
        context.add_variable_from_value("self", to_cel(value, schema));
        if let Some(old) = old {
            context.add_variable_from_value("oldSelf", to_cel(old, schema));
        }
        let path = rule["fieldPath"]
            .as_str()
            .map_or_else(|| path.to_owned(), |below| format!("{path}{below}"));
        let outcome = self.0.get(text)?.execute(&context);
        let why = match outcome {
            Ok(Cel::Bool(true)) => return None,
            Ok(Cel::Bool(false)) => self.message(rule, &context),
            Ok(other) => format!("rule evaluated to {other:?}, not to a boolean: {text}"),
            Err(error) => format!("rule evaluation error: {error}: {text}"),
        };
        let subject = if path.is_empty() { "<nil>" } else { &path };
        Some(match rule["reason"].as_str() {
            Some("FieldValueRequired") => format!("{subject}: Required value: {why}"),
            Some("FieldValueForbidden") => format!("{subject}: Forbidden: {why}"),
            Some("FieldValueDuplicate") => format!("{subject}: Duplicate value: {why}"),
            _ => format!("{subject}: Invalid value: {why}"),
        })
    }

    fn message(&self, rule: &Value, context: &Context<'_, '_>) -> String {
        let expression = rule["messageExpression"].as_str();
        let program = expression.and_then(|text| self.0.get(text));
        if let Some(Ok(Cel::String(message))) = program.map(|program| program.execute(context)) {
            return message.to_string();
        }
        match rule["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("failed rule: {}", rule["rule"].as_str().unwrap_or_default()),
        }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

fn context() -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    let added = [
        context.add_function("duration", duration),
        context.add_function("getMilliseconds", |This(nanos): This<i64>| {
            nanos / 1_000_000
        }),
        context.add_function("quantity", quantity),
        context.add_function("asInteger", |This(number): This<i64>| number),
    ];
    for function in added {
        function.expect("the crate has no function of that name, without its feature for times");
    }
    context
}

/// The number that a quantity stands for, as far as it is whole: `64Ki`.
fn quantity(text: Arc<String>) -> Result<i64, ExecutionError> {
    parse_quantity(&text)
        .ok_or_else(|| ExecutionError::function_error("quantity", format!("{text:?} is none")))
}

fn parse_quantity(text: &str) -> Option<i64> {
    const UNITS: &[(&str, i64)] = &[
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let unit = UNITS.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (digits, factor) = match unit {
        Some((suffix, factor)) => (text.strip_suffix(suffix)?, *factor),
        None => (text, 1),
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

/// Nanoseconds of Go's form of a duration: `1h2m3.5s`.
fn duration(text: Arc<String>) -> Result<i64, ExecutionError> {
    parse_duration(&text)
        .ok_or_else(|| ExecutionError::function_error("duration", format!("{text:?} is none")))
}

fn parse_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[letters..];
        total += number * unit;
    }
    (!text.is_empty()).then_some((sign * total) as i64)
}

/// The item of an old list that a new item is compared with: only lists that are maps tell.
fn counterpart<'a>(item: &Value, old: &'a Value, schema: &Value) -> Option<&'a Value> {
    let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    old.as_array()?
        .iter()
        .find(|old| keys.iter().all(|key| old[*key] == item[*key]))
}

/// A value as CEL sees it: integers are signed, and fields that the schema has as numbers are floating.
fn to_cel(value: &Value, schema: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(bool) => Cel::Bool(*bool),
        Value::Number(number) if schema["type"] == "number" => {
            Cel::Float(number.as_f64().unwrap_or(f64::NAN))
        }
        Value::Number(number) => match number.as_i64() {
            Some(number) => Cel::Int(number),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let items = items.iter().map(|item| to_cel(item, &schema["items"]));
            Cel::List(Arc::new(items.collect()))
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let property = &schema["properties"][name];
                let of = if property.is_null() {
                    &schema["additionalProperties"]
                } else {
                    property
                };
                (name.clone(), to_cel(value, of))
            });
            let fields: HashMap<String, Cel> = fields.collect();
            fields.into()
        }
    }
}

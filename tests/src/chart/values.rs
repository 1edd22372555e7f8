//! The values of the chart as a table: what `values.yaml` says and explains.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::fmt::Write;

/// A Markdown table of the values that have a comment, in their order. A value without one must lie in a value that
/// has one, so that nothing is left out.
pub fn table(yaml: &str) -> anyhow::Result<String> {
    let values: Value = serde_saphyr::from_str(yaml).context("values.yaml")?;
    let mut table = String::from("| value | default | meaning |\n|---|---|---|\n");
    let explained = explained(yaml);
    for (path, meaning) in &explained {
        let value = path.split('.').try_fold(&values, |at, key| at.get(key));
        let value = value.with_context(|| format!("values.yaml has no {path}"))?;
        writeln!(
            table,
            "| `{path}` | {} | {} |",
            cell(value),
            meaning.replace('|', "\\|")
        )?;
    }
    let mut leaves = Vec::new();
    collect(&values, "", &mut leaves);
    for leaf in leaves {
        let told = |path: &str| leaf == path || leaf.starts_with(&format!("{path}."));
        ensure!(
            explained.iter().any(|(path, _)| told(path)),
            "values.yaml: {leaf} has no comment"
        );
    }
    Ok(table)
}

/// The paths of the keys with a comment right above, and the comment.
fn explained(yaml: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut parents: Vec<(usize, &str)> = Vec::new();
    for line in yaml.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some((key, _)) = text.split_once(':').filter(|_| !text.starts_with('-')) {
            parents.retain(|(depth, _)| *depth < indent);
            parents.push((indent, key));
            if !comment.is_empty() {
                let path: Vec<&str> = parents.iter().map(|(_, key)| *key).collect();
                found.push((path.join("."), comment.join(" ")));
            }
        }
        comment.clear();
    }
    found
}

fn cell(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "`{}`".to_owned(),
        Value::String(text) if text.is_empty() => "`\"\"`".to_owned(),
        Value::String(text) => format!("`{text}`"),
        value => format!("`{value}`"),
    }
}

/// The paths of values that hold no others.
fn collect(value: &Value, path: &str, leaves: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(value, &path, leaves);
            }
        }
        _ => leaves.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_explains_the_value_below_and_all_that_is_in_it() {
        let yaml = "\
# Of the file, not of a value.

image:
  # Where it is pulled
  # from
  registry: \"\"
# Seconds: `a|b`
times: [1, 2]
# What it may use
resources:
  limits:
    memory: 1Gi
";
        assert_eq!(
            table(yaml).unwrap(),
            "| value | default | meaning |\n|---|---|---|\n\
             | `image.registry` | `\"\"` | Where it is pulled from |\n\
             | `times` | `[1,2]` | Seconds: `a\\|b` |\n\
             | `resources` | `{\"limits\":{\"memory\":\"1Gi\"}}` | What it may use |\n"
        );
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = table("a:\n  # B\n  b: 1\n  c: 2\n").unwrap_err();
        assert_eq!(error.to_string(), "values.yaml: a.c has no comment");
    }
}

//! The documents of a file.

use serde_json::Value;
use serde_saphyr::{RenderOptions, SnippetMode};
use std::path::Path;

/// A document of a file.
pub(super) struct Document {
    /// Its number, from 1, among those with content: a file may well begin with `---`.
    pub(super) number: usize,
    /// What it says, or why that cannot be read.
    pub(super) value: Result<Value, String>,
}

/// Splits a file into its documents and reads them, each on its own: what is broken in one says nothing
/// about the others. Documents without content are left out.
pub(super) fn documents(path: &Path, text: &str) -> Vec<Document> {
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return vec![Document {
            number: 1,
            value: serde_json::from_str(text).map_err(|error| error.to_string()),
        }];
    }
    split(text)
        .filter(|part| part.has_content())
        .map(|part| Document {
            number: part.number,
            value: serde_saphyr::from_str(&part.text).map_err(|error| message(&error, part.line)),
        })
        .collect()
}

struct Part {
    number: usize,
    /// How many lines of the file stand before it.
    line: usize,
    text: String,
}

impl Part {
    fn has_content(&self) -> bool {
        self.text
            .lines()
            .map(str::trim_start)
            .any(|line| !line.is_empty() && !line.starts_with(['#', '%']))
    }
}

/// A line that starts with `---` or `...` ends a document wherever it stands, even within a block
/// scalar (YAML 1.2.2, section 9.1.2).
fn split(text: &str) -> impl Iterator<Item = Part> {
    let mut parts = vec![Part {
        number: 1,
        line: 0,
        text: String::new(),
    }];
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let marker = ["---", "..."].into_iter().find_map(|marker| {
            let rest = content.strip_prefix(marker)?;
            (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
        });
        let current = parts.last_mut().expect("there is one from the start");
        match marker {
            None => current.text.push_str(content),
            Some(rest) => {
                let number = current.number + usize::from(current.has_content());
                parts.push(Part {
                    number,
                    line,
                    text: rest.to_owned(),
                });
            }
        }
    }
    parts.into_iter()
}

/// What is wrong, with the line of the file instead of the document's.
fn message(error: &serde_saphyr::Error, lines_before: usize) -> String {
    let mut options = RenderOptions::default();
    options.snippets = SnippetMode::Off;
    options.line_offset = u64::try_from(lines_before).unwrap_or(u64::MAX);
    error.render_with_options(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Vec<(usize, Result<Value, String>)> {
        documents(Path::new("a.yaml"), text)
            .into_iter()
            .map(|document| (document.number, document.value))
            .collect()
    }

    #[test]
    fn documents_without_content_are_left_out() {
        assert_eq!(
            read("%YAML 1.2\n# nothing\n---\n---\na: 1\n--- # two\nb: |\n  x\n...\n"),
            [(1, Ok(json!({"a": 1}))), (2, Ok(json!({"b": "x\n"})))]
        );
        assert_eq!(read("# nothing\n"), []);
    }

    #[test]
    fn a_broken_document_is_told_by_its_line_in_the_file() {
        let documents = read("a: 1\n---\nb: [1,\n");
        assert_eq!(documents[0], (1, Ok(json!({"a": 1}))));
        let (number, Err(reason)) = &documents[1] else {
            panic!("{documents:?}");
        };
        assert_eq!(*number, 2);
        assert!(
            reason.contains("line 3") || reason.contains("line 4"),
            "{reason}"
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        assert!(read("a: 1\na: 2\n")[0].1.is_err());
    }

    #[test]
    fn json_is_one_document() {
        let documents = documents(Path::new("a.json"), "{\n\t\"a\": 1\n}");
        assert_eq!(documents[0].value, Ok(json!({"a": 1})));
    }
}

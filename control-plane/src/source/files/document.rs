//! The documents of a file.

use serde_json::Value;
use serde_saphyr::{RenderOptions, SnippetMode};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// A document of a file.
pub(crate) struct Document<'a> {
    /// Its number, from 1, among those with content: a file may well begin with `---`.
    pub(crate) number: usize,
    /// How many lines of the file stand before it.
    lines_before: usize,
    text: &'a str,
    syntax: Syntax,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Yaml,
    Json,
}

/// Splits a file into its documents, each to be read on its own: what is broken in one says nothing
/// about the others. Documents without content are left out.
pub(crate) fn documents<'a>(path: &Path, text: &'a str) -> Vec<Document<'a>> {
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return vec![Document {
            number: 1,
            lines_before: 0,
            text,
            syntax: Syntax::Json,
        }];
    }
    let mut parts = split(text);
    parts.retain(Document::has_content);
    parts
}

impl Document<'_> {
    /// Documents with the same fingerprint say the same.
    pub(super) fn fingerprint(&self) -> u128 {
        xxh3_128(self.text.as_bytes())
    }

    /// As it stands in the file.
    pub(crate) fn text(&self) -> &str {
        self.text
    }

    /// What it says, or why that cannot be read.
    pub(crate) fn read(&self) -> Result<Value, String> {
        match self.syntax {
            Syntax::Json => serde_json::from_str(self.text).map_err(|error| error.to_string()),
            Syntax::Yaml => serde_saphyr::from_str(self.text)
                .map_err(|error| message(&error, self.lines_before)),
        }
    }

    fn has_content(&self) -> bool {
        self.text
            .lines()
            .map(str::trim_start)
            .any(|line| !line.is_empty() && !line.starts_with(['#', '%']))
    }
}

/// A line that starts with `---` or `...` ends a document wherever it stands, even within a block
/// scalar (YAML 1.2.2, section 9.1.2).
fn split(text: &str) -> Vec<Document<'_>> {
    let mut parts = Vec::new();
    let mut current = Document {
        number: 1,
        lines_before: 0,
        text: "",
        syntax: Syntax::Yaml,
    };
    // Where the current document begins, and where the line that is looked at does.
    let (mut begin, mut at) = (0, 0);
    for (line, content) in text.split_inclusive('\n').enumerate() {
        let marker = ["---", "..."].into_iter().find_map(|marker| {
            let rest = content.strip_prefix(marker)?;
            (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(marker)
        });
        if let Some(marker) = marker {
            current.text = &text[begin..at];
            let next = Document {
                number: current.number + usize::from(current.has_content()),
                lines_before: line,
                ..current
            };
            parts.push(std::mem::replace(&mut current, next));
            begin = at + marker.len();
        }
        at += content.len();
    }
    current.text = &text[begin..];
    parts.push(current);
    parts
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
            .iter()
            .map(|document| (document.number, document.read()))
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
        assert_eq!(documents[0].read(), Ok(json!({"a": 1})));
    }
}

//! What one text of a message has that another lacks, with what it stands in.

/// The lines of `new` that `old` has not at their place, and the lines that they are nested in. Empty if there are none.
pub(super) fn added(old: &str, new: &str) -> String {
    let mut text = String::new();
    write(&blocks(old), &blocks(new), &mut text);
    text
}

/// A line, and what is indented below it.
#[derive(PartialEq)]
struct Block<'a> {
    line: &'a str,
    nested: Vec<Block<'a>>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let lines: Vec<_> = text.lines().filter(|line| !closes(line)).collect();
    nested(&mut lines.as_slice(), 0)
}

fn nested<'a>(lines: &mut &[&'a str], indent: usize) -> Vec<Block<'a>> {
    let mut blocks = Vec::new();
    while let [line, rest @ ..] = *lines {
        let own = line.len() - line.trim_start().len();
        if own < indent {
            break;
        }
        *lines = rest;
        blocks.push(Block {
            line,
            nested: nested(lines, own + 1),
        });
    }
    blocks
}

fn closes(line: &str) -> bool {
    line.trim().chars().all(|c| "})],".contains(c))
}

fn write(old: &[Block<'_>], new: &[Block<'_>], text: &mut String) {
    let mut unmatched: Vec<_> = old.iter().collect();
    let mut different = Vec::new();
    for block in new {
        match unmatched.iter().position(|other| *other == block) {
            Some(position) => {
                unmatched.remove(position);
            }
            None => different.push(block),
        }
    }
    for block in different {
        text.push_str(block.line);
        text.push('\n');
        match unmatched.iter().position(|other| other.line == block.line) {
            Some(position) => write(&unmatched.remove(position).nested, &block.nested, text),
            None => write(&[], &block.nested, text),
        }
    }
}

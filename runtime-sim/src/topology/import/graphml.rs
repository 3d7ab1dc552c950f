//! GraphML, as far as graphs of friends need it: a light reader of our own, because a whole one reads what nobody needs.
//!
//! Nothing outside the file is ever opened: entities other than the five of XML are refused, and so is a document type
//! that declares some. Namespaces are not looked at.

use std::borrow::Cow;

use super::{Reading, whole};
use crate::topology::TopologyError;

/// Attributes of one element. Chosen freely.
const MAX_ATTRIBUTES: usize = 64;

pub(super) fn parse(text: &str, reading: &mut Reading) -> Result<(), TopologyError> {
    let mut scanner = Scanner { rest: text, line: 1 };
    // The key under which edges say what they carry, once it is declared.
    let mut capacity_key: Option<String> = None;
    // The edge whose elements are being read.
    let mut open: Option<(usize, String, String, Option<u64>)> = None;
    while let Some(tag) = scanner.next_tag()? {
        let line = tag.line;
        match (tag.kind, tag.name) {
            (Kind::Begin | Kind::Alone, "key") => {
                let name = tag.get("attr.name")?.map(|name| name.to_ascii_lowercase());
                let for_edges = tag.get("for")?.is_none_or(|what| matches!(&*what, "edge" | "all"));
                if for_edges && matches!(name.as_deref(), Some("capacity" | "weight")) && capacity_key.is_none() {
                    capacity_key = tag.get("id")?.map(Cow::into_owned);
                }
            }
            (Kind::Begin | Kind::Alone, "node") => {
                let id = tag.get("id")?.ok_or_else(|| bad(line, "a node has no id"))?;
                reading.node(line, &id)?;
            }
            (kind @ (Kind::Begin | Kind::Alone), "edge") => {
                if open.is_some() {
                    return Err(bad(line, "an edge stands within an edge"));
                }
                let (Some(from), Some(to)) = (tag.get("source")?, tag.get("target")?) else {
                    return Err(bad(line, "an edge has no source or no target"));
                };
                match kind {
                    Kind::Alone => reading.edge(line, &from, &to, None)?,
                    Kind::Begin | Kind::End => open = Some((line, from.into_owned(), to.into_owned(), None)),
                }
            }
            (Kind::End, "edge") => {
                let (line, from, to, capacity) =
                    open.take().ok_or_else(|| bad(line, "an edge ends that did not begin"))?;
                reading.edge(line, &from, &to, capacity)?;
            }
            (Kind::Begin, "data") => {
                let key = tag.get("key")?;
                if let Some((.., capacity)) = open.as_mut().filter(|_| key.as_deref() == capacity_key.as_deref()) {
                    *capacity = whole(scanner.text().trim());
                }
            }
            (Kind::Begin | Kind::End | Kind::Alone, _) => {}
        }
    }
    if open.is_some() {
        return Err(bad(scanner.line, "the file ends within an edge"));
    }
    Ok(())
}

fn bad(line: usize, what: &str) -> TopologyError {
    TopologyError::Bad { line, what: what.to_owned() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Begin,
    End,
    Alone,
}

struct Tag<'t> {
    line: usize,
    kind: Kind,
    /// Without its namespace.
    name: &'t str,
    attributes: Vec<(&'t str, &'t str)>,
}

impl<'t> Tag<'t> {
    fn get(&self, name: &str) -> Result<Option<Cow<'t, str>>, TopologyError> {
        let raw = self.attributes.iter().find(|(attribute, _)| *attribute == name);
        raw.map(|(_, raw)| unescape(raw).ok_or_else(|| bad(self.line, "an entity that is none of XML's five")))
            .transpose()
    }
}

struct Scanner<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Scanner<'t> {
    /// Everything up to the next tag.
    fn text(&mut self) -> &'t str {
        let end = self.rest.find('<').unwrap_or(self.rest.len());
        self.take(end)
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }

    fn skip_past(&mut self, end: &str, what: &str) -> Result<&'t str, TopologyError> {
        let line = self.line;
        let at = self.rest.find(end).ok_or_else(|| bad(line, &format!("{what} does not end")))?;
        Ok(self.take(at + end.len()))
    }

    fn next_tag(&mut self) -> Result<Option<Tag<'t>>, TopologyError> {
        loop {
            self.text();
            if self.rest.is_empty() {
                return Ok(None);
            } else if self.rest.starts_with("<!--") {
                self.skip_past("-->", "a comment")?;
            } else if self.rest.starts_with("<![CDATA[") {
                self.skip_past("]]>", "a character section")?;
            } else if self.rest.starts_with("<?") {
                self.skip_past("?>", "an instruction")?;
            } else if self.rest.starts_with("<!") {
                let line = self.line;
                if self.skip_past(">", "a declaration")?.contains('[') {
                    return Err(bad(line, "a document type with declarations of its own is not read"));
                }
            } else {
                return self.element().map(Some);
            }
        }
    }

    fn element(&mut self) -> Result<Tag<'t>, TopologyError> {
        let line = self.line;
        self.take(1);
        let ends = self.rest.starts_with('/');
        if ends {
            self.take(1);
        }
        let length = self.rest.find(|letter: char| letter.is_whitespace() || "/>=<\"'".contains(letter));
        let name = self.take(length.ok_or_else(|| bad(line, "an element does not end"))?);
        if name.is_empty() {
            return Err(bad(line, "an element has no name"));
        }
        let mut tag = Tag {
            line,
            kind: if ends { Kind::End } else { Kind::Begin },
            name: name.rsplit(':').next().unwrap_or(name),
            attributes: Vec::new(),
        };
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.take(blank);
            if self.rest.starts_with('>') {
                self.take(1);
                return Ok(tag);
            }
            if self.rest.starts_with("/>") {
                self.take(2);
                tag.kind = Kind::Alone;
                return Ok(tag);
            }
            if tag.attributes.len() >= MAX_ATTRIBUTES {
                return Err(bad(line, "an element has too many attributes"));
            }
            tag.attributes.push(self.attribute()?);
        }
    }

    fn attribute(&mut self) -> Result<(&'t str, &'t str), TopologyError> {
        let line = self.line;
        let wrong = || bad(line, "an attribute is not of the form name=\"value\"");
        let length = self.rest.find(|letter: char| letter.is_whitespace() || "/>=<\"'".contains(letter));
        let name = self.take(length.filter(|length| *length > 0).ok_or_else(wrong)?);
        let after = self.rest.trim_start().strip_prefix('=').ok_or_else(wrong)?.trim_start();
        self.take(self.rest.len() - after.len());
        let quote = self.rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')).ok_or_else(wrong)?;
        self.take(1);
        let end = self.rest.find(quote).ok_or_else(wrong)?;
        let value = self.take(end);
        self.take(1);
        Ok((name, value))
    }
}

/// A value with XML's five entities and its numbered characters in it; `None` if there are others.
fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('&') {
        return Some(Cow::Borrowed(raw));
    }
    let mut text = String::new();
    let mut rest = raw;
    while let Some((before, entity)) = rest.split_once('&') {
        text.push_str(before);
        let (name, after) = entity.split_once(';')?;
        text.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use crate::topology::import::{Format, Imported, parse};

    fn read(text: &str) -> Result<Imported, String> {
        parse(text, Format::GraphMl).map_err(|error| error.to_string())
    }

    #[test]
    fn a_graph_with_names_comments_and_weights_is_read() {
        let text = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE graphml>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key id="d0" for="node" attr.name="weight"/>
  <key id="d1" for="edge" attr.name="weight" attr.type="double"/>
  <graph id="G" edgedefault="undirected"> <!-- <node id="no"/> -->
    <node id="n0"><data key="d0">9</data></node>
    <node id='Ann &amp; Bob'/>
    <edge source="n0" target="Ann &#38; Bob"><data key="d1"> 7.5 </data></edge>
    <g:edge xmlns:g="x" source="n0" target="n2" />
  </graph>
</graphml>"#;
        let read = read(text).unwrap();
        assert_eq!((read.graph.nodes(), read.graph.edges()), (3, [(0, 1), (0, 2)].as_slice()));
        assert_eq!((read.graph.capacity(0), read.graph.capacity(1)), (Some(7), Some(0)));
        assert_eq!(read.graph.name(1), Some("Ann & Bob"));
    }

    #[test]
    fn what_is_wrong_is_said_by_line() {
        for (text, wrong) in [
            ("<graph>\n<node/>", "line 2: a node has no id"),
            ("<edge source='a'/>", "line 1: an edge has no source or no target"),
            ("\n\n<edge source='a' target='b'>", "line 3: the file ends within an edge"),
            ("</edge>", "line 1: an edge ends that did not begin"),
            ("<node id=a/>", "line 1: an attribute is not of the form name=\"value\""),
            ("<node id='&other;'/>", "line 1: an entity that is none of XML's five"),
            ("<!DOCTYPE a [<!ENTITY b 'c'>]>", "line 1: a document type with declarations of its own is not read"),
            ("<!-- ", "line 1: a comment does not end"),
            ("<node", "line 1: an element does not end"),
        ] {
            assert_eq!(read(text).unwrap_err(), wrong);
        }
    }
}

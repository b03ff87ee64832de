//! SPIRE's configuration files as a tree in which everything knows its line.
//!
//! SPIRE reads HCL of version 1, or JSON; the parser is one of version 2, and what the two do not
//! have in common is evened out before. A text keeps what would be an expression in it. What else is
//! not understood is an error with its line.

use std::ops::Range;

use hcl_edit::Span as _;
use hcl_edit::expr::{Expression, Object, ObjectKey};
use hcl_edit::parser::{self, parse_body, parse_expr};
use hcl_edit::structure::{Body, Structure};
use thiserror::Error;

use super::version_one::{Evened, as_it_is, as_it_was, even};

/// A key and what it is set to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a key is set to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(String),
    Bool(bool),
    List(Vec<Self>),
    Block(Vec<Item>),
}

/// Why a file is not understood.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(super) enum HclError {
    /// It is no HCL.
    #[error("line {line}: {message}; a key of HCL is `name = value` or `name {{ … }}`")]
    Syntax { line: usize, message: String },
    /// It has something that HCL of version 1 does not have.
    #[error("line {line}: this is neither a text, a number, true, false, a list nor a block")]
    Expression { line: usize },
}

/// Reads a file.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, HclError> {
    if text.trim_start().starts_with('{') {
        let reader = Reader { evened: as_it_is(text) };
        let json =
            parse_expr(reader.evened.text.trim_end()).map_err(|error| reader.syntax(&error))?;
        let object = json.as_object().ok_or(HclError::Expression { line: 1 })?;
        return reader.object(object);
    }
    let reader = Reader { evened: even(text) };
    let body = parse_body(&reader.evened.text).map_err(|error| reader.syntax(&error))?;
    reader.body(&body)
}

struct Reader {
    evened: Evened,
}

impl Reader {
    fn body(&self, body: &Body) -> Result<Vec<Item>, HclError> {
        let mut items = Vec::new();
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    let line = self.line(attribute.key.span());
                    let key = self.evened.key(attribute.key.as_str());
                    push(&mut items, key, line, self.value(&attribute.value)?);
                }
                Structure::Block(block) => {
                    let line = self.line(block.ident.span());
                    // A label is a key of its own, as if it stood in a block around the rest.
                    let inner = Value::Block(self.body(&block.body)?);
                    let value = block.labels.iter().rev().fold(inner, |value, label| {
                        Value::Block(vec![Item { key: label.as_str().into(), line, value }])
                    });
                    push(&mut items, self.evened.key(block.ident.as_str()), line, value);
                }
            }
        }
        Ok(items)
    }

    fn object(&self, object: &Object) -> Result<Vec<Item>, HclError> {
        let mut items = Vec::new();
        for (key, value) in object.iter() {
            let (name, span) = match key {
                ObjectKey::Ident(name) => (Some(name.as_str()), name.span()),
                ObjectKey::Expression(name) => (name.as_str(), name.span()),
            };
            let line = self.line(span);
            let name = name.ok_or(HclError::Expression { line })?;
            push(&mut items, name, line, self.value(value.expr())?);
        }
        Ok(items)
    }

    fn value(&self, expression: &Expression) -> Result<Value, HclError> {
        let unknown = || HclError::Expression { line: self.line(expression.span()) };
        Ok(match expression {
            Expression::Bool(value) => Value::Bool(*value.value()),
            Expression::Number(value) => Value::Number(value.value().to_string()),
            Expression::String(text) => Value::Text(text.value().clone()),
            // Version 1 leaves `${…}` as it is.
            Expression::StringTemplate(_) => {
                let quoted = expression.span().and_then(|span| self.evened.text.get(span));
                let inner = quoted.and_then(|text| text.trim().strip_prefix('"'));
                let inner = inner.and_then(|text| text.strip_suffix('"')).ok_or_else(unknown)?;
                Value::Text(as_it_was(inner))
            }
            Expression::HeredocTemplate(heredoc) => {
                let literal = heredoc.template.as_single_element();
                let literal = literal.and_then(|element| element.as_literal());
                Value::Text(literal.ok_or_else(unknown)?.to_string())
            }
            Expression::Array(values) => {
                Value::List(values.iter().map(|value| self.value(value)).collect::<Result<_, _>>()?)
            }
            Expression::Object(object) => Value::Block(self.object(object)?),
            Expression::Null(_)
            | Expression::Parenthesis(_)
            | Expression::Variable(_)
            | Expression::Conditional(_)
            | Expression::FuncCall(_)
            | Expression::Traversal(_)
            | Expression::UnaryOp(_)
            | Expression::BinaryOp(_)
            | Expression::ForExpr(_) => return Err(unknown()),
        })
    }

    fn line(&self, span: Option<Range<usize>>) -> usize {
        self.evened.line(span.map_or(0, |span| span.start))
    }

    fn syntax(&self, error: &parser::Error) -> HclError {
        let line = self.evened.old_line(error.location().line());
        HclError::Syntax { line, message: error.message().trim().to_owned() }
    }
}

/// Adds an item, or one for each if it is a list of blocks, which is another way to write them.
fn push(items: &mut Vec<Item>, key: &str, line: usize, value: Value) {
    let item = |value| Item { key: key.to_owned(), line, value };
    let is_block = |value: &Value| matches!(value, Value::Block(_));
    if let Value::List(values) = &value
        && !values.is_empty()
        && values.iter().all(is_block)
    {
        items.extend(values.iter().cloned().map(item));
    } else {
        items.push(item(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in one line: `key@line=value`.
    fn shown(items: &[Item]) -> String {
        let value = |value: &Value| match value {
            Value::Text(text) => format!("{text:?}"),
            Value::Number(number) => number.clone(),
            Value::Bool(value) => value.to_string(),
            Value::List(values) => format!("{values:?}"),
            Value::Block(items) => format!("{{{}}}", shown(items)),
        };
        let item = |item: &Item| format!("{}@{}={}", item.key, item.line, value(&item.value));
        items.iter().map(item).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(shown(&parse(text).unwrap()), expected);
    }

    #[test]
    fn version_one_and_json_are_read_with_their_lines() {
        check("a = \"x\" # c\n/* c\n*/ b = 1\n// c\nc = true\n", "a@1=\"x\" b@3=1 c@5=true");
        check("s {\n  a = 1\n}\n", "s@1={a@2=1}");
        check("s = {\n  a = 1\n  b = \"2\"\n}\n", "s@1={a@2=1 b@3=\"2\"}");
        check("K \"n\" {\n  d {}\n}\n", "K@1={n@1={d@2={}}}");
        check("  \"a\" = \"\\\"\"\n\"K\" \"n\" {\n}\n", "a@1=\"\\\"\" K@2={n@2={}}");
        check("a = \"${X}/$Y\"\nb = \"{{ .Z }}\"\n", "a@1=\"${X}/$Y\" b@2=\"{{ .Z }}\"");
        check("a = <<EOF\nx\ny\nEOF\nb = 1\n", "a@1=\"x\\ny\\n\" b@5=1");
        check(
            "s { a = 1 }\nK \"n\" { d { x = 1, y = 2 } }\n",
            "s@1={a@1=1} K@2={n@2={d@2={x@2=1 y@2=2}}}",
        );
        check(
            "s { a = 1 b = \"2\" \"c\" = [3] d {} e = true }\n",
            "s@1={a@1=1 b@1=\"2\" c@1=[Number(\"3\")] d@1={} e@1=true}",
        );
        check(
            "s = { a = 1 \"b\" = \"2\" c = { d = 1, e = 2 } f = 3 }\n",
            "s@1={a@1=1 b@1=\"2\" c@1={d@1=1 e@1=2} f@1=3}",
        );
        check("a = 1 b = 2\n\nc = 3, d = 4\n", "a@1=1 b@1=2 c@3=3 d@3=4");
        check("a = [{ x = 1 y = 2 }, { x = 3 }] b = 1\n", "a@1={x@1=1 y@1=2} a@1={x@1=3} b@1=1");
        check(
            "a.b = 1\nc { \"d.e\" = 2 }\nf = { g.h = 3 }\n",
            "a.b@1=1 c@2={d.e@2=2} f@3={g.h@3=3}",
        );
        check("\"a.b/c\" \"n\" { x =\n # y\n  1\n}\nz = 2\n", "a.b/c@1={n@1={x@1=1}} z@5=2");
        check("s\n{\n  K \"n\" # c\n  {\n x = 1\n}\n}\n", "s@1={K@3={n@3={x@5=1}}}");
        check("a = \"%{b} %%{\"\nc = \"${X}%{\"\n", "a@1=\"%{b} %%{\" c@2=\"${X}%{\"");
        check("a = <<E\n%{x}\nE\nb = 1\n", "a@1=\"%{x}\\n\" b@4=1");
        check("{\n\"a\": \"%{b}\"\n}", "a@2=\"%{b}\"");
        check("s =\n{\n  a = [\n 1 ]\n}\n", "s@1={a@3=[Number(\"1\")]}");
        check("a = [\n  { x = 1 },\n  { x = 2 },\n]\n", "a@1={x@2=1} a@1={x@3=2}");
        check(
            "{\n \"s\": {\"a\": \"x\",\n \"b\": [1, 2]},\n \"p\": [{\"K\": {}}]\n}\n",
            "s@2={a@2=\"x\" b@3=[Number(\"1\"), Number(\"2\")]} p@4={K@4={}}",
        );
    }

    #[track_caller]
    fn check_refused(text: &str, line: usize) {
        let error = parse(text).unwrap_err();
        let found = match error {
            HclError::Syntax { line, .. } | HclError::Expression { line } => line,
        };
        assert_eq!(found, line, "{error}");
    }

    #[test]
    fn what_is_not_understood_has_a_line() {
        check_refused("a = 1\nb = \n", 2);
        check_refused("a = 1\nb =\nc = 3\n", 2);
        check_refused("a =\n1\nb = f(1)\n", 3);
        check_refused("a = 1\ns {\n", 2);
        check_refused("a = 1\nb = f(1)\n", 2);
        check_refused("a = 1\nb = 1 + x\n", 2);
        check_refused("{ \"a\": }", 1);
        check_refused(&format!("a = {}", "[".repeat(10_000)), 1);
        check_refused(&"a {\n".repeat(10_000), 65);
    }
}

//! JSON laid out anew, every key and scalar byte for byte: a price of `12.3400` stays one.

use serde::de::IgnoredAny;

/// One line per field; nothing when the text is no JSON.
pub(crate) fn pretty(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(lay_out(text, true))
}

/// On one line; nothing when the text is no JSON.
pub(crate) fn compact(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Some(lay_out(text, false))
}

fn lay_out(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let (mut in_string, mut escaped) = (false, false);
    let new_line = |out: &mut String, depth: usize| {
        if lines {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    };
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = rest.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(if lines { ": " } else { ":" }),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_numbers_their_digits() {
        let text = r#" {"z":100.0000,"a":[1e400, {} ,[ ]],"t":"x\": [\\","b":{"n":null}}"#;
        let expected = "{\n  \"z\": 100.0000,\n  \"a\": [\n    1e400,\n    {},\n    []\n  ],\n  \
                        \"t\": \"x\\\": [\\\\\",\n  \"b\": {\n    \"n\": null\n  }\n}";
        assert_eq!(pretty(text).as_deref(), Some(expected));
        let line = r#"{"z":100.0000,"a":[1e400,{},[]],"t":"x\": [\\","b":{"n":null}}"#;
        assert_eq!(compact(expected).as_deref(), Some(line));
    }

    #[test]
    fn what_is_no_json_is_left_alone() {
        for text in ["", "{", "<html>", r#"{"a":1} trailing"#] {
            assert_eq!((pretty(text), compact(text)), (None, None), "{text}");
        }
    }
}

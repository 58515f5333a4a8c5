//! Which tables a text looks up in.

use super::{Ast, Part, Template, Tree, parse_template};

/// Table and column of every look-up in a text of the model, in the order in which they stand; nothing for a text that
/// can't be read.
///
/// ```
/// let text = "{{ warehouse_no | table('stock', 'org') }}";
/// assert_eq!(kingpost_mapping::table_uses(text), [("stock".to_owned(), "org".to_owned())]);
/// ```
pub fn table_uses(text: &str) -> Vec<(String, String)> {
    let mut uses = Vec::new();
    match parse_template(text) {
        Ok(Template::Single(ast)) => walk(&ast, &mut uses),
        Ok(Template::Mixed(parts)) => {
            for part in &parts {
                if let Part::Expression(ast) = part {
                    walk(ast, &mut uses);
                }
            }
        }
        Ok(Template::Constant(_)) | Err(_) => {}
    }
    uses
}

fn walk(ast: &Ast, uses: &mut Vec<(String, String)>) {
    match &ast.tree {
        Tree::Path(_) | Tree::Text(_) | Tree::Decimal(_) | Tree::Bool(_) => {}
        Tree::Not(inner) | Tree::Minus(inner) => walk(inner, uses),
        Tree::Binary(_, left, right) => {
            walk(left, uses);
            walk(right, uses);
        }
        Tree::Call { name, arguments } => {
            let text = |at: usize| match arguments.get(at).map(|argument| &argument.tree) {
                Some(Tree::Text(text)) => Some(text.clone()),
                _ => None,
            };
            if name == "table"
                && let (Some(table), Some(column)) = (text(1), text(2))
            {
                uses.push((table, column));
            }
            arguments.iter().for_each(|argument| walk(argument, uses));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_are_found_wherever_they_stand() {
        let stock = |column: &str| ("stock".to_owned(), column.to_owned());
        for (text, uses) in [
            ("plain", vec![]),
            ("{{ a | table('stock', 'org', 'x') }}", vec![stock("org")]),
            (
                "= if(table(a, 'stock', 'org') == '1', b, c | table('stock', 'stock'))",
                vec![stock("org"), stock("stock")],
            ),
            ("x {{ a | table('stock', 'org') | upper }} y", vec![stock("org")]),
            ("{{ a | ", vec![]),
        ] {
            assert_eq!(table_uses(text), uses, "{text}");
        }
    }
}

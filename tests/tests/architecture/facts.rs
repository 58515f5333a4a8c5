//! What a Rust source says, read from its syntax tree: the paths it names, the macros and methods it calls, its functions.

use std::collections::HashMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A path, macro or method that a source names.
#[derive(Debug, PartialEq)]
pub(crate) struct Mention {
    /// The path from its crate on, with `use` and renames resolved: `std::time::Instant::now`.
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Inside an item marked `#[cfg(test)]` or `#[test]`.
    pub(crate) test: bool,
}

/// One function with its length from `fn` to the closing brace.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) paths: Vec<Mention>,
    pub(crate) macros: Vec<Mention>,
    pub(crate) methods: Vec<Mention>,
    pub(crate) functions: Vec<Function>,
}

/// Reads one source.
pub(crate) fn facts(path: &str, text: &str) -> Facts {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: not Rust: {error}"));
    let mut names = Names::default();
    names.visit_file(&file);
    let mut reader = Reader { names: names.0, facts: Facts::default(), tests: 0 };
    reader.visit_file(&file);
    reader.facts
}

/// What a short name of this file stands for, from all its `use` items.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl<'ast> Visit<'ast> for Names {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        flatten(&item.tree, String::new(), &mut |short, full, _| {
            self.0.insert(short.to_owned(), full.to_owned());
        });
    }
}

/// Calls `found` with the short name, the full path and the line of every leaf of a `use` tree.
fn flatten(tree: &syn::UseTree, prefix: String, found: &mut dyn FnMut(&str, &str, usize)) {
    let join = |name: &str| if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match tree {
        syn::UseTree::Path(path) => flatten(&path.tree, join(&path.ident.to_string()), found),
        syn::UseTree::Name(name) if name.ident == "self" => {
            let short = prefix.rsplit("::").next().unwrap_or(&prefix).to_owned();
            found(&short, &prefix, name.span().start().line);
        }
        syn::UseTree::Name(name) => {
            let short = name.ident.to_string();
            found(&short, &join(&short), name.span().start().line);
        }
        syn::UseTree::Rename(rename) => {
            found(&rename.rename.to_string(), &join(&rename.ident.to_string()), rename.span().start().line);
        }
        syn::UseTree::Glob(glob) => found("*", &join("*"), glob.span().start().line),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, prefix.clone(), found);
            }
        }
    }
}

struct Reader {
    names: HashMap<String, String>,
    facts: Facts,
    tests: usize,
}

impl Reader {
    fn mention(&self, name: String, line: usize) -> Mention {
        Mention { name, line, test: self.tests > 0 }
    }

    fn path(&mut self, segments: &[String], line: usize) {
        let Some((first, rest)) = segments.split_first() else { return };
        let mut name = self.names.get(first).cloned().unwrap_or_else(|| first.clone());
        for segment in rest {
            name.push_str("::");
            name.push_str(segment);
        }
        let mention = self.mention(name, line);
        self.facts.paths.push(mention);
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (start, end) = (signature.fn_token.span.start().line, block.span().end().line);
        let name = signature.ident.to_string();
        self.facts.functions.push(Function { name, line: start, lines: end + 1 - start });
    }

    fn within(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let test = usize::from(attributes.iter().any(marks_a_test));
        self.tests += test;
        visit(self);
        self.tests -= test;
    }

    /// Finds paths in the tokens of a macro call, which the syntax tree doesn't show.
    fn tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < trees.len() {
            match &trees[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) => {
                    let mut segments = vec![ident.to_string()];
                    while let [TokenTree::Punct(a), TokenTree::Punct(b), TokenTree::Ident(next), ..] =
                        &trees[at + 1..]
                    {
                        if a.as_char() != ':' || b.as_char() != ':' {
                            break;
                        }
                        segments.push(next.to_string());
                        at += 3;
                    }
                    self.path(&segments, ident.span().start().line);
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.within(&item.attrs, |reader| {
            let mut found = Vec::new();
            flatten(&item.tree, String::new(), &mut |_, full, line| found.push((full.to_owned(), line)));
            for (name, line) in found {
                let mention = reader.mention(name, line);
                reader.facts.paths.push(mention);
            }
        });
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last() {
            let mention = self.mention(last.ident.to_string(), last.ident.span().start().line);
            self.facts.macros.push(mention);
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let mention = self.mention(call.method.to_string(), call.method.span().start().line);
        self.facts.methods.push(mention);
        visit::visit_expr_method_call(self, call);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.within(&item.attrs, |reader| visit::visit_item_mod(reader, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.within(&item.attrs, |reader| visit::visit_item_fn(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.within(&item.attrs, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// `#[test]`, `#[tokio::test]` and `#[cfg(test)]`, but not `#[cfg(not(test))]`.
fn marks_a_test(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    if path.segments.last().is_some_and(|last| last.ident == "test") {
        return true;
    }
    match &attribute.meta {
        syn::Meta::List(list) if path.is_ident("cfg") => {
            let inner = list.tokens.to_string();
            inner.contains("test") && !inner.contains("not")
        }
        _ => false,
    }
}

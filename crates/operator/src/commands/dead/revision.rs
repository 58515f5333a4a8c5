//! A document that a person has changed: whether it may take the place of the original, what differs, and what it becomes.

use std::collections::BTreeMap;

use kingpost_broker::{Letter, MAX_BODY_BYTES};
use kingpost_mapping::{Outcome, Rejection, Scratch};
use kingpost_model::{StageName, Work, WorkId};
use kingpost_scheme::Scheme;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::json;

/// The header that names the message a document was edited from.
pub(super) const FROM_HEADER: &str = "kingpost-edited-from";
/// The header with the SHA-256 of the body that it had there; the audit trail holds the body itself.
pub(super) const ORIGINAL_HEADER: &str = "kingpost-edited-from-sha256";
/// The header that names the action in the audit trail.
pub(super) const ACTION_HEADER: &str = "kingpost-edit";
/// What stands between an id and the hash of an edited body.
const EDIT: &str = "-edit-";
/// Room for an id before that.
const ID_BYTES: usize = 160;

/// What came of a look at an edited document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It says what the original says.
    Unchanged,
    /// It can't take the place of the original, for these reasons.
    Wrong(Vec<String>),
    /// It may.
    Right {
        /// The new body.
        body: Vec<u8>,
        /// What differs.
        changes: Vec<Change>,
    },
}

/// One value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// Lines of an array count from 1.
    pub(super) path: String,
    /// The original's characters; nothing where it has no such value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// The edited one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
}

impl Change {
    /// A line or two for a person.
    pub(super) fn text(&self) -> String {
        let side = |sign: &str, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| format!("    {sign} {value}\n"))
        };
        format!("  {}\n{}{}", self.path, side("-", &self.from), side("+", &self.to))
    }
}

/// The text that a person edits: laid out where it is JSON, as it is where it isn't.
pub(super) fn draft(letter: &Letter) -> String {
    let body = String::from_utf8_lossy(&letter.work.body);
    json::pretty(&body).map_or_else(|| body.into_owned(), |pretty| pretty + "\n")
}

/// Looks at what became of a draft.
pub(super) fn look(letter: &Letter, scheme: &Scheme, edited: &str) -> Verdict {
    let original = String::from_utf8_lossy(&letter.work.body);
    if edited == draft(letter) || edited == original {
        return Verdict::Unchanged;
    }
    let Some(body) = json::compact(edited) else {
        let error = serde_json::from_str::<serde::de::IgnoredAny>(edited).err();
        let why = error.map_or_else(String::new, |error| format!(": {error}"));
        return Verdict::Wrong(vec![format!("it is no JSON document{why}")]);
    };
    if json::compact(&original).as_ref() == Some(&body) {
        return Verdict::Unchanged;
    }
    let problems = match letter.work.stage {
        StageName::Extract => vec!["a window is not edited; replay it as it is".to_owned()],
        StageName::Transform => of_order(letter, scheme, &original, &body),
        StageName::Load => of_model(letter, scheme, &body),
    };
    if !problems.is_empty() {
        return Verdict::Wrong(problems);
    }
    Verdict::Right { changes: changes(&original, &body), body: body.into_bytes() }
}

/// The values at a path of the top level, each in its own characters.
fn members<'a>(leaves: &'a [(String, String)], path: &str) -> Vec<&'a str> {
    leaves.iter().filter(|(own, _)| own == path).map(|(_, raw)| raw.as_str()).collect()
}

/// An order must stay the same order, and the scheme must be able to map it.
fn of_order(letter: &Letter, scheme: &Scheme, original: &str, body: &str) -> Vec<String> {
    let mut problems = too_large(body);
    let key = &scheme.source.key;
    let (old, new) = (json::leaves(original).unwrap_or_default(), json::leaves(body).unwrap_or_default());
    let (old, new) = (members(&old, key), members(&new, key));
    if !old.is_empty() && old != new {
        problems.push(format!(
            "{key} is {} and was {}: an edited order keeps its number, {}",
            new.join(", "),
            old.join(", "),
            letter.work.key.number
        ));
    }
    match scheme.mapping.apply(body.as_bytes(), &mut Scratch::new(), &mut Vec::new()) {
        Ok(Outcome::Mapped { .. }) => {}
        Ok(Outcome::Filtered) => {
            problems.push("the scheme's filter would leave it alone: nothing would be posted".to_owned());
        }
        Err(Rejection::Malformed { message, .. }) => problems.push(message),
        Err(Rejection::Unmappable(found)) => {
            problems.extend(found.iter().map(|problem| format!("can't be mapped: {problem}")));
        }
    }
    problems
}

/// A model must stay the document that it is looked up as, and must not change another one.
fn of_model(letter: &Letter, scheme: &Scheme, body: &str) -> Vec<String> {
    let mut problems = too_large(body);
    let leaves = json::leaves(body).unwrap_or_default();
    let (key, number) = (&scheme.target.key, &letter.work.key.number);
    let quoted = serde_json::to_string(number).unwrap_or_default();
    let found = members(&leaves, key);
    if found != [quoted.as_str()] {
        problems.push(format!(
            "{key} is {}: a model keeps its number, {quoted}, once",
            if found.is_empty() { "missing".to_owned() } else { found.join(", ") }
        ));
    }
    if leaves
        .iter()
        .any(|(path, raw)| path.eq_ignore_ascii_case("FID") && !matches!(raw.as_str(), "0" | "\"0\""))
    {
        problems.push("FID is set: with it the target would change an existing document".to_owned());
    }
    problems
}

fn too_large(body: &str) -> Vec<String> {
    let bytes = body.len();
    match bytes > MAX_BODY_BYTES {
        true => vec![format!("it has {bytes} bytes, a message holds {MAX_BODY_BYTES}")],
        false => Vec::new(),
    }
}

/// What differs between two documents, in the order of the edited one, then what is gone. Between texts that are no JSON
/// only the whole differs.
fn changes(original: &str, edited: &str) -> Vec<Change> {
    let (Some(old), Some(new)) = (json::leaves(original), json::leaves(edited)) else {
        return vec![Change {
            path: "the whole body".into(),
            from: Some(original.into()),
            to: Some(edited.into()),
        }];
    };
    let known: BTreeMap<&str, &str> = old.iter().map(|(path, raw)| (&**path, &**raw)).collect();
    let now: BTreeMap<&str, &str> = new.iter().map(|(path, raw)| (&**path, &**raw)).collect();
    let changed =
        new.iter().filter(|(path, raw)| known.get(&**path) != Some(&&**raw)).map(|(path, raw)| Change {
            path: path.clone(),
            from: known.get(&**path).map(|raw| (*raw).to_owned()),
            to: Some(raw.clone()),
        });
    let gone = old.iter().filter(|(path, _)| !now.contains_key(&**path)).map(|(path, raw)| Change {
        path: path.clone(),
        from: Some(raw.clone()),
        to: None,
    });
    changed.chain(gone).collect()
}

/// The work that an edited document becomes: an id of its own that is made of its content, everything else as it was,
/// and headers that lead back to the original.
pub(super) fn work(letter: &Letter, body: Vec<u8>, action: &str) -> Work {
    let old = &letter.work;
    let digest = hex::encode(&Sha256::digest(&body)[..12]);
    let id = old.id.as_str();
    let root: String = id.split(EDIT).next().unwrap_or(id).chars().take(ID_BYTES).collect();
    let mut work = old.clone();
    work.id = WorkId::new(format!("{root}{EDIT}{digest}"));
    work.body = body.into();
    let ours = [
        (FROM_HEADER, id.to_owned()),
        (ORIGINAL_HEADER, letter.identity().sha256),
        (ACTION_HEADER, action.to_owned()),
    ];
    work.headers.retain(|(name, _)| ours.iter().all(|(own, _)| own != name));
    // First, because there is room for so many foreign headers only.
    let ours = ours.map(|(name, value)| (name.to_owned(), value));
    work.headers.splice(0..0, ours);
    work
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kingpost_model::{Failure, FailureKind};
    use kingpost_scheme::load_file;

    use super::{super::show::tests::letter, *};

    fn scheme() -> Scheme {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes/purchase-stockin.yaml");
        load_file(&file).unwrap()
    }

    fn case(name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemes/purchase-stockin/cases");
        std::fs::read_to_string(folder.join(name).join("input.json")).unwrap()
    }

    fn model(body: &str) -> Letter {
        let failure = Failure::new(FailureKind::Refused, "no");
        let mut letter = letter(StageName::Load, "RK1", failure, 1_767_200_400_000);
        letter.work.body = body.as_bytes().to_vec().into();
        letter
    }

    fn wrong(letter: &Letter, edited: &str) -> String {
        match look(letter, &scheme(), edited) {
            Verdict::Wrong(problems) => problems.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_layout_is_no_change_and_a_changed_value_is_told_by_its_path() {
        let letter = model(r#"{"FBillNo":"RK1","lines":[{"n":1.00,"t":"a"}],"old":true}"#);
        assert_eq!(look(&letter, &scheme(), &draft(&letter)), Verdict::Unchanged);
        let spaced = "{ \"FBillNo\" : \"RK1\", \"lines\":[{\"n\":1.00,\"t\":\"a\"}],\n\"old\":true }";
        assert_eq!(look(&letter, &scheme(), spaced), Verdict::Unchanged);
        let edited = r#"{"FBillNo": "RK1", "lines": [{"n": 1.0, "t": "a"}, {"n": 2}]}"#;
        let Verdict::Right { body, changes } = look(&letter, &scheme(), edited) else {
            panic!("it is right")
        };
        assert_eq!(body, br#"{"FBillNo":"RK1","lines":[{"n":1.0,"t":"a"},{"n":2}]}"#);
        let told: String = changes.iter().map(Change::text).collect();
        let expected = "  lines[1].n\n    - 1.00\n    + 1.0\n  lines[2].n\n    + 2\n  old\n    - true\n";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_model_keeps_its_number_and_changes_no_other_document() {
        let letter = model(r#"{"FBillNo":"RK1","a":1}"#);
        for (edited, reason) in [
            ("{", "no JSON document: EOF"),
            (r#"{"FBillNo":"RK2","a":1}"#, "FBillNo is \"RK2\""),
            (r#"{"a":1}"#, "FBillNo is missing"),
            (r#"{"FBillNo":"RK1","FBillNo":"RK1"}"#, "once"),
            (r#"{"FBillNo":"RK1","FID":100001}"#, "FID is set"),
        ] {
            assert!(wrong(&letter, edited).contains(reason), "{edited}: {}", wrong(&letter, edited));
        }
    }

    #[test]
    fn an_order_keeps_its_number_and_has_to_be_mapped() {
        let failure = Failure::new(FailureKind::Unmappable, "one field");
        let mut letter = letter(StageName::Transform, "RK1", failure, 1_767_200_400_000);
        let order = case("missing-price");
        letter.work.body = order.clone().into_bytes().into();
        assert_eq!(look(&letter, &scheme(), &order), Verdict::Unchanged);
        let touched = order.replacen('{', "{\"more\":1,", 1);
        assert!(
            wrong(&letter, &touched).contains("can't be mapped: FInStockEntry["),
            "{}",
            wrong(&letter, &touched)
        );
        let good = case("qimen");
        letter.work.body = good.clone().into_bytes().into();
        let touched = good.replacen('{', "{\"more\":1,", 1);
        assert!(matches!(look(&letter, &scheme(), &touched), Verdict::Right { .. }));
        let number: String = json::leaves(&good)
            .unwrap()
            .into_iter()
            .find(|(path, _)| path == "order_no")
            .map(|(_, raw)| raw)
            .unwrap();
        let renumbered = good.replacen(&number, "\"RK-OTHER\"", 1);
        assert!(wrong(&letter, &renumbered).contains("an edited order keeps its number"));
    }

    #[test]
    fn an_edited_document_has_an_id_of_its_content_and_leads_back_to_its_original() {
        let first = model(r#"{"FBillNo":"RK1","a":1}"#);
        let edited = work(&first, b"{\"a\":2}".to_vec(), "20261123-1");
        assert!(edited.id.as_str().starts_with("purchase-stockin-RK1-edit-"), "{}", edited.id);
        assert_eq!(work(&first, b"{\"a\":2}".to_vec(), "another").id, edited.id);
        assert_eq!(edited.headers[0], (FROM_HEADER.to_owned(), "purchase-stockin-RK1".to_owned()));
        assert_eq!(edited.headers[1], (ORIGINAL_HEADER.to_owned(), first.identity().sha256));
        assert_eq!((&edited.first_failure, edited.attempt), (&first.work.first_failure, first.work.attempt));
        let again = Letter::of(&edited, 1);
        let twice = work(&again, b"{\"a\":3}".to_vec(), "20261123-2");
        assert_eq!(twice.id.as_str().matches(EDIT).count(), 1, "{}", twice.id);
        assert_eq!(twice.headers[0].1, edited.id.as_str());
        assert_eq!(twice.headers.len(), 3);
    }
}

//! What a misspelt name was probably meant to be.

/// The remedy for a name that isn't known: the nearest one, or all of them.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(found) => format!("did you mean `{found}`?"),
        None if known.is_empty() => "none is declared here; declare it, or remove it".to_owned(),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// The known name that is at most a third of its letters away, the nearest first.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let wanted = plain(name);
    let scored = known.iter().map(|known| (distance(&wanted, &plain(known)), *known));
    let best = scored.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= (wanted.len().max(3) / 3)).then_some(best.1)
}

/// Letters and digits alone, in lower case, so that `page-size` is `pageSize` is `page_size`.
fn plain(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Edits between two names; two neighbours that changed places count as one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

//! "Did you mean": the known name that is nearest to an unknown one.

/// A remedy for an unknown name among `known`: the nearest, else all of them if they are few.
pub(super) fn remedy<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let limit = (unknown.chars().count() / 3).max(1) + usize::from(unknown.chars().count() > 3);
    let nearest = known.iter().map(|name| (distance(unknown, name), *name)).min();
    match nearest {
        Some((distance, name)) if distance <= limit => format!("did you mean `{name}`?"),
        None => "there is none to choose from".to_owned(),
        Some(_) if known.len() <= 12 => format!("known are {}", known.join(", ")),
        Some(_) => "check its spelling".to_owned(),
    }
}

/// How many characters have to be changed, added, dropped or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().collect();
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let change = get(&last, j) + usize::from(a != b);
            let mut cost = change.min(get(&last, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && left.get(i - 1) == Some(b) && right.get(j - 1) == Some(a);
            if swapped {
                cost = cost.min(get(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or_default()
}

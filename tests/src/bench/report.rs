//! How results are shown.

/// What a number should be.
pub(super) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for comparison only.
    None,
}

/// Prints one result with its aim and whether it was reached.
pub(super) fn result(what: &str, value: f64, unit: &str, aim: Aim) {
    let (text, reached) = match aim {
        Aim::AtLeast(aim) => (format!("aim ≥ {aim}"), Some(value >= aim)),
        Aim::AtMost(aim) => (format!("aim ≤ {aim}"), Some(value <= aim)),
        Aim::None => (String::new(), None),
    };
    let verdict = match reached {
        Some(true) => "PASS",
        Some(false) => "short of aim",
        None => "",
    };
    let line = format!("  {what:<44} {value:>7.2} {unit:<3} {text:<11} {verdict}");
    println!("{}", line.trim_end());
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(high)) => *high,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_not_moved_by_one_bad_round() {
        assert_eq!(median(vec![3.0, 1.0, 900.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 900.0]), 3.0);
        assert_eq!(median(vec![7.0]), 7.0);
    }
}

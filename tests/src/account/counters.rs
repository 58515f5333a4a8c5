//! What workers count of themselves, against what the ERP and the broker hold.

use kingpost_model::StageName;

use crate::pipeline::metric;

/// The truth, as far as counters can be held against it: what is missing was not counted whole.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Saves in Kingdee's ledger, where no loader was killed or started anew.
    pub saved: Option<usize>,
    /// Dead letters by stage, where no worker of that stage was.
    pub dead: Vec<(StageName, u32)>,
}

/// Where the metrics of workers, a page for each, say something else.
pub fn disagreements(pages: &[String], truth: &Told) -> Vec<String> {
    let sum = |name: &str, parts: &[&str]| pages.iter().map(|page| metric(page, name, parts)).sum::<f64>();
    let rebuilt = sum("kingpost_session_rebuilds_total", &[]) > 0.5;
    let mut found = Vec::new();
    if let Some(saved) = truth.saved {
        let done = sum("kingpost_verdicts_total", &["stage=\"load\"", "verdict=\"done\""]);
        // What was ignored, withdrawn or updated is done without a save of a new document.
        let reported = sum("kingpost_changes_total", &["outcome=\"reported\""]);
        let changed = sum("kingpost_changes_total", &[]) - reported;
        let posted = done - changed - sum("kingpost_erp_duplicates_prevented_total", &[]);
        // What was saved and then tried again, for want of an answer or of the next step, is posted by nobody's count: it is
        // found. What a lost session took along isn't known.
        let again = sum("kingpost_verdicts_total", &["stage=\"load\"", "verdict=\"retry\""])
            + sum("kingpost_ack_lost_total", &[]);
        let saved = saved as f64;
        if posted > saved + 0.5 || (!rebuilt && posted + again < saved - 0.5) {
            found.push(format!(
                "the loaders say that they posted {posted} documents, {again} tried again, Kingdee's ledger says {saved}"
            ));
        }
    }
    for (stage, depth) in &truth.dead {
        let label = format!("stage=\"{}\"", stage.as_str());
        let (counted, depth) = (sum("kingpost_dead_lettered_total", &[&label]), f64::from(*depth));
        // One whose confirm was lost is there once more than it was counted.
        if counted > depth + 0.5 || (!rebuilt && counted < depth - 0.5) {
            found.push(format!(
                "{stage} says that it buried {counted} letters, its dead-letter queue holds {depth}"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_say_too_much_or_too_little_are_found() {
        let page = |done: u32, prevented: u32, again: u32, dead: u32| {
            format!(
                "kingpost_verdicts_total{{stage=\"load\",verdict=\"done\"}} {done}\n\
                 kingpost_erp_duplicates_prevented_total{{how=\"look-up\"}} {prevented}\n\
                 kingpost_verdicts_total{{stage=\"load\",verdict=\"retry\"}} {again}\n\
                 kingpost_dead_lettered_total{{stage=\"load\"}} {dead}\n"
            )
        };
        let truth = Told { saved: Some(10), dead: vec![(StageName::Load, 2)] };
        let found = |pages: &[String]| disagreements(pages, &truth).len();
        assert_eq!(found(&[page(10, 0, 0, 2)]), 0);
        assert_eq!(found(&[page(6, 0, 0, 1), page(4, 0, 0, 1)]), 0);
        assert_eq!(found(&[page(10, 2, 2, 2)]), 0, "two were found after their answers were lost");
        let changes = "kingpost_changes_total{outcome=\"withdrawn\"} 3\nkingpost_changes_total{outcome=\"reported\"} 2\n";
        assert_eq!(found(&[page(13, 0, 0, 2) + changes]), 0, "three were cancelled");
        assert_eq!(found(&[page(10, 0, 0, 2) + changes]), 1);
        assert_eq!(found(&[page(10, 2, 0, 2)]), 1);
        assert_eq!(found(&[page(11, 0, 0, 2)]), 1);
        assert_eq!(found(&[page(9, 0, 0, 3)]), 2);
        assert_eq!(found(&[page(10, 0, 0, 1)]), 1);
    }
}

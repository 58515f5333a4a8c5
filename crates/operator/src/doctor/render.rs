//! Findings for people and for scripts.

use comfy_table::{Cell, Color};
use kingpost_model::StageName;
use serde_json::json;

use super::{Finding, Verdict};
use crate::terminal::{self, counted, plain};

/// The program of a stage.
pub(crate) const fn program(stage: StageName) -> &'static str {
    match stage {
        StageName::Extract => "extractor",
        StageName::Transform => "transformer",
        StageName::Load => "loader",
    }
}

pub(crate) fn lines(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let remedy = Some(&finding.judgement.remedy).filter(|remedy| !remedy.is_empty());
        let object = json!({
            "stage": program(finding.stage),
            "check": finding.check,
            "subject": finding.subject,
            "result": finding.judgement.verdict.as_str(),
            "seen": finding.judgement.seen,
            "remedy": remedy,
        });
        format!("{object}\n")
    };
    findings.iter().map(line).collect()
}

pub(crate) fn tables(findings: &[Finding], width: u16) -> String {
    let mut out = String::new();
    for stage in StageName::ALL {
        let of_stage: Vec<&Finding> = findings.iter().filter(|finding| finding.stage == stage).collect();
        if of_stage.is_empty() {
            continue;
        }
        let mut table = terminal::table(width, false);
        table.set_header(["result", "check", "subject", "what was seen, and -> what to do"]);
        for finding in of_stage {
            let judgement = &finding.judgement;
            let mut seen = plain(&judgement.seen).replace('\n', " ");
            if !judgement.remedy.is_empty() {
                seen.push_str(&format!("\n-> {}", plain(&judgement.remedy).replace('\n', " ")));
            }
            // Drawn on a terminal alone.
            let result = Cell::new(judgement.verdict.as_str()).fg(colour(judgement.verdict));
            table.add_row([
                result,
                Cell::new(finding.check),
                Cell::new(plain(&finding.subject)),
                Cell::new(seen),
            ]);
        }
        out.push_str(&format!("{}\n{}\n", program(stage), terminal::lines(&table)));
    }
    let count = |verdict| findings.iter().filter(|finding| finding.judgement.verdict == verdict).count();
    out.push_str(&format!(
        "{}: {} ok, {}, {} failed, {} skipped\n",
        counted(findings.len(), "check"),
        count(Verdict::Ok),
        counted(count(Verdict::Warning), "warning"),
        count(Verdict::Failed),
        count(Verdict::Skipped)
    ));
    out
}

const fn colour(verdict: Verdict) -> Color {
    match verdict {
        Verdict::Ok => Color::Green,
        Verdict::Warning => Color::Yellow,
        Verdict::Failed => Color::Red,
        Verdict::Skipped => Color::DarkGrey,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Judgement;

    fn sample() -> Vec<Finding> {
        let finding = |stage, check, judgement| Finding { stage, check, subject: "orders".into(), judgement };
        vec![
            finding(StageName::Extract, "signature", Judgement::ok("accepted")),
            finding(
                StageName::Load,
                "login",
                Judgement::failed("refused: \u{1b}[2J", "correct KINGDEE_APP_SECRET"),
            ),
            finding(StageName::Load, "form", Judgement::after("login")),
        ]
    }

    #[test]
    fn a_person_sees_stages_results_and_remedies_in_the_width_of_the_terminal() {
        let text = tables(&sample(), 80);
        for words in
            ["extractor\n", "loader\n", "-> correct KINGDEE_APP_SECRET", "`login` failed", "3 checks: 1 ok"]
        {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        assert!(!text.contains("transformer") && !text.contains('\u{1b}'), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_script_gets_an_object_a_check() {
        let text = lines(&sample());
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&objects[1]["stage"], &objects[1]["result"]), (&"loader".into(), &"failed".into()));
        assert!(objects[0]["remedy"].is_null());
        assert_eq!(objects[2]["seen"], "`login` failed");
    }
}

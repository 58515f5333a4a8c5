//! The counts for the textfile collector of Prometheus' node exporter, for a run that ends at once.

use std::{fmt::Write as _, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use kingpost_model::Reconciled;

use crate::ending::Stop;

/// Writes the file in one step: the collector never reads half of it.
pub(super) fn write(path: &Path, result: &Reconciled) -> Result<(), Stop> {
    let text = text(result);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        // The collector is another user.
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| Stop::failed(format!("{} can't be written: {error}", path.display())))
}

/// The gauges of the leading extractor's metrics, under the same names and labels.
fn text(result: &Reconciled) -> String {
    let scheme = &result.scheme;
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "# HELP kingpost_reconcile_documents Documents of the last reconciliation by what was found.\n\
         # TYPE kingpost_reconcile_documents gauge"
    );
    for (verdict, count) in &result.documents {
        let _ = writeln!(
            out,
            "kingpost_reconcile_documents{{scheme=\"{scheme}\",verdict=\"{verdict}\"}} {count}"
        );
    }
    let single = [
        ("agrees", "1 when the books agreed at the last reconciliation.", i64::from(result.agrees)),
        ("last_timestamp_seconds", "Unix time at which the last reconciliation ended.", result.finished_s),
        (
            "period_end_timestamp_seconds",
            "Unix time of the end of the period that was compared.",
            result.to_s,
        ),
    ];
    for (name, help, value) in single {
        let _ = writeln!(
            out,
            "# HELP kingpost_reconcile_{name} {help}\n\
             # TYPE kingpost_reconcile_{name} gauge\n\
             kingpost_reconcile_{name}{{scheme=\"{scheme}\"}} {value}"
        );
    }
    out
}

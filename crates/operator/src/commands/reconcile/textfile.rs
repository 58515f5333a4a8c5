//! The counts for the textfile collector of Prometheus' node exporter, for a run that ends at once.

use std::{fmt::Write as _, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    ending::Stop,
    reconcile::{Ended, Request},
};

/// Writes the file in one step: the collector never reads half of it.
pub(super) fn write(path: &Path, request: &Request, ended: &Ended) -> Result<(), Stop> {
    let text = text(request, ended);
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

fn text(request: &Request, ended: &Ended) -> String {
    let scheme = &request.scheme.name;
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "# HELP kingpost_reconcile_documents Documents of the last reconciliation by result.\n\
         # TYPE kingpost_reconcile_documents gauge"
    );
    for (finding, count) in super::counts(ended) {
        let result = finding.as_str();
        let _ =
            writeln!(out, "kingpost_reconcile_documents{{scheme=\"{scheme}\",result=\"{result}\"}} {count}");
    }
    let _ = writeln!(
        out,
        "# HELP kingpost_reconcile_agrees 1 when the books agreed at the last reconciliation.\n\
         # TYPE kingpost_reconcile_agrees gauge\n\
         kingpost_reconcile_agrees{{scheme=\"{scheme}\"}} {}",
        u8::from(super::agrees(ended))
    );
    let _ = writeln!(
        out,
        "# HELP kingpost_reconcile_last_timestamp_seconds Unix time of the last reconciliation.\n\
         # TYPE kingpost_reconcile_last_timestamp_seconds gauge\n\
         kingpost_reconcile_last_timestamp_seconds{{scheme=\"{scheme}\"}} {}",
        request.now_ms.div_euclid(1_000)
    );
    out
}

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{holds, kingpost};

/// Every file of a folder with its text and permissions.
fn files(folder: &Path) -> BTreeMap<String, (String, u32)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = |path: std::path::PathBuf| {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        (path.file_name().unwrap().to_str().unwrap().to_owned(), (fs::read_to_string(&path).unwrap(), mode))
    };
    entries.map(file).collect()
}

#[test]
fn passwords_are_made_once_kept_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("secrets");
    let dir = dir.to_str().unwrap();
    let arguments =
        |form| vec!["topology", "users", "--secrets-dir", dir, "--host", "mq.example", "--as", form];
    let run = kingpost(&arguments("table"), &[]);
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    holds(&run.notes, &["13 files made, 0 were there"]);
    let made = files(Path::new(dir));
    assert_eq!(made.len(), 13);
    assert!(made.values().all(|(_, mode)| *mode == 0o600), "{made:?}");
    let password = made["kingpost-loader.password"].0.clone();
    assert_eq!(password.len(), 64);
    let url = format!("amqp://kingpost-loader:{password}@mq.example:5672/kingpost");
    assert_eq!(made["kingpost-loader.amqp-url"].0, url);
    let url = format!("http://kingpost-monitor:{}@mq.example:15672", made["kingpost-monitor.password"].0);
    assert_eq!(made["kingpost-monitor.management-url"].0, url);

    let mut printed = Vec::new();
    for form in ["table", "rabbitmqctl", "definitions", "kubernetes"] {
        let run = kingpost(&arguments(form), &[]);
        assert_eq!(run.exit, Some(0), "{form}: {}", run.notes);
        holds(&run.notes, &["0 files made, 13 were there"]);
        let all = format!("{}{}", run.out, run.notes);
        let leaked = made.iter().find(|(name, (text, _))| name.ends_with(".password") && all.contains(text));
        assert!(leaked.is_none(), "{form} prints {leaked:?}");
        printed.push(run.out);
    }
    assert_eq!(files(Path::new(dir)), made, "nothing that is there is changed");
    assert_eq!(kingpost(&arguments("definitions"), &[]).out, printed[2], "the same hashes again");
    let elsewhere = kingpost(&["topology", "users", "--secrets-dir", dir, "--vhost", "/", "--tls"], &[]);
    holds(&elsewhere.notes, &["kingpost-loader.amqp-url holds another URL", "left as it is"]);
    assert_eq!(files(Path::new(dir)), made);
}

#[test]
fn files_for_a_group_are_made_on_request_and_never_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let run = kingpost(&["topology", "users", "--secrets-dir", dir, "--mode", "644"], &[]);
    assert_eq!(run.exit, Some(2), "{}", run.notes);
    assert!(files(folder.path()).is_empty());
    let run = kingpost(&["topology", "users", "--secrets-dir", dir, "--mode", "640"], &[]);
    assert_eq!(run.exit, Some(0), "{}", run.notes);
    assert!(files(folder.path()).values().all(|(_, mode)| *mode == 0o640));
}

#[test]
fn a_url_without_its_password_is_told_and_definitions_need_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    fs::write(folder.path().join("kingpost-loader.amqp-url"), "amqp://kingpost-loader:x@mq/kp").unwrap();
    let run = kingpost(&["topology", "users", "--secrets-dir", dir], &[]);
    assert_eq!((run.exit, run.out.as_str()), (Some(1), ""));
    holds(&run.notes, &["kingpost-loader.password isn't", "remedy: "]);
    let run = kingpost(&["topology", "users", "--as", "definitions"], &[]);
    assert_eq!(run.exit, Some(2));
    holds(&run.notes, &["--secrets-dir DIR"]);
}

#[test]
fn definitions_go_whole_into_a_file_where_nothing_can_redirect_them() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("secrets");
    let file = dir.join("definitions.json");
    let (dir, path) = (dir.to_str().unwrap(), file.to_str().unwrap());
    let arguments = ["topology", "users", "--as", "definitions", "--secrets-dir", dir];
    let with_file = [&arguments[..], &["--out", path, "--mode", "640"]].concat();
    for _ in 0..2 {
        let run = kingpost(&with_file, &[]);
        assert_eq!((run.exit, run.out.as_str()), (Some(0), ""), "{}", run.notes);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&file).unwrap(), kingpost(&arguments, &[]).out);
    }
    let run = kingpost(&[&arguments[..], &["--out", "/no/such/folder/x.json"]].concat(), &[]);
    assert_eq!(run.exit, Some(1));
    holds(&run.notes, &["/no/such/folder/x.json can't be written"]);
}

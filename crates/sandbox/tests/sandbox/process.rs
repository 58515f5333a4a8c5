//! The program itself: its port file, its settings file, its signals, its help.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kingpost-sandbox"))
}

fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn it_tells_where_it_listens_and_ends_cleanly_on_either_signal() {
    for signal in ["-TERM", "-INT"] {
        let (port, env) = (scratch("port"), scratch("env"));
        let mut child = program()
            .args(["--orders", "3", "--port-file"])
            .arg(&port)
            .arg("--env-file")
            .arg(&env)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = first_line(&mut child);
        let address = std::fs::read_to_string(&port).unwrap();
        assert_eq!(line, format!("kingpost-sandbox listening on http://{address}\n"));
        let settings = std::fs::read_to_string(&env).unwrap();
        assert!(settings.contains(&format!("WDT_URL=http://{address}/router/qm\n")), "{settings}");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert!(child.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn contradicting_or_unusable_options_end_it_with_words() {
    let run = |arguments: &[&str]| -> Output { program().args(arguments).output().unwrap() };
    let more = run(&["--orders", "1", "--unpostable", "2"]);
    assert!(!more.status.success());
    assert!(String::from_utf8_lossy(&more.stderr).contains("--unpostable 2 is more than --orders 1"));
    assert_eq!(run(&["--spread", "soon"]).status.code(), Some(2));
    let help = run(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["--port-file", "--unpostable", "--kingdee-app-id", "Examples:", "/admin/faults"] {
        assert!(text.contains(word), "{word}");
    }
}

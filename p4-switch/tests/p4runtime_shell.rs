//! A third party's client, p4runtime-shell from PyPI, programs the switch: tests/p4runtime_shell/shell.py.

mod target;

use std::path::Path;
use std::process::Command;

use target::Target;

#[tokio::test(flavor = "multi_thread")]
async fn p4runtime_shell_writes_and_reads_every_entity_it_knows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prepared = root.join("../target/venv/bin/python3");
    let python = if prepared.exists() { prepared } else { "python3".into() };
    let has_shell = Command::new(&python).args(["-c", "import p4runtime_sh.shell"]).output();
    if !has_shell.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: p4runtime-shell cannot be imported; `make setup` installs it into target/venv");
        return;
    }
    let target = Target::bare().await;
    let mut command = Command::new(&python);
    command
        .arg(root.join("tests/p4runtime_shell/shell.py"))
        .arg(&target.address)
        .arg(root.join("tests/programs/entities.p4info.txtpb"))
        .arg(root.join("tests/programs/entities.json"));
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("no panic")
        .expect("it starts");
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    println!("{said}{complained}");
    assert!(
        output.status.success(),
        "p4runtime-shell met something unexpected:\n{said}{complained}"
    );
}

//! What is committed under `p4/compiled/` is what p4c makes of the sources beside it.

use std::path::Path;
use std::process::Command;

const P4: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../p4");
const OUTPUT: [&str; 6] = [
    "upf.json",
    "upf.p4info.bin",
    "upf.p4info.txtpb",
    "upf-small.json",
    "upf-small.p4info.bin",
    "upf-small.p4info.txtpb",
];

fn compiled(file: &str) -> String {
    let file = Path::new(P4).join("compiled").join(file);
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn sources() -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["", "include/"] {
        for file in std::fs::read_dir(Path::new(P4).join(directory)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".p4") {
                found.push(format!("{directory}{name}"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_compiled_program_is_of_these_sources() {
    let list = compiled("SOURCES.sha256");
    let mut listed: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        sources(),
        "p4/compiled/SOURCES.sha256 lists other files than p4/ has: run `make p4`"
    );
    let check = Command::new("sha256sum")
        .args(["--check", "--quiet", "--strict", "compiled/SOURCES.sha256"])
        .current_dir(P4)
        .output();
    let check = check.expect("sha256sum, of coreutils");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "p4/compiled/ is stale, run `make p4`:\n{said}");
}

#[test]
fn compiling_again_gives_the_same_files() {
    let Ok(version) = Command::new("p4c-bm2-ss").arg("--version").output() else {
        println!("SKIPPED: p4c-bm2-ss is not on PATH");
        return;
    };
    // It tells its version on standard error.
    let said = [version.stdout, version.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let here: String = said
        .lines()
        .filter(|l| l.starts_with("Version"))
        .map(|l| format!("{l}\n"))
        .collect();
    let committed = compiled("COMPILER");
    if here != committed {
        println!("SKIPPED: another version of p4c writes other files: committed {committed:?}, here {here:?}");
        return;
    }
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("p4-compiled");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/p4-compile");
    let run = Command::new(script).arg("--check").arg(&fresh).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    for file in OUTPUT.into_iter().chain(["SOURCES.sha256", "COMPILER"]) {
        let (ours, theirs) = (Path::new(P4).join("compiled").join(file), fresh.join(file));
        let same = std::fs::read(&ours).unwrap() == std::fs::read(&theirs).unwrap();
        assert!(same, "p4/compiled/{file} differs from what p4c writes: run `make p4`");
    }
}

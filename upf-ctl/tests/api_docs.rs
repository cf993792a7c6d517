//! The examples of docs/QOS_API.md, run as they stand.

mod api_support;

use api_support::{Directory, Served, client, closed};
use std::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_documentation_succeeds() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/QOS_API.md")).unwrap();
    let examples: Vec<&str> = text
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() >= 5);
    let directory = Directory::new();
    let clients = client("docs", "token", b"open-sesame", "qod,contexts:read,contexts:write");
    let api = Served::start(closed(&directory, &clients)).await;
    for example in examples {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", example])
            .current_dir(&directory.0)
            .env("API", format!("http://{}", api.address))
            .env("TOKEN", "open-sesame")
            .output();
        let output = output.expect("bash and curl are there");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{example}\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert!(api.controller.changes() >= 8);
}

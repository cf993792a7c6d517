//! `upf demo`: the whole UPF on this machine in a minute. Three UEs get sessions over PFCP, their traffic goes through
//! GTP-U both ways, and what happened is shown and written to `report.json`.
//!
//! [`tour`] is the story, step by step; [`fast_path`] shows who of the two planes forwards; [`report`] is what is left.
//! [`qos`] is another story: `upf demo qos`.

mod fast_path;
mod qos;
mod report;
mod tour;

use crate::lab::{Lab, LabError, LabOptions, Resources, Side, Target, release_on_signal};
use report::Report;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Story {
    /// The whole UPF: three UEs, PFCP, traffic through GTP-U both ways.
    #[default]
    Tour,
    /// A context lifts a call over a download at a bottleneck, and expires.
    Qos,
}

impl Story {
    /// What has the ports if nothing else is asked for.
    pub const fn target(self) -> Target {
        match self {
            Self::Tour => Target::P4Switch,
            // The bottleneck is a port of upf-host.
            Self::Qos => Target::None,
        }
    }
}

/// What the demo is asked for.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// What is shown.
    pub story: Story,
    /// What has the ports.
    pub target: Target,
    /// Where its files go.
    pub directory: PathBuf,
    /// Leave everything running at the end, until a signal comes.
    pub keep: bool,
    /// Seconds of each throughput measurement.
    pub seconds: u32,
    /// Print the report as JSON rather than as text.
    pub json: bool,
}

/// Run the demo. `false`: something did not work, which the report says.
///
/// # Errors
/// It could not even be set up.
pub fn run(options: &DemoOptions) -> Result<bool, LabError> {
    let resources = Arc::new(Resources::default());
    release_on_signal(&resources)?;
    // The thread that waits for signals holds the resources too: they are released here, not when dropped.
    let outcome = match options.story {
        Story::Tour => show(options, &resources),
        Story::Qos => qos::show(options, &resources),
    };
    resources.release();
    outcome
}

fn show(options: &DemoOptions, resources: &Arc<Resources>) -> Result<bool, LabError> {
    let directory = absolute(&options.directory)?;
    let lab_options = LabOptions::new("upf-demo", directory.clone(), 3, programs()?, options.target);
    let mut report = Report::new(options.json);
    report.heading(&match options.target.program() {
        None => "A UPF on this machine: namespaces, upf-host, upf-ctl".to_owned(),
        Some(target) => format!("A UPF on this machine: namespaces, {target} running p4/upf.p4, upf-host, upf-ctl"),
    });
    let lab = Lab::start(&lab_options, resources.clone())?;
    // The SMF lives in its own namespace: its sockets and its runtime's threads are made there.
    let outcome = lab
        .namespaces
        .within(Side::Smf, || tour::tour(&lab, options, &mut report))?;
    if let Err(error) = outcome {
        report.failed("the tour stopped early", &error.to_string());
    }
    finish(&mut report, &directory)?;
    Ok(report.all_passed())
}

/// Write the report, and say how it went.
fn finish(report: &mut Report, directory: &Path) -> std::io::Result<()> {
    let path = directory.join("report.json");
    std::fs::write(&path, report.json_text())?;
    report.close(&path);
    Ok(())
}

/// The end of a tour with `--keep`: everything stays up, the gNB in this process too, until a signal ends it.
fn stay(lab: &Lab, report: &mut Report) -> std::io::Result<()> {
    finish(report, &lab.directory)?;
    let ns = |side| lab.namespaces.name(side);
    let config = lab.daemons.configuration().display();
    report.note(&format!(
        "Left running. Play with it, from another terminal:
  ip netns exec {ue} ping 10.6.0.2
  ip netns exec {gnb} tcpdump -ni n3
  upf sessions --config {config}
  ip netns exec {upf} upf trace --config {config} --session SEID --uplink --dst 10.6.0.2
Ctrl-C takes it down.",
        ue = ns(Side::Ue(1)),
        gnb = ns(Side::Gnb),
        upf = ns(Side::Upf),
    ));
    loop {
        std::thread::park();
    }
}

/// Remove what a demo left behind that was killed.
pub fn clean() {
    let resources = Resources::default();
    for side in [
        Side::Gnb,
        Side::Upf,
        Side::Dn,
        Side::Smf,
        Side::Ue(1),
        Side::Ue(2),
        Side::Ue(3),
    ] {
        resources.add_namespace(crate::lab::Namespaces::named("upf-demo").name(side));
    }
    resources.release();
}

/// Where this program lies: the daemons lie beside it.
///
/// # Errors
/// The system does not tell.
pub fn programs() -> Result<PathBuf, LabError> {
    let this = std::env::current_exe()?;
    Ok(this.parent().unwrap_or(Path::new(".")).to_owned())
}

fn absolute(path: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(path)?;
    path.canonicalize()
}

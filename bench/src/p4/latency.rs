//! Latency of the whole UPF's two paths: one downlink packet after another from the data network to the gNB's socket,
//! of a session that the target forwards, and of one whose every packet is a flow that the target does not know.

use super::veth::percentiles;
use super::{Effort, Figures, Outcome};
use crate::smf;
use serde_json::json;
use smf_sim::session::FlowQos;
use smf_sim::{SessionSpec, UeIps};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use upf::lab::{DN, GNB, Lab, LabOptions, Resources, Side, Target};

const DIRECT: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
const BY_FLOW: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
/// Packets before the measurement: neighbours are asked for, the session's entries are written.
const WARMING: u16 = 200;

/// Both paths, through p4-switch.
pub fn measure(effort: Effort, resources: &Arc<Resources>, figures: &mut Figures) -> Outcome<()> {
    let this = std::env::current_exe()?;
    let programs = this.parent().unwrap_or(Path::new(".")).to_owned();
    let needed = ["p4-switch", "upf-host", "upf-ctl"];
    if let Some(missing) = needed.iter().find(|p| !programs.join(p).exists()) {
        eprintln!("latency of the whole UPF: skipped, {missing} is not beside this program");
        return Ok(());
    }
    let directory = std::env::temp_dir().join(format!("upf-bench-p4-{}", std::process::id()));
    let name = format!("bp4{}", std::process::id());
    let mut options = LabOptions::new(&name, directory.clone(), 0, programs, Target::P4Switch);
    options.p4_options = "  punt: { per_reason: 1000000, per_user: 1000000 }".into(); // it is latency that is measured
    let lab = Lab::start(&options, resources.clone())?;
    lab.namespaces.within(Side::Smf, || smf::establish(sessions()))??;
    let server = lab.namespaces.within(Side::Dn, || UdpSocket::bind((DN, 4_000)))??;
    let gnb = lab.namespaces.within(Side::Gnb, || UdpSocket::bind((GNB, 2_152)))??;
    gnb.set_read_timeout(Some(Duration::from_millis(500)))?;
    for (path, ue) in [("fast path", DIRECT), ("punt path", BY_FLOW)] {
        let mut samples = Vec::new();
        let mut lost = 0;
        for n in 0..WARMING + effort.samples as u16 {
            let begin = Instant::now();
            // Another port each time: another flow, where flows are told apart by it.
            server.send_to(&[0; 36], (ue, 1_000 + n))?;
            let came = gnb.recv(&mut [0; 2_048]).is_ok();
            if n < WARMING {
                continue;
            }
            match came {
                true => samples.push(begin.elapsed().as_secs_f64() * 1e6),
                false => lost += 1,
            }
        }
        let params = json!({ "path": path, "target": "p4-switch", "ports": "veth" });
        figures.add(
            "latency of the whole UPF, lost",
            "p4-switch and upf-host",
            params.clone(),
            "",
            vec![f64::from(lost)],
        );
        percentiles(
            "latency of the whole UPF",
            "p4-switch and upf-host",
            &params,
            samples,
            figures,
        );
    }
    drop(lab);
    let _ = std::fs::remove_dir_all(directory);
    Ok(())
}

/// One session that is direct, and one with a filter that asks for a port of the user.
fn sessions() -> Vec<SessionSpec> {
    let filter = format!("permit out 17 from {DN} to assigned 60000");
    let direct = SessionSpec::basic(UeIps::v4(DIRECT), GNB.into(), 0x1001);
    let by_flow = SessionSpec::basic(UeIps::v4(BY_FLOW), GNB.into(), 0x1002);
    vec![direct, by_flow.with_sdf(100, &filter, FlowQos::default())]
}

//! A target that the environment names: any P4Runtime server, with interfaces that lead to its ports.

use super::wires::Links;
use super::{PORTS, Target};
use std::sync::{Arc, Mutex};
use tokio::runtime;

/// Connect, if one is named.
pub(super) fn start() -> Result<Target, String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("a target of your own: {name} is not set"));
    let (address, ports) = (variable("UPF_P4_TARGET")?, variable("UPF_P4_PORTS")?);
    let device_id = std::env::var("UPF_P4_DEVICE_ID").unwrap_or_else(|_| "1".to_owned());
    // It was asked for, so that it does not work is a failure and no reason to skip it.
    let connected = connect(&address, &ports, &device_id);
    Ok(connected.unwrap_or_else(|e| panic!("UPF_P4_TARGET={address} UPF_P4_PORTS={ports}: {e}")))
}

fn connect(address: &str, ports: &str, device_id: &str) -> Result<Target, String> {
    let device_id = device_id
        .parse()
        .map_err(|e| format!("UPF_P4_DEVICE_ID={device_id}: {e}"))?;
    let links = Links::open(&interfaces(ports)?).map_err(|e| e.to_string())?;
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    Target::connect(address, address, device_id, runtime, Arc::new(Mutex::new(links)))
}

/// `1=veth1,2=veth2,...`: ports 1 to 4, each once.
fn interfaces(text: &str) -> Result<Vec<(u16, String)>, String> {
    let one = |part: &str| {
        let (port, interface) = part.split_once('=')?;
        Some((port.trim().parse().ok()?, interface.trim().to_owned()))
    };
    let all: Option<Vec<(u16, String)>> = text.split(',').map(one).collect();
    let mut all = all.ok_or("expected PORT=INTERFACE,PORT=INTERFACE,...")?;
    all.sort();
    if all.iter().map(|(port, _)| *port).ne(1..=PORTS) {
        return Err(format!("expected ports 1 to {PORTS}, each once"));
    }
    Ok(all)
}

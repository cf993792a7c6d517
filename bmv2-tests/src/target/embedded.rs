//! `p4-switch` in this process: P4Runtime over loopback, frames through memory.

use super::wires::Wires;
use super::{Frames, Target};
use p4_switch::{PortRate, Switch, SwitchConfig, p4rt_server};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::runtime;

const DEVICE_ID: u64 = 1;

/// Start it.
pub(super) fn start() -> Result<Target, String> {
    Ok(launch().unwrap_or_else(|e| panic!("p4-switch: {e}")))
}

fn launch() -> Result<Target, String> {
    let switch = Arc::new(Switch::new(SwitchConfig {
        priority_queues: 8,
        ..SwitchConfig::default()
    }));
    serve("p4-switch", &switch)
}

fn serve(name: &str, switch: &Arc<Switch>) -> Result<Target, String> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?.to_string();
    runtime.spawn(p4rt_server::serve(switch.clone(), Some(DEVICE_ID), listener));
    let wires = Arc::new(Mutex::new(Memory { switch: switch.clone() }));
    Target::connect(name, &address, DEVICE_ID, runtime, wires)
}

/// A switch of its own whose time passes only by [`Switch::advance`], with these rates at its ports.
///
/// # Errors
/// No thread or socket is to be had.
pub fn simulated(port_rates: BTreeMap<u32, PortRate>) -> Result<(Target, Arc<Switch>), String> {
    let switch = Arc::new(Switch::with_manual_clock(SwitchConfig {
        priority_queues: 8,
        port_rates,
        ..SwitchConfig::default()
    }));
    Ok((serve("p4-switch in simulated time", &switch)?, switch))
}

/// The switch's own way to run one packet through.
struct Memory {
    switch: Arc<Switch>,
}

impl Wires for Memory {
    fn exchange(&mut self, frames: &[(u16, Vec<u8>)]) -> io::Result<Frames> {
        let through = |(port, frame): &(u16, Vec<u8>)| self.switch.inject((*port).into(), frame);
        let out = frames.iter().flat_map(through);
        let mut out: Frames = out.map(|output| (output.port as u16, output.bytes)).collect();
        out.sort_by_key(|(port, _)| *port);
        Ok(out)
    }
}

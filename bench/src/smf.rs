//! The SMF of suites that measure whole programs.

use smf_sim::{SessionSpec, Smf};
use upf::lab::{SMF_N4, UPF_N4};

/// From the lab's SMF side: associates with the lab's UPF and establishes these sessions, whose network instances are `access` and `internet`.
pub fn establish(specs: Vec<SessionSpec>) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| text(&e))?;
    runtime.block_on(async {
        let smf = Smf::connect(SMF_N4, UPF_N4, SMF_N4.ip()).await.map_err(|e| text(&e))?;
        smf.associate().await.map_err(|e| text(&e))?;
        for spec in specs {
            let spec = spec.with_network_instances("access", "internet");
            smf.establish(&spec).await.map_err(|e| text(&e))?;
        }
        Ok(())
    })
}

//! The lab's network namespaces and the links between them.

use super::resources::{Resources, remove_namespace, spawn_interruptible};
use super::target::HOST_LINK_MTU;
use super::{DN, DN_V6, GNB, GNB_V6, GNB2, HOST_LINK, LabError, Target};
use gnb_sim::namespace::within;
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A place in the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The gNB: interface n3.
    Gnb,
    /// The UPF: interfaces n3, n4, n6, and with a P4 target punt0 and host0.
    Upf,
    /// The data network: interface n6.
    Dn,
    /// The SMF: interface n4.
    Smf,
    /// A UE, from 1: a TUN device once it is attached.
    Ue(usize),
}

/// The lab's namespaces.
#[derive(Debug, Clone)]
pub struct Namespaces {
    prefix: String,
}

impl Namespaces {
    /// Make them, and the links. What an earlier lab of this name left behind is removed first.
    pub(super) fn create(prefix: &str, ues: usize, target: Target, resources: &Resources) -> Result<Self, LabError> {
        let made = Self::named(prefix);
        let sides = [Side::Gnb, Side::Upf, Side::Dn, Side::Smf]
            .into_iter()
            .chain((1..=ues).map(Side::Ue));
        for side in sides {
            let name = made.name(side);
            remove_namespace(&name);
            ip(&["netns", "add", &name])?;
            resources.add_namespace(name.clone());
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
        }
        made.link("n3", Side::Gnb)?;
        made.link("n6", Side::Dn)?;
        made.link("n4", Side::Smf)?;
        if target != Target::None {
            made.host_link()?;
        }
        let address = |side, interface: &str, address: &str| {
            let name = made.name(side);
            ip(&["-n", &name, "addr", "add", address, "dev", interface, "nodad"])
                .or_else(|_| ip(&["-n", &name, "addr", "add", address, "dev", interface]))
        };
        for (side, interface, text) in [
            (Side::Gnb, "n3", format!("{GNB}/24")),
            (Side::Gnb, "n3", format!("{GNB2}/24")),
            (Side::Gnb, "n3", format!("{GNB_V6}/64")),
            (Side::Dn, "n6", format!("{DN}/24")),
            (Side::Dn, "n6", format!("{DN_V6}/64")),
            (Side::Upf, "n4", "10.4.0.1/24".to_owned()),
            (Side::Smf, "n4", "10.4.0.2/24".to_owned()),
        ] {
            address(side, interface, &text)?;
        }
        let dn = made.name(Side::Dn);
        ip(&["-n", &dn, "route", "add", "10.60.0.0/16", "via", "10.6.0.1"])?;
        ip(&["-n", &dn, "route", "add", "fd60::/48", "via", "fd06::1"])?;
        Ok(made)
    }

    /// A veth pair between the UPF and `peer`, of one name on both ends.
    fn link(&self, name: &str, peer: Side) -> Result<(), LabError> {
        let (upf, other) = (self.name(Side::Upf), self.name(peer));
        ip(&[
            "link", "add", name, "netns", &upf, "type", "veth", "peer", "name", name, "netns", &other,
        ])?;
        if name != "n4" {
            self.silence(name)?;
            self.offload_nothing(Side::Upf, name)?;
            self.offload_nothing(peer, name)?;
        }
        for namespace in [&upf, &other] {
            ip(&["-n", namespace, "link", "set", name, "up"])?;
        }
        Ok(())
    }

    /// The veth pair between the P4 target and upf-host.
    fn host_link(&self) -> Result<(), LabError> {
        let upf = self.name(Side::Upf);
        let [target, host] = HOST_LINK;
        ip(&[
            "-n",
            &upf,
            "link",
            "add",
            target,
            "mtu",
            HOST_LINK_MTU,
            "type",
            "veth",
            "peer",
            "name",
            host,
            "mtu",
            HOST_LINK_MTU,
        ])?;
        for end in HOST_LINK {
            self.silence(end)?;
            self.offload_nothing(Side::Upf, end)?;
            ip(&["-n", &upf, "link", "set", end, "up"])?;
        }
        Ok(())
    }

    /// The UPF's kernel says nothing on this link: the UPF's programs alone speak there.
    fn silence(&self, interface: &str) -> Result<(), LabError> {
        let setting = format!("net.ipv6.conf.{interface}.disable_ipv6=1");
        self.run(Side::Upf, &["sysctl", "-qw", &setting]).map(drop)
    }

    /// Checksums are left to hardware by default, which a veth pair never reaches: a packet that enters a tunnel must
    /// carry real ones.
    fn offload_nothing(&self, side: Side, interface: &str) -> Result<(), LabError> {
        let command = ["ethtool", "-K", interface, "tx", "off", "gso", "off", "gro", "off"];
        self.run(side, &command).map(drop)
    }

    /// Those of this prefix, whether they exist or not.
    pub fn named(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// The name under which `ip netns` knows it.
    pub fn name(&self, side: Side) -> String {
        let place = match side {
            Side::Gnb => "gnb".to_owned(),
            Side::Upf => "upf".to_owned(),
            Side::Dn => "dn".to_owned(),
            Side::Smf => "smf".to_owned(),
            Side::Ue(n) => format!("ue{n}"),
        };
        format!("{}-{place}", self.prefix)
    }

    /// Do something inside, on a thread of its own.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn within<T: Send>(&self, side: Side, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        Ok(within(Some(&self.name(side)), work)?)
    }

    /// Run a program inside until it ends; its standard output.
    ///
    /// # Errors
    /// It does not start, or fails: with what it printed.
    pub fn run(&self, side: Side, command: &[&str]) -> Result<String, LabError> {
        let failed = |reason: String| LabError::Command {
            command: command.join(" "),
            reason,
        };
        let output = self.within(side, || {
            Command::new(command[0])
                .args(&command[1..])
                .stdin(Stdio::null())
                .output()
        })?;
        let output = output.map_err(|e| failed(e.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ]
        .concat();
        Err(failed(format!("{}: {}", output.status, said.trim())))
    }

    /// Start a program inside, its output going to a file.
    pub(super) fn spawn(
        &self,
        side: Side,
        command: &[&str],
        log: &Path,
        resources: &Resources,
    ) -> Result<Pid, LabError> {
        let failed = |reason: std::io::Error| LabError::Command {
            command: command.join(" "),
            reason: reason.to_string(),
        };
        let file = File::options().create(true).append(true).open(log)?;
        let errors = file.try_clone()?;
        let child = self.within(side, || {
            let mut program = Command::new(command[0]);
            program
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(file)
                .stderr(errors);
            program.process_group(0); // Ctrl-C goes to us alone; we stop it in our order
            spawn_interruptible(&mut program)
        })?;
        Ok(resources.add_child(child.map_err(failed)?))
    }
}

fn ip(arguments: &[&str]) -> Result<(), LabError> {
    gnb_sim::namespace::ip(arguments).map_err(LabError::Gnb)
}

//! upf-ctl's P4 plane itself, over P4Runtime: what it does to a target that has never heard of it, and that its changes
//! are atomic too.

use crate::atomicity::{PORTS, Version, arriving, flow_packets, versions, watched};
use crate::world;
use bmv2_tests::Target;
use bmv2_tests::target::{Borrowed, with_all_targets};
use bmv2_tests::world::HOST;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use upf_ctl::placement::Place;
use upf_ctl::planes::p4::P4Plane;
use upf_ctl::planes::p4::runtime::RuntimeTarget;
use upf_ctl::planes::{DataPlane, PlaneState};
use upf_model::batch::{Change, Event, Flow};
use upf_model::{Epoch, PdrId, Session};

/// A target that has not followed by then is broken.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn changes_that_the_p4_plane_makes_are_atomic_too() {
    with_all_targets(|targets| {
        for target in targets {
            target.lend(|target, borrowed| {
                let plane = Controller::new(target, borrowed);
                let versions = versions();
                plane.put(&versions[0]);
                until_forwarded(target);
                watched(target, &versions, |progress| {
                    for (n, version) in versions.iter().enumerate() {
                        progress.begin(n);
                        if plane.put(version) {
                            progress.end(n);
                        }
                    }
                });
                let place = plane.plane.place(versions[0].session().id);
                assert!(
                    matches!(place, Some(Place::Direct | Place::ByFlow)),
                    "{}: {place:?}",
                    target.name
                );
            });
        }
    });
}

/// Neighbours and flows are written behind the controller's back: until they are there, packets are punted.
fn until_forwarded(target: &Target) {
    let deadline = Instant::now() + PATIENCE;
    for (port, uplink) in PORTS.iter().flat_map(|&port| [(port, true), (port, false)]) {
        let (at, frame) = arriving(port, uplink, 0);
        while !target.send(at, &frame).iter().any(|(egress, _)| *egress != HOST) {
            assert!(Instant::now() < deadline, "{}: punted after {PATIENCE:?}", target.name);
        }
    }
}

/// The plane, as upf-ctl has it.
struct Controller<'t> {
    runtime: &'t Runtime,
    plane: P4Plane,
}

impl<'t> Controller<'t> {
    /// With the neighbours of the test known, once the target is as it should be.
    fn new(target: &Target, borrowed: Borrowed<'t>) -> Self {
        let config = world::controlled(borrowed);
        let runtime = borrowed.runtime;
        let (events, _unheard) = mpsc::unbounded_channel();
        let plane = {
            let _inside = runtime.enter();
            let p4 = config.p4.as_ref().expect("a configuration with a P4 target");
            let over = RuntimeTarget::new(p4).unwrap_or_else(|e| panic!("{}: {e}", target.name));
            P4Plane::start(&config, over, 0, events).expect("a configuration with a P4 target")
        };
        let nobody: Box<dyn Iterator<Item = Session> + Send> = Box::new(std::iter::empty());
        let synchronised = runtime.block_on(plane.synchronise(nobody));
        synchronised.unwrap_or_else(|e| panic!("{}: {e}", target.name));
        for neighbour in world::neighbours() {
            plane.happened(&Event::Neighbour(neighbour));
        }
        let deadline = Instant::now() + PATIENCE;
        while plane.state() != PlaneState::Ready {
            assert!(
                Instant::now() < deadline,
                "{}: not in step after {PATIENCE:?}",
                target.name
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { runtime, plane }
    }

    /// The session becomes this, and its flows are reported as missed. True: it is in force.
    fn put(&self, version: &Version) -> bool {
        let session = version.session();
        let id = session.id;
        let put = Change::Put {
            session,
            end_markers: vec![],
            discard_buffered: vec![],
        };
        let late = || self.plane.figures().map(|figures| figures.late);
        let before = late();
        self.runtime
            .block_on(self.plane.apply(vec![put]))
            .unwrap_or_else(|e| panic!("{e}"));
        for packet in flow_packets() {
            // The plane classifies a flow itself before it installs it.
            let (session, epoch, pdr) = (id, Epoch(0), PdrId(0));
            self.plane.happened(&Event::Flow(Flow {
                session,
                epoch,
                pdr,
                packet,
            }));
        }
        late() == before
    }
}

//! The shared-memory channel, as `upf-ctl` and `upf-host` use it.

use super::{Link, Outcome, announce, message};
use ipc::{ControllerEnd, HostEnd, SendError};
use std::time::{Duration, Instant};
use upf_model::batch::{FromHost, ToHost};

const PATIENCE: Duration = Duration::from_secs(5);

struct Shared {
    end: ControllerEnd,
    sleeps: bool,
}

pub fn connect(name: &str, sleeps: bool) -> Outcome<Box<dyn Link>> {
    Ok(Box::new(Shared {
        end: ControllerEnd::open(name)?,
        sleeps,
    }))
}

impl Link for Shared {
    fn send(&mut self, message: &ToHost) -> Outcome<()> {
        loop {
            match self.end.send(message) {
                Err(SendError::Full { .. }) => {
                    self.end.wait(PATIENCE);
                }
                other => return Ok(other?),
            }
        }
    }

    fn receive(&mut self) -> Outcome<u64> {
        let deadline = self.sleeps.then(|| Instant::now() + PATIENCE);
        loop {
            match self.end.try_receive()? {
                Some(FromHost::Applied { seq, .. }) => return Ok(seq),
                Some(_) => {}
                None if self.sleeps => {
                    self.end.wait(PATIENCE);
                    if deadline.is_some_and(|d| Instant::now() > d) {
                        return Err("no answer".into());
                    }
                }
                None => std::hint::spin_loop(),
            }
        }
    }
}

pub fn serve(name: &str, sleeps: bool, owned: bool) -> Outcome<()> {
    let mut host = HostEnd::open(name)?;
    announce(name);
    loop {
        let answer = match owned {
            false => host.receive_archived(message::answer)?,
            true => host.try_receive()?.map(|m| message::answer_owned(&m)),
        };
        match answer {
            Some(Some(answer)) => host.send(&answer)?,
            Some(None) => {}
            None if sleeps => {
                host.wait(PATIENCE);
            }
            None => std::hint::spin_loop(),
        }
    }
}

//! The generator's lcore: a thread on a CPU of its own that carries out trials while others do other things.

use super::frames::Headers;
use super::generator::{Generator, Tally, Traffic, Trial};
use super::mix::{Distribution, Picks, Sizes, User};
use crate::Outcome;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use upf_host::dpdk::{Eal, Mempool, Queues, spawn_worker};

/// A pair of ports with something at their other end, and the traffic for it.
struct Seat {
    generator: Generator,
    traffic: Option<Traffic>,
}

type Work = Box<dyn FnOnce(&mut Vec<Seat>) + Send>;

/// The thread. Dropped, it ends, and its ports are closed.
pub struct Lcore {
    orders: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Lcore {
    /// On this CPU.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn start(eal: &Eal, cpu: usize) -> Outcome<Self> {
        let (orders, received) = mpsc::channel::<Work>();
        let serve = move || {
            let mut seats = Vec::new();
            for work in received {
                work(&mut seats);
            }
        };
        let thread = spawn_worker(eal, cpu, "generator", serve)?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    fn order<T: Send + 'static>(&self, work: impl FnOnce(&mut Vec<Seat>) -> T + Send + 'static) -> Receiver<T> {
        let (tell, told) = mpsc::channel();
        let work: Work = Box::new(move |seats| drop(tell.send(work(seats))));
        if let Some(orders) = &self.orders {
            // A thread that has ended is noticed by whoever waits for the answer.
            drop(orders.send(work));
        }
        told
    }

    /// One more pair of ports; its number.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn seat(&self, ports: Vec<Queues>, pool: Mempool, headers: Headers) -> Outcome<usize> {
        let told = self.order(move |seats| {
            seats.push(Seat {
                generator: Generator::new(ports, pool, headers),
                traffic: None,
            });
            seats.len() - 1
        });
        Ok(told.recv()?)
    }

    /// Learn the UPF's hardware addresses and tell ours; false: it does not answer.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn resolve(&self, seat: usize) -> Outcome<bool> {
        Ok(self.order(move |seats| seats[seat].generator.resolve()).recv()?)
    }

    /// From now on, packets of these users.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn carry(&self, seat: usize, users: &Arc<[User]>, distribution: Distribution, sizes: Sizes) -> Outcome<()> {
        let users = users.clone();
        let told = self.order(move |seats| {
            let picks = Picks::draw(&users, distribution);
            let seat = &mut seats[seat];
            seat.traffic = Some(Traffic::new(seat.generator.headers(), picks, sizes));
        });
        Ok(told.recv()?)
    }

    /// Begin a trial; its tally comes when it is over.
    pub fn begin(&self, seat: usize, trial: &Trial) -> Receiver<Tally> {
        let trial = trial.clone();
        self.order(move |seats| {
            let Seat { generator, traffic } = &mut seats[seat];
            traffic
                .as_mut()
                .map_or_else(Tally::default, |traffic| generator.run(traffic, &trial))
        })
    }

    /// A whole trial.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn run(&self, seat: usize, trial: &Trial) -> Outcome<Tally> {
        Ok(self.begin(seat, trial).recv()?)
    }
}

impl Drop for Lcore {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the generator's thread panicked");
        }
    }
}

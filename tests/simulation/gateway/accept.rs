//! Admits connections, turns others away, and pauses accepting.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tcprelay::internal::limits::ACCEPT_PAUSE;
use tcprelay::internal::message::{Identity, Serial};
use tcprelay::internal::pool::Timer;
use tcprelay::internal::session::{Session, Side, Tried};
use tcprelay::internal::stream::Stream as _;
use tcprelay_model::kernel::{Closed, Scripted};

use super::{Doors, Gateway, LARGE, verdict};

impl Gateway {
    pub(super) fn accept(&mut self) {
        for _ in 0..self.plan.accepts_per_turn {
            if self.doors != Doors::Open || self.backlog.is_empty() {
                return;
            }
            if 2 * self.pool.slots().len() + 2 > self.plan.descriptors {
                return self.pause_accepting();
            }
            if let Some(serial) = self.backlog.pop_front() {
                self.admit(serial);
            }
        }
    }

    fn pause_accepting(&mut self) {
        self.pool.pipes().close_idle();
        let (made, held) = (self.pool.pipes().bytes(), self.pool.pipes().held());
        assert!(held > 0 || made == 0, "idle pipes are kept while descriptors are short");
        self.doors = Doors::Paused { until: self.edge.now() + ACCEPT_PAUSE };
        self.pool.arm(Timer::Accept, self.now() + ACCEPT_PAUSE);
    }

    pub(super) fn resume_accepting(&mut self) {
        if let Doors::Paused { until } = self.doors {
            let late = self.edge.now().saturating_sub(until);
            assert!(late <= verdict::LATEST, "accepting resumes {late:?} late");
            self.doors = Doors::Open;
        }
    }

    fn admit(&mut self, serial: u64) {
        let source = Ipv4Addr::from_bits(0x0a00_0001 + (serial.wrapping_mul(7) % self.plan.sources) as u32);
        let requester = SocketAddr::from((source, 1));
        let slots = self.pool.slots();
        let limit = slots.source_limit_reached(requester.ip());
        if slots.len() < LARGE || self.random.once_in(64) {
            let from_there = slots.iter_from(0).filter(|(_, other)| other.identity().requester == requester);
            let from_there = from_there.count();
            let reached = self.plan.settings.max_per_source.filter(|&limit| from_there >= limit);
            assert_eq!(limit, reached, "{from_there} sessions come from there");
        }
        if limit.is_some() || slots.is_full() {
            return self.turn_away(serial);
        }
        let world = Rc::clone(&self.edge.cases[&serial].world);
        let now = self.now();
        let target = self.edge.choice.next(Tried::default(), now).expect("there are targets");
        let begun = self.edge.begin_connect(serial, target);
        let [requester_socket, target_socket] = Side::BOTH.map(|side| Scripted::new(&world, side));
        let serial_number = Serial::new(serial).expect("serial numbers begin with 1");
        let identity = Identity { serial: serial_number, requester, target };
        let session = Session::new(identity, requester_socket, Some(target_socket), now);
        self.pool.open(session, begun, now, &mut self.edge);
        world.borrow_mut().touch();
    }

    /// Resets a connection that gets no session.
    fn turn_away(&mut self, serial: u64) {
        let case = self.edge.cases.remove(&serial).expect("the connection has arrived");
        Scripted::new(&case.world, Side::Requester).reset_on_close();
        let world = case.world.borrow();
        let requester = world.connection(Side::Requester);
        assert!(requester.is_dead() || requester.closed() == Some(Closed::Reset), "no reset was sent");
    }

    /// Closes the listener. The kernel resets the connections in its backlog.
    pub(super) fn close_listener(&mut self) {
        while let Some(serial) = self.backlog.pop_front() {
            self.turn_away(serial);
        }
    }
}

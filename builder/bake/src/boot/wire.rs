//! The private network of several machines: a switch without memory.
//!
//! Each machine has one end of a pair of datagram sockets, on which qemu sends and receives Ethernet frames, one in each datagram; the
//! other end is here, and what comes from one machine goes to all others. No address, port or path is used, so nobody else is on
//! that network. A machine's cable can be cut.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Longest frame: qemu's own limit for a packet.
const FRAME: usize = 68 * 1024;

/// How long a machine may not take what is sent to it, before the frame is dropped, as a switch's full queue does.
const PATIENCE: Duration = Duration::from_millis(200);

/// The ports of the switch.
#[derive(Debug)]
pub(super) struct Wire {
    ports: Arc<Vec<Port>>,
}

#[derive(Debug, Default)]
struct Port {
    /// The switch's end of the cable that is plugged in.
    cable: Mutex<Option<Arc<UnixDatagram>>>,
    cut: AtomicBool,
}

impl Port {
    fn cable(&self) -> MutexGuard<'_, Option<Arc<UnixDatagram>>> {
        self.cable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the cable out, which ends the thread that reads there.
    fn unplug(&self) {
        if let Some(cable) = self.cable().take() {
            // The other end may be gone.
            let _ = cable.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Wire {
    /// A switch for so many machines.
    pub(super) fn new(machines: usize) -> Wire {
        Wire {
            ports: Arc::new(
                std::iter::repeat_with(Port::default)
                    .take(machines)
                    .collect(),
            ),
        }
    }

    /// Plugs a machine in, instead of what was there, and gives the machine's end of the cable.
    pub(super) fn plug(&self, machine: usize) -> io::Result<OwnedFd> {
        let (cable, end) = UnixDatagram::pair()?;
        cable.set_write_timeout(Some(PATIENCE))?;
        let cable = Arc::new(cable);
        let port = &self.ports[machine];
        port.unplug();
        *port.cable() = Some(Arc::clone(&cable));
        let ports = Arc::clone(&self.ports);
        thread::spawn(move || forward(&cable, machine, &ports));
        Ok(end.into())
    }

    /// Cuts a machine's cable, or mends it.
    pub(super) fn cut(&self, machine: usize, cut: bool) {
        self.ports[machine].cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ports.iter().for_each(Port::unplug);
    }
}

/// Sends on what comes from a machine, until it is unplugged.
fn forward(cable: &UnixDatagram, machine: usize, ports: &[Port]) {
    let mut frame = vec![0; FRAME];
    // A datagram of no bytes is the end: qemu sends none.
    while let Ok(length @ 1..) = cable.recv(&mut frame) {
        if ports[machine].cut.load(Ordering::Relaxed) {
            continue;
        }
        let others = ports
            .iter()
            .enumerate()
            .filter(|(number, port)| *number != machine && !port.cut.load(Ordering::Relaxed));
        for (_, port) in others {
            let other = port.cable().clone();
            // Who has ended, or does not take it, does not get it.
            let _ = other.map(|other| other.send(&frame[..length]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plug(wire: &Wire, machine: usize) -> UnixDatagram {
        let end = UnixDatagram::from(wire.plug(machine).unwrap());
        end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        end
    }

    fn three() -> (Wire, Vec<UnixDatagram>) {
        let wire = Wire::new(3);
        let machines = (0..3).map(|number| plug(&wire, number)).collect();
        (wire, machines)
    }

    fn receive(from: &UnixDatagram) -> Vec<u8> {
        let mut frame = [0; 100];
        let length = from.recv(&mut frame).unwrap();
        frame[..length].to_vec()
    }

    #[test]
    fn frames_go_to_all_others_and_never_back() {
        let (_wire, machines) = three();
        machines[0].send(b"one").unwrap();
        assert_eq!(receive(&machines[1]), b"one");
        assert_eq!(receive(&machines[2]), b"one");
        machines[1].send(b"two").unwrap();
        // Had its own come back, it would have come before.
        assert_eq!(receive(&machines[0]), b"two");
    }

    #[test]
    fn a_cut_cable_is_silent_both_ways_and_can_be_mended() {
        let (wire, machines) = three();
        wire.cut(0, true);
        machines[0].send(b"lost").unwrap();
        machines[1].send(b"to the third").unwrap();
        assert_eq!(receive(&machines[2]), b"to the third");
        wire.cut(0, false);
        machines[1].send(b"again").unwrap();
        assert_eq!(receive(&machines[0]), b"again");
    }

    #[test]
    fn a_machine_that_has_ended_or_does_not_listen_holds_nobody_up() {
        let (wire, mut machines) = three();
        drop(machines.remove(1));
        for number in 0..50_u8 {
            machines[0].send(&[number]).unwrap();
        }
        // The last machine never read: its queue is full, and what had no room is lost.
        machines[1].send(b"alive").unwrap();
        assert_eq!(receive(&machines[0]), b"alive");
        // And who comes again is on the network again.
        let again = plug(&wire, 1);
        machines[0].send(b"welcome").unwrap();
        // What was on its way when it came may be before it.
        let arrived = (0..=50).map(|_| receive(&again));
        assert!(arrived.into_iter().any(|frame| frame == b"welcome"));
    }
}

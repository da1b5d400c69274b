//! Several machines on one private network.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Accelerator, BootError, DataSource, Durability, Firmware, Guest, Image, Mark, Repository,
    Running, Workshop, machine, running::Start, wire::Wire,
};

/// What is to be booted.
#[derive(Debug, Clone, Copy)]
pub struct FleetSpec<'a> {
    /// The nodes, each with the image that it is made of; at most 250.
    pub nodes: &'a [(Image, Guest)],
    /// With what they start.
    pub firmware: Firmware,
    /// Where they find their seeds.
    pub source: DataSource,
    /// Where they find packages.
    pub repository: Option<&'a Repository>,
    /// How long all of them together may take until each is converged and healthy.
    pub limit: Duration,
}

/// Machines that run. They are switched off when this is dropped, and when this program ends in whatever way.
#[derive(Debug)]
pub struct Fleet<'a> {
    spec: FleetSpec<'a>,
    workshop: &'a Workshop,
    wire: Wire,
    rooms: Vec<PathBuf>,
    machines: Vec<Running>,
}

/// How one machine of a fleet came up.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Member {
    /// Which.
    pub node: String,
    /// Seconds from its own switch to cloud-init's last line.
    pub cloud_init: f64,
    /// To the agent's word that it has joined.
    pub joined: f64,
    /// To the answer that it is converged and healthy: clusters have formed.
    pub healthy: f64,
}

impl<'a> Fleet<'a> {
    /// Switches all machines on, one right after the other. As [`super::test`] says, the calling thread must live as long as they.
    ///
    /// # Errors
    /// [`BootError`]; what was switched on is switched off then.
    pub fn switch_on(spec: FleetSpec<'a>, workshop: &'a Workshop) -> Result<Fleet<'a>, BootError> {
        let missing = machine::missing(spec.firmware);
        if !missing.is_empty() {
            return Err(BootError::Missing(missing));
        }
        let rooms = spec
            .nodes
            .iter()
            .map(|(_, guest)| workshop.room(&guest.node));
        let mut fleet = Fleet {
            spec,
            workshop,
            wire: Wire::new(spec.nodes.len()),
            rooms: rooms.collect::<Result<_, _>>()?,
            machines: Vec::new(),
        };
        for number in 0..spec.nodes.len() {
            let machine = fleet.start(number)?;
            fleet.machines.push(machine);
        }
        Ok(fleet)
    }

    fn start(&self, number: usize) -> Result<Running, BootError> {
        let wire: OwnedFd = self
            .wire
            .plug(number)
            .map_err(BootError::file("make", "the private network"))?;
        let (image, guest) = &self.spec.nodes[number];
        let start = Start {
            image,
            guest,
            source: self.spec.source,
            firmware: self.spec.firmware,
            accelerator: Accelerator::detect(),
            // Machines are killed, and looked at again.
            durability: Durability::Flushes,
            processors: 1,
            repository: self.spec.repository,
            number: u8::try_from(number).unwrap_or(u8::MAX),
            wire: Some(wire),
            directory: &self.rooms[number],
            key: self.workshop.key(),
        };
        start.switch_on()
    }

    /// Waits until every machine has joined and is healthy, which takes the others; `say` is told what is waited for.
    ///
    /// # Errors
    /// [`BootError`] of the first machine for which that does not come true in time.
    pub fn wait(&mut self, say: &dyn Fn(&str)) -> Result<Vec<Member>, BootError> {
        let until = Instant::now() + self.spec.limit;
        let mut members = Vec::new();
        for machine in &mut self.machines {
            say(&format!("waiting until {} has joined", machine.node()));
            let cloud_init = machine.wait(Mark::CloudInit, 1, until)?.after;
            let joined = machine.wait(Mark::Joined, 1, until)?.after;
            members.push(Member {
                node: machine.node().to_owned(),
                cloud_init: super::seconds(cloud_init),
                joined: super::seconds(joined),
                healthy: 0.0,
            });
        }
        for (machine, member) in self.machines.iter().zip(&mut members) {
            say(&format!("waiting until {} is healthy", machine.node()));
            healthy(machine, until)?;
            member.healthy = super::seconds(machine.up());
        }
        Ok(members)
    }

    /// The machines, in the order of the specification.
    #[must_use]
    pub fn machines(&self) -> &[Running] {
        &self.machines
    }

    /// As [`Fleet::machines`], to wait for what they say.
    pub fn machines_mut(&mut self) -> &mut [Running] {
        &mut self.machines
    }

    /// Pulls a machine's plug.
    ///
    /// # Errors
    /// [`BootError::File`].
    ///
    /// # Panics
    /// Where there is no such machine.
    pub fn kill(&mut self, number: usize) -> Result<(), BootError> {
        self.machines[number].kill()
    }

    /// Switches machines on again that were killed, with the disks that they had, and waits until each is healthy. Gives the seconds
    /// from its switch on that this took each.
    ///
    /// # Errors
    /// [`BootError`].
    ///
    /// # Panics
    /// Where there is no such machine.
    pub fn again(&mut self, numbers: &[usize]) -> Result<Vec<f64>, BootError> {
        let until = Instant::now() + self.spec.limit;
        for number in numbers {
            self.machines[*number] = self.start(*number)?;
        }
        let mut seconds = Vec::new();
        for number in numbers {
            let machine = &mut self.machines[*number];
            machine.wait(Mark::Joined, 1, until)?;
            healthy(machine, until)?;
            seconds.push(super::seconds(machine.up()));
        }
        Ok(seconds)
    }

    /// Cuts a machine's cable to the private network, or mends it.
    ///
    /// # Panics
    /// Where there is no such machine.
    pub fn cut(&self, number: usize, cut: bool) {
        self.wire.cut(number, cut);
    }
}

/// Waits until the machine's agent finds that nothing is missing.
fn healthy(machine: &Running, until: Instant) -> Result<(), BootError> {
    let left = until
        .saturating_duration_since(Instant::now())
        .as_secs()
        .max(1);
    let script = format!("exec rolesmith-agent wait --timeout {left} 2>&1");
    machine
        .shell(&script, Duration::from_secs(left + 20))
        .map(drop)
}

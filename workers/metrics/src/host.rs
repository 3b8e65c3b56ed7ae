//! The state of this machine, read as often as configured and published like anybody's telemetry.

use keelson_schemas::telemetry::{Filesystem, HostReading};
use sysinfo::{Disks, System};

/// The service under which Keelson tells of its own machine.
pub const SERVICE: &str = "keelson";

/// Reads this machine. Keeps what the CPU counters were, so that a share covers the time since the last reading.
pub struct Host {
    system: System,
    disks: Disks,
}

impl Host {
    /// A first look; [`Host::read`] tells of the time since.
    ///
    /// # Errors
    /// On a system that cannot be read.
    pub fn look() -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_cpu_usage();
        Ok(Self { system, disks: Disks::new()? })
    }

    /// The instance name: the host's.
    #[must_use]
    pub fn name() -> String {
        System::host_name().unwrap_or_default()
    }

    /// What the machine is like now, at `ts` Unix milliseconds.
    pub fn read(&mut self, ts: u64) -> HostReading {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(true);
        let total = self.system.total_memory();
        HostReading {
            ts,
            cpu_utilization: Some((f64::from(self.system.global_cpu_usage()) / 100.0).clamp(0.0, 1.0)),
            memory_used_bytes: (total > 0).then(|| self.system.used_memory().min(total)),
            memory_total_bytes: (total > 0).then_some(total),
            filesystems: self.filesystems(),
        }
    }

    /// Each mountpoint once, and no more than a reading may have.
    fn filesystems(&self) -> Vec<Filesystem> {
        let mut found: Vec<Filesystem> =
            self.disks.iter().filter(|disk| disk.total_space() > 0).map(filesystem).collect();
        found.sort_by(|one, other| one.mountpoint.cmp(&other.mountpoint));
        found.dedup_by(|one, other| one.mountpoint == other.mountpoint);
        found.truncate(keelson_schemas::limits::MAX_FILESYSTEMS);
        found
    }
}

fn filesystem(disk: &sysinfo::Disk) -> Filesystem {
    Filesystem {
        mountpoint: disk.mount_point().to_string_lossy().into_owned(),
        used_bytes: disk.total_space().saturating_sub(disk.available_space()),
        total_bytes: disk.total_space(),
    }
}

#[cfg(test)]
mod tests {
    use keelson_schemas::telemetry::check_host;

    use super::*;

    #[test]
    fn this_machine_can_be_read() {
        let mut host = Host::look().expect("can be read");
        let reading = host.read(1_764_000_000_000);
        assert_eq!(check_host("host[0]", &reading), Ok(()));
        assert!(reading.memory_total_bytes > Some(0));
        assert!(reading.filesystems.iter().any(|filesystem| filesystem.mountpoint == "/"));
    }
}

//! Everything of a resource but its amount.

use crate::api::v1;
use crate::base::id::Role;

/// A label of a reservation: key and value.
pub(super) type Label = (String, Option<String>);

/// One entry of a reservation stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Reservation {
    /// Made by an operation, not by the agent's configuration.
    pub(super) dynamic: bool,
    pub(super) role: Role,
    pub(super) principal: Option<String>,
    pub(super) labels: Option<Vec<Label>>,
}

/// Disk information, carried whole: compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Disk {
    /// The protobuf encoding of the message.
    pub(super) bytes: Vec<u8>,
    /// A persistent volume: never merged with another.
    pub(super) persistent: bool,
    /// A source that is taken whole or not at all (MOUNT, BLOCK, RAW with an id).
    pub(super) exclusive: bool,
}

/// What must be equal for two resources to add up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) allocation: Option<Role>,
    pub(super) reservations: Vec<Reservation>,
    pub(super) disk: Option<Disk>,
    pub(super) revocable: bool,
    pub(super) shared: bool,
    pub(super) provider: Option<String>,
}

impl Identity {
    /// The role that the resource is reserved for, if any.
    pub(super) fn reserved_for(&self) -> Option<&Role> {
        self.reservations.last().map(|reservation| &reservation.role)
    }

    /// Whether two entries of this identity stay apart: volumes and whole disks.
    pub(super) fn never_merges(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.persistent || disk.exclusive)
    }

    /// The disk message as it was given.
    pub(super) fn disk_message(&self) -> Option<v1::resource::DiskInfo> {
        self.disk.as_ref().and_then(|disk| prost::Message::decode(disk.bytes.as_slice()).ok())
    }
}

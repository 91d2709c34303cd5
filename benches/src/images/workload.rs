//! What is measured: one table.

use std::io;

use super::client::Client;
use super::scene::Scene;
use super::{containers, disk, mounts, transport, upper};
use crate::figure::Figure;

/// A row of the table.
pub struct Workload {
    /// What it is called on the command line and in tables.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Where it is shown.
    pub group: Group,
    /// What everybody is compared with.
    pub reference: Client,
    /// Who takes part.
    pub clients: &'static [Client],
    /// How often.
    pub repeat: Repeat,
    /// One run.
    pub run: fn(&mut Scene, Client) -> io::Result<Vec<Figure>>,
}

/// Workloads that are shown together: they have one reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Images in stores and registries.
    Stores,
    /// Images mounted.
    Mounts,
    /// Images run.
    Containers,
    /// Images on disk.
    Disk,
}

impl Group {
    /// All, in the order of the tables.
    pub const ALL: [Group; 4] = [Group::Stores, Group::Mounts, Group::Containers, Group::Disk];

    /// Heading and file name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Stores => "stores",
            Group::Mounts => "mounts",
            Group::Containers => "containers",
            Group::Disk => "disk",
        }
    }
}

/// How often a workload is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// In each round.
    Rounds,
    /// Once: it is no matter of time.
    Once,
}

use Client::{Crun, Erofs, FuseOverlayfs, Layers, Overlay, Podman, Runion, Skopeo, Tar, Umoci};
use Group::{Containers, Disk, Mounts, Stores};

/// Every workload.
pub const ALL: &[Workload] = &[
    Workload {
        name: "load",
        about: "a docker archive of an image of three layers into a fresh store",
        group: Stores,
        reference: Podman,
        clients: &[Runion, Podman, Skopeo, Umoci],
        repeat: Repeat::Rounds,
        run: transport::load,
    },
    Workload {
        name: "save",
        about: "the same image as a docker archive",
        group: Stores,
        reference: Podman,
        clients: &[Runion, Podman, Skopeo],
        repeat: Repeat::Rounds,
        run: transport::save,
    },
    Workload {
        name: "pull",
        about: "the same image, gzip, from a registry on loopback into a fresh store",
        group: Stores,
        reference: Podman,
        clients: &[Runion, Podman, Skopeo, Umoci],
        repeat: Repeat::Rounds,
        run: transport::pull,
    },
    Workload {
        name: "push",
        about: "the same image, as it was loaded, to a fresh registry on loopback",
        group: Stores,
        reference: Podman,
        clients: &[Runion, Podman, Skopeo],
        repeat: Repeat::Rounds,
        run: transport::push,
    },
    Workload {
        name: "commit",
        about: "an upper with many files made and a few deleted, as a layer over an image",
        group: Stores,
        reference: Podman,
        clients: &[Runion, Podman, Tar],
        repeat: Repeat::Rounds,
        run: upper::measure,
    },
    Workload {
        name: "images-200",
        about: "the list of all images, where there are 200",
        group: Stores,
        reference: Podman,
        clients: &[Runion, Podman],
        repeat: Repeat::Rounds,
        run: transport::images_some,
    },
    Workload {
        name: "images-1000",
        about: "the same where there are 1,000, which podman does not list in five minutes",
        group: Stores,
        reference: Podman,
        clients: &[Runion],
        repeat: Repeat::Rounds,
        run: transport::images_many,
    },
    Workload {
        name: "mount-1",
        about: "from the call to the first ls of an image of one layer, with an upper",
        group: Mounts,
        reference: Overlay,
        clients: &[Runion, Overlay, Erofs, FuseOverlayfs],
        repeat: Repeat::Rounds,
        run: mounts::mount_one,
    },
    Workload {
        name: "mount-100",
        about: "the same with the image's files spread over 100 layers",
        group: Mounts,
        reference: Overlay,
        clients: &[Runion, Overlay, Erofs, FuseOverlayfs],
        repeat: Repeat::Rounds,
        run: mounts::mount_hundred,
    },
    Workload {
        name: "walk-1",
        about: "a stat of every file of the image of one layer",
        group: Mounts,
        reference: Overlay,
        clients: &[Runion, Overlay, Erofs, FuseOverlayfs],
        repeat: Repeat::Rounds,
        run: mounts::walk_one,
    },
    Workload {
        name: "walk-100",
        about: "a stat of every file of the image of 100 layers",
        group: Mounts,
        reference: Overlay,
        clients: &[Runion, Overlay, Erofs, FuseOverlayfs],
        repeat: Repeat::Rounds,
        run: mounts::walk_hundred,
    },
    Workload {
        name: "start-none",
        about: "run --rm IMAGE true without a network, with an upper of its own",
        group: Containers,
        reference: Podman,
        clients: &[Runion, Crun, Podman],
        repeat: Repeat::Rounds,
        run: containers::start_alone,
    },
    Workload {
        name: "start-bridge",
        about: "the same on a bridge",
        group: Containers,
        reference: Podman,
        clients: &[Runion, Podman],
        repeat: Repeat::Rounds,
        run: containers::start_bridged,
    },
    Workload {
        name: "start-50",
        about: "50 of them at once, without a network",
        group: Containers,
        reference: Podman,
        clients: &[Runion, Crun, Podman],
        repeat: Repeat::Rounds,
        run: containers::start_many,
    },
    Workload {
        name: "disk",
        about: "what the families of images take on disk",
        group: Disk,
        reference: Layers,
        clients: &[Runion, Podman, Layers],
        repeat: Repeat::Once,
        run: disk::measure,
    },
];

/// The workloads of a list of names or beginnings of names; all without one.
///
/// # Errors
/// A name that is not known.
pub fn chosen(names: Option<&str>) -> Result<Vec<&'static Workload>, String> {
    let Some(names) = names else { return Ok(ALL.iter().collect()) };
    for name in names.split(',') {
        if !ALL.iter().any(|workload| workload.name.starts_with(name)) {
            let known: Vec<&str> = ALL.iter().map(|workload| workload.name).collect();
            return Err(format!("unknown workload {name}\nhint: one of {}", known.join(", ")));
        }
    }
    let is_meant = |workload: &&Workload| names.split(',').any(|name| workload.name.starts_with(name));
    Ok(ALL.iter().filter(is_meant).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_compared_with_somebody_who_takes_part() {
        for workload in ALL {
            let has_reference = workload.clients.contains(&workload.reference);
            assert!(has_reference || workload.clients.len() == 1, "{}", workload.name);
            let same = ALL.iter().filter(|other| other.group == workload.group);
            assert!(same.into_iter().all(|o| o.reference == workload.reference), "{}", workload.name);
        }
    }

    #[test]
    fn beginnings_of_names_are_names() {
        let names = |text| chosen(Some(text)).unwrap().iter().map(|w| w.name).collect::<Vec<_>>();
        assert_eq!(names("walk,load"), ["load", "walk-1", "walk-100"]);
        assert!(
            chosen(Some("fly")).is_err_and(|text| text.contains("unknown workload fly\nhint: one of load, "))
        );
    }
}

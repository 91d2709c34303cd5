//! Which containers are of which image.

use std::collections::{HashMap, HashSet};

use layerstore::digest::Digest;
use layerstore::store::{Image, Store, short};

use crate::container::{Container, Containers};
use crate::failure::{Failure, Result};
use crate::settle;

/// Containers by image.
#[derive(Debug, Default)]
pub struct Users {
    by_image: HashMap<String, Vec<User>>,
    /// Ids of all that were looked at: none is of another image later.
    known: HashSet<String>,
}

/// A container of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    /// What is shown of its id.
    id: String,
    is_up: bool,
}

impl Users {
    /// All of them.
    pub fn find(store: &Store) -> Result<Users> {
        let mut users = Users::default();
        for container in Containers::open(store.root())?.all()? {
            let record = match settle::read(&container) {
                Ok(record) => record,
                Err(_gone) if !container.dir().exists() => continue,
                Err(failure) => return Err(failure),
            };
            users.known.insert(record.id.clone());
            let Some(image) = &record.config.image else { continue };
            let user = User { id: record.short().to_owned(), is_up: record.state.status.is_up() };
            users.by_image.entry(image.id.clone()).or_default().push(user);
        }
        Ok(users)
    }

    /// Whether a container is of this image that was made since they were looked at; one
    /// that cannot be read may be. What others wait for meanwhile is a listing, however
    /// many containers there are.
    pub fn has_grown(&self, store: &Store, id: &Digest) -> bool {
        let id = id.to_string();
        let containers = Containers::open(store.root()).and_then(|containers| containers.all());
        let is_of = |container: &Container| match container.read() {
            Ok(record) => record.config.image.is_some_and(|image| image.id == id),
            Err(_) => container.dir().exists(),
        };
        let is_new = |container: &&Container| !self.known.contains(container.id());
        containers.map_or(true, |all| all.iter().filter(is_new).any(is_of))
    }

    fn of(&self, id: &Digest) -> &[User] {
        self.by_image.get(&id.to_string()).map_or(&[], Vec::as_slice)
    }

    /// How many are of this image.
    pub fn count(&self, id: &Digest) -> usize {
        self.of(id).len()
    }

    /// Why an image may not lose its only name, in docker's words.
    pub fn check_name(&self, image: &Image, name: &str) -> Result<()> {
        let id = image.id();
        let Some(user) = self.of(&id).first() else { return Ok(()) };
        Err(Failure::as_docker(format!(
            "conflict: unable to remove repository reference \"{name}\" (must force) - container {} is using its \
             referenced image {}",
            user.id,
            short(&id)
        ))
        .hint("-f takes the name away and leaves the image to its containers"))
    }

    /// Why an image may not be removed, in docker's words; of one whose
    /// containers are all stopped that can be forced.
    pub fn check_image(&self, id: &Digest, force: bool) -> Result<()> {
        let users = self.of(id);
        let unable = |how: &str, why: String| {
            Err(Failure::as_docker(format!("conflict: unable to delete {} ({how}) - {why}", short(id))))
        };
        match (users.iter().find(|user| user.is_up), users.first()) {
            (Some(user), _) => {
                let why = format!("image is being used by running container {}", user.id);
                unable("cannot be forced", why)
            }
            (None, Some(user)) if !force => {
                let why = format!("image is being used by stopped container {}", user.id);
                unable("must be forced", why)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Config, ImageRef, Record};

    #[test]
    fn running_ones_come_first() {
        let id: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let user = |id: &str, is_up| User { id: id.to_owned(), is_up };
        let users = |list: Vec<User>| {
            let by_image = HashMap::from([(id.to_string(), list)]);
            Users { by_image, known: HashSet::new() }
        };
        let said = |users: &Users, force| {
            users.check_image(&id, force).map_err(|failure| failure.message().to_owned())
        };
        let stopped = users(vec![user("one", false)]);
        assert_eq!(
            said(&stopped, false).unwrap_err(),
            "conflict: unable to delete abababababab (must be forced) - image is being used by stopped container one"
        );
        assert_eq!(said(&stopped, true), Ok(()));
        let both = users(vec![user("one", false), user("two", true)]);
        let expected = "conflict: unable to delete abababababab (cannot be forced) - image is being used by running \
                        container two";
        assert_eq!((said(&both, true), said(&both, false)), (Err(expected.into()), Err(expected.into())));
        assert_eq!(said(&Users::default(), false), Ok(()));
        assert_eq!((both.count(&id), Users::default().count(&id)), (2, 0));
    }

    #[test]
    fn only_containers_that_are_new_are_looked_at_again() {
        let root = std::path::PathBuf::from(format!("/var/tmp/runion-users-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let store = Store::open(&root).unwrap();
        let id: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let make = |image: Option<&Digest>| {
            let image = image.map(|id| ImageRef { id: id.to_string(), name: "box".to_owned() });
            let config = Config { image, ..Config::default() };
            let record = Record::new(String::new(), "2024-05-06T07:08:09Z".to_owned(), config);
            Containers::open(&root).unwrap().create(record).unwrap()
        };
        let known = make(None);
        let users = Users::find(&store).unwrap();
        assert!(!users.has_grown(&store, &id));
        // It would count as one, were it read.
        std::fs::write(known.dir().join("state.json"), "none").unwrap();
        assert!(!users.has_grown(&store, &id));
        make(None);
        assert!(!users.has_grown(&store, &id));
        make(Some(&id));
        assert!(users.has_grown(&store, &id));
        std::fs::remove_dir_all(&root).unwrap();
    }
}

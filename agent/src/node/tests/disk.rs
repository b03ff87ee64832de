//! What an agent does when it cannot store what it is.

use super::*;

/// Where an agent keeps what it is. Without its directory it can keep nothing, as on a full disk.
struct Directory(PathBuf);

impl Directory {
    fn of(world: &World) -> Self {
        Self(world.directory.path().to_owned())
    }

    fn lost(&self) {
        std::fs::rename(&self.0, self.0.with_extension("lost")).unwrap();
    }

    fn found(&self) {
        std::fs::rename(self.0.with_extension("lost"), &self.0).unwrap();
    }

    /// The serial number of the SVID that is stored.
    fn stored(&self) -> String {
        let saved = saved::load(&self.0.join("agent.json"), &"td".parse().unwrap()).unwrap();
        saved.identity.unwrap().svid.serial().to_string()
    }
}

impl Running {
    /// The serial number of the SVID in use.
    fn used(&self) -> String {
        let material = self.material.borrow().clone().unwrap();
        steeple::x509::X509Svid::new(material.chain().clone()).unwrap().serial().to_string()
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_svid_that_cannot_be_stored_is_not_used_while_the_old_one_is_good() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    let directory = Directory::of(&world);
    let first = node.used();
    directory.lost();
    seconds(TTL * 3 / 4).await;
    assert_eq!(node.used(), first);
    let trouble = node.status.borrow().trouble.clone().unwrap();
    assert!(trouble.contains("not stored"), "{trouble}");
    directory.found();
    // The one that a restart finds is one that the server accepts.
    assert_eq!(directory.stored(), first);
    seconds(130).await;
    assert_ne!(node.used(), first);
    assert_eq!(directory.stored(), node.used());
    assert_eq!(node.status.borrow().trouble, None);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_svid_that_cannot_be_stored_is_used_before_there_is_none() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    let directory = Directory::of(&world);
    let first = node.used();
    directory.lost();
    seconds(TTL * 10).await;
    assert!(node.presents());
    assert_ne!(node.used(), first);
    assert_eq!(node.status.borrow().standing, Standing::Attested);
    directory.found();
    seconds(130).await;
    assert_eq!(directory.stored(), node.used());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_attests_without_a_place_to_store_it_is_an_agent() {
    let world = World::new(false);
    let directory = Directory::of(&world);
    let mut node = world.start();
    directory.lost();
    node.until(Standing::Attested).await;
    assert!(node.status.borrow().trouble.clone().unwrap().contains("not stored"));
    directory.found();
    seconds(130).await;
    assert_eq!(directory.stored(), node.used());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ban_that_cannot_be_stored_is_one_all_the_same() {
    let world = World::new(false);
    let mut node = world.start();
    node.until(Standing::Attested).await;
    let file = world.directory.path().join("agent.json");
    // Nothing is renamed over a directory.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    node.denials.send(Denial::Banned).await.unwrap();
    node.until(Standing::Banned).await;
    seconds(1).await;
    assert!(!node.ended.is_finished());
    node.stop().await;
}

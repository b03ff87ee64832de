//! What one user's processes can take from those of others.

use std::process::{Child, Command, Stdio};

use super::node::selectors;
use super::*;
use crate::attest::instance::Instance;
use crate::identity::Audiences;
use crate::peer::process::Process;

/// A process that does nothing until it is told to end.
struct Idle(Child);

impl Idle {
    fn new() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).spawn().unwrap())
    }

    fn instance(&self, user: u32) -> Instance {
        Instance::of_process(&Process::open(self.0.id()).unwrap(), user)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn one_user_cannot_use_up_the_room_for_instances() {
    let node = Node::new(vec![web()]).await;
    let idle: Vec<_> = (0..3).map(|_| Idle::new()).collect();
    let of = |process: usize, user| node.holders.of(&idle[process].instance(user));
    let (first, _second) = (of(0, 1).unwrap(), of(1, 1).unwrap());
    assert_eq!(of(2, 1).unwrap_err(), IdentityError::TooMany);
    assert!(of(0, 1).is_ok(), "who is there already is served");
    assert!(of(2, 2).is_ok(), "and so are others");

    let mut idle = idle.into_iter();
    drop(idle.next());
    let mut watch = first.watch();
    while watch.changed().await.is_ok() {}
    while node.holders.count() > 2 {
        tokio::task::yield_now().await;
    }
    let late = Idle::new();
    assert!(node.holders.of(&late.instance(1)).is_ok(), "room is given back");
}

#[tokio::test(start_paused = true)]
async fn who_wants_many_tokens_holds_up_nobody_else() {
    let node = Node::new(vec![web()]).await;
    let idle = [Idle::new(), Idle::new(), Idle::new()];
    let entry = node.entries().remove(0);
    let token = async |process: usize, user: u32, audience: usize| {
        let holder = node.holders.of(&idle[process].instance(user)).unwrap();
        let (audience, own) = (Audiences::new(vec![audience.to_string()]), node.own());
        holder.jwt(&entry, &audience, &own, node.clock.now()).await.unwrap();
        node.clock.now()
    };
    let begun = node.clock.now();
    let greedy = (0..200).map(|number| token(number % 2, 1, number));
    let (greedy, modest) = tokio::join!(futures_util::future::join_all(greedy), token(2, 2, 0));
    assert_eq!(modest, begun + Duration::from_millis(5));
    // Sixteen at a time, 5 ms each.
    let last = greedy.into_iter().max().unwrap();
    assert_eq!(last, begun + Duration::from_millis(65));
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_task_is_gone_is_replaced() {
    let node = Node::new(vec![web()]).await;
    let idle = Idle::new();
    let instance = idle.instance(1);
    let _first = node.holders.of(&instance).unwrap();
    node.holders.break_off(&instance);
    let second = node.holders.of(&instance).unwrap();
    assert!(!second.has_ended());
    assert!(second.x509(&node.entries(), &selectors(&["u:1"]), node.clock.now()).await.is_ok());
    assert_eq!(node.holders.count(), 1);
}

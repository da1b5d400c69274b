//! One CA takes the other's place while members speak.

use super::*;

/// The fleet before the roll-over, and after each of its three steps.
fn stages(lan: &mut Lan) -> Vec<Fleet> {
    let next = Authority::new();
    let (first, second) = (lan.fleet.authority.pem.clone(), next.pem.clone());
    let both = format!("{first}{second}");
    let mut stages = vec![copy(&lan.fleet)];
    for (trusted, renews) in [(&both, false), (&both, true), (&second, false)] {
        if renews {
            let names: Vec<String> = lan.fleet.keys.keys().cloned().collect();
            for name in names {
                let pem = next.issue(&wish(&name), &lan.fleet.keys[&name]);
                lan.fleet.certify(&name, pem);
            }
        }
        lan.fleet.authority.pem.clone_from(trusted);
        lan.fleet.facts.version += 1;
        stages.push(copy(&lan.fleet));
    }
    stages
}

async fn asks(from: &mut Node, to: &mut Node, name: &str) -> bool {
    from.net.send(name, 5, b"on".to_vec(), LIMIT);
    let (_, (_, result)) = tokio::join!(echo(to), from.response());
    result.is_ok_and(|(_, body)| body == b"on")
}

#[test]
fn open_connections_outlive_every_step_whoever_takes_it_first() {
    for turned in [false, true] {
        run(async {
            let mut lan = Lan::new(&["n1", "n2"]);
            let (mut n1, mut n2) = (lan.start("n1", 1), lan.start("n2", 2));
            n1.connected("n2").await;
            n2.connected("n1").await;
            let before = (n1.link("n2", |_| true).await, n2.link("n1", |_| true).await);
            // What a link was told when it was made tells it from one that was made anew.
            assert_eq!((before.0.facts, before.1.facts), (Some(1), Some(1)));
            for stage in stages(&mut lan).into_iter().skip(1) {
                let mut order = [("n1", &mut n1), ("n2", &mut n2)];
                if turned {
                    order.reverse();
                }
                for number in 0..2 {
                    let (name, node) = &mut order[number];
                    node.take_over(stage.material(name));
                    let [(one, first), (two, second)] = &mut order;
                    assert!(asks(first, second, two).await);
                    assert!(asks(second, first, one).await);
                }
            }
            assert_eq!(n1.link("n2", |_| true).await, before.0);
            assert_eq!(n2.link("n1", |_| true).await, before.1);
            assert_eq!(n1.net.status().refused, []);
            assert_eq!(n2.net.status().refused, []);
        });
    }
}

#[test]
fn new_connections_are_made_between_members_that_are_one_step_apart() {
    for (one, two) in [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3)] {
        for (one, two) in [(one, two), (two, one)] {
            run(async {
                let mut lan = Lan::new(&["n1", "n2"]);
                let stages = stages(&mut lan);
                let start = |stage: usize, name: &str, number| {
                    Node::with(stages[stage].material(name), machine(number), limits())
                };
                let (mut n1, mut n2) = (start(one, "n1", 1), start(two, "n2", 2));
                assert!(asks(&mut n1, &mut n2, "n2").await, "{one} {two}");
                assert!(asks(&mut n2, &mut n1, "n1").await, "{one} {two}");
                assert_eq!(n1.net.status().refused, [], "{one} {two}");
                assert_eq!(n2.net.status().refused, [], "{one} {two}");
            });
        }
    }
}

/// Why a step waits until all members have taken the one before.
#[test]
fn members_that_are_two_steps_apart_refuse_each_other() {
    for (one, two) in [(0, 2), (1, 3)] {
        run(async {
            let mut lan = Lan::new(&["n1", "n2"]);
            let stages = stages(&mut lan);
            let late = Node::with(stages[one].material("n1"), machine(1), limits());
            let early = Node::with(stages[two].material("n2"), machine(2), limits());
            // The late one does not know the new CA, or the early one does not trust the old one any more.
            let refuses = if one == 0 { &late } else { &early };
            refuses.refused("foreign").await;
            assert!(late.net.status().links.iter().all(|link| !link.connected));
            assert!(early.net.status().links.iter().all(|link| !link.connected));
        });
    }
}

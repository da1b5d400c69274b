use super::*;
use crate::drill::{Moment, web::visit_id};

const MS: u64 = 1_000_000;
const EPOCH: u64 = 1_700_000_000_000 * MS;

fn at(ms: u64) -> Moment {
    Moment {
        monotonic: ms * MS,
        realtime: EPOCH + ms * MS,
    }
}

fn event(event: EventKind, ms: u64, nodes: &[&str]) -> Event {
    Event {
        event,
        at: at(ms),
        what: String::new(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
    }
}

/// A control of 2 s, a fault that takes n1, and an end after 12 s.
fn events() -> Vec<Event> {
    vec![
        event(EventKind::Control, 0, &[]),
        event(EventKind::Fault, 2000, &["n1"]),
        event(EventKind::Heal, 8000, &[]),
        event(EventKind::End, 12_000, &[]),
    ]
}

/// The load balancer takes n1 out at 5 s, and back at 10 s.
fn changes() -> Vec<Change> {
    let change = |up, ms: u64| Change {
        node: "n1".into(),
        up,
        reason: Some("Layer4 timeout".into()),
        at: EPOCH + ms * MS,
    };
    vec![change(false, 5000), change(true, 10_000)]
}

/// An attempt on a connection of its own, answered after 10 ms.
fn visit(number: u64, attempt: u32, ms: u64, answer: Answer) -> Visit {
    Visit {
        visitor: "order-1".into(),
        kind: Kind::Order,
        number,
        id: visit_id(1, number),
        attempt,
        sent: at(ms),
        returned: (answer != Answer::Sent).then(|| at(ms + 10)),
        answer,
        status: None,
        error: None,
        client: Some(
            format!("127.1.0.1:{}", 10_000 + 10 * number + u64::from(attempt))
                .parse()
                .expect("an address"),
        ),
        opened: Some(at(ms)),
    }
}

/// The load balancer saw the attempt's connection to this node break.
fn broke(visit: &Visit, node: Option<&str>) -> Broken {
    Broken {
        client: visit.client.expect("a connection"),
        node: node.map(str::to_owned),
        state: "CD".into(),
        at: visit.returned.expect("ended").realtime,
    }
}

/// An order each 100 ms, all answered.
fn served() -> Vec<Visit> {
    (0..120)
        .map(|number| visit(number, 1, number * 100, Answer::Ok))
        .collect()
}

fn rows(visits: &[Visit], kind: Kind) -> Vec<String> {
    let there = visits
        .iter()
        .filter(|visit| visit.kind == kind)
        .filter(|visit| matches!(visit.answer, Answer::Ok | Answer::Accepted));
    there.map(|visit| visit.id.clone()).collect()
}

fn verdict(visits: &[Visit], broken: Vec<Broken>) -> VisitsVerdict {
    judge_visits(&Visits {
        visits,
        events: &events(),
        balancer: &BalancerLog {
            broken,
            changes: changes(),
        },
        orders: &rows(visits, Kind::Order),
        views: &rows(visits, Kind::View),
    })
}

/// The request of this number fails once, and is answered the second time.
fn failing(number: u64) -> (Vec<Visit>, Visit) {
    let mut visits = served();
    let place = usize::try_from(number).expect("small");
    visits[place].answer = Answer::Unknown;
    let failed = visits[place].clone();
    visits.insert(place + 1, visit(number, 2, number * 100 + 10, Answer::Ok));
    (visits, failed)
}

#[test]
fn a_clean_run_keeps_every_promise() {
    let visits = served();
    let verdict = verdict(&visits, vec![]);
    assert_eq!(verdict.broken_promises(), Vec::<String>::new());
    assert_eq!((verdict.requests, verdict.ok), (120, 120));
    assert_eq!(verdict.control, (20, 0));
    assert_eq!((verdict.slowest_ms, verdict.gap_ms), (10, 100));
    assert_eq!((verdict.failed_attempts, verdict.unanswered.len()), (0, 0));
}

#[test]
fn a_connection_to_the_lost_node_before_it_was_out_may_fail() {
    let (visits, failed) = failing(30);
    let verdict = verdict(&visits, vec![broke(&failed, Some("n1"))]);
    assert_eq!(verdict.stray, []);
    assert_eq!((verdict.failed_attempts, verdict.retried), (1, 1));
    assert_eq!(verdict.failed_by_node, BTreeMap::from([("n1".into(), 1)]));
    assert!(verdict.unanswered.is_empty());
    assert_eq!(verdict.broken_promises(), Vec::<String>::new());
}

#[test]
fn every_other_failure_is_a_stray() {
    for (number, node, why) in [
        // Another node's, after the lost one was out, before anything was done, and by nobody at all.
        (
            30,
            Some(Some("n2")),
            "sent to n2, to which nothing was done",
        ),
        (
            60,
            Some(Some("n1")),
            "sent to n1 1000 ms after that had to be out",
        ),
        (
            10,
            Some(Some("n1")),
            "sent to n1, to which nothing was done",
        ),
        (30, Some(None), "had no node for it"),
        (30, None, "saw its connection end as it should"),
    ] {
        let (visits, failed) = failing(number);
        let broken = node.map(|node| broke(&failed, node)).into_iter().collect();
        let verdict = verdict(&visits, broken);
        assert_eq!(verdict.stray.len(), 1, "{why}");
        assert!(verdict.stray[0].why.contains(why), "{:?}", verdict.stray);
    }
}

#[test]
fn a_node_that_is_back_has_no_excuse() {
    // n1 is back after 10 s.
    let (visits, failed) = failing(110);
    let verdict = verdict(&visits, vec![broke(&failed, Some("n1"))]);
    assert_eq!(verdict.stray.len(), 1);
    assert!(
        verdict.stray[0]
            .why
            .contains("sent to n1 after that was back"),
        "{:?}",
        verdict.stray
    );
}

#[test]
fn detection_has_a_limit_where_the_load_balancer_never_noticed() {
    let (visits, failed) = failing(90);
    let balancer = BalancerLog {
        broken: vec![broke(&failed, Some("n1"))],
        changes: vec![],
    };
    let verdict = judge_visits(&Visits {
        visits: &visits,
        events: &events(),
        balancer: &balancer,
        orders: &rows(&visits, Kind::Order),
        views: &[],
    });
    // 2 s + 2 x (1 + 1 + 1) s.
    assert_eq!(DETECTION, Duration::from_secs(6));
    assert!(
        verdict.stray[0].why.contains("1000 ms after"),
        "{:?}",
        verdict.stray
    );
}

#[test]
fn a_port_that_is_used_again_is_another_connection() {
    let (visits, failed) = failing(30);
    let mut earlier = broke(&failed, Some("n1"));
    earlier.at = failed.opened.expect("opened").realtime - MS;
    let verdict = verdict(&visits, vec![earlier, broke(&failed, Some("n2"))]);
    assert!(verdict.stray[0].why.contains("n2"), "{:?}", verdict.stray);
}

#[test]
fn a_failure_during_the_control_makes_the_run_invalid() {
    let (visits, _) = failing(5);
    let verdict = verdict(&visits, vec![]);
    assert_eq!(verdict.control, (21, 1));
    assert!(verdict.broken_promises()[0].contains("1 attempts failed during the control"));
}

#[test]
fn what_was_answered_201_has_to_be_there_once() {
    let visits = served();
    let mut orders = rows(&visits, Kind::Order);
    let lost = orders.remove(40);
    orders.push(orders[0].clone());
    orders.push(visit_id(1, 999));
    let verdict = judge_visits(&Visits {
        visits: &visits,
        events: &events(),
        balancer: &BalancerLog::default(),
        orders: &orders,
        views: &[],
    });
    assert_eq!(verdict.lost, [lost]);
    assert_eq!(verdict.duplicate, [visit_id(1, 0)]);
    assert_eq!(verdict.foreign, [visit_id(1, 999)]);
    assert_eq!(verdict.broken_promises().len(), 3);
}

#[test]
fn what_was_refused_must_not_be_there_unless_another_attempt_was_not() {
    let mut visits = served();
    visits[30].answer = Answer::Failed;
    visits.insert(31, visit(30, 2, 3010, Answer::Failed));
    let orders = [rows(&visits, Kind::Order), vec![visit_id(1, 30)]].concat();
    let judge = |visits: &[Visit]| {
        judge_visits(&Visits {
            visits,
            events: &events(),
            balancer: &BalancerLog::default(),
            orders: &orders,
            views: &[],
        })
    };
    let refused = judge(&visits);
    assert_eq!(refused.ghosts, [visit_id(1, 30)]);
    assert_eq!(refused.unanswered, [30]);
    visits[31].answer = Answer::Unknown;
    assert_eq!(judge(&visits).ghosts, Vec::<String>::new());
}

#[test]
fn views_that_only_the_cache_took_are_counted_and_break_no_promise() {
    let mut visits = served();
    for (number, answer) in [
        (200, Answer::Accepted),
        (201, Answer::Accepted),
        (202, Answer::Ok),
    ] {
        let mut view = visit(number, 1, 11_000, answer);
        view.kind = Kind::View;
        visits.push(view);
    }
    let balancer = BalancerLog::default();
    let judge = |views: &[String]| {
        judge_visits(&Visits {
            visits: &visits,
            events: &events(),
            balancer: &balancer,
            orders: &rows(&visits, Kind::Order),
            views,
        })
    };
    let verdict = judge(&[visit_id(1, 200), visit_id(1, 202)]);
    assert_eq!((verdict.accepted, verdict.views_lost), (2, 1));
    assert_eq!(verdict.broken_promises(), Vec::<String>::new());
    // Its service committed it, whatever the cache does.
    assert_eq!(judge(&[visit_id(1, 200)]).lost, [visit_id(1, 202)]);
}

#[test]
fn what_was_under_way_in_the_end_is_no_failure() {
    let mut visits = served();
    visits.push(visit(300, 1, 11_990, Answer::Sent));
    visits.push(visit(301, 1, 11_980, Answer::Unknown));
    visits.push(visit(301, 2, 11_990, Answer::Sent));
    let verdict = verdict(&visits, vec![]);
    assert_eq!((verdict.requests, verdict.unanswered.len()), (120, 0));
}

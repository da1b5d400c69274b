//! A node that knows nobody's address.

use super::*;

#[test]
fn a_node_that_knows_no_address_of_its_peers_waits_and_says_so() {
    run_test(async {
        let mut fleet = fleet(208);
        let there = fleet.facts.members[1].address.take();
        let n1 = Place::new(&fleet, "n1");
        let node = n1.start(NoDatabase);
        let nobody = |report: &ClusterReport| {
            let mut alarms = report.alarms.iter();
            alarms.any(|alarm| alarm.contains("rolesmith record"))
        };
        let report = n1.report(nobody).await;
        assert!(
            report.line().ends_with("waiting for their addresses"),
            "{}",
            report.line()
        );
        let mut lines = report.lines().into_iter();
        assert!(lines.any(|(_, line)| line.starts_with("n2: its address is in no facts")));
        // Newer facts tell it.
        fleet.facts.version = 2;
        fleet.facts.members[1].address = there;
        n1.publish(&fleet);
        n1.report(|report| report.facts == 2 && !nobody(report))
            .await;
        node.abort();
    });
}

//! Compares the server that answers on a new connection with the server that is believed to answer.

use std::sync::{Arc, Weak};

use sea_orm::QueryResult;

use super::{Writer, probe};
use crate::{
    driver::ConnectProbeCallback,
    telemetry,
    topology::{Freshness, Lane, Node, NodeId, Observation, Observed, Reply, Topology},
};

/// Has each new connection of a node probed from now on: connections for reads, and for writes, because a write
/// counts as seen by the server that the prober asks.
pub(super) fn listen(writer: &Weak<Writer>, node: &Arc<Node>) {
    let Some(connect_probe) = node.connect_probe() else { return };
    let (writer, id) = (Weak::clone(writer), node.id());
    connect_probe.listen(move || expect(&writer, id));
}

/// Takes the belief of this moment, before the question goes out: an answer that is behind the belief comes from
/// another server. `None` while the topology has one node, about which nothing is believed.
fn expect(writer: &Weak<Writer>, id: NodeId) -> Option<ConnectProbeCallback> {
    let believed = writer.upgrade()?.cell().load_full();
    if believed.is_single() {
        return None;
    }
    let pool = believed.member_of(id)?.node.driver(Lane::Read);
    let asked = writer.upgrade()?.clock.stamp();
    let writer = Weak::clone(writer);
    Some(Box::new(move |row: &QueryResult| {
        let Some(writer) = writer.upgrade() else { return };
        let Some(member) = believed.member_of(id) else { return };
        let Ok(answer) = probe::read_answer(pool.backend(), believed.configured_role(id), row) else { return };
        // The prober may have met another server while this connection was asked.
        let is_present = |topology: &Topology| {
            topology.member_of(id).is_none_or(|member| member.lives.is_present(&answer.incarnation))
        };
        if member.recognises(&answer.incarnation, &answer.position)
            && (member.freshness == Freshness::Timed || is_present(&writer.cell().load()))
        {
            return;
        }
        telemetry::unexpected_server(member.name());
        // The former server's connections are closed before the idle ones are checked: connections on their way back
        // to a pool cannot be closed.
        if writer.cell().load().member_of(id).is_some_and(|member| member.lives.is_successor(&answer.incarnation)) {
            writer.leave_former_server(&member.node, &pool);
        }
        let round_trip = writer.clock.now().since(asked.at);
        let (role, incarnation, position) = (answer.role, answer.incarnation.into(), answer.position);
        let reply = Reply::Unexpected(Observed { role, incarnation, position, round_trip, asked });
        writer.observe(&Observation { node: id, generation: member.belief.generation, reply });
        member.node.check_idle();
    }))
}

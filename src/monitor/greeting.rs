//! Compares who answers on new sessions with who is believed to.

use std::sync::{Arc, Weak};

use sea_orm::QueryResult;

use super::{Writer, probe};
use crate::{
    driver::ConnectProbeCallback,
    telemetry,
    topology::{Lane, Node, NodeId, UnexpectedServer},
};

/// Has the new sessions of a node greeted from now on: those for reads, and those for writes, because a write counts
/// as seen by the server that the prober asks.
pub(super) fn listen(writer: &Weak<Writer>, node: &Arc<Node>) {
    let Some(connect_probe) = node.connect_probe() else { return };
    let (writer, id) = (Weak::clone(writer), node.id());
    connect_probe.listen(move || expect(&writer, id));
}

/// What is believed before the question goes out: an answer that is behind it comes from elsewhere. Nobody hears
/// while there is one node: nothing is believed of it.
fn expect(writer: &Weak<Writer>, id: NodeId) -> Option<ConnectProbeCallback> {
    let believed = writer.upgrade()?.cell().load_full();
    if believed.is_single() {
        return None;
    }
    let writer = Weak::clone(writer);
    Some(Box::new(move |row: &QueryResult| {
        let Some(writer) = writer.upgrade() else { return };
        let Some(member) = believed.member_of(id) else { return };
        let backend = member.node.driver(Lane::Read).backend();
        let Ok(answer) = probe::read_answer(backend, believed.configured_role(id), row) else { return };
        if !member.recognises(&answer.incarnation, &answer.position) {
            let now = writer.clock.stamp();
            telemetry::stranger_met(member.name());
            let is_news = member.node.met(UnexpectedServer { met_at: now.seq, incarnation: answer.incarnation.into() });
            // Before suspicion sends them to be asked: what is on its way back to a pool cannot be closed.
            if is_news && !member.is_shared() {
                writer.leave_former_server(&member.node);
            }
            member.node.suspect(now);
        }
    }))
}

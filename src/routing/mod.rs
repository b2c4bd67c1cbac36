//! DECIDE: which node runs a statement. Pure: a snapshot, a request, an instant and a source of random numbers go
//! in, a decision comes out. No code here waits, reads a clock, logs or allocates for a statement.

mod catalogue;
mod classify;
mod decision;
mod draw;
mod memo;
mod policy;
mod refused;
mod router;
mod select;

pub use classify::{Classification, Effect, FunctionName, Intent, KnownFunctions, Reason, classify, classify_with};
pub use decision::{Rejection, RouteDecision, SessionFloor, Sessions};
pub use draw::Draw;
pub(crate) use draw::DrawSource;
pub use policy::{
    Candidate, CandidateBuilder, CandidateState, InZone, LeastInFlight, LeastLatency, Policy, RoundRobin,
    WeightedRandom,
};
pub use router::DecidedBy;
pub(crate) use router::{BadRule, Refusal, StatementClass, StatementRouter};
pub(crate) use select::{
    How, Kept, ReadPlan, ReadRequest, Rejections, Requirement, Selected, StalenessBound, TriedNodes,
};

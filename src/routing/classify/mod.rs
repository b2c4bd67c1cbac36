pub fn classify(_sql: &str, _b: sea_orm::DbBackend) -> Classification { Classification { intent: Intent::Read, reason: Reason::PlainRead } }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub struct Classification { pub intent: Intent, pub reason: Reason }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Intent { Read, Write }
#[derive(Clone, Copy, Debug, PartialEq, Eq)] pub enum Reason { PlainRead }
impl Reason { pub fn is_unknown_function(&self) -> bool { false } }
impl std::fmt::Display for Reason { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("x") } }

//! Intel's part: quotes, the documents that they are judged by, and TCB levels.

pub(crate) mod collateral;
pub(crate) mod quote;
pub(crate) mod root;
pub(crate) mod tcb;

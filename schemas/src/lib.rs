//! Every message that crosses the bus: its type, its subject, its headers, its encoding. No I/O.
//!
//! [`message::ALL`] lists the types; each has a golden fixture in `fixtures/`, which has to decode for ever. A message is a body ([`codec`]) under headers
//! ([`envelope`]) on a [`subject`], with an [`id`] that follows from what it names; [`limits`] says what is too much.
//!
//! | About | Types |
//! |---|---|
//! | what services measured | [`telemetry`], in batches; what was counted of it, [`mod@slice`], [`totals`], [`histogram`] |
//! | what is wrong, and who is told | [`alerting`] |
//! | what was commanded and what happened, sealed | [`audit`] |
//! | what is backed up and restored | [`backup`] |
//! | services, their health, their breakers, calls between them | [`services`] |
//! | what became of a command | [`operation`] |
//! | what could not be processed | [`dead_letter`] |

pub mod alerting;
pub mod audit;
pub mod backup;
pub mod cdn;
pub mod channels;
pub mod codec;
pub mod dead_letter;
pub mod envelope;
pub mod histogram;
pub mod id;
pub mod limits;
pub mod message;
pub mod operation;
pub mod services;
pub mod slice;
pub mod subject;
pub mod telemetry;
pub mod totals;

//! Leads questions for 127.0.0.11:53 to the ports that our server really has.
//!
//! On port 53 itself it would be in the way of a container that is a server of
//! names: one that takes all addresses could not have 127.0.0.11's. So there is
//! a table of packet filters in the container's own network namespace, three
//! messages long, which goes with it.

use rustix::io::Errno;

use super::PORT;
use crate::network::files::EMBEDDED;
use crate::network::filters::{Batch, new_message};
use crate::network::netlink::{Message, flags};
use crate::network::ports::Protocol;

/// The table's name.
const TABLE: &str = "runion";
const CHAIN: &str = "names";
/// linux/netfilter.h: packets of this machine's own.
const OUTPUT: u32 = 3;
/// Where addresses are translated on the way out.
const PRIORITY: i32 = -100;

/// linux/netfilter/nf_tables.h.
mod attribute {
    pub const TABLE_NAME: u16 = 1;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const LIST_ELEMENT: u16 = 1;
    pub const EXPRESSION_NAME: u16 = 1;
    pub const EXPRESSION_DATA: u16 = 2;
    pub const DATA_VALUE: u16 = 1;
}

/// Registers hold a value from one expression to the next.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const META_PROTOCOL: u32 = 16;
const EQUAL: u32 = 0;
const DESTINATION_NAT: u32 = 1;

/// Leads datagrams and connections to these ports, in the caller's namespace.
pub fn install(datagrams: u16, connections: u16) -> Result<(), Errno> {
    use attribute::*;
    let family = libc::NFPROTO_IPV4 as u8;
    let message = |kind, flags| new_message(kind, flags, family);
    let make = flags::ACK | flags::CREATE;
    let table = message(libc::NFT_MSG_NEWTABLE, make).text(TABLE_NAME, TABLE);
    let chain = message(libc::NFT_MSG_NEWCHAIN, make)
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, CHAIN)
        .nested(CHAIN_HOOK, |hook| {
            number(hook, HOOK_NUMBER, OUTPUT).attribute(HOOK_PRIORITY, &PRIORITY.to_be_bytes())
        })
        .text(CHAIN_TYPE, "nat");
    let rule = |protocol, port| {
        message(libc::NFT_MSG_NEWRULE, make | flags::APPEND)
            .text(RULE_TABLE, TABLE)
            .text(RULE_CHAIN, CHAIN)
            .nested(RULE_EXPRESSIONS, |list| expressions(list, protocol, port))
    };
    let rules = [rule(Protocol::Udp, datagrams), rule(Protocol::Tcp, connections)];
    Batch::open()?.send([table, chain].into_iter().chain(rules).collect())
}

/// `ip daddr 127.0.0.11 PROTOCOL dport 53 dnat to 127.0.0.11:PORT`.
fn expressions(list: Message, protocol: Protocol, port: u16) -> Message {
    let address = EMBEDDED.octets();
    let list = payload(list, NETWORK_HEADER, 16, 4);
    let list = equals(list, &address);
    let list = expression(list, "meta", |meta| number(number(meta, 1, FIRST), 2, META_PROTOCOL));
    let list = equals(list, &[protocol.number()]);
    let list = payload(list, TRANSPORT_HEADER, 2, 2);
    let list = equals(list, &PORT.to_be_bytes());
    let list = immediate(list, FIRST, &address);
    let list = immediate(list, SECOND, &port.to_be_bytes());
    expression(list, "nat", |nat| {
        // Its type, its family, and the registers of address and port.
        let nat = number(number(nat, 1, DESTINATION_NAT), 2, libc::NFPROTO_IPV4 as u32);
        number(number(nat, 3, FIRST), 5, SECOND)
    })
}

/// Loads so many bytes of a header.
fn payload(list: Message, header: u32, offset: u32, length: u32) -> Message {
    expression(list, "payload", |payload| {
        let payload = number(number(payload, 1, FIRST), 2, header);
        number(number(payload, 3, offset), 4, length)
    })
}

/// Goes on only with what equals a value.
fn equals(list: Message, value: &[u8]) -> Message {
    expression(list, "cmp", |compare| data(number(number(compare, 1, FIRST), 2, EQUAL), 3, value))
}

/// Loads a value.
fn immediate(list: Message, register: u32, value: &[u8]) -> Message {
    expression(list, "immediate", |immediate| data(number(immediate, 1, register), 2, value))
}

fn expression(list: Message, name: &str, inside: impl FnOnce(Message) -> Message) -> Message {
    list.nested(attribute::LIST_ELEMENT, |element| {
        element.text(attribute::EXPRESSION_NAME, name).nested(attribute::EXPRESSION_DATA, inside)
    })
}

fn data(message: Message, kind: u16, value: &[u8]) -> Message {
    message.nested(kind, |data| data.attribute(attribute::DATA_VALUE, value))
}

fn number(message: Message, kind: u16, value: u32) -> Message {
    message.attribute(kind, &value.to_be_bytes())
}

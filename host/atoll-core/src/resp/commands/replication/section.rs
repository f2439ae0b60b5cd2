//! INFO's section about replication, in the words that scripts for Redis and KeyDB look for.

use super::{address, held_seq, link_with, received_seq};
use crate::clock::Now;
use crate::replica::status::{LinkState, Role, Status};
use crate::resp::cluster::Peer;
use crate::resp::commands::info::{Source, line};

/// Writes the section: Redis' words, KeyDB's, then ours.
pub(crate) fn replication(source: &Source<'_>, text: &mut String) {
    let status = &source.status;
    let peers = source.cluster.peers();
    let is_linked = !peers.is_empty() || !status.links.is_empty();
    let role = match (status.role, is_linked) {
        (Role::Replica, _) => "slave",
        (Role::Master, true) => "active-replica",
        (Role::Master, false) => "master",
    };
    line(text, format_args!("role:{role}"));
    if is_linked || status.role == Role::Replica {
        masters(source, &peers, text);
    }
    line(text, format_args!("connected_slaves:{}", status.links.len()));
    for (index, link) in status.links.iter().enumerate() {
        let (host, port) = address(link);
        let state = if link.state == LinkState::Sending { "send_bulk" } else { "online" };
        let (offset, lag) = (held_seq(status, link), link.silent_ms / 1_000);
        line(
            text,
            format_args!(
                "slave{index}:ip={host},port={port},state={state},offset={offset},lag={lag}"
            ),
        );
    }
    let replid = format!("{:0>40}", source.store.origin().simple().to_string());
    line(text, format_args!("master_failover_state:no-failover"));
    line(text, format_args!("master_replid:{replid}"));
    line(text, format_args!("master_replid2:{:040}", 0));
    line(text, format_args!("master_repl_offset:{}", source.store.seq()));
    line(text, format_args!("second_repl_offset:-1"));
    line(text, format_args!("repl_backlog_active:{}", u8::from(!status.links.is_empty())));
    line(text, format_args!("repl_backlog_histlen:{}", source.store.log_bytes()));
    own_words(status, text);
}

/// A master for each peer: the first without a number, the second as `master_1`, as KeyDB has it.
fn masters(source: &Source<'_>, peers: &[Peer], text: &mut String) {
    let status = &source.status;
    let up_count = peers.iter().filter(|peer| peer.is_up).count();
    let all = if up_count == peers.len() { "up" } else { "down" };
    line(text, format_args!("master_global_link_status:{all}"));
    line(text, format_args!("connected_masters:{up_count}"));
    for (index, peer) in peers.iter().enumerate() {
        let master = if index == 0 { "master".to_owned() } else { format!("master_{index}") };
        let link = link_with(status, peer);
        let silent_s = link.map_or(-1, |link| (link.silent_ms / 1_000) as i64);
        let is_receiving = link.is_some_and(|link| link.state == LinkState::Receiving);
        let offset = link.map_or(0, |link| received_seq(status, link));
        line(text, format_args!("{master}_host:{}", peer.host));
        line(text, format_args!("{master}_port:{}", peer.port));
        line(text, format_args!("{master}_link_status:{}", if peer.is_up { "up" } else { "down" }));
        line(text, format_args!("{master}_last_io_seconds_ago:{silent_s}"));
        line(text, format_args!("{master}_sync_in_progress:{}", u8::from(is_receiving)));
        line(text, format_args!("slave_read_repl_offset:{offset}"));
        line(text, format_args!("slave_repl_offset:{offset}"));
        if !peer.is_up {
            line(
                text,
                format_args!("{master}_link_down_since_seconds:{}", down_s(peer, source.now)),
            );
        }
    }
    line(text, format_args!("slave_priority:100"));
    line(text, format_args!("slave_read_only:{}", u8::from(status.role == Role::Replica)));
    line(text, format_args!("replica_announced:1"));
}

/// Since when a peer is not linked, in seconds; -1 where it was never tried.
fn down_s(peer: &Peer, now: Now) -> i64 {
    if peer.since_ms == 0 {
        return -1;
    }
    (now.millis().saturating_sub(peer.since_ms) / 1_000) as i64
}

/// What neither Redis nor KeyDB has a word for.
fn own_words(status: &Status, text: &mut String) {
    line(text, format_args!("atoll_cluster:{}", status.cluster));
    line(text, format_args!("atoll_role:{}", status.role.as_str()));
    line(text, format_args!("atoll_readiness:{}", status.readiness.as_str()));
    line(text, format_args!("atoll_members:{}", status.members.len()));
    line(text, format_args!("atoll_skew_ms:{}", status.skew_ms));
    line(text, format_args!("atoll_floor_age_ms:{}", status.floor_age_ms));
    line(text, format_args!("atoll_floor_held:{}", u8::from(status.holds)));
    line(text, format_args!("atoll_log_bytes:{}", status.log_bytes));
    line(text, format_args!("atoll_audits:{}", status.counts.audits));
    if let Some(audit) = &status.audit {
        line(text, format_args!("atoll_audit_age_s:{}", audit.age_ms / 1_000));
    }
    let divergent = status.audit.as_ref().map_or(0, |audit| audit.divergent_keys);
    line(text, format_args!("atoll_divergent_keys:{divergent}"));
    line(text, format_args!("atoll_divergence_total:{}", status.counts.divergence_total));
    line(
        text,
        format_args!(
            "atoll_lag_ms:{}",
            status.links.iter().map(|link| link.lag_ms).max().unwrap_or(0)
        ),
    );
    for (index, link) in status.links.iter().enumerate() {
        line(
            text,
            format_args!(
                "atoll_link{index}:node={node},role={role},address={address},state={state},\
             lag_ms={lag_ms},behind={behind},silent_ms={silent_ms},rtt_us={rtt_us},\
             skew_ms={skew_ms},sent_bytes={sent},received_bytes={received}",
                node = link.name,
                role = link.role.as_str(),
                address = link.address,
                state = link.state.as_str(),
                lag_ms = link.lag_ms,
                behind = link.behind,
                silent_ms = link.silent_ms,
                rtt_us = link.rtt_us,
                skew_ms = link.skew_ms,
                sent = link.sent_bytes,
                received = link.received_bytes,
            ),
        );
    }
}

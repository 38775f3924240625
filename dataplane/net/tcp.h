/*
 * Inside TCP, server side. One rx core enters all of it. Source: RFC 9293 unless another is named.
 *
 * Three kinds of record, all from fixed arrays made at create:
 *   half-open   dp_mini   SYN seen, SYN-ACK sent; when all are taken, SYN cookies need none at all
 *   connection  dp_conn   from the ACK that completes the handshake to the end; holds the stream
 *   TIME_WAIT   dp_mini   what remains after we closed first
 *
 *                SYN                ACK                     close()             FIN acked
 *   (nothing) ───────► half-open ─────────► ESTABLISHED ──────────► FIN_WAIT_1 ──────────► FIN_WAIT_2
 *        ▲                │ no ACK,             │ FIN                   │ FIN                  │ FIN
 *        └────────────────┘ RST                 ▼                       ▼        FIN acked     ▼
 *                                          CLOSE_WAIT                CLOSING ───────────► TIME_WAIT
 *                                               │ close()
 *                                               ▼         FIN acked
 *                                            LAST_ACK ──────────────► (gone)
 *
 * Sequence space of a connection:
 *
 *   send     snd_una ──────► snd_nxt ──────► snd_max ──────► snd_end        (FIN has number snd_end)
 *            in the ring from snd_una to snd_end; snd_nxt goes back to snd_una when the timer fires; snd_max is the highest sent
 *   receive  rcv_read ─────► rcv_nxt ── ranges out of order ──► rcv_adv
 *            not taken by the app yet   held, not acknowledged   right edge of the window that the peer knows; never moves left
 *
 * Calls up (dp_stream_*) may call down (ops) at once. Rules that make it safe: ops->send, close and resume only change state and put
 * the connection on the dirty list; abort() ends it, but the record lives until the next flush, which makes the last call up. So
 * after each call up the code looks at `state` and leaves when it is DP_TCP_CLOSED. Segments leave from dp_stack_flush(), except
 * acknowledgements of out-of-order data (the peer counts them) and answers without a connection.
 */
#ifndef TURNPIKE_TCP_H
#define TURNPIKE_TCP_H

#include "net.h"

enum {
	DP_TCP_BYTES = 20,
	DP_FIN = 0x01,
	DP_SYN = 0x02,
	DP_RST = 0x04,
	DP_PSH = 0x08,
	DP_ACK = 0x10,
};

enum {
	DP_CHUNK_BITS = 11,
	DP_CHUNK_BYTES = 1 << DP_CHUNK_BITS,
	DP_TX_CHUNKS = 32,
	DP_RX_CHUNKS = 128,
	DP_RCV_SHIFT = 2, /* our window scale: just enough for the receive ring */
	/* One chunk less than the ring: bytes of both ends never meet in one chunk, wherever the numbers start. */
	DP_SEND_MAX = (DP_TX_CHUNKS - 1) << DP_CHUNK_BITS,
	DP_WINDOW_SCALED = (DP_RX_CHUNKS - 1) << DP_CHUNK_BITS,
	/* What we offer at first, to peers that do not scale, and to everybody when buffers are scarce. */
	DP_WINDOW_MAX = 31 << DP_CHUNK_BITS,
	DP_RANGES_MAX = 8,
	DP_SACKED_MAX = 8,
	DP_MSS_MIN = 64,        /* a peer that asks for less gets this: a tiny MSS would multiply our packets */
	DP_RESERVE_MAX = 65536, /* connections that have a chunk for an answer set aside */
	DP_BRIEF_BYTES = 104,   /* of an answer that needs no chunk: a 204 has 59; fills the record's last cache line */
	DP_INITIAL_SEGMENTS = 10,
	DP_DUP_ACKS = 3,
	DP_SYN_ACK_RETRIES = 4, /* sent 5 times, after 1, 2, 4, 8 s; the entry is reaped 16 s after the last */
	DP_RETRIES_MAX = 10,    /* of data: more than 100 s with the least RTO; section 3.8.3 */
};

#define DP_MS           1000000ULL
#define DP_SECOND       1000000000ULL
#define DP_RTO_MIN_NS   (200 * DP_MS)
#define DP_RTO_MAX_NS   (60 * DP_SECOND)
#define DP_ACK_DELAY_NS (32 * DP_MS) /* a tick of the wheel may come on top: stays below 40 ms */
#define DP_IDLE_NS      (120 * DP_SECOND)
#define DP_LINGER_NS    (30 * DP_SECOND) /* how long the peer of a closed connection has to finish */
#define DP_TIME_WAIT_NS (60 * DP_SECOND)

enum dp_tcp_state {
	DP_TCP_CLOSED,
	DP_TCP_ESTABLISHED,
	DP_TCP_FIN_WAIT_1,
	DP_TCP_FIN_WAIT_2,
	DP_TCP_CLOSE_WAIT,
	DP_TCP_CLOSING,
	DP_TCP_LAST_ACK,
};

enum dp_conn_flag {
	DP_C_DIRTY = 1 << 0,         /* on the list that the next flush works off */
	DP_C_TIMESTAMPS = 1 << 1,    /* both sides sent the option */
	DP_C_SACK = 1 << 2,          /* the peer understands SACK */
	DP_C_ACK_NOW = 1 << 3,       /* the next flush sends an ACK */
	DP_C_PAUSED = 1 << 4,        /* the app took less than offered */
	DP_C_RESUME = 1 << 5,        /* the app wants the rest */
	DP_C_WANT_WRITABLE = 1 << 6, /* send() took less than asked */
	DP_C_DISCARD = 1 << 7,       /* the app closed: bytes that still come are acknowledged and dropped */
	DP_C_FIN_QUEUED = 1 << 8,    /* our FIN follows snd_end */
	DP_C_FIN_SEEN = 1 << 9,      /* the peer's FIN has number fin_seq, perhaps with a gap before it */
	DP_C_FIN_TAKEN = 1 << 10,    /* rcv_nxt is past it */
	DP_C_EOF_TOLD = 1 << 11,
	DP_C_APP_GONE = 1 << 12,    /* dp_stream_closed() was called, or never will be */
	DP_C_PERSIST = 1 << 13,     /* the timer runs because the window is shut, not because something is unacknowledged */
	DP_C_RECOVERY = 1 << 14,    /* fast recovery until snd_una reaches recover */
	DP_C_RTT = 1 << 15,         /* rtt_seq is being timed */
	DP_C_ANSWER_DUE = 1 << 16,  /* the app got bytes since it last sent any: it may owe an answer */
	DP_C_OWN_RECOVER = 1 << 17, /* recover is valid: no second fast retransmit below it */
	DP_C_RESCUED = 1 << 18,     /* the one rescue retransmission of this recovery was sent */
	DP_C_SCALED = 1 << 19,      /* both sides scale their windows */
	DP_C_SPOKE = 1 << 20,       /* the app got a byte */
	DP_C_STARVED = 1 << 21,     /* in the line for a buffer: tcp_shed.c */
};

struct dp_range {
	uint32_t from, to;
};

/*
 * What only data in flight, back-pressure and loss need. A connection has one while it holds a chunk, from a pool (tcp_ring.c).
 * The rings are addressed by sequence number: chunk index + 1 of each 2 KiB of number space, 0: none there.
 */
struct dp_conn_rings {
	uint32_t tx[DP_TX_CHUNKS], rx[DP_RX_CHUNKS];
	struct dp_range range[DP_RANGES_MAX];  /* most recent first, as RFC 2018 section 4 wants them told */
	struct dp_range sacked[DP_SACKED_MAX]; /* what the peer told us: tcp_sack.c */
};

struct dp_conn {
	_Alignas(64) struct dp_stream stream; /* first: ops get its address */
	struct dp_tcp *tcp;
	struct dp_conn *dirty_next;
	uint32_t index, hash, next; /* next: index + 1 in the hash chain or the free list */
	uint32_t rings;             /* index + 1 of its rings, 0: none */
	uint32_t starved_next;      /* index + 1 */
	uint32_t flags;             /* enum dp_conn_flag */
	struct dp_link link;
	uint64_t pseudo; /* sum of addresses */
	uint16_t local;
	uint8_t state; /* enum dp_tcp_state */
	uint8_t snd_shift;
	/* send */
	uint32_t snd_una, snd_nxt, snd_max, snd_end, snd_wnd, snd_wl1, snd_wl2, max_wnd;
	uint32_t cwnd, ssthresh, cwnd_bytes, recover, high_rxt;
	uint16_t mss;      /* payload of a full segment, options taken off */
	uint16_t peer_mss; /* as the peer asked, clamped to the mtu */
	uint8_t dup_acks, retries, ack_pending, tx_chunks, sacked;
	/* receive */
	uint32_t rcv_nxt, rcv_read, rcv_adv, rcv_acked, fin_seq;
	uint8_t rx_chunks, ranges;
	uint32_t ts_recent, ts_offset;
	/* time */
	uint32_t rtt_seq;
	uint64_t rtt_ns, srtt_ns, rttvar_ns, rto_ns;
	uint64_t rto_at, ack_at, idle_at; /* 0: not running; idle_at always runs */
	uint64_t sent_ns, heard_ns;       /* latest segment with data sent; latest byte taken by the app or sent by it */
	uint64_t challenge_ns;
	uint64_t opened_ns;
	uint32_t first_in, first_out; /* numbers of the first bytes, for the operator's list */
	struct dp_wheel_node timer;
	/* The unacknowledged bytes [brief_seq, brief_seq + brief_bytes), in front of those in the ring: tcp_ring.c. */
	uint32_t brief_seq;
	uint8_t brief_bytes; /* 0: none */
	uint8_t brief[DP_BRIEF_BYTES];
};

enum dp_mini_kind { DP_MINI_FREE, DP_MINI_HALF, DP_MINI_WAIT };

/* A half-open connection or one in TIME_WAIT. */
struct dp_mini {
	struct tp_addr peer;
	uint8_t kind; /* enum dp_mini_kind */
	uint16_t peer_port, local;
	uint32_t hash, next; /* as in dp_conn */
	struct dp_link link;
	uint32_t iss; /* TIME_WAIT: snd_nxt */
	uint32_t rcv_nxt;
	uint32_t ts_recent, ts_offset;
	uint32_t window;
	uint16_t mss;
	uint8_t shift, retries;
	bool timestamps, sack, scaling;
	bool fin_missing;           /* TIME_WAIT: rather FIN_WAIT_2, the peer has not closed yet */
	uint64_t sent_ns;           /* half: of the first SYN-ACK */
	uint64_t answered_ns;       /* of the latest answer to what does not fit */
	uint64_t expires_ns;        /* TIME_WAIT */
	uint32_t older, newer;      /* TIME_WAIT: by expiry, index + 1 */
	struct dp_wheel_node timer; /* half */
};

struct dp_tcp {
	struct dp_stack *stack;
	struct tp_counters *counters;
	/* connections: hash by 4-tuple with a secret; index + 1 in chains */
	struct dp_conn *conn;
	uint32_t *conn_heads;
	uint32_t conn_mask, conn_free, conns, conns_max;
	/* half-open ones at [0, half_max), TIME_WAIT at [half_max, half_max + wait_max) */
	struct dp_mini *mini;
	uint32_t *mini_heads;
	uint32_t mini_mask, half_free, halves, half_max, wait_free, waits, wait_max, wait_oldest, wait_newest;
	uint64_t cookie_ns; /* when a cookie was sent last; 0: never */
	/* rings and chunks: see tcp_ring.c */
	struct dp_conn_rings *rings;
	uint32_t *rings_free;
	uint32_t rings_max, rings_left;
	uint8_t *chunk_base;
	uint32_t *chunk_free;
	uint32_t chunks, chunks_free, chunks_reserved, tx_holders;
	uint32_t starved_first, starved_last, shed_hand; /* index + 1, index + 1, index */
	uint32_t send_bytes;
	/* work for the flush */
	struct dp_conn *dirty_first, **dirty_last;
	uint32_t drain_cursor;
};

/* A received segment, options read. */
struct dp_segment {
	uint32_t seq, ack, bytes;
	uint16_t window, from_port;
	uint8_t flags;
	bool timestamps;
	uint32_t ts_value, ts_echo;
	/* SYN only */
	bool sack, scaling;
	uint8_t shift;
	uint16_t mss; /* 0: not given */
	const uint8_t *data;
	const uint8_t *sack_blocks;
	uint8_t sack_bytes;
	const struct dp_packet *packet;
};

static inline bool dp_seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool dp_seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

static inline uint32_t dp_min32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Only while it holds a chunk. */
static inline struct dp_conn_rings *dp_conn_rings(struct dp_conn *conn)
{
	return &conn->tcp->rings[conn->rings - 1];
}

static inline uint64_t dp_tcp_now(const struct dp_tcp *tcp)
{
	return tcp->stack->now_ns;
}

static inline const struct tp_addr *dp_conn_local(const struct dp_conn *conn)
{
	return &conn->tcp->stack->local[conn->local].addr;
}

/* ---- tcp_input.c ---- */

/* The peer was put on the blocklist: its connection ends without a word. */
void dp_tcp_blocked(struct dp_stack *stack, const struct dp_packet *packet);
/* The path takes only `mtu` bytes. `quote` has at least the 8 first bytes of our segment. False: not one of ours in flight. */
bool dp_tcp_too_big(struct dp_stack *stack, const struct tp_addr *ours, const struct tp_addr *peer, const uint8_t *quote,
		    uint32_t mtu);
/* A segment for a connection, from the sequence check on. */
enum tp_counter dp_conn_segment(struct dp_conn *conn, struct dp_segment *segment);

/* ---- tcp_listen.c: without a connection yet, or any more ---- */

/* `least`: the initial sequence number lies above it (after TIME_WAIT), or NULL. */
enum tp_counter dp_tcp_listen(struct dp_stack *stack, struct dp_segment *segment, uint32_t hash, const uint32_t *least);
enum tp_counter dp_half_segment(struct dp_stack *stack, struct dp_mini *half, struct dp_segment *segment);
void dp_half_timer(struct dp_stack *stack, struct dp_mini *half);

/* ---- tcp_secret.c: numbers that a stranger cannot guess ---- */

/* Initial sequence number by RFC 6528; *ts_offset is the flow's own start of the timestamp clock (RFC 7323 section 5.4). */
uint32_t dp_tcp_isn(const struct dp_stack *stack, const struct tp_addr *peer, uint16_t peer_port, uint32_t local,
		    uint32_t *ts_offset);
/*
 * Fills what a SYN-ACK needs so that no half-open record is kept: the number carries the MSS, the timestamp (when the peer sends one)
 * its window scale and whether it understands SACK.
 */
void dp_cookie_make(struct dp_stack *stack, const struct dp_segment *syn, struct dp_mini *cookie);
/* Checks the ACK of a handshake against it and fills in what was agreed on. False: none of ours, or too old. */
bool dp_cookie_check(const struct dp_stack *stack, const struct dp_segment *ack, struct dp_mini *cookie);

/* ---- tcp_wait.c: TIME_WAIT ---- */

/* Ends the connection (which has acknowledged the peer's FIN) and leaves a small record of it. */
void dp_conn_time_wait(struct dp_conn *conn);
enum tp_counter dp_wait_segment(struct dp_stack *stack, struct dp_mini *wait, struct dp_segment *segment, uint32_t hash);
uint32_t dp_wait_expire(struct dp_tcp *tcp);

/* ---- tcp_ack.c: what acknowledgements do; congestion control ---- */

/* False: the ACK is not acceptable, and has been answered if it should be. */
bool dp_conn_ack(struct dp_conn *conn, const struct dp_segment *segment);
void dp_conn_rtt(struct dp_conn *conn, uint64_t sample_ns);
void dp_conn_congestion_init(struct dp_conn *conn, bool syn_ack_lost);
uint64_t dp_conn_rto(const struct dp_conn *conn); /* with backoff */

/* ---- tcp_sack.c: what the peer holds ---- */

/* Takes the blocks of an acceptable ACK, before snd_una moves. True: bytes that were not known to be there. */
bool dp_sack_update(struct dp_conn *conn, const struct dp_segment *segment);
void dp_sack_advance(struct dp_conn *conn); /* after snd_una has moved */
void dp_sack_clear(struct dp_conn *conn);
/* The segment at snd_una is lost: IsLost() of RFC 6675 section 4. */
bool dp_sack_lost(struct dp_conn *conn);
/* Bytes under way: SetPipe(). */
uint32_t dp_sack_pipe(struct dp_conn *conn);
/* The first hole below a block that was not sent again in this recovery: NextSeg() rules 1 (only lost ones) and 3. */
bool dp_sack_hole(struct dp_conn *conn, bool only_lost, struct dp_range *hole);
/* The first number from seq on that the peer does not hold; *held: bytes held below it; *end: where the next held ones begin. */
uint32_t dp_sack_skip(struct dp_conn *conn, uint32_t seq, uint32_t *held, uint32_t *end);

/* ---- tcp_receive.c: bytes in ---- */

/* The part of the segment that is inside the window. Returns the counter. */
enum tp_counter dp_conn_data(struct dp_conn *conn, const struct dp_segment *segment);
/* Gives the app what is queued, then the end of file. */
void dp_conn_offer(struct dp_conn *conn);
/* Drops what is queued of a connection whose app has closed. Not from inside a call up: the app may be reading it. */
void dp_conn_discard(struct dp_conn *conn);
/* What to put into the window field's place: right edge to advertise. */
uint32_t dp_conn_window_edge(const struct dp_conn *conn);

/* ---- tcp_output.c: segments out ---- */

/* Sends what may be sent now, at least an ACK when one is due. False: frames ran out, call again. */
bool dp_conn_output(struct dp_conn *conn);
/* One segment with `bytes` of the ring from `seq` on. False: no frame. */
bool dp_conn_transmit(struct dp_conn *conn, uint32_t seq, uint32_t bytes, uint8_t flags);
/* A segment again, from seq on: at most `most` bytes, not beyond `end` <= snd_max. Returns the numbers it covers, 0: no frame. */
uint32_t dp_conn_resend(struct dp_conn *conn, uint32_t seq, uint32_t end, uint32_t most);
void dp_conn_ack_send(struct dp_conn *conn);
/* An ACK that tells a peer where we stand, at most one each 100 ms: RFC 5961 section 10. */
void dp_conn_challenge(struct dp_conn *conn);
void dp_conn_rst_send(struct dp_conn *conn);

struct dp_tcp_reply {
	const struct dp_link *link;
	const struct tp_addr *peer;
	uint32_t local, seq, ack;
	uint16_t local_port, peer_port;
	uint16_t window;
	uint8_t flags;
	uint8_t options_bytes;
	uint8_t options[40];
};
/* A segment without data and without a connection. */
void dp_tcp_reply(struct dp_stack *stack, const struct dp_tcp_reply *reply);
/* RST for a segment that has no connection: section 3.5.2. Rate-limited, never for a RST. */
void dp_tcp_refuse(struct dp_stack *stack, const struct dp_segment *segment);
uint8_t *dp_tcp_put_timestamps(uint8_t *to, uint32_t value, uint32_t echo); /* 12 bytes with padding */
static inline uint32_t dp_tcp_stamp(const struct dp_stack *stack, uint32_t offset)
{
	return (uint32_t)stack->now_ms + offset;
}

/* ---- tcp_timer.c ---- */

/* How long without a byte moved either way: short when only the peer's end of a connection that we closed is missing. */
static inline uint64_t dp_conn_patience(const struct dp_conn *conn)
{
	bool all_there = !dp_seq_lt(conn->snd_una, conn->snd_end);
	return conn->flags & DP_C_FIN_QUEUED && all_there ? DP_LINGER_NS : DP_IDLE_NS;
}

void dp_conn_arm(struct dp_conn *conn); /* after a deadline was set */
void dp_conn_timer(struct dp_conn *conn);

/* ---- tcp_table.c ---- */

int dp_tcp_create(struct dp_stack *stack);
void dp_tcp_destroy(struct dp_stack *stack);
uint32_t dp_tcp_hash(const struct dp_stack *stack, const struct tp_addr *peer, uint16_t peer_port, uint32_t local);
struct dp_conn *dp_conn_find(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash);
struct dp_mini *dp_mini_find(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash);
/* Fills what the table needs, zeroes the rest; NULL: full. */
struct dp_conn *dp_conn_take(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash);
/* Out of the tables at once; the record goes back in the next flush, after dp_stream_closed(). */
void dp_conn_end(struct dp_conn *conn);
void dp_conn_dirty(struct dp_conn *conn);
void dp_tcp_flush(struct dp_tcp *tcp);
uint32_t dp_tcp_drain(struct dp_tcp *tcp);
struct dp_mini *dp_half_take(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash);
struct dp_mini *dp_wait_take(struct dp_tcp *tcp, const struct tp_addr *peer, uint16_t peer_port, uint32_t local, uint32_t hash);
void dp_mini_give(struct dp_tcp *tcp, struct dp_mini *mini);
void dp_wait_refresh(struct dp_tcp *tcp, struct dp_mini *wait);

/* ---- tcp_shed.c: when memory runs out ---- */

/*
 * Somebody comes: when few places are left in the table, one is made. Its record is free after the next flush. False: the table is
 * full of connections that are worth more.
 */
bool dp_shed_place(struct dp_tcp *tcp);
/* No buffer for the first byte of an answer: the connection gets in line. */
void dp_shed_wait(struct dp_conn *conn);
/* Before each flush: whoever is in line and can be helped goes on the dirty list. */
void dp_shed_flush(struct dp_tcp *tcp);

/* ---- tcp_ring.c ---- */

int dp_chunks_create(struct dp_tcp *tcp);
void dp_chunks_destroy(struct dp_tcp *tcp);
/* So many chunks are free that nobody needs to be modest. */
bool dp_chunks_plenty(const struct dp_tcp *tcp);
/* Writes bytes at seq; takes chunks as needed. Returns how many bytes found room: a prefix. */
uint32_t dp_tx_write(struct dp_conn *conn, uint32_t seq, const uint8_t *bytes, uint32_t count);
uint32_t dp_rx_write(struct dp_conn *conn, uint32_t seq, const uint8_t *bytes, uint32_t count);
/* Copies out; the bytes are there. */
void dp_tx_read(const struct dp_conn *conn, uint32_t seq, uint8_t *to, uint32_t count);
/* The longest run at seq that lies in one piece, at most `count`. */
const uint8_t *dp_rx_run(const struct dp_conn *conn, uint32_t seq, uint32_t count, uint32_t *run);
/* Bytes [from, to) are done with; when `empty`, nothing at all is left. */
void dp_tx_release(struct dp_conn *conn, uint32_t from, uint32_t to, bool empty);
void dp_rx_release(struct dp_conn *conn, uint32_t from, uint32_t to, bool empty);

/* ---- tcp_stream.c ---- */

extern const struct dp_stream_ops dp_tcp_stream_ops;
/* close() as the app would; also for connections whose app is gone. */
void dp_conn_close(struct dp_conn *conn);
/* The stack ends an idle connection: the app is told that it is gone, the peer gets a FIN. */
void dp_conn_retire(struct dp_conn *conn);

#endif

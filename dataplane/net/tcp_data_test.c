/*
 * Bytes in and out: acknowledgements, gaps, windows, losses. Scripts (see net_script.h), named by the section that they hold the
 * stack to.
 */
#include "net_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define HELLO \
	"< S 0:0 win 65535 mss 1460 sackok ts 100 0 ws 7\n" \
	"> S. 0:0 ack 1 mss 1460 sackok ts * 100 ws 2\n" \
	"< . 1:1 ack 1 win 512 ts 100 0\n"
#define PLAIN  "< S 0:0 mss 1460\n> S. 0:0 ack 1 mss 1460\n< . 1:1 ack 1\n"
#define SACKED "< S 0:0 mss 1460 sackok\n> S. 0:0 ack 1 mss 1460 sackok\n< . 1:1 ack 1\n"
#define TEN    ">\n>\n>\n>\n>\n>\n>\n>\n>\n>\n"

static const struct script_case receive_cases[] = {
	{"RFC 9293 3.8.6.3: one segment waits for the answer, at most 40 ms",
	 PLAIN "< P. 1:101 ack 1\nnone\napp got 100\n+30\nnone\n+10\n> . 1:1 ack 101 win 63388\n"},
	{"RFC 5681 4.2: every second segment is acknowledged",
	 PLAIN "< . 1:1461 ack 1\nnone\n< . 1461:2921 ack 1\n> . 1:1 ack 2921\n"},
	{"RFC 5681 4.2: one ACK for a burst",
	 PLAIN "burst\n< . 1:1461 ack 1\n< . 1461:2921 ack 1\n< . 2921:4381 ack 1\n< . 4381:5841 ack 1\nend\n> . ack 5841\n"},
	{"RFC 9293 3.8.6.3: the answer carries the ACK",
	 PLAIN "app insend 50\n< P. 1:101 ack 1\n> P. 1:51 ack 101\n+50\nnone\n< . 101:101 ack 51\n"},
	{"flush: answers to a burst share a segment",
	 PLAIN "burst\napp insend 50\n< P. 1:101 ack 1\napp insend 60\n< P. 101:201 ack 1\napp insend 70\n"
	       "< P. 201:301 ack 1\nend\n> P. 1:181 ack 301\n"},
	{"answers given outside of a frame leave with the next flush",
	 PLAIN "< P. 1:101 ack 1\n+2\nnone\nburst\napp send 20\napp send 30\nnone\nend\n> P. 1:51 ack 101\n"},
	{"RFC 9293 3.10.7.4: bytes that we have are acknowledged again",
	 PLAIN "< P. 1:101 ack 1\n+40\n> . ack 101\n< P. 1:101 ack 1\n> . 1:1 ack 101\napp got 100\n"
	       "count FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.10.7.4: overlap with what we have is cut off",
	 PLAIN "< P. 1:101 ack 1\n< P. 51:201 ack 1\n> . ack 201\napp got 200\n"},
	{"RFC 5681 4.2: a gap is told at once",
	 PLAIN "< P. 101:201 ack 1\n> . 1:1 ack 1\n< P. 201:301 ack 1\n> . 1:1 ack 1\napp got 0\n"
	       "< P. 1:101 ack 1\n> . 1:1 ack 301\napp got 300\n"},
	{"RFC 2018 4: SACK tells what is held",
	 SACKED "< P. 101:201 ack 1\n> . 1:1 ack 1 sack 101:201\n< P. 1:101 ack 1\n> . ack 201 sack\napp got 200\n"},
	{"RFC 2018 4: the latest block first, neighbours join",
	 SACKED "< P. 101:201 ack 1\n> . ack 1 sack 101:201\n< P. 301:401 ack 1\n> . ack 1 sack 301:401 101:201\n"
		"< P. 501:601 ack 1\n> . ack 1 sack 501:601 301:401 101:201\n"
		"< P. 201:301 ack 1\n> . ack 1 sack 101:401 501:601\n"
		"< P. 1:101 ack 1\n> . ack 401 sack 501:601\napp got 400\n< P. 401:501 ack 1\n> . ack 601 sack\napp got 600\n"},
	{"RFC 2018 3: at most three blocks beside timestamps",
	 HELLO "< P. 101:201 ack 1 ts 101 0\n>\n< P. 301:401 ack 1 ts 101 0\n>\n< P. 501:601 ack 1 ts 101 0\n>\n"
	       "< P. 701:801 ack 1 ts 101 0\n> . ack 1 ts * 100 sack 701:801 501:601 301:401\n"},
	{"RFC 2018 3: at most four blocks without",
	 SACKED "< P. 101:201 ack 1\n>\n< P. 301:401 ack 1\n>\n< P. 501:601 ack 1\n>\n< P. 701:801 ack 1\n>\n"
		"< P. 901:1001 ack 1\n> . ack 1 sack 901:1001 701:801 501:601 301:401\n"},
	{"bounded: the ninth gap is dropped", PLAIN
	 "< . 101:111 ack 1\n>\n< . 201:211 ack 1\n>\n< . 301:311 ack 1\n>\n< . 401:411 ack 1\n>\n< . 501:511 ack 1\n>\n"
	 "< . 601:611 ack 1\n>\n< . 701:711 ack 1\n>\n< . 801:811 ack 1\n>\ncount FRAMES_TCP_NO_MEMORY 0\n"
	 "< . 901:911 ack 1\n> . ack 1\ncount FRAMES_TCP_NO_MEMORY 1\n< . 811:820 ack 1\n> . ack 1\ncount FRAMES_TCP_NO_MEMORY 1\n"
	 "< . 1:1001 ack 1\n> . ack 1001\napp got 1000\n"},
	{"RFC 9293 3.10.7.4: overlapping pieces out of order",
	 PLAIN "< . 301:501 ack 1\n>\n< . 201:401 ack 1\n>\n< . 101:701 ack 1\n>\n< . 1:151 ack 1\n> . ack 701\napp got 700\n"},
	{"reassembly over chunk borders", PLAIN
	 "< . 1461:2921 ack 1\n>\n< . 4381:5841 ack 1\n>\n< . 2921:4381 ack 1\n>\n< . 1:1461 ack 1\n> . ack 5841\napp got 5840\n"},
	{"a gap closed by a segment that covers what was held",
	 PLAIN "< . 1501:1601 ack 1\n>\n< . 1:1461 ack 1\n> . ack 1461\n< . 1461:2001 ack 1\n> . ack 2001\napp got 2000\n"},
	{"back-pressure: what the app leaves is kept and offered again",
	 PLAIN "app take 30\n< P. 1:101 ack 1\n+40\n> . ack 101 win 63388\napp got 30\napp take -1\n"
	       "+100\nnone\napp got 30\napp resume\napp got 100\nnone\n"},
	{"back-pressure: resume after half", PLAIN "app take 30\n< P. 1:101 ack 1\n+40\n> . ack 101\napp take 20\napp resume\napp "
						   "got 50\napp take -1\napp resume\napp got 100\n"},
	{"RFC 9293 3.8.6.2.2: no update for a window that was never small",
	 PLAIN "app take 0\nburst\n< . 1:1461 ack 1\n< . 1461:2921 ack 1\n< . 2921:4381 ack 1\n< . 4381:5841 ack 1\nend\n> . ack "
	       "5841 win 57648\n"
	       "app take -1\napp resume\nnone\napp got 5840\n"},
	{"back-pressure: bytes behind queued ones wait in line",
	 PLAIN "app take 0\n< P. 1:101 ack 1\napp take -1\n< P. 101:201 ack 1\n> . ack 201\napp got 0\napp resume\napp got 200\n"},
	{"RFC 9293 3.10.7.4: what lies beyond the window is cut",
	 PLAIN "< . 63000:64000 ack 1\n> . 1:1 ack 1\n< . 63489:63500 ack 1\n> . 1:1 ack 1\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.10.7.4: far outside the window",
	 PLAIN "< P. 200000:200100 ack 1\n> . 1:1 ack 1\napp got 0\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.8.4: keep-alive of length 0", PLAIN "+5\n< . 0:0 ack 1\n> . 1:1 ack 1\n< . 0:0 ack 1\n> . 1:1 ack 1\n"},
	{"RFC 9293 3.8.4: keep-alive of length 1", PLAIN "+5\n< . 0:1 ack 1\n> . 1:1 ack 1\napp got 0\n"},
	{"RFC 7323 2.3: our window grows past 64 KiB where the peer scales", HELLO
	 "< P. 1:101 ack 1 ts 100 0\n+40\n> . ack 101 win 65024\n< P. 260101:260161 ack 1 ts 100 0\n> . ack 101 ts * 100 sack "
	 "260101:260161\ncount FRAMES_BAD_TCP 0\n< . 260197:260198 ack 1 ts 100 0\n> . ack 101\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 7323 2.3: what scaling rounds off is not taken back",
	 HELLO "app take 0\n< P. 1:4 ack 1 ts 100 0\n+40\n> . ack 4 win 65023\n< P. 4:8 ack 1 ts 100 0\n< P. 8:9 ack 1 ts 100 0\n"
	       "> . ack 9 win 65021\n< . 260095:260096 ack 1 ts 100 0\n> . ack 9 sack 260095:260096\ncount FRAMES_BAD_TCP 0\n"},
	{"RFC 7323 2.2: a peer that does not scale is never shown more",
	 PLAIN "< P. 1:101 ack 1\n+40\n> . ack 101 win 63388\n< P. 101:2001 ack 1\n+40\n> . ack 2001 win 63488\n"},
	{"RFC 7323 5.3: PAWS drops an old segment",
	 HELLO "< P. 1:11 ack 1 ts 200 0\n+40\n> . ack 11 ts * 200\n< P. 11:21 ack 1 ts 199 0\n> . ack 11 ts * 200\napp got 10\n"
	       "count FRAMES_BAD_TCP 1\n< P. 11:21 ack 1 ts 200 0\napp got 20\n+40\n>\n"},
	{"RFC 7323 5.5: PAWS works over the wrap of the clock",
	 "< S 0:0 mss 1460 ts 0xfffffff0 0\n> S. 0:0 ack 1 mss 1460 ts * 0xfffffff0\n< . 1:1 ack 1 ts 0xfffffff0 0\n"
	 "< P. 1:11 ack 1 ts 5 0\napp got 10\n+40\n> . ack 11 ts * 5\n"},
	{"RFC 7323 4.3: the echo is of the segment that the ACK is for",
	 HELLO "< P. 11:21 ack 1 ts 300 0\n> . ack 1 ts * 100\n< P. 1:11 ack 1 ts 250 0\n> . ack 21 ts * 250\n"},
	{"RFC 7323 3.2: a segment without its timestamp is dropped",
	 HELLO "< P. 1:11 ack 1\nnone\napp got 0\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.10.7.4: a segment without ACK is dropped", PLAIN "< P 1:11\nnone\napp got 0\n"},
	{"RFC 9293 3.1: bad checksum inside a connection",
	 PLAIN "< P. 1:101 ack 1 badsum\nnone\napp got 0\ncount FRAMES_BAD_L4_CHECKSUM 1\n"},
	{"RFC 9293 3.10.7.4: ACK of what was never sent", PLAIN
	 "app send 100\n> P. 1:101\n< P. 1:11 ack 102\n> . 101:101 ack 1\napp got 0\n< P. 1:11 ack 101\napp got 10\n+40\n>\n"},
	{"RFC 5961 5.2: ACK from far below",
	 PLAIN "app send 100\n> P. 1:101\n< . 1:1 ack 101\n< P. 1:11 ack 4294900000\n> . 101:101 ack 1\napp got 0\n"},
	{"RFC 5961 10: challenges are limited",
	 PLAIN "< . 1:1 ack 102\n> . ack 1\n< . 1:1 ack 102\n< . 1:1 ack 103\nnone\n+100\n< . 1:1 ack 102\n> . ack 1\n"},
	{"RFC 9293 3.10.7.4: an old ACK does not hide the data",
	 PLAIN "app send 100\n> P. 1:101\n< . 1:1 ack 101\n< P. 1:11 ack 50\napp got 10\n+40\n> . 101:101 ack 11\n"},
};

static const struct script_case send_cases[] = {
	{"RFC 6298 5.3: an acknowledged segment is not repeated",
	 PLAIN "app send 10\n> P. 1:11 ack 1\n< . 1:1 ack 11\n+2000\nnone\n"},
	{"RFC 6298 2.4, 5.5: retransmission after the floor, then doubling",
	 PLAIN "app send 10\n> P. 1:11\n+195\nnone\n+15\n> P. 1:11\n+390\nnone\n+20\n> P. 1:11\n+810\n> P. 1:11\n"
	       "< . 1:1 ack 11\n+3000\nnone\ncount TCP_RETRANSMITS 3\n"},
	{"RFC 6298 2.2: the handshake gives the first round trip",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n+200\n< . 1:1 ack 1\napp send 10\n> P. 1:11\n+590\nnone\n+20\n> P. 1:11\n"},
	{"RFC 6298 5.3: an ACK of a part after timeouts restarts the timer without their backing off", PLAIN
	 "app send 100\n> P. 1:101\n+210\n> P. 1:101\n+410\n> P. 1:101\n+10\n< . 1:1 ack 51\nnone\n+190\nnone\n+20\n> P. 51:101\n"},
	{"RFC 6298 5.7: 3 s when the SYN-ACK was lost", "< S 0:0 mss 1460\n> S. 0:0 ack 1\n+1010\n> S. 0:0 ack 1\n< . 1:1 ack "
							"1\napp send 2000\n> . 1:1461\nnone\n+2990\nnone\n+20\n> 1:1461\n"},
	{"RFC 6298 3: no sample from what was sent twice (Karn)", PLAIN
	 "app send 10\n> P. 1:11\n+210\n> P. 1:11\n+100\n< . 1:1 ack 11\napp send 10\n> P. 11:21\n+195\nnone\n+15\n> P. 11:21\n"},
	{"RFC 6298 2.3: the timer follows the round trip",
	 PLAIN "app send 10\n> P. 1:11\n+150\n< . 1:1 ack 11\napp send 10\n> P. 11:21\n+150\n< . 1:1 ack 21\napp send 10\n> P. "
	       "21:31\n+205\nnone\n"},
	{"RFC 9293 3.8.3: R2, the connection is given up",
	 PLAIN "app send 10\n> P. 1:11\n+210\n>\n+410\n>\n+810\n>\n+1610\n>\n+3210\n>\n+6410\n>\n+12810\n>\n+25610\n>\n+51210\n> "
	       "P. 1:11\n"
	       "app closed 0\n+20000\n> R. 11:11 ack 1\napp closed 1\nconns 0\n"},
	{"RFC 5681 3.2: fast retransmit at the third duplicate",
	 PLAIN "app send 14600\n" TEN
	       "< . 1:1 ack 1461\nnone\n< . 1:1 ack 1461\n< . 1:1 ack 1461\nnone\n< . 1:1 ack 1461\n> . 1461:2921\nnone\n"
	       "count TCP_RETRANSMITS 1\n< . 1:1 ack 14601\n+2000\nnone\n"},
	{"RFC 5681 2: not a duplicate when the window changes",
	 PLAIN "app send 2000\n>\n>\n< . 1:1 ack 1 win 60000\n< . 1:1 ack 1 win 60001\n< . 1:1 ack 1 win 60002\n< . 1:1 ack 1 win "
	       "60003\nnone\n"},
	{"RFC 5681 2: not a duplicate when it brings bytes", PLAIN
	 "app send 2000\n>\n>\nburst\n< P. 1:11 ack 1\n< P. 11:21 ack 1\n< P. 21:31 ack 1\n< P. 31:41 ack 1\nend\n> . ack 41\n"},
	{"RFC 6582 3.2: a partial ACK resends the next hole",
	 PLAIN "app send 14600\n" TEN "< . 1:1 ack 1\n< . 1:1 ack 1\n< . 1:1 ack 1\n> . 1:1461\n< . 1:1 ack 4381\n> . 4381:5841\n"
	       "< . 1:1 ack 14601\n+2000\nnone\ncount TCP_RETRANSMITS 2\n"},
	{"RFC 6582 3.2: duplicates after a timeout do not start another recovery",
	 PLAIN "app send 5000\n>\n>\n>\n>\n+210\n> . 1:1461\n< . 1:1 ack 1461\n> . 1461:2921\n> . 2921:4381\n< . 1:1 ack 1461\n< . "
	       "1:1 ack 1461\n< . 1:1 ack 1461\nnone\n< . 1:1 ack 5001\n+2000\nnone\n"},
	{"RFC 5681 3.1: after a timeout one segment, then growth",
	 PLAIN "app send 14600\n" TEN
	       "+210\n> . 1:1461\nnone\n< . 1:1 ack 1461\n> . 1461:2921\n> . 2921:4381\nnone\n< . 1:1 ack 14601\n"},
	{"RFC 6928 2: initial window of ten", PLAIN "app send 32000\n" TEN "none\n< . 1:1 ack 2921\n>\n>\n>\n>\nnone\n"},
	{"RFC 9293 3.8.6: never more than the peer's window",
	 PLAIN "< . 1:1 ack 1 win 2000\napp send 5000\n> . 1:1461\nnone\n< . 1:1 ack 1461 win 2000\n> . 1461:2921\nnone\n< . 1:1 "
	       "ack 2921 win 9000\n> . 2921:4381\n> P. 4381:5001\n"},
	{"RFC 9293 3.8.6.2.1: no crumbs into a small window",
	 PLAIN "app send 5000\n>\n>\n>\n>\n< . 1:1 ack 5001 win 100\napp send 3000\nnone\n+210\n> . 5001:5101\n"},
	{"RFC 9293 3.8.6.2.1: half of the largest window is enough",
	 "< S 0:0 mss 1460\n> S. 0:0 ack 1\n< . 1:1 ack 1 win 500\napp send 1000\n> . 1:501\n< . 1:1 ack 501 win 260\n> . "
	 "501:761\n< . 1:1 ack 761 win 300\n> P. 761:1001\n"},
	{"RFC 9293 3.8.6.1: a shut window is probed with one byte, backing off",
	 PLAIN "< . 1:1 ack 1 win 0\napp send 100\nnone\n+210\n> . 1:2\n< . 1:1 ack 1 win 0\n+410\n> . 1:2\n< . 1:1 ack 1 win "
	       "0\n+810\n> . 1:2\n"
	       "< . 1:1 ack 1 win 65535\n> P. 1:101\n< . 1:1 ack 101\n+5000\nnone\n"},
	{"RFC 9293 3.8.6.1: the probe's byte may be taken",
	 PLAIN "< . 1:1 ack 1 win 0\napp send 100\n+210\n> . 1:2\n< . 1:1 ack 2 win 65535\n> P. 2:101\n"},
	{"RFC 9293 3.8.6.1: the byte taken, the window still shut",
	 PLAIN "< . 1:1 ack 1 win 0\napp send 100\n+210\n> . 1:2\n< . 1:1 ack 2 win 0\n+210\n> . 2:3\n< . 1:1 ack 2 win "
	       "50\n+500\n> . 2:52\n< . 1:1 ack 52 win 1000\n> P. 52:101\n"},
	{"RFC 9293 3.8.6.1: a window shut over data in flight",
	 PLAIN "app send 1000\n> P. 1:1001\n< . 1:1 ack 1 win 0\n+210\n> . 1:2\n< . 1:1 ack 1 win 0\n+410\n> . 1:2\n< . 1:1 ack 1 "
	       "win 5000\n> P. 1:1001\n< . 1:1 ack 1001 win 5000\n+9000\nnone\n"},
	{"RFC 9293 3.8.6.1: no ACK to probes for long ends it",
	 PLAIN "< . 1:1 ack 1 win 0\napp send "
	       "100\n+210\n>\n+410\n>\n+810\n>\n+1610\n>\n+3210\n>\n+6410\n>\n+12810\n>\n+25610\n>\n+51210\n>\n+20000\n> R. ack "
	       "1\nconns 0\n"},
	{"RFC 9293 3.8.3: R2 holds also against a peer that talks but never acknowledges",
	 PLAIN "app send 10\n> P. 1:11\n+210\n>\n+410\n>\n+810\n>\n+1610\n>\n+3210\n>\n+6410\n>\n+12810\n>\n+25610\n>\n+51210\n> "
	       "P. 1:11\n"
	       "< P. 1:2 ack 1\n+40\n> . ack 2\n+60000\n> P. 1:11\n< P. 2:3 ack 1\n+40\n> . ack 3\napp closed 0\n+60000\n> R. "
	       "11:11\napp closed 1\n"},
	{"RFC 9293 3.10.7.4: a segment that was overtaken does not move the window back", PLAIN
	 "< P. 11:21 ack 1 win 200\n> . ack 1\n< P. 1:11 ack 1 win 60000\n> . ack 21\napp send 1000\nnone\n+210\n> . 1:201\n"},
	{"RFC 6582 3.2: a partial ACK takes what it acknowledged off the window",
	 PLAIN "app send 20000\n" TEN "< . 1:1 ack 1\n> . 14601:16061\n< . 1:1 ack 1\n> . 16061:17521\n< . 1:1 ack 1\n> . 1:1461\n"
	       "< . 1:1 ack 4381\n> . 4381:5841\nnone\n"},
	{"RFC 9293 3.10.7.4: an old segment does not move the window back",
	 PLAIN "< P. 1:11 ack 1 win 100\n< P. 1:11 ack 1 win 60000\n> . ack 11\napp send 500\nnone\n+210\n> . 1:101\n"},
	{"stream.h: send takes what fits, writable comes once",
	 PLAIN "app send 40000\n" TEN "none\napp writable 0\nburst\n< . 1:1 ack 14601\nend\n"
	       "app writable 0\n" TEN
	       ">\n>\nnone\n< . 1:1 ack 16501\napp writable 1\n> P. 32121:32769\n< . 1:1 ack 32769\napp writable 1\n"},
	{"frames: what the port refuses leaves later",
	 PLAIN "frames 0\napp send 3000\nnone\nframes 1\n+1\n> . 1:1461\nnone\nframes -1\n+1\n> . 1461:2921\n> P. 2921:3001\n"},
	{"frames: an ACK that the port refused leaves later",
	 PLAIN "frames 0\n< . 1:1461 ack 1\n< . 1461:2921 ack 1\nnone\nframes -1\n+1\n> . ack 2921\n"},
	{"frames: a retransmission that the port refused comes again",
	 PLAIN "app send 10\n> P. 1:11\nframes 0\n+210\nnone\nframes -1\n+420\n> P. 1:11\n"},
	/* 104 bytes stay in the record (DP_BRIEF_BYTES), what follows lies in a chunk: sent again as one. */
	{"brief: behind it the ring, both sent again, acknowledged in part",
	 PLAIN "app send 60\n> P. 1:61\napp send 44\n> P. 61:105\napp send 300\n> P. 105:405\n+210\n> P. 1:405\n"
	       "< . 1:1 ack 31\n+420\n> P. 31:405\n< . 1:1 ack 105\n+420\n> P. 105:405\n< . 1:1 ack 405\n"
	       "app send 104\n> P. 405:509\napp send 1\n> P. 509:510\n< . 1:1 ack 509\n+210\n> P. 509:510\n"},
	{"RFC 1191, 8201: too big is obeyed", PLAIN "app send 2920\n> . 1:1461\n> P. 1461:2921\ntoobig 1300 1\n>\n>\n>\nnone\n"},
	{"RFC 1191 6.3: too big never makes larger",
	 PLAIN "app send 1000\n> P. 1:1001\ntoobig 9000 1\nnone\ncount FRAMES_BAD_ICMP 1\n< . 1:1 ack 1001\napp send 1500\n"
	       "> . 1001:2461\n> P. 2461:2501\n"},
	{"RFC 5927 4.1: too big about nothing in flight is not",
	 PLAIN "app send 1000\n> P. 1:1001\ntoobig 1300 1001\nnone\ntoobig 1300 4294900000\nnone\ncount FRAMES_BAD_ICMP 2\n"
	       "< . 1:1 ack 1001\napp send 1460\n> P. 1001:2461\n"},
};

static const struct script_case sack_cases[] = {
	{"RFC 3042 2: limited transmit, a new segment for each of two duplicates, and no more",
	 PLAIN "app send 20000\n" TEN "none\n< . 1:1 ack 1\n> . 14601:16061\nnone\n< . 1:1 ack 1\n> . 16061:17521\nnone\n"
	       "count TCP_RETRANSMITS 0\n"},
	{"RFC 3042 2, RFC 6675 5 (3): limited transmit with SACK; a window update is a duplicate too",
	 SACKED "app send 20000\n" TEN "< . 1:1 ack 1 sack 1461:2921\n> . 14601:16061\nnone\n"
		"< . 1:1 ack 1 win 60000 sack 1461:4381\n> . 16061:17521\nnone\ncount TCP_RETRANSMITS 0\n"},
	{"RFC 6675 4 IsLost: more than two segments above it",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:2921\nnone\n< . 1:1 ack 1 sack 1461:5841\n> . 1:1461\nnone\n"},
	{"RFC 6675 4 IsLost: three blocks above it",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:1471 2921:2931 4381:4391\n> . 1:1461\nnone\n"},
	{"RFC 6675 5 (2): the third duplicate", SACKED
	 "app send 14600\n" TEN
	 "< . 1:1 ack 1 sack 1461:1471\n< . 1:1 ack 1 sack 1461:1481\nnone\n< . 1:1 ack 1 sack 1461:1491\n> . 1:1461\nnone\n"},
	{"RFC 6675 2: without news in its blocks an ACK is no duplicate",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:2921\n< . 1:1 ack 1 sack 1461:2921\n< . 1:1 ack 1 sack 1461:2921\n"
		"< . 1:1 ack 1\n< . 1:1 ack 1\n< . 1:1 ack 1\nnone\n"},
	{"RFC 2883 4, RFC 6675 2: a duplicate told (D-SACK) is no loss",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 2921\n< . 1:1 ack 2921 sack 1:1461\n< . 1:1 ack 2921 sack 1:1461\n"
		"< . 1:1 ack 2921 sack 1:1461\n< . 1:1 ack 2921 sack 1:1461\nnone\n"},
	{"RFC 6675 5 (4.3), (C): several holes in one round trip, what the peer holds is not sent again",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:4381 5841:14601\n> . 1:1461\n> . 4381:5841\nnone\n"
		"< . 1:1 ack 4381 sack 5841:14601\nnone\n< . 1:1 ack 14601\n+2000\nnone\ncount TCP_RETRANSMITS 2\n"},
	{"RFC 6675 4 SetPipe: no more under way than half of what was", SACKED
	 "app send 29200\n" TEN
	 "< . 1:1 ack 1 sack 7301:11681\n> . 1:1461\n> . 1461:2921\n> . 2921:4381\nnone\n" /* 5 under way: the last 2 and these */
	 "< . 1:1 ack 1 sack 7301:14601\n> . 4381:5841\n> . 5841:7301\nnone\n"
	 "< . 1:1 ack 1461 sack 7301:14601\n> . 14601:16061\nnone\n"
	 "< . 1:1 ack 5841 sack 7301:14601\n> . 16061:17521\n> . 17521:18981\n> . 18981:20441\nnone\n"},
	{"RFC 6675 4 NextSeg (3): a hole that is not surely lost goes when there is no new data",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:8761\n> . 1:1461\nnone\n"
		"< . 1:1 ack 1 sack 1461:8761 10221:11681\n> . 8761:10221\nnone\n"},
	{"RFC 6675 4 NextSeg (4): the tail is rescued once",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:11681\n> . 1:1461\n> P. 13141:14601\nnone\n"
		"< . 1:1 ack 11681 sack 13141:14601\n> . 11681:13141\nnone\n< . 1:1 ack 14601\n+1000\nnone\n"},
	{"RFC 6675 5.1, RFC 2018 8: a timeout forgets the blocks, and sends what later ones do not show",
	 SACKED "app send 7300\n>\n>\n>\n>\n>\n< . 1:1 ack 1 sack 4381:7301\n+210\n> . 1:1461\nnone\n"
		"< . 1:1 ack 1461 sack 4381:7301\n> . 1461:2921\n> . 2921:4381\nnone\n< . 1:1 ack 4381 sack 4381:7301\nnone\n"
		"< . 1:1 ack 7301\n+2000\nnone\n"},
	{"RFC 2018 8: a peer that takes back what it told gets it",
	 SACKED "app send 2920\n>\n>\n< . 1:1 ack 1 sack 1461:2921\n+210\n> . 1:1461\n< . 1:1 ack 1461\n> P. 1461:2921\n"
		"< . 1:1 ack 2921\n+2000\nnone\n"},
	{"RFC 2018 8: an ACK that stops inside a block takes the rest of it back",
	 SACKED "app send 7300\n>\n>\n>\n>\n>\n+210\n> . 1:1461\n< . 1:1 ack 1 sack 2921:7301\n< . 1:1 ack 4381\n"
		"> . 4381:5841\n> P. 5841:7301\n< . 1:1 ack 7301\n+2000\nnone\n"},
	{"RFC 6675 5.1: no second recovery before what the timeout found is acknowledged",
	 SACKED "app send 14600\n" TEN "+210\n> . 1:1461\n< . 1:1 ack 1 sack 4381:14601\nnone\n"},
	{"RFC 6675 4 NextSeg (4): and not again in the same recovery",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:11681\n> . 1:1461\n> P. 13141:14601\nnone\n"
		"< . 1:1 ack 1 sack 1461:11691\nnone\n< . 1:1 ack 1 sack 1461:11701\nnone\n< . 1:1 ack 14601\n+1000\nnone\n"},
	{"RFC 6675 5.1: a new one as soon as all of that is acknowledged",
	 SACKED "app send 2920\n>\n>\n+210\n> . 1:1461\n< . 1:1 ack 2921\napp send 4380\n>\n>\n>\nnone\n"
		"< . 1:1 ack 2921 sack 4381:4391\n< . 1:1 ack 2921 sack 4381:4401\nnone\n< . 1:1 ack 2921 sack 4381:4411\n"
		"> . 2921:4381\n"},
	{"RFC 2018 3: blocks that cannot be are nothing",
	 SACKED "app send 14600\n" TEN "< . 1:1 ack 1 sack 20000:30000\n< . 1:1 ack 1 sack 9000:3000\n< . 1:1 ack 1 sack 1:5000\n"
		"< . 1:1 ack 1 sack 4294900000:4294900100\n< . 1:1 ack 1 sack 1461:14602\nnone\n"},
	{"bounded: blocks without a place in the scoreboard are forgotten",
	 SACKED "app send 14600\n" TEN "burst\n< . 1:1 ack 1 sack 101:111 201:211 301:311 401:411\n"
		"< . 1:1 ack 1 sack 501:511 601:611 701:711 801:811\n< . 1:1 ack 1 sack 901:911\nend\n> . 1:1461\nnone\n"
		"< . 1:1 ack 14601\n+1000\nnone\n"},
	{"RFC 6675 5: FIN lost with the end",
	 SACKED "burst\napp send 7300\napp close\nend\n>\n>\n>\n>\n> FP. 5841:7301\n"
		"< . 1:1 ack 1 sack 1461:5841\n> . 1:1461\nnone\n< . 1:1 ack 5841\n> FP. 5841:7301\nnone\n< . 1:1 ack 7302\n"},
	{"RFC 2018 3: blocks that came without being agreed on are nothing",
	 PLAIN "app send 14600\n" TEN "< . 1:1 ack 1 sack 1461:14601\nnone\n"},
};

static void test_sack(void **state)
{
	(void)state;
	script_run_all(sack_cases, sizeof(sack_cases) / sizeof(sack_cases[0]));
}

static void test_receive(void **state)
{
	(void)state;
	script_run_all(receive_cases, sizeof(receive_cases) / sizeof(receive_cases[0]));
}

static void test_send(void **state)
{
	(void)state;
	script_run_all(send_cases, sizeof(send_cases) / sizeof(send_cases[0]));
}

/* A forged tiny MTU does not make crumbs: RFC 5927, the least MTU of each family. */
static void test_too_small(void **state)
{
	(void)state;
	const struct script_options four = {.family = 4, .vlan = DP_UNTAGGED}, six = {.family = 6, .vlan = DP_UNTAGGED};
	static const struct script_case four_case = {
		"IPv4", PLAIN "app send 1460\n> P. 1:1461\ntoobig 68 1\n> . 1:513\n> . 513:1025\n> P. 1025:1461\n"};
	static const struct script_case six_case = {"IPv6",
						    PLAIN "app send 1460\n> P. 1:1461\ntoobig 68 1\n> . 1:1221\n> P. 1221:1461\n"};
	script_run(&four_case, &four);
	script_run(&six_case, &six);
}

static char text[400000];
static int text_at;

static void line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void line(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	text_at += vsnprintf(text + text_at, sizeof(text) - (size_t)text_at, format, list);
	va_end(list);
}

/* Sends 63,488 bytes that the app does not take, one flush at the end. */
static void fill(int port)
{
	line("burst\n");
	for (int from = 1; from < 63489; from += 1460)
		line("< . %d:%d ack 1 port %d\n", from, from + 1460 < 63489 ? from + 1460 : 63489, port);
	line("end\n");
}

/* The advertised window shrinks to nothing, nothing beyond it is taken, and it opens again when the app goes on. */
static void test_window(void **state)
{
	(void)state;
	text_at = 0;
	line("%sapp take 0\n", PLAIN);
	fill(40000);
	line("> . ack 63489 win 0\n"
	     "< . 63489:63490 ack 1\n> . ack 63489 win 0\n" /* a probe: RFC 9293 section 3.8.6.1 */
	     "< P. 63489:64949 ack 1\n> . ack 63489 win 0\napp got 0\ncount FRAMES_BAD_TCP 2\n"
	     "< F. 63489:63489 ack 1\n> . ack 63489 win 0\napp eof 0\n"               /* its number lies beyond the window */
	     "app send 10\n> P. 1:11 ack 63489 win 0\n< . 63489:63489 ack 11\nnone\n" /* ACKs count while it is shut */
	     "app take 1000\napp resume\nnone\napp got 1000\n"                        /* silly window: not yet */
	     "app take 3000\napp resume\n> . 11:11 ack 63489 win 4000\napp got 4000\n"
	     "< P. 63489:67489 ack 11\n"
	     "+40\n> . ack 67489 win 0\n"
	     "app take -1\napp resume\n> . ack 67489 win 63488\napp got 67488\n");
	const struct script_case window = {"RFC 9293 3.8.6.2.2: the window closes and opens", text};
	script_run_all(&window, 1);
}

/* When slow readers have filled the pool, bytes are dropped unacknowledged, and answers still leave on every connection. */
static void test_pool(void **state)
{
	(void)state;
	text_at = 0;
	for (int port = 1; port <= 6; port++)
		line("< S 0:0 mss 1460 port %d\n> S. 0:0 ack 1 port %d\n< . 1:1 ack 1 port %d\napp take 0 port %d\n", port, port,
		     port, port);
	for (int port = 1; port <= 2; port++) {
		fill(port);
		line("> . ack 63489 win 0 port %d\n", port);
	}
	/* the numbers begin inside a chunk, so that two connections hold 32 each: all 64 spare ones */
	line("count FRAMES_TCP_NO_MEMORY 0\n< . 1:1461 ack 1 port 3\n> . 1:1 ack 1 port 3\ncount FRAMES_TCP_NO_MEMORY 1\n");
	line("< . 1:1461 ack 1 port 4\n> . 1:1 ack 1 port 4\n");
	/* One chunk each is granted; where its border cuts the answer, the app would hear of room after the ACK. */
	for (int port = 1; port <= 6; port++)
		line("app send 100 port %d\n> P. port %d\n", port, port);
	line("app send 5000 port 5\n> port 5\n");
	/* and a peer that scales is shown no more than others: 62 KiB */
	line("< S 0:0 mss 1460 ws 7 port 7\n> S. 0:0 ack 1 ws 2 port 7\n< . 1:1461 ack 1 port 7\n< . 1461:2921 ack 1 port 7\n"
	     "> . ack 2921 win 15872 port 7\n");
	line("app take -1 port 1\napp resume port 1\n> . port 1\n< . 1:1461 ack 1 port 4\n+40\n> . ack 1461 port 4\n");
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED};
	const struct script_case pool = {"bounded: the pool of chunks runs out", text};
	script_run(&pool, &options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_receive),   cmocka_unit_test(test_send),   cmocka_unit_test(test_sack),
		cmocka_unit_test(test_too_small), cmocka_unit_test(test_window), cmocka_unit_test(test_pool),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * How connections end, and what does not end them: FIN, RST, TIME_WAIT, idleness. Scripts (see net_script.h), named by the section
 * that they hold the stack to.
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
#define CLOSED PLAIN "app close\n> F. 1:1 ack 1\n< . 1:1 ack 2\n< F. 1:1 ack 2\n> . 2:2 ack 2\napp closed 1\nconns 0\n"

static const struct script_case cases[] = {
	{"RFC 9293 3.6: the peer closes first", PLAIN
	 "< F. 1:1 ack 1\n> . 1:1 ack 2\napp eof 1\napp closed 0\napp close\n> F. 1:1 ack 2\n< . 2:2 ack 2\napp closed 1\nconns 0\n"
	 "count CONNECTIONS_CLOSED 1\n"},
	{"RFC 9293 3.6: we close first", CLOSED "app eof 0\n"},
	{"RFC 9293 3.10.7.4: FIN and the ACK of ours in one",
	 PLAIN "app close\n> F. 1:1\n< F. 1:1 ack 2\n> . 2:2 ack 2\napp closed 1\n"},
	{"RFC 9293 3.6 figure 13: both close at once", PLAIN "app close\n> F. 1:1 ack 1\n< F. 1:1 ack 1\n> . 2:2 ack 2\napp closed "
							     "0\n< . 2:2 ack 2\n> . 2:2 ack 2\napp closed 1\nconns 0\n"},
	{"RFC 9293 3.10.7.4: bytes and FIN", PLAIN "< FP. 1:101 ack 1\n> . 1:1 ack 102\napp got 100\napp eof 1\n"},
	{"RFC 9293 3.10.7.4: bytes, FIN and our answer with close",
	 PLAIN "app insend 30\napp inclose\n< FP. 1:101 ack 1\n> FP. 1:31 ack 102\napp eof 0\n< . 102:102 ack 32\n> . 32:32\napp "
	       "closed 1\n"},
	{"RFC 9293 3.10.7.4: FIN out of order",
	 PLAIN "< F. 101:101 ack 1\n> . 1:1 ack 1\napp eof 0\n< P. 1:101 ack 1\n> . 1:1 ack 102\napp got 100\napp eof 1\n"},
	{"RFC 9293 3.10.7.4: bytes and FIN out of order",
	 PLAIN "< FP. 101:201 ack 1\n> . 1:1 ack 1\n< P. 1:101 ack 1\n> . 1:1 ack 202\napp got 200\napp eof 1\n"},
	{"RFC 9293 3.10.7.4: the FIN again", PLAIN "< F. 1:1 ack 1\n> . ack 2\n+500\n< F. 1:1 ack 1\n> . 1:1 ack 2\napp eof 1\n"},
	{"RFC 9293 3.10.7.4: bytes after the FIN",
	 PLAIN "< F. 1:1 ack 1\n> . ack 2\n< P. 2:100 ack 1\nnone\napp got 0\ncount FRAMES_BAD_TCP 1\n"},
	{"RFC 9293 3.10.7.4: bytes that run past a FIN seen before are cut",
	 PLAIN "< F. 101:101 ack 1\n> . ack 1\n< P. 1:201 ack 1\n> . ack 102\napp got 100\napp eof 1\n"},
	{"RFC 9293 3.10.7.4: bytes held beyond a FIN that comes later",
	 PLAIN "< P. 101:201 ack 1\n>\n< F. 51:51 ack 1\n>\n< P. 1:51 ack 1\n> . ack 52\napp got 50\napp eof 1\n"},
	{"RFC 9293 3.6: half-close, the answer comes later",
	 PLAIN "< FP. 1:101 ack 1\n> . ack 102\n+500\napp send 2000\n> . 1:1461\n> P. 1461:2001\n< . 102:102 ack 2001\n+500\napp "
	       "close\n> F. 2001:2001 ack 102\n"
	       "< . 102:102 ack 2002\napp closed 1\n"},
	{"RFC 9293 3.10.4: close sends what is queued, then FIN",
	 PLAIN "burst\napp send 2000\napp close\nend\n> . 1:1461\n> FP. 1461:2001\n< . 1:1 ack 2002\n< F. 1:1 ack 2002\n> . "
	       "2002:2002 ack 2\n"},
	{"RFC 9293 3.10.4: the FIN waits for a window", PLAIN "< . 1:1 ack 1 win 1460\nburst\napp send 2000\napp close\nend\n> . "
							      "1:1461\nnone\n< . 1:1 ack 1461 win 1460\n> FP. 1461:2001\n"},
	{"RFC 9293 3.8.1: our FIN is repeated",
	 PLAIN "app close\n> F. 1:1\n+210\n> F. 1:1\n+410\n> F. 1:1\n< . 1:1 ack 2\n+2000\nnone\n"},
	{"RFC 9293 3.8.1: FIN and bytes are repeated together", PLAIN
	 "burst\napp send 10\napp close\nend\n> FP. 1:11\n+210\n> FP. 1:11\n< . 1:1 ack 11\n+500\n> F. 11:11\n< . 1:1 ack 12\n"},
	{"stream.h: nothing is sent after close", PLAIN "app close\n> F. 1:1\napp send 10\nnone\n"},
	{"lingering: bytes after our close are acknowledged and dropped", PLAIN
	 "app close\n> F. 1:1 ack 1\n< P. 1:1001 ack 2\n+40\n> . 2:2 ack 1001 win 62488\napp got 0\n"
	 "< P. 1001:2461 ack 2\n< P. 2461:3921 ack 2\n> . ack 3921 win 63488\n< F. 3921:3921 ack 2\n> . ack 3922\napp closed 1\n"},
	{"lingering: queued bytes are dropped with close",
	 PLAIN "app take 0\n< P. 1:1461 ack 1\n< P. 1461:2921 ack 1\n> . ack 2921 win 60568\napp close\n> F. 1:1 ack 2921 win "
	       "63488\napp got 0\n"},
	{"lingering: bytes out of order after close are not held",
	 PLAIN "app close\n> F. 1:1\n< P. 101:201 ack 2\n> . 2:2 ack 1\n< P. 1:101 ack 2\n+40\n> . ack 101\n"},
	{"FIN_WAIT_2 ends after 30 s", PLAIN
	 "app close\n> F. 1:1\n< . 1:1 ack 2\n+29900\nconns 1\n+200\nconns 0\napp closed 1\nnone\n< P. 1:11 ack 2\n> R 2:2\n"},
	{"eof waits until the app has taken all",
	 PLAIN "app take 10\n< FP. 1:101 ack 1\n> . ack 102\napp eof 0\napp take -1\napp resume\napp got 100\napp eof 1\n"},
	{"close from inside input", PLAIN "app insend 20\napp inclose\n< P. 1:101 ack 1\n> FP. 1:21 ack 101\napp closed 0\n< . "
					  "101:101 ack 22\n< F. 101:101 ack 22\n> . 22:22 ack 102\napp closed 1\n"},
	{"abort from inside input", PLAIN "app inabort\n< P. 1:101 ack 1\n> R. 1:1\napp closed 1\nconns 0\n"},
	{"abort from inside input of queued bytes", PLAIN
	 "app take 0\n< P. 1:101 ack 1\n+40\n>\napp inabort\napp take -1\napp resume\n> R. 1:1 ack 101\napp closed 1\nconns 0\n"},
	{"abort from inside input that closes a gap",
	 PLAIN "< P. 101:201 ack 1\n>\napp inabort\n< P. 1:101 ack 1\n> R. 1:1\napp closed 1\nconns 0\n"},
	{"RFC 9293 3.10.5: abort",
	 PLAIN "app send 10\n> P. 1:11\napp abort\n> R. 11:11 ack 1\napp closed 1\nconns 0\n< . 1:1 ack 11\n> R 11:11\n"},
	{"RFC 5961 3.2: exact RST ends it", PLAIN "< R 1:1\nnone\napp closed 1\nconns 0\n"},
	{"RFC 5961 3.2: exact RST with bytes queued",
	 PLAIN "app take 0\n< P. 1:101 ack 1\n+40\n>\n< R 101:101\nnone\napp closed 1\napp got 0\n"},
	{"RFC 5961 3.2: RST in the window is challenged",
	 PLAIN "< R 2:2\n> . 1:1 ack 1\napp closed 0\n< R. 63488:63488 ack 1\nnone\n+101\n< R. 63488:63488 ack 1\n> . 1:1 ack "
	       "1\ncount FRAMES_BAD_TCP 3\n"},
	{"RFC 5961 3.2: RST outside the window is nothing",
	 PLAIN "< R 0:0\n< R 63489:63489\n< R 2000000:2000000\nnone\napp closed 0\n"},
	{"RFC 7323 5.3: RST needs no timestamp", HELLO "< R 1:1\nnone\napp closed 1\n"},
	{"RFC 5961 4.2: SYN in ESTABLISHED is challenged",
	 PLAIN "< S 0:0\n> . 1:1 ack 1\n+101\n< S 1:1\n> . 1:1 ack 1\n+101\n< S. 5000:5000 ack 77\n> . 1:1 ack 1\napp closed 0\n"},
	{"RFC 5961 4.2: a peer that has restarted gets through",
	 PLAIN "< S 9000:9000\n> . 1:1 ack 1\n< R 1:1\napp closed 1\n< S 9000:9000 mss 1460\n> S. ack 9001\n< . 9001:9001 ack "
	       "1\napp opened 2\n"},
	{"RST in CLOSE_WAIT", PLAIN "< F. 1:1 ack 1\n> . ack 2\n< R 2:2\nnone\napp closed 1\n"},
	{"RST in FIN_WAIT_1", PLAIN "app close\n> F. 1:1\n< R 1:1\nnone\napp closed 1\n"},
	{"RFC 9293 3.10.7.4: TIME_WAIT acknowledges the FIN again",
	 CLOSED "< F. 1:1 ack 2\n> . 2:2 ack 2\n< F. 1:1 ack 2\nnone\n+60\n< F. 1:1 ack 2\n> . 2:2 ack 2\n"},
	{"RFC 7323 2.3: the window shown in TIME_WAIT is scaled",
	 HELLO "app close\n> F. 1:1\n< F. 1:1 ack 2 ts 200 0\n> . 2:2 ack 2\n< F. 1:1 ack 2 ts 200 0\n> . 2:2 ack 2 win 15872\n"},
	{"RFC 9293 3.10.7.4: TIME_WAIT ends after 60 s",
	 CLOSED "+59900\n< P. 2:9 ack 2\n> . 2:2 ack 2\n+200\n< P. 2:9 ack 2\n> R 2:2\n"},
	{"RFC 9293 3.10.7.4: a FIN starts TIME_WAIT again", CLOSED "+40000\n< F. 1:1 ack 2\n> .\n+40000\n< F. 1:1 ack 2\n> .\n"},
	{"RFC 1337: RST does not end TIME_WAIT", CLOSED "< R 2:2\nnone\n< F. 1:1 ack 2\n> . 2:2 ack 2\n"},
	{"RFC 9293 3.10.7.4: a plain ACK in TIME_WAIT is not answered", CLOSED "< . 2:2 ack 2\nnone\n"},
	{"RFC 6191 2: a later SYN by number reuses TIME_WAIT",
	 CLOSED "< S 3:3 mss 1460\n> S. ack 4\n< . 4:4 ack 1\napp opened 2\nconns 1\n"},
	{"RFC 9293 3.4.1, RFC 6191 2: the new number lies above the old ones",
	 PLAIN "app send 14600\n>\n>\n>\n>\n>\n>\n>\n>\n>\n>\n< . 1:1 ack 14601\napp close\n> F. 14601:14601\n< F. 1:1 ack "
	       "14602\n> . ack 2\n"
	       "< S 3:3 mss 1460\n> S. ack 4 above\n"},
	{"RFC 6191 2: an older SYN by number does not", CLOSED "< S 1:1 mss 1460\n> . 2:2 ack 2\n"},
	{"RFC 6191 2: a later SYN by timestamp reuses TIME_WAIT",
	 HELLO "app close\n> F. 1:1\n< F. 1:1 ack 2 ts 200 0\n> . 2:2 ack 2\n< S 4294900000:4294900000 mss 1460 ts 201 0\n> S. ack "
	       "4294900001 ts * 201 mss 1460\n"
	       "< . 4294900001:4294900001 ack 1 ts 202 0\napp opened 2\n"},
	{"RFC 6191 2: an older SYN by timestamp does not",
	 HELLO "app close\n> F. 1:1\n< F. 1:1 ack 2 ts 200 0\n> . 2:2 ack 2\n< S 5:5 mss 1460 ts 199 0\n> . 2:2 ack 2 ts * 200\n"},
	{"RFC 9293 3.8.4: an idle connection gets a FIN after 120 s",
	 PLAIN "+119900\nnone\n+200\n> F. 1:1 ack 1\napp closed 1\nconns 1\n< F. 1:1 ack 2\n> . 2:2 ack 2\nconns 0\n"},
	{"keep-alive alone does not hold a connection",
	 PLAIN "+60000\n< . 0:0 ack 1\n> .\n+59900\nnone\n+200\n> F. 1:1 ack 1\napp closed 1\n"},
	{"bytes do", PLAIN "+60000\n< P. 1:2 ack 1\n+60\n>\n+100000\nnone\n+20100\n> F. 1:1 ack 2\napp closed 1\n"},
	{"so do bytes that the peer acknowledges",
	 PLAIN "+60000\napp send 10\n> P. 1:11\n< . 1:1 ack 11\n+100000\nnone\n+20100\n> F. 11:11\n"},
	{"a reader that never reads is cut after 120 s",
	 PLAIN "< . 1:1 ack 1 win 0\napp send 100\n+210\n>\n< . 1:1 ack 1 win 0\n+410\n>\n< . 1:1 ack 1 win 0\n+810\n>\n< . 1:1 "
	       "ack 1 win 0\n+1610\n>\n< . 1:1 ack 1 win 0\n"
	       "+3210\n>\n< . 1:1 ack 1 win 0\n+6410\n>\n< . 1:1 ack 1 win 0\n+12810\n>\n< . 1:1 ack 1 win 0\n+25610\n>\n< . 1:1 "
	       "ack 1 win 0\n+51210\n>\n"
	       "< . 1:1 ack 1 win 0\n+19000\n> R. 1:1\napp closed 1\nconns 0\n"},
	{"dp_stack_destroy tells every stream and peer", PLAIN "conns 1\napp closed 0\n"},
};

static void test_scripts(void **state)
{
	(void)state;
	script_run_all(cases, sizeof(cases) / sizeof(cases[0]));
}

/* With room for 16 records the 17th pushes the oldest out, which is then refused instead of answered. */
static void test_time_wait_full(void **state)
{
	(void)state;
	static char text[16384];
	int at = 0;
	for (int port = 1; port <= 17; port++)
		at += snprintf(text + at, sizeof(text) - (size_t)at,
			       "< S 0:0 port %d\n> S. port %d\n< . 1:1 ack 1 port %d\napp close port %d\n> F. 1:1 port %d\n"
			       "< F. 1:1 ack 2 port %d\n> . 2:2 ack 2 port %d\n",
			       port, port, port, port, port, port, port);
	snprintf(text + at, sizeof(text) - (size_t)at,
		 "< F. 1:1 ack 2 port 1\n> R 2:2 port 1\n< F. 1:1 ack 2 port 2\n> . 2:2 ack 2 port 2\n");
	const struct script_options options = {.family = 4, .vlan = DP_UNTAGGED, .connections_max = 4};
	const struct script_case full = {"bounded: TIME_WAIT records are reused, oldest first", text};
	script_run(&full, &options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_time_wait_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}

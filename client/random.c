/* Random numbers of a client: for names of sources and for waiting times. Not secret. The client's thread. */
#include "client_state.h"

/* xorshift64* */
uint64_t tpc_random(struct tpc_client *client)
{
	client->random ^= client->random >> 12;
	client->random ^= client->random << 25;
	client->random ^= client->random >> 27;
	return client->random * 0x2545f4914f6cdd1dULL;
}

uint64_t tpc_jitter(struct tpc_client *client, uint64_t ns)
{
	return ns - ns / 8 + (tpc_random(client) >> 32) * (ns / 4) / 0xffffffffULL;
}

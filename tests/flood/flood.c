/*
 * flood KIND --to ADDRESS:PORT [options]: see flood.h. Prints one JSON object of what it did. Exit status 0, or 2 for a bad command line.
 */
#include "flood.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

double flood_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int usage(void)
{
	fputs("usage: flood syn|udp|malformed --to ADDRESS:PORT --interface NAME --mac MAC --from PREFIX [--seconds S] [--rate R]\n"
	      "       flood hold|loris --to ADDRESS:PORT --source ADDRESS[,ADDRESS…] --connections N [--seconds S]\n",
	      stderr);
	return 2;
}

static bool sources_take(struct flood_options *options, char *text)
{
	for (char *save = NULL, *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (options->sources == FLOOD_SOURCES_MAX ||
		    tp_addr_parse(word, strlen(word), &options->source[options->sources++]) != 0)
			return false;
	return options->sources > 0;
}

static bool option_take(struct flood_options *options, const char *name, char *value)
{
	uint8_t *mac = options->mac;

	if (strcmp(name, "--to") == 0)
		return tp_endpoint_parse(value, strlen(value), &options->to) == 0 && options->to.addr.family == 4;
	if (strcmp(name, "--from") == 0)
		return tp_prefix_parse(value, strlen(value), &options->from) == 0 && options->from.addr.family == 4;
	if (strcmp(name, "--source") == 0)
		return sources_take(options, value);
	if (strcmp(name, "--mac") == 0)
		return sscanf(value, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]) == 6;
	if (strcmp(name, "--interface") == 0)
		options->interface = value;
	else if (strcmp(name, "--seconds") == 0)
		options->seconds = atof(value);
	else if (strcmp(name, "--connections") == 0)
		options->connections = (uint32_t)strtoul(value, NULL, 10);
	else if (strcmp(name, "--rate") == 0)
		options->rate = strtoull(value, NULL, 10);
	else
		return false;
	return true;
}

int main(int words, char **word)
{
	struct flood_options options = {.seconds = 5};

	for (int i = 2; i + 1 < words; i += 2)
		if (!option_take(&options, word[i], word[i + 1]))
			return usage();
	if (words < 4 || words % 2 != 0 || !options.to.addr.family)
		return usage();
	options.kind = word[1];
	if (strcmp(options.kind, "hold") == 0 || strcmp(options.kind, "loris") == 0)
		return options.sources && options.connections ? flood_connections(&options) : usage();
	if (strcmp(options.kind, "syn") != 0 && strcmp(options.kind, "udp") != 0 && strcmp(options.kind, "malformed") != 0)
		return usage();
	return options.interface && options.from.addr.family ? flood_raw(&options) : usage();
}

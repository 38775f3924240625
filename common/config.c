/*
 * Loads the configuration file in four steps, each of which may end it with messages:
 *
 *   file ─► config_tree: YAML, keys, types ─► libcyaml: struct raw_config ─► config_fill: units, defaults ─► config_check
 *
 * Source: contract section 3. Cold code, any thread.
 */
#include "turnpike/config.h"

#include "config_fill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 20 };

/* The whole file, malloc'ed. 0 or -errno; -EFBIG when it is no configuration by its size. */
static int file_read(const char *path, char **text, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	size_t have = 0;

	if (fd < 0)
		return -errno;
	char *room = malloc(FILE_BYTES_MAX + 1);
	if (!room)
		rc = -ENOMEM;
	while (rc == 0 && have <= FILE_BYTES_MAX) {
		ssize_t n = read(fd, room + have, FILE_BYTES_MAX + 1 - have);
		if (n == 0)
			break;
		if (n > 0)
			have += (size_t)n;
		else if (errno != EINTR)
			rc = -errno;
	}
	if (rc == 0 && have > FILE_BYTES_MAX)
		rc = -EFBIG;
	close(fd);
	if (rc != 0) {
		free(room);
		return rc;
	}
	*text = room;
	*bytes = have;
	return 0;
}

/* libcyaml's first message says what is wrong; a later one has the position: "  in mapping field 'x' (line: 3, column: 4)". */
struct cyaml_said {
	char what[256], where[256];
};

static void cyaml_listen(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
	struct cyaml_said *said = context;
	char line[256];

	(void)level;
	vsnprintf(line, sizeof(line), format, arguments);
	line[strcspn(line, "\n")] = '\0';
	if (said->what[0] == '\0')
		memcpy(said->what, line, sizeof(line));
	else if (said->where[0] == '\0' && strstr(line, "(line:"))
		memcpy(said->where, line, sizeof(line));
}

static int raw_to_config(const char *text, size_t bytes, const struct config_tree *tree, struct tp_config *config,
			 struct config_errors *errors)
{
	struct cyaml_said said = {0};
	const cyaml_config_t cyaml = {.log_fn = cyaml_listen, .log_ctx = &said, .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem};
	struct raw_config *raw = NULL;

	cyaml_err_t error = cyaml_load_data((const uint8_t *)text, bytes, &cyaml, &tp_config_schema, (cyaml_data_t **)&raw, NULL);
	if (error == CYAML_ERR_OOM)
		return -ENOMEM;
	if (error != CYAML_OK) {
		config_error(errors, 0, NULL, "%s: %s%s", cyaml_strerror(error), said.what, said.where);
		return -EINVAL;
	}
	int rc = config_fill(raw, tree, config, errors);
	if (rc == 0)
		rc = config_check(config, tree, errors);
	cyaml_free(&cyaml, &tp_config_schema, raw, 0);
	return rc;
}

int tp_config_load(const char *path, struct tp_config *config, FILE *to)
{
	struct config_errors errors = {.to = to, .file = path};
	struct config_tree tree = {0};
	char *text = NULL;
	size_t bytes = 0;

	*config = (struct tp_config){0};
	int rc = file_read(path, &text, &bytes);
	if (rc != 0) {
		if (rc == -EFBIG)
			config_error(&errors, 0, NULL, "expected a configuration of at most %d bytes", FILE_BYTES_MAX);
		else
			config_error(&errors, 0, NULL, "cannot read: %s", strerror(-rc));
		return rc;
	}
	config->file = strdup(path);
	if (!config->file)
		rc = -ENOMEM;
	if (rc == 0)
		rc = config_tree_load(text, bytes, &tp_config_schema, &tree, &errors);
	if (rc == 0)
		rc = raw_to_config(text, bytes, &tree, config, &errors);
	if (rc == -ENOMEM)
		config_error(&errors, 0, NULL, "out of memory");
	config_tree_free(&tree);
	free(text);
	if (rc != 0)
		tp_config_free(config);
	return rc;
}

void tp_config_free(struct tp_config *config)
{
	for (uint32_t i = 0; i < config->ingest_count; i++) {
		struct tp_config_ingest *ingest = &config->ingest[i];
		free(ingest->device);
		free(ingest->source_keys);
		free(ingest->address);
		free(ingest->gateway);
		free(ingest->tap);
		free(ingest->trusted);
	}
	struct tp_config_fraud *fraud = &config->fraud;
	for (uint32_t i = 0; fraud->bot_addresses && i < fraud->bot_address_count; i++)
		free(fraud->bot_addresses[i]);
	free(fraud->bot_addresses);
	free(fraud->bot_user_agents);
	free(fraud->bot_asns);
	free(fraud->asn_database);
	free(fraud->geo_database);
	free(fraud->model);
	free(config->ingest);
	for (uint32_t i = 0; i < config->blocklist_files; i++)
		free(config->blocklist_file[i].path);
	free(config->blocklist_file);
	free(config->rx);
	free(config->shard);
	free(config->background);
	free(config->file);
	free(config->node_name);
	free(config->data_dir);
	free(config->control_state_dir);
	free(config->tracing_collector);
	free(config->billing_zone);
	for (uint32_t i = 0; i < config->billing_zone_count; i++) {
		free(config->billing_zones[i].advertiser);
		free(config->billing_zones[i].zone);
	}
	free(config->billing_zones);
	free(config->control_tls_certificate);
	free(config->control_tls_key);
	free(config->control_tls_client_ca);
	*config = (struct tp_config){0};
}

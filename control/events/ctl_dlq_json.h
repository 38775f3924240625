/* Dead letters and conflicts as JSON, for the API and for the tool. Pure, any thread. */
#ifndef TURNPIKE_CTL_DLQ_JSON_H
#define TURNPIKE_CTL_DLQ_JSON_H

#include "ctl_dlq_read.h"

#include <jansson.h>

/* One entry, as docs/dead-letters.md has it. NULL: no memory. */
json_t *ctl_dlq_entry_json(const struct ctl_dlq_entry *entry);

/* The page: items, and the cursor of the next one or null. NULL: no memory. */
json_t *ctl_dlq_json(const struct ctl_dlq *found);

/* An event as a beacon that says the same again: its payload, not what the node made of it. NULL: no memory. */
json_t *ctl_dlq_event_json(const struct tp_event *event);

#endif

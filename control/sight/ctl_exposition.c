/* Families and histograms of the metrics page. See ctl_exposition.h. */
#include "ctl_exposition.h"

#include <inttypes.h>

void ctl_family(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP turnpike_%s %s\n# TYPE turnpike_%s %s\n", name, help, name, type);
}

void ctl_histogram(FILE *to, const char *name, const char *labels, const uint64_t bucket[TP_LATENCY_BUCKETS], uint64_t ns_sum,
		   uint32_t first, uint32_t step)
{
	uint64_t below = 0;
	const char *comma = labels[0] ? "," : "", *open = labels[0] ? "{" : "", *close = labels[0] ? "}" : "";

	for (uint32_t b = 0; b < TP_LATENCY_BUCKETS; b++) {
		below += bucket[b];
		/* the last bucket also holds all that is longer: it is the +Inf one */
		if (b >= first && b < TP_LATENCY_BUCKETS - 1 && (b - first) % step == 0)
			fprintf(to, "turnpike_%s_bucket{%s%sle=\"%.9g\"} %" PRIu64 "\n", name, labels, comma,
				(double)(2ULL << b) / 1e9, below);
	}
	fprintf(to, "turnpike_%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, below);
	fprintf(to, "turnpike_%s_sum%s%s%s %" PRIu64 ".%09" PRIu64 "\n", name, open, labels, close, ns_sum / 1000000000,
		ns_sum % 1000000000);
	fprintf(to, "turnpike_%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, below);
}

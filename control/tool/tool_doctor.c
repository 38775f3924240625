/*
 * turnpikectl doctor: prints what doctor.h finds. Works without a running node and without privilege; what it may not see is unknown.
 * Exit status 1 if something is bad.
 */
#include "doctor.h"
#include "tool.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static json_t *finding_json(const struct doctor_finding *finding)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "check", finding->check, "status", doctor_status_name(finding->status),
			 "found", finding->found, "cost", finding->cost, "fix", finding->fix, "undo", finding->undo);
}

static void print_json(const struct doctor *doctor)
{
	json_t *items = json_array();

	for (uint32_t i = 0; i < doctor->findings; i++)
		json_array_append_new(items, finding_json(&doctor->finding[i]));
	ctl_tool_print(json_pack("{s:s, s:o}", "status", doctor_status_name(doctor_worst(doctor)), "items", items));
}

static void print_text(const struct doctor *doctor)
{
	uint32_t count[DOCTOR_STATUSES] = {0};

	for (uint32_t i = 0; i < doctor->findings; i++) {
		const struct doctor_finding *finding = &doctor->finding[i];
		count[finding->status]++;
		printf("%-8s %-12s %s\n", doctor_status_name(finding->status), finding->check, finding->found);
		if (finding->cost[0])
			printf("%-21s  costs: %s\n", "", finding->cost);
		if (finding->fix[0])
			printf("%-21s  fix:   %s\n", "", finding->fix);
	}
	printf("%u ok, %u warn, %u bad, %u unknown%s\n", count[DOCTOR_OK], count[DOCTOR_WARN], count[DOCTOR_BAD],
	       count[DOCTOR_UNKNOWN], count[DOCTOR_WARN] + count[DOCTOR_BAD] ? "; --fix-script prints what helps" : "");
}

int ctl_tool_doctor(struct ctl_tool *tool, int words, char **word)
{
	struct doctor *doctor = calloc(1, sizeof(*doctor));
	const struct tp_live *live;
	int connection;
	bool script = words == 1 && strcmp(word[0], "--fix-script") == 0;

	if (!doctor || (words && !script)) {
		free(doctor);
		return doctor ? 2 : 1;
	}
	doctor->root = "";
	doctor->ops = &doctor_machine;
	doctor->config = &tool->config;
	if (tp_live_attach(tool->config.data_dir, &live, &connection) == 0) { /* none runs: nothing to say */
		doctor->pid = live->pid;
		tp_live_unmap(live);
		close(connection);
	}
	doctor_run(doctor);
	if (script)
		doctor_script(doctor, stdout);
	else if (tool->json)
		print_json(doctor);
	else
		print_text(doctor);
	int status = doctor_worst(doctor) == DOCTOR_BAD && !script ? 1 : 0;
	free(doctor);
	return fflush(stdout) ? 1 : status;
}

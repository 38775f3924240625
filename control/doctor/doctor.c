/* The checks of turnpikectl doctor in their order, and the script that comes out of them. See doctor.h. */
#include "doctor.h"

const char *doctor_status_name(enum doctor_status status)
{
	static const char *const name[DOCTOR_STATUSES] = {"ok", "warn", "bad", "unknown"};
	return (unsigned)status < DOCTOR_STATUSES ? name[status] : "?";
}

void doctor_run(struct doctor *doctor)
{
	doctor->findings = 0;
	doctor_cpu(doctor);
	doctor_memory(doctor);
	doctor_network(doctor);
	doctor_disk(doctor);
	doctor_time(doctor);
}

enum doctor_status doctor_worst(const struct doctor *doctor)
{
	enum doctor_status worst = DOCTOR_OK;

	for (uint32_t i = 0; i < doctor->findings; i++)
		if (doctor->finding[i].status != DOCTOR_UNKNOWN && doctor->finding[i].status > worst)
			worst = doctor->finding[i].status;
	return worst;
}

void doctor_script(const struct doctor *doctor, FILE *to)
{
	fputs("#!/bin/sh\n"
	      "# Made by turnpikectl doctor. As root:   sh FILE        does it, until the next boot\n"
	      "#                                        sh FILE undo   takes it back\n"
	      "set -u\n"
	      "fix() {\n"
	      "\t:\n",
	      to);
	for (uint32_t i = 0; i < doctor->findings; i++)
		if (doctor->finding[i].fix[0])
			fprintf(to, "\t# %s: %s\n\t%s\n", doctor->finding[i].check, doctor->finding[i].found,
				doctor->finding[i].fix);
	fputs("}\nundo() {\n\t:\n", to);
	for (uint32_t i = doctor->findings; i-- > 0;)
		if (doctor->finding[i].undo[0])
			fprintf(to, "\t# %s\n\t%s\n", doctor->finding[i].check, doctor->finding[i].undo);
	fputs("}\ncase ${1:-fix} in\n\tfix) fix ;;\n\tundo) undo ;;\n\t*) echo \"usage: $0 [undo]\" >&2; exit 2 ;;\nesac\n", to);
}

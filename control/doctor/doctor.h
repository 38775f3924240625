/* turnpikectl doctor: is this machine fit? All checks (doctor_check.h), and what comes of them. Nothing is changed. One thread. */
#ifndef TURNPIKE_DOCTOR_H
#define TURNPIKE_DOCTOR_H

#include "doctor_check.h"

const char *doctor_status_name(enum doctor_status status); /* "ok", "warn", "bad", "unknown" */

/* All checks, in their order. */
void doctor_run(struct doctor *doctor);
/* The worst of what was found; what is unknown counts as ok. */
enum doctor_status doctor_worst(const struct doctor *doctor);
/* A shell script that does what the findings advise, and with the word undo takes it back, last first. */
void doctor_script(const struct doctor *doctor, FILE *to);

#endif

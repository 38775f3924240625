/* The tool's share of the audit log: see tool_acts.c. */
#ifndef TURNPIKE_TOOL_ACTS_H
#define TURNPIKE_TOOL_ACTS_H

#include "tool.h"

/* Whether a verb with these words changes something. */
bool ctl_tool_is_act(int words, char **word);
/* Appends a line: status -1 before ("begun"), the exit status after. */
void ctl_tool_act(const struct ctl_tool *tool, int words, char **word, int status);

#endif

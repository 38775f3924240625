/*
 * Which version a program is: the project's, and the commit it was built from. Linked into the programs alone (tp_version_dep), so
 * that a commit does not make every test anew.
 */
#ifndef TURNPIKE_VERSION_H
#define TURNPIKE_VERSION_H

extern const char tp_version[]; /* "0.1.0 (1a2b3c4d)" */

#endif

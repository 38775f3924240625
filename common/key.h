/*
 * The node's hashing secret, private to common: what ids and payload fingerprints are hashed under, so that nobody outside can
 * make two that meet. Set once at start (tp_id_secret_set), read by every parser.
 */
#ifndef TP_KEY_H
#define TP_KEY_H

enum { TP_KEY_BYTES = 192 };

/* TP_KEY_BYTES of key material for XXH3's …_withSecret functions. */
extern const unsigned char *tp_key;

#endif

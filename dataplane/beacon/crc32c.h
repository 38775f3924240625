/*
 * CRC-32C (Castagnoli), the checksum of UDP batches. Pure; any rx core.
 */
#ifndef TURNPIKE_CRC32C_H
#define TURNPIKE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* RFC 3720 appendix B.4: reflected 0x1EDC6F41, initial value and final xor all ones. Of what `crc` is of and `count` bytes more; 0 to begin with. */
uint32_t dp_crc32c(uint32_t crc, const void *bytes, size_t count);

/* For tests: the way of processors that lack what the fast one needs. */
uint32_t dp_crc32c_plain(uint32_t crc, const void *bytes, size_t count);

#endif

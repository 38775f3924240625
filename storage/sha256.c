/*
 * SHA-256 of files: what tells other systems that they have the same bytes as we. Inside the node XXH3 does; this one is for those who
 * do not trust the way between. By libcrypto, which uses the processor's instructions where it has them.
 *
 * Threads: any.
 */
#include "store_state.h"

#include <openssl/evp.h>

#include <fcntl.h>
#include <stdlib.h>

enum { PIECE_BYTES = 1 << 20 };

int file_sha256(const struct sto_io *io, const char *path, uint8_t sha256[MANIFEST_HASH_BYTES])
{
	int fd = io->open(io, path, O_RDONLY, 0);
	if (fd < 0)
		return fd;
	uint8_t *piece = malloc(PIECE_BYTES);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int rc = piece && context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) ? 0 : -ENOMEM;
	uint64_t at = 0;
	while (!rc) {
		int64_t got = io->read(io, fd, piece, PIECE_BYTES, at);
		if (got <= 0) {
			rc = (int)got;
			break;
		}
		if (!EVP_DigestUpdate(context, piece, (size_t)got))
			rc = -ENOMEM;
		at += (uint64_t)got;
	}
	if (!rc && !EVP_DigestFinal_ex(context, sha256, NULL))
		rc = -ENOMEM;
	EVP_MD_CTX_free(context);
	free(piece);
	io->close(io, fd);
	return rc;
}

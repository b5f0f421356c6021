/* A libFuzzer target: texts of tokens, and what is kept of them. What is read is written again as the same. */
#include "protocol/token/token.h"

#include "base/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes id;
    struct token_grant grant, again;
    if (token_read(bytes_of(data, size), &id))
        CHECK(id.size == TOKEN_ID_SIZE && id.data > data && id.data + id.size < data + size);
    if (!token_grant_read(bytes_of(data, size), &grant))
        return 0;
    char *text = token_grant_write(&grant);
    CHECK(text && token_grant_read(bytes_of_text(text), &again));
    CHECK(bytes_equal(grant.user, again.user) && bytes_equal(grant.hash, again.hash) && grant.expires_ms == again.expires_ms && grant.restricted == again.restricted &&
          bytes_equal(grant.read, again.read) && bytes_equal(grant.write, again.write) && bytes_equal(grant.configure, again.configure));
    CHECK(!token_matches(&grant, bytes_of(data, size)));
    token_grant_deinit(&again);
    token_grant_deinit(&grant);
    free(text);
    return 0;
}

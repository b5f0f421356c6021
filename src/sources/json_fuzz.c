/* What jansson takes is what it was; what it does not take is read without its numbers, or not at all. */
#include "sources/json.h"

#include "base/err.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size ? size : 1);
    CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    json_t *read = json_read(bytes_of(copy, size)), *plain = json_loadb(copy, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    CHECK(!plain || json_equal(read, plain));
    char *text = read ? json_dumps(read, JSON_ENCODE_ANY) : NULL;
    CHECK(!read || text);
    free(text);
    json_decref(read);
    json_decref(plain);
    free(copy);
    return 0;
}

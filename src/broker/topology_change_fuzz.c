/* Whatever reads as a change may be applied: changes, each with its size (2 bytes) before it, go into one topology, which is then dumped into another. */
#include "broker/topology.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum gw_err copy(void *owner, const struct topology_change *change)
{
    enum gw_err err = topology_apply(owner, change);
    CHECK(!err);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct topology topology, again;
    CHECK(!topology_init(&topology, 1) && !topology_init(&again, 2));
    while (size >= 2) {
        size_t part = load_le16(data) < size - 2 ? load_le16(data) : size - 2;
        /* A copy of its own, so that a byte too far is noticed. */
        uint8_t *bytes = malloc(part + 1);
        struct topology_change change;
        CHECK(bytes);
        memcpy(bytes, data + 2, part);
        if (topology_change_read(bytes_of(bytes, part), &change)) {
            CHECK(topology_change_size(&change) == part);
            topology_apply(&topology, &change);
        }
        free(bytes);
        data += 2 + part;
        size -= 2 + part;
    }
    CHECK(!topology_dump(&topology, copy, &again));
    CHECK(again.vhosts.map.count == topology.vhosts.map.count && again.next_vhost == topology.next_vhost);
    topology_deinit(&topology);
    topology_deinit(&again);
    return 0;
}

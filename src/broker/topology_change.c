#include "broker/topology_change.h"

#define CHANGE_FIXED_SIZE 24u
#define RUNS 5u

uint32_t topology_change_size(const struct topology_change *change)
{
    return (uint32_t)(CHANGE_FIXED_SIZE + RUNS * 4 + change->name.size + change->source.size + change->routing_key.size +
                      change->arguments.size + change->secret.size);
}

void topology_change_write(const struct topology_change *change, uint8_t *at)
{
    const struct bytes runs[] = {change->name, change->source, change->routing_key, change->arguments, change->secret};
    at[0] = (uint8_t)change->kind;
    at[1] = (uint8_t)change->type;
    store_le16(at + 2, (uint16_t)change->flags);
    store_le32(at + 4, change->vhost);
    store_le64(at + 8, change->id);
    store_le64(at + 16, change->owner);
    at += CHANGE_FIXED_SIZE;
    for (unsigned i = 0; i < RUNS; i++) {
        store_le32(at, (uint32_t)runs[i].size);
        at += 4;
        if (runs[i].size)
            memcpy(at, runs[i].data, runs[i].size);
        at += runs[i].size;
    }
}

bool topology_change_read(struct bytes bytes, struct topology_change *change)
{
    struct bytes *runs[] = {&change->name, &change->source, &change->routing_key, &change->arguments, &change->secret};
    if (bytes.size < CHANGE_FIXED_SIZE)
        return false;
    change->kind = bytes.data[0];
    change->type = bytes.data[1];
    change->flags = load_le16(bytes.data + 2);
    change->vhost = load_le32(bytes.data + 4);
    change->id = load_le64(bytes.data + 8);
    change->owner = load_le64(bytes.data + 16);
    if (change->kind < CHANGE_EXCHANGE_DECLARE || change->kind > CHANGE_LAST || bytes.data[1] >= EXCHANGE_TYPE_COUNT)
        return false;
    size_t at = CHANGE_FIXED_SIZE;
    for (unsigned i = 0; i < RUNS; i++) {
        if (bytes.size - at < 4)
            return false;
        uint32_t size = load_le32(bytes.data + at);
        at += 4;
        if (bytes.size - at < size)
            return false;
        *runs[i] = bytes_of(bytes.data + at, size);
        at += size;
    }
    return at == bytes.size;
}

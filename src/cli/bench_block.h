/* Publishes encoded once and sent again and again: a block of equal-sized messages whose ids, times and routing keys are
 * patched in place before each writing. */
#ifndef CLI_BENCH_BLOCK_H
#define CLI_BENCH_BLOCK_H

#include "cli/bench_plan.h"

struct bench_block {
    uint8_t *data;
    size_t stride;             /* bytes of one message with all its frames */
    size_t count;              /* messages that the block has room for */
    size_t key_place;          /* of the routing key's digits in a message; 0: none to patch */
    size_t group_place;        /* of the 4 bytes of the header 'group', where there is one */
    size_t priority_place;     /* of the priority's octet, where messages have one */
    size_t body_place;         /* of the body's first byte */
    size_t head_size;          /* bytes of the body that are patched: 0, 8 or 16 */

    uint64_t id_base;          /* the publisher's number, shifted */
    struct bench_share share;
    uint32_t turn;             /* which of the share's queues is next */
    bool single;               /* sequences are the publisher's: one queue, or an exchange that copies */
    uint64_t *sequences;       /* the next one, for each of the share's queues */
};

/* Errors: GW_ERR_NOMEM, GW_ERR_LIMIT (a name is too long for the protocol). */
enum gw_err bench_block_init(struct bench_block *block, const struct bench_plan *plan, uint32_t publisher, uint32_t frame_max);
void bench_block_deinit(struct bench_block *block);

/* Makes the first `count` messages those that come next, sent at `stamp`. */
void bench_block_patch(struct bench_block *block, size_t count, uint64_t stamp);

/* How many messages a queue of the share was sent. */
uint64_t bench_block_sent(const struct bench_block *block, uint32_t index);

#endif

/* Commands about transactions in two steps. What is decided of one is published by whoever decides, see half.h. */
#include "broker/control.h"

#include "broker/half.h"

#define ROWS_MAX 10000u   /* a list is for eyes: more than that nobody reads */

#define FIELD(field, statement) \
    static void field(struct writer *writer, const void *pointer) \
    { \
        const struct half_row *row = pointer; \
        statement; \
    }
FIELD(id, writer_string(writer, row->id))
FIELD(state, writer_string(writer, bytes_of_text(row->state)))
FIELD(messages, writer_integer(writer, (int64_t)row->messages))
FIELD(age_ms, writer_integer(writer, (int64_t)row->age_ms))
FIELD(check_queue, writer_string(writer, row->check_queue))
FIELD(checks, writer_integer(writer, row->checks))
FIELD(check_limit, writer_integer(writer, row->check_limit))
FIELD(next_check_ms, writer_integer(writer, (int64_t)row->due_in_ms))

static const struct control_field fields[] = {{"id", id},         {"state", state},   {"messages", messages},       {"age_ms", age_ms}, {"check_queue", check_queue},
                                              {"checks", checks}, {"check_limit", check_limit}, {"next_check_ms", next_check_ms}};
#define FIELD_COUNT (sizeof(fields) / sizeof(fields[0]))

/* Every worker's part: the one that has the vhost's half messages tells, the others have nothing to say. */
void control_list_transactions(struct control *control)
{
    const struct vhost *vhost = control_vhost(control);
    uint64_t columns = control_columns(control, fields, FIELD_COUNT);
    struct shard *shard = vhost && vhost->half_queue ? control->worker->shards[queue_id_shard(vhost->half_queue)] : NULL;
    const struct queue *queue = shard ? shard_queue(shard, vhost->half_queue) : NULL;
    uint32_t cursor = 0;
    struct half_row row;
    for (unsigned i = 0; queue && i < ROWS_MAX && half_next(queue, &cursor, control->worker->wall_us, &row); i++)
        control_write_row(control, fields, FIELD_COUNT, columns, &row);
}

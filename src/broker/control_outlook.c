/* queue_outlook: what is to be expected of one queue, see outlook.h. */
#include "broker/control.h"

#include <math.h>

/* A number that may be left out; false: it is none, or outside the limits, and the command has failed. */
static bool read_number(struct control *control, const char *name, double usual, double most, double *value)
{
    const json_t *given = json_object_get(control->arguments, name);
    *value = given ? json_number_value(given) : usual;
    if ((!given || json_is_number(given)) && *value > 0 && *value <= most)
        return true;
    control_fail(control, "bad_argument", "the argument '%s' is no number above 0 and up to %g", name, most);
    return false;
}

static void put_real(struct writer *writer, const char *key, double value)
{
    writer_key(writer, bytes_of_text(key));
    writer_real(writer, value);   /* null for what is no number */
}

static void put_age(struct writer *writer, const char *key, const char *at_least_key, double seconds, bool at_least)
{
    put_real(writer, key, seconds);
    writer_put_boolean(writer, at_least_key, at_least);
}

static void write_outlook(struct control *control, const struct queue_entry *entry, struct queue *queue, double target_s, double utilisation)
{
    struct writer *writer = &control->answer;
    const struct observation seen = observer_tell(control->worker->shards[queue_id_shard(queue->id)], queue, target_s, utilisation);
    const struct outlook_numbers *numbers = &seen.numbers;
    bool grows = isinf(numbers->backlog_end_seconds);
    writer_open(writer, '{');
    writer_put_string(writer, "name", entry->name);
    writer_put_string(writer, "vhost", entry->vhost->name);
    writer_put_integer(writer, "messages_ready", (int64_t)seen.ready);
    writer_put_integer(writer, "messages_unacknowledged", (int64_t)seen.unacked);
    writer_put_integer(writer, "consumers", seen.consumers);
    put_real(writer, "arrival_rate", numbers->arrival_rate);
    put_real(writer, "settle_rate", numbers->settle_rate);
    put_real(writer, "service_seconds", numbers->service_seconds);
    put_real(writer, "utilisation", numbers->utilisation);
    put_real(writer, "over_seconds", numbers->over_seconds);
    writer_put_boolean(writer, "backlog_grows", grows);
    put_real(writer, "backlog_end_seconds", grows ? NAN : numbers->backlog_end_seconds);
    put_real(writer, "backlog_error", numbers->backlog_error);
    put_real(writer, "target_seconds", target_s);
    put_real(writer, "target_utilisation", utilisation);
    put_real(writer, "consumers_needed", numbers->consumers_needed);
    put_age(writer, "oldest_ready_seconds", "oldest_ready_at_least", seen.oldest_ready_seconds, seen.ready_at_least);
    put_age(writer, "oldest_unacknowledged_seconds", "oldest_unacknowledged_at_least", seen.oldest_unacked_seconds, seen.unacked_at_least);
    writer_close(writer, '}');
}

/* The worker whose shard has the queue writes it. */
void control_queue_outlook(struct control *control)
{
    struct bytes name;
    double target_s, utilisation;
    const struct vhost *vhost = control_vhost(control);
    if (!vhost || !control_text(control, "name", &name) || !read_number(control, "target_seconds", OUTLOOK_TARGET_SECONDS, 1e9, &target_s) ||
        !read_number(control, "utilisation", OUTLOOK_UTILISATION, 1, &utilisation))
        return;
    const struct queue_entry *entry = topology_queue(vhost, name);
    struct shard *shard = entry && !(entry->flags & TOPOLOGY_HIDDEN) ? control->worker->shards[queue_id_shard(entry->id)] : NULL;
    struct queue *queue = shard ? shard_queue(shard, entry->id) : NULL;
    if (queue)
        write_outlook(control, entry, queue, target_s, utilisation);
}

void control_queue_outlook_join(struct control *control, struct bytes rows)
{
    struct bytes name = control_optional(control, "name"), vhost = control_optional(control, "vhost");
    if (rows.size)
        writer_json(&control->answer, rows);
    else
        control_fail(control, "not_found", "no queue '%.*s' in vhost '%.*s'", (int)name.size, (const char *)name.data, vhost.size ? (int)vhost.size : 1,
                     vhost.size ? (const char *)vhost.data : "/");
}

#include "sim/model.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

void model_init(struct model *model, const struct plan *plan, struct trace *trace)
{
    memset(model, 0, sizeof(*model));
    model->plan = plan;
    model->trace = trace;
    model->first_open = 1;
    model->scratch_size = (plan->taste.largest > plan->taste.usual ? plan->taste.largest : plan->taste.usual) + 16;
    model->scratch = malloc(model->scratch_size);
    CHECK(model->scratch);
}

void model_deinit(struct model *model)
{
    free(model->messages);
    free(model->instances);
    free(model->groups);
    free(model->members);
    free(model->scratch);
}

static void *grow(void *array, uint64_t count, uint64_t *room, size_t size)
{
    if (count <= *room)
        return array;
    *room = *room * 2 > count ? *room * 2 : count + 64;
    array = realloc(array, *room * size);
    CHECK(array);
    return array;
}

struct instance *model_instance(struct model *model, uint64_t number, unsigned queue)
{
    const struct sim_message *message = model_message(model, number);
    if (!(message->route >> queue & 1))
        return NULL;
    unsigned before = (unsigned)__builtin_popcount(message->route & ((1u << queue) - 1));
    return &model->instances[message->first_instance + before];
}

uint32_t model_stream(struct model *model)
{
    return ++model->next_stream;
}

static const char *queue_name(const struct model *model, unsigned queue)
{
    return model->plan->queues[queue].name;
}

/* Does it survive a crash once it is on disk? */
static bool lasting(const struct model *model, const struct sim_message *message, unsigned queue)
{
    return message->persistent && model->plan->queues[queue].durable;
}

/* What the broker did not confirm but found on its own disk when it started is as good as confirmed. */
static bool recovered(const struct model *model, const struct sim_message *message, unsigned queue)
{
    return message->epoch < model->epoch && lasting(model, message, queue);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------------ */

uint64_t model_publish(struct model *model, uint32_t stream, uint32_t order, enum plan_exchange exchange, unsigned key, bool mandatory, bool in_tx,
                       struct content *content)
{
    uint64_t number = ++model->message_count;
    model->messages = grow(model->messages, number, &model->message_room, sizeof(*model->messages));
    content_make(&model->plan->taste, number, content);
    unsigned route = plan_route(model->plan, exchange, key, content->colour);
    struct sim_message *message = model_message(model, number);
    *message = (struct sim_message){.stream = stream, .order = order, .epoch = model->epoch, .route = (uint16_t)route, .exchange = (uint8_t)exchange,
                                    .key = (uint8_t)key, .persistent = content->persistent, .mandatory = mandatory,
                                    .first_instance = (uint32_t)model->instance_count};
    unsigned count = (unsigned)__builtin_popcount(route);
    model->instances = grow(model->instances, model->instance_count + count, &model->instance_room, sizeof(*model->instances));
    model->instance_count += count;
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++)
        if (route >> queue & 1)
            *model_instance(model, number, queue) = (struct instance){
                .flags = (uint16_t)(INSTANCE_ROUTED | (in_tx ? INSTANCE_IN_TX : INSTANCE_MAY)), .generation = model->queues[queue].generation};
    return number;
}

static void make_sure(struct model *model, uint64_t number, unsigned queue)
{
    struct instance *instance = model_instance(model, number, queue);
    const struct model_queue *state = &model->queues[queue];
    if (instance->generation != state->generation || state->disturbances > 0)
        return;
    instance->flags |= INSTANCE_CONFIRMED;
    if (!(instance->flags & INSTANCE_ENDED))
        instance->flags |= INSTANCE_MUST;
}

void model_confirm(struct model *model, uint64_t number, bool accepted)
{
    struct sim_message *message = model_message(model, number);
    if (message->answered) {
        trace_fail(model->trace, "confirms", "message %lu was confirmed twice", (unsigned long)number);
        return;
    }
    message->answered = true;
    model->confirmed++;
    if (!accepted) {
        if (!model->refusals)
            trace_fail(model->trace, "progress", "message %lu was refused (nack) though the disk never failed", (unsigned long)number);
        return;
    }
    if (message->mandatory && message->route == 0 && !message->returned)
        trace_fail(model->trace, "mandatory", "message %lu went nowhere and was confirmed without being returned", (unsigned long)number);
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++)
        if (message->route >> queue & 1)
            make_sure(model, number, queue);
}

void model_return(struct model *model, uint64_t number)
{
    struct sim_message *message = model_message(model, number);
    bool gone = true;   /* a queue that is deleted now and then may not be there */
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++)
        if (message->route >> queue & 1)
            gone = gone && model->plan->queues[queue].lossy;
    if (!message->mandatory || message->returned || !gone)
        trace_fail(model->trace, "mandatory", "message %lu was returned%s", (unsigned long)number,
                   message->returned ? " twice" : message->mandatory ? " though it had a queue to go to" : " though it was not mandatory");
    message->returned = true;
}

void model_commit_sent(struct model *model, uint64_t number)
{
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
        struct instance *instance = model_instance(model, number, queue);
        if (instance)
            instance->flags = (uint16_t)((instance->flags & ~INSTANCE_IN_TX) | INSTANCE_MAY);
    }
}

void model_rolled_back(struct model *model, uint64_t number)
{
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
        struct instance *instance = model_instance(model, number, queue);
        if (instance)
            instance->flags = INSTANCE_ROUTED | INSTANCE_ENDED | INSTANCE_SURE;
    }
}

/* ---- delivery ----------------------------------------------------------------------------------------------------------------- */

uint64_t model_identify(struct model *model, struct bytes exchange, struct bytes routing_key, struct bytes properties, struct bytes body)
{
    uint64_t number = content_number(properties);
    if (number == 0 || number > model->message_count) {
        trace_fail(model->trace, "nothing appears", "a message arrived that was never published (number %lu of %lu, %zu bytes)",
                   (unsigned long)number, (unsigned long)model->message_count, body.size);
        return 0;
    }
    const struct sim_message *message = model_message(model, number);
    struct content content;
    content_make(&model->plan->taste, number, &content);
    if (!bytes_equal(properties, bytes_of(content.properties, content.properties_size))) {
        trace_fail(model->trace, "same bytes", "the properties of message %lu have changed", (unsigned long)number);
        return 0;
    }
    bool same = body.size == content.body_size;
    if (same) {
        content_body(&content, model->scratch);
        same = bytes_equal(body, bytes_of(model->scratch, body.size));
    }
    if (!same) {
        trace_fail(model->trace, "same bytes", "the body of message %lu has changed: %zu bytes, published were %lu", (unsigned long)number,
                   body.size, (unsigned long)content.body_size);
        return 0;
    }
    if (!bytes_equal(exchange, bytes_of_text(plan_exchange_names[message->exchange]))
        || !bytes_equal(routing_key, bytes_of_text(plan_key(model->plan, message->exchange, message->key)))) {
        trace_fail(model->trace, "same bytes", "message %lu has another exchange or routing key: '%.*s' '%.*s'", (unsigned long)number,
                   (int)exchange.size, (const char *)exchange.data, (int)routing_key.size, (const char *)routing_key.data);
        return 0;
    }
    return number;
}

static void check_order(struct model *model, unsigned queue, uint64_t number, struct model_progress *progress)
{
    const struct sim_message *message = model_message(model, number);
    unsigned slots = sizeof(progress->of) / sizeof(progress->of[0]), slot = message->stream % slots;
    if (progress->of[slot].stream == message->stream && progress->of[slot].order >= message->order)
        trace_fail(model->trace, "order", "queue %s: message %lu (the %uth of stream %u) came after the %uth", queue_name(model, queue),
                   (unsigned long)number, message->order, message->stream, progress->of[slot].order);
    if (progress->of[slot].stream <= message->stream) {
        progress->of[slot].stream = message->stream;
        progress->of[slot].order = message->order;
    }
}

void model_deliver(struct model *model, unsigned queue, uint64_t number, bool redelivered, bool no_ack, bool doubtful,
                   struct model_progress *progress)
{
    const struct sim_message *message = model_message(model, number);
    struct instance *instance = model_instance(model, number, queue);
    model->delivered++;
    if (!instance) {
        trace_fail(model->trace, "nothing appears", "queue %s: message %lu was not routed there", queue_name(model, queue), (unsigned long)number);
        return;
    }
    if ((instance->flags & INSTANCE_HELD) && !model->failing) {
        trace_fail(model->trace, "one owner", "queue %s: message %lu was delivered while somebody holds it", queue_name(model, queue),
                   (unsigned long)number);
        return;
    }
    /* Its channel may have been closed by the broker before the settling arrived, and the client not know yet. */
    bool unheard = model->plan->purge > 0 && (instance->flags & INSTANCE_ENDED)
        && !(instance->flags & (INSTANCE_APPLIED | INSTANCE_SURE));
    if (!(instance->flags & INSTANCE_MAY) && !unheard && !model->failing && !(model_excuses(model) && (instance->flags & INSTANCE_ENDED))) {
        trace_fail(model->trace, instance->flags & INSTANCE_IN_TX ? "transactions" : "what is settled stays away",
                   "queue %s: message %lu came though it was %s", queue_name(model, queue), (unsigned long)number,
                   instance->flags & INSTANCE_IN_TX ? "in an open transaction" : instance->flags & INSTANCE_ENDED ? "settled" : "gone");
        return;
    }
    if ((instance->flags & INSTANCE_SEEN) && !redelivered && !model->failing)
        trace_fail(model->trace, "redeliveries are flagged", "queue %s: message %lu was delivered before and is not flagged", queue_name(model, queue),
                   (unsigned long)number);
    if (progress && (!redelivered || progress->strict))
        check_order(model, queue, number, progress);
    if (instance->deliveries < UINT8_MAX)
        instance->deliveries++;
    unsigned known = INSTANCE_MUST | (instance->flags & INSTANCE_CONFIRMED);
    if (recovered(model, message, queue))
        known |= INSTANCE_CONFIRMED;
    /* It may have been on its way when its queue was deleted. */
    if (instance->generation != model->queues[queue].generation || model->queues[queue].disturbances > 0)
        known = 0;
    /* Or it is old news, from a channel that the broker has closed meanwhile: somebody else may have it, and settle it. */
    if (doubtful || (model->failing && !(instance->flags & INSTANCE_MAY))) {
        known = 0;
        instance->generation--;   /* a confirm that is yet to come changes nothing about that */
    }
    if (no_ack)
        instance->flags = INSTANCE_ROUTED | INSTANCE_SEEN | INSTANCE_ENDED | INSTANCE_APPLIED;
    else
        instance->flags = (uint16_t)(INSTANCE_ROUTED | INSTANCE_MAY | INSTANCE_SEEN | INSTANCE_HELD | known);
}

void model_see(struct model *model, unsigned queue, uint64_t number)
{
    struct instance *instance = model_instance(model, number, queue);
    if (!instance)
        trace_fail(model->trace, "nothing appears", "queue %s: message %lu was not routed there", queue_name(model, queue), (unsigned long)number);
    else
        instance->flags |= INSTANCE_SEEN;
}

void model_end(struct model *model, unsigned queue, uint64_t number)
{
    struct instance *instance = model_instance(model, number, queue);
    instance->flags = (uint16_t)((instance->flags & (INSTANCE_ROUTED | INSTANCE_SEEN)) | INSTANCE_ENDED);
}

void model_give_back(struct model *model, unsigned queue, uint64_t number)
{
    struct instance *instance = model_instance(model, number, queue);
    if (!(instance->flags & INSTANCE_HELD))
        return;
    instance->flags &= (uint16_t)~INSTANCE_HELD;
    if (model->queues[queue].disturbances > 0)
        instance->flags &= (uint16_t)~(INSTANCE_MUST | INSTANCE_CONFIRMED);
}

void model_end_applied(struct model *model, unsigned queue, uint64_t number)
{
    struct instance *instance = model_instance(model, number, queue);
    if (instance->flags & INSTANCE_ENDED)
        instance->flags |= INSTANCE_APPLIED;
}

void model_end_lost(struct model *model, unsigned queue, uint64_t number)
{
    struct instance *instance = model_instance(model, number, queue);
    if ((instance->flags & INSTANCE_ENDED) && !(instance->flags & (INSTANCE_APPLIED | INSTANCE_SURE)))
        instance->flags |= INSTANCE_MAY;
}

void model_end_sure(struct model *model, unsigned queue, uint64_t number)
{
    struct instance *instance = model_instance(model, number, queue);
    if (instance->flags & INSTANCE_ENDED)
        instance->flags = (uint16_t)((instance->flags & ~INSTANCE_MAY) | INSTANCE_APPLIED | INSTANCE_SURE);
}

/* ---- what changes many at once ---------------------------------------------------------------------------------------------------- */

void model_disturb(struct model *model, unsigned queue, bool held)
{
    model->queues[queue].generation++;
    for (uint64_t number = model->first_open; number <= model->message_count; number++) {
        struct instance *instance = model_instance(model, number, queue);
        if (!instance || (instance->flags & (INSTANCE_ENDED | INSTANCE_IN_TX)))
            continue;
        if (!(instance->flags & INSTANCE_HELD) || held)
            instance->flags &= (uint16_t)~(INSTANCE_MUST | INSTANCE_CONFIRMED | INSTANCE_HELD);
    }
}

static void restart_instance(struct model *model, const struct sim_message *message, unsigned queue, struct instance *instance, bool clean)
{
    instance->flags &= (uint16_t)~INSTANCE_HELD;
    if (model->torn_log)   /* what was delivered could not be noted */
        instance->flags &= (uint16_t)~INSTANCE_SEEN;
    if (!model->plan->queues[queue].durable || (instance->flags & INSTANCE_IN_TX)) {
        instance->flags = (instance->flags & INSTANCE_ROUTED) | INSTANCE_ENDED | INSTANCE_SURE;
    } else if (!message->persistent) {
        /* Nothing is promised about it; what was paged out may well be found again. */
        instance->flags &= (uint16_t)~(INSTANCE_MUST | INSTANCE_CONFIRMED);
        if (!clean && !(instance->flags & INSTANCE_SURE))
            instance->flags |= INSTANCE_MAY;
    } else if (instance->flags & INSTANCE_ENDED) {
        if (clean)
            instance->flags |= instance->flags & INSTANCE_MAY ? 0 : INSTANCE_SURE;
        else if (!(instance->flags & INSTANCE_SURE))
            instance->flags |= INSTANCE_MAY;
    } else if (!clean && !(instance->flags & INSTANCE_CONFIRMED)) {
        instance->flags &= (uint16_t)~INSTANCE_MUST;
    }
}

/* What was delivered before a crash may have been true in memory only. */
static void restart_groups(struct model *model)
{
    for (unsigned i = 0; i < model->group_count; i++)
        for (unsigned k = 0; k < model->groups[i].count; k++) {
            struct model_member *member = &model->members[model->groups[i].first + k];
            if (!member->settles)
                member->deliveries = model_instance(model, member->message, model->groups[i].queue)->deliveries;
        }
}

void model_restart(struct model *model, bool clean)
{
    restart_groups(model);
    for (uint64_t number = model->first_open; number <= model->message_count; number++) {
        const struct sim_message *message = model_message(model, number);
        for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
            struct instance *instance = model_instance(model, number, queue);
            if (instance)
                restart_instance(model, message, queue, instance, clean);
        }
    }
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
        if (model->queues[queue].disturbances > 0)
            model_disturb(model, queue, false);
        model->queues[queue].disturbances = 0;
    }
    model->epoch++;
}

void model_quiet(struct model *model)
{
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
        if (model->queues[queue].disturbances > 0)
            model_disturb(model, queue, false);
        model->queues[queue].disturbances = 0;
    }
}

void model_bounds(struct model *model, unsigned queue, uint64_t *least, uint64_t *most)
{
    *least = *most = 0;
    for (uint64_t number = model->first_open; number <= model->message_count; number++) {
        const struct instance *instance = model_instance(model, number, queue);
        if (!instance || (instance->flags & INSTANCE_HELD))
            continue;
        *least += (instance->flags & INSTANCE_MUST) != 0;
        *most += (instance->flags & INSTANCE_MAY) != 0;
    }
}

/* ---- drains ------------------------------------------------------------------------------------------------------------------------ */

void model_drain_end(struct model *model, unsigned queue)
{
    for (uint64_t number = model->first_open; number <= model->message_count && !model->trace->failed; number++) {
        struct instance *instance = model_instance(model, number, queue);
        if (!instance)
            continue;
        if (instance->flags & INSTANCE_HELD) {
            instance->generation = model->queues[queue].generation;
            instance->flags |= INSTANCE_MUST;
            continue;
        }
        if ((instance->flags & INSTANCE_MUST) && !model_excuses(model))
            trace_fail(model->trace, "what is confirmed stays", "queue %s: message %lu is lost%s", queue_name(model, queue), (unsigned long)number,
                       model->rotten ? ", and no alarm was raised" : instance->flags & INSTANCE_CONFIRMED ? " though it was confirmed" : "");
        /* Everything has come to rest and it is not there: it never comes again. */
        instance->flags = (instance->flags & (INSTANCE_ROUTED | INSTANCE_SEEN)) | INSTANCE_ENDED | INSTANCE_APPLIED | INSTANCE_SURE;
    }
}

static bool all_over(struct model *model, uint64_t number)
{
    for (unsigned queue = 0; queue < model->plan->queue_count; queue++) {
        const struct instance *instance = model_instance(model, number, queue);
        if (instance && !(instance->flags & INSTANCE_SURE))
            return false;
    }
    return true;
}

/* ---- transactions -------------------------------------------------------------------------------------------------------------------- */

void model_group_begin(struct model *model, unsigned queue)
{
    uint64_t room = model->group_room;
    model->groups = grow(model->groups, model->group_count + 1, &room, sizeof(*model->groups));
    model->group_room = (unsigned)room;
    model->groups[model->group_count++] = (struct model_group){model->member_count, 0, (uint8_t)queue, model->queues[queue].generation, model->epoch};
}

void model_group_add(struct model *model, uint64_t number, bool settles)
{
    struct model_group *group = &model->groups[model->group_count - 1];
    const struct instance *instance = model_instance(model, number, group->queue);
    /* A message that was not on disk may be lost on its own: then nothing is known of its settling. */
    if (settles && !(instance->flags & INSTANCE_CONFIRMED))
        return;
    uint64_t room = model->member_room;
    model->members = grow(model->members, model->member_count + 1, &room, sizeof(*model->members));
    model->member_room = (unsigned)room;
    model->members[model->member_count++] = (struct model_member){number, settles, instance->deliveries};
    group->count++;
}

/* Did the member become true? A publish when it was delivered since, a settle when its message never came again. False in `known`: one that was delivered
 * before a crash and not since may have been settled, or lost with the rest. */
static bool became_true(struct model *model, const struct model_group *group, const struct model_member *member, bool *known)
{
    const struct instance *instance = model_instance(model, member->message, group->queue);
    bool again = instance->deliveries > member->deliveries;
    *known = true;
    if (member->settles)
        return !again;
    if (again || (instance->deliveries > 0 && group->epoch == model->epoch))
        return true;
    *known = instance->deliveries == 0;
    return false;
}

void model_check_groups(struct model *model)
{
    for (unsigned i = 0; i < model->group_count && !model_excuses(model); i++) {
        const struct model_group *group = &model->groups[i];
        unsigned done = 0, of = 0;
        if (group->generation != model->queues[group->queue].generation)
            continue;
        for (unsigned k = 0; k < group->count; k++) {
            bool known, yes = became_true(model, group, &model->members[group->first + k], &known);
            of += known;
            done += known && yes;
        }
        if (done != 0 && done != of)
            trace_fail(model->trace, "transactions", "queue %s: of a transaction's %u effects %u became true (the first concerns message %lu)",
                       queue_name(model, group->queue), of, done, (unsigned long)model->members[group->first].message);
    }
    model->group_count = 0;
    model->member_count = 0;
    while (model->first_open <= model->message_count && all_over(model, model->first_open))
        model->first_open++;
}

#include "bus/drain.h"

#include "base/bugs.h"
#include "base/map.h"
#include "broker/topology_change.h"
#include "protocol/amqp/properties.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define REOPEN_US 5000000u
#define CONSUMER 1u
#define CHANNEL 1u
#define OF_QUEUE 7u                  /* the tag of a change that is the queue's */
#define SECOND_US 1000000u
#define SLOW_MAX_S 86400u
#define BREAKER_MAX_S 60u
#define ASK_AGAIN_US 60000000u       /* a sink that said no, or nothing */
#define MINUTE_US 60000000u
#define BLOCKS_MAX 4096u

static struct drain *drain_of(struct client *client) { return (struct drain *)client; }

/* ---- hooks ------------------------------------------------------------------------------------------------------------ */

static uint64_t key_of(const struct drain *drain, struct bytes content)
{
    const char *order = drain->subscription.order;
    char name[SUBSCRIPTION_ID_MAX + 16];
    struct message message;
    struct bytes headers;
    struct amqp_field field;
    if (!drain->is_valid || !order)
        return 0;
    if (strcmp(order, "*") == 0)
        return 1;
    snprintf(name, sizeof(name), "cloudEvents_%s", order);
    if (!message_read(content, &message) || !amqp_properties_get(message.properties, AMQP_HEADERS, &headers) || !amqp_table_find(headers, name, &field))
        return 0;
    struct bytes value = field.type == 'S' ? field.bytes : bytes_of(&field.integer, sizeof(field.integer));
    return bytes_hash(value, field.type) | 1;
}

static struct hook *hook_new(struct drain *drain, const struct delivery *delivery)
{
    struct hook *hook = calloc(1, sizeof(*hook));
    if (!hook)
        return NULL;
    uint64_t count = delivery->added == DELIVERY_ADDS_RETRY || delivery->added == DELIVERY_ADDS_COUNT ? delivery->added_value & ((1ull << DELIVERY_REASON_SHIFT) - 1) : 0;
    hook->drain = drain;
    hook->chunk = chunk_retain(delivery->chunk);
    hook->content = delivery->content;
    hook->seq = delivery->seq;
    hook->attempt = count + 1;
    hook->key = key_of(drain, delivery->content);
    hook->previous = drain->last;
    if (drain->last)
        drain->last->next = hook;
    else
        drain->first = hook;
    drain->last = hook;
    drain->waiting++;
    return hook;
}

/* What was sent to the queue by its name is meant for it, whatever the filters say. Of events the types are looked at, too: some may have come before these were others. */
static bool is_passed_over(const struct drain *drain, struct bytes content)
{
    const struct subscription *s = &drain->subscription;
    struct message message;
    if (!drain->is_valid || !message_read(content, &message) || !message.exchange.size)
        return false;
    return (bytes_equal(message.exchange, bytes_of_text("events")) && !subscription_has_type(s, message.routing_key)) || (s->selector && !selector_matches(s->selector, &message));
}

/* It is not under way any more, however that ended. */
static void hook_landed(struct hook *hook)
{
    struct endpoint *endpoint = hook->endpoint;
    hook->under_way = false;
    hook->endpoint = NULL;
    hook->drain->under_way--;
    endpoint_end(endpoint, bus_now(hook->drain->bus));
}

/* Its message is settled: the drain may have another one. */
static void hook_over(struct hook *hook, enum settle_kind kind)
{
    struct drain *drain = hook->drain;
    if (hook->under_way)
        hook_landed(hook);
    else
        drain->waiting--;
    client_settle(&drain->client, drain->queue, kind, hook->seq, 1, NULL);
    client_credit(&drain->client, drain->queue, drain->handle, (uint32_t)hook->content.size + DELIVERY_OVERHEAD);
    client_release(&drain->client, hook->chunk);
    if (hook->next)
        hook->next->previous = hook->previous;
    else
        drain->last = hook->previous;
    if (hook->previous)
        hook->previous->next = hook->next;
    else
        drain->first = hook->next;
    free(hook->event);
    free(hook);
}

/* What has not been posted yet, and is not wanted any more. */
static void pass_over_waiting(struct drain *drain)
{
    if (bug_enabled(BUG_HOOK_STALE_FILTER))
        return;
    for (struct hook *hook = drain->first, *next; hook; hook = next) {
        next = hook->next;
        if (hook->under_way || !is_passed_over(drain, hook->content))
            continue;
        drain->passed_over++;
        hook_over(hook, SETTLE_ACK);
    }
}

static void note(struct drain *drain, const struct hook *hook, const struct outgoing_result *result)
{
    if (bug_enabled(BUG_HOOK_LOG_SILENT) && !result->status)
        return;
    if (!drain->attempts && !(drain->attempts = calloc(ATTEMPTS_KEPT, sizeof(*drain->attempts))))
        return;
    struct attempt *attempt = &drain->attempts[drain->attempt_count++ % ATTEMPTS_KEPT];
    *attempt = (struct attempt){.wall_us = worker_wall_at(bus_worker(drain->bus), result->now_us), .duration_us = result->duration_us, .number = (uint32_t)hook->attempt,
                                .status = result->status, .outcome = result->outcome};
    snprintf(attempt->id, sizeof(attempt->id), "%.*s", (int)sizeof(attempt->id) - 1, hook->id);
    snprintf(attempt->why, sizeof(attempt->why), "%.*s", (int)sizeof(attempt->why) - 1, result->why);
}

/* How many may be under way now. */
static unsigned gate(const struct drain *drain, uint64_t now_us)
{
    const struct subscription *s = &drain->subscription;
    if (!drain->is_valid || !drain->consuming || drain->broken || drain->ending || (s->paused && !bug_enabled(BUG_HOOK_PAUSE_IGNORED)) || s->ended)
        return 0;
    if (now_us < drain->slow_until_us || now_us < drain->open_until_us)
        return 0;
    if (s->origin && drain->leave != LEAVE_GIVEN)
        return 0;
    if (bug_enabled(BUG_HOOK_ONE_MORE))
        return drain->window + 1;
    return drain->failures >= BREAKER_FAILURES && !bug_enabled(BUG_HOOK_PROBES_ALL) ? 1 : drain->window < s->concurrency ? drain->window : s->concurrency;
}

static void hook_done(struct outgoing *outgoing, const struct outgoing_result *result);

/* Hands it to the sender. False: there is too little memory. */
static bool hook_begin(struct hook *hook, const struct outgoing_request *request)
{
    struct outgoing_sender *sender = bus_sender(hook->drain->bus, &hook->drain->subscription);
    hook->outgoing.done = hook_done;
    hook->under_way = sender->begin(sender, &hook->outgoing, request);
    return hook->under_way;
}

static bool hook_post(struct hook *hook, const struct message *message, const char *otherwise, uint64_t now_us)
{
    struct drain *drain = hook->drain;
    struct hook_request request;
    /* The worker's last turn may have been long ago, and who gets this looks at its time. */
    uint64_t wall_us = bug_enabled(BUG_HOOK_TIME_OF_LOOK) ? worker_wall_us(bus_worker(drain->bus)) : worker_wall_at(bus_worker(drain->bus), now_us);
    if (!hook_request_init(&request, message, &drain->subscription, otherwise, hook->attempt, wall_us / SECOND_US))
        return false;
    memcpy(hook->id, request.id, sizeof(hook->id));
    bool good = hook_begin(hook, &(struct outgoing_request){.url = drain->subscription.sink, .headers = request.headers, .header_count = request.count, .body = request.body,
                                                            .timeout_ms = drain->subscription.timeout_ms, .attempt = hook->attempt});
    free(hook->event);
    hook->event = request.event;     /* the sender borrows it until it is done */
    request.event = NULL;
    hook_request_deinit(&request);
    return good;
}

static bool hook_forward(struct hook *hook, const struct message *message, const char *otherwise)
{
    struct drain *drain = hook->drain;
    struct forward forward;
    if (!forward_init(&forward, message, drain->subscription.broker, otherwise))
        return false;
    memcpy(hook->id, forward.id, sizeof(hook->id));
    forward.message.name = drain->name;
    bool good = hook_begin(hook, &(struct outgoing_request){.url = drain->subscription.sink, .message = &forward.message, .body = message->body,
                                                            .timeout_ms = drain->subscription.timeout_ms, .attempt = hook->attempt});
    forward_deinit(&forward);
    return good;
}

static bool hook_send(struct hook *hook, uint64_t now_us)
{
    struct drain *drain = hook->drain;
    struct message message;
    char otherwise[64];
    snprintf(otherwise, sizeof(otherwise), "%" PRIx64 "-%" PRIx64, drain->queue, hook->seq);
    hook->sink_version = drain->sink_version;
    if (!message_read(hook->content, &message) || !(drain->subscription.broker ? hook_forward(hook, &message, otherwise) : hook_post(hook, &message, otherwise, now_us)))
        return false;
    drain->waiting--;
    drain->under_way++;
    endpoint_begin(hook->endpoint = drain->endpoint);
    return true;
}

/* Is there one of its key before it? */
static bool has_to_wait(const struct hook *hook)
{
    const struct hook *before = hook->key && !bug_enabled(BUG_HOOK_OVERTAKES) ? hook->previous : NULL;
    while (before && before->key != hook->key)
        before = before->previous;
    return before;
}

static void forget_blocks(struct drain *drain)
{
    uint32_t cursor = 0;
    for (void *block; (block = map_next(&drain->blocks, &cursor));)
        free(block);
    map_deinit(&drain->blocks);
    drain->blocks = (struct map){0};
}

static void block_key(struct drain *drain, uint64_t key, uint64_t seq)
{
    struct block *block = map_get(&drain->blocks, key);
    if (!block) {
        if (drain->blocks.count >= BLOCKS_MAX)
            forget_blocks(drain);   /* what was on its way when they were made has long come */
        block = calloc(1, sizeof(*block));
        if (!block || map_put(&drain->blocks, key, block) != GW_OK) {
            free(block);
            return;
        }
    }
    *block = (struct block){.key = key, .seq = seq};
}

/* Would it overtake what went back? */
static bool is_blocked(struct drain *drain, const struct delivery *delivery)
{
    uint64_t key = drain->blocks.count ? key_of(drain, delivery->content) : 0;
    struct block *block = key ? map_get(&drain->blocks, key) : NULL;
    if (!block)
        return false;
    if (delivery->seq > block->seq && block->count++ < drain->prefetch)
        return true;
    free(map_remove(&drain->blocks, key));
    return false;
}

/* One of the key has gone back, or was given up (then its number does not matter): those behind it go back, too, so that they do not overtake it. */
static void give_back_those_behind(struct drain *drain, uint64_t key, uint64_t seq, bool given_up)
{
    uint64_t lowest = given_up ? UINT64_MAX : seq;
    for (struct hook *hook = drain->first, *next; hook && key; hook = next) {
        next = hook->next;
        if (hook->key != key || hook->under_way)
            continue;
        lowest = hook->seq < lowest ? hook->seq : lowest;
        hook_over(hook, SETTLE_UNDELIVERED);
    }
    if (key && lowest != UINT64_MAX)
        block_key(drain, key, lowest);
}

static void pump(struct drain *drain, uint64_t now_us)
{
    unsigned most = gate(drain, now_us);
    if (bus_has_news(drain->bus)) {   /* an answer may come between a change and the next look at it */
        bus_due(drain, 0);
        return;
    }
    for (struct hook *hook = drain->first; hook && drain->waiting && drain->under_way < most; hook = hook->next) {
        if (hook->under_way || has_to_wait(hook))
            continue;
        if (!endpoint_has_room(drain->endpoint, now_us)) {
            endpoint_wait(drain->endpoint, drain, now_us);
            return;
        }
        if (drain->interval_us && now_us < drain->next_post_us) {
            bus_due(drain, drain->next_post_us);
            return;
        }
        if (!hook_send(hook, now_us)) {
            bus_due(drain, now_us + SECOND_US / 10);   /* memory is short */
            return;
        }
        drain->next_post_us = now_us + drain->interval_us;
    }
}

/* ---- leave to post (CloudEvents' HTTP 1.1 Web Hooks 1.0.2, section 4) -------------------------------------------------------- */

static void refuse_leave(struct drain *drain, const char *why, uint64_t now_us)
{
    drain->leave = LEAVE_REFUSED;
    drain->ask_again_us = now_us + ASK_AGAIN_US;
    snprintf(drain->why, sizeof(drain->why), "%s", why);
    bus_due(drain, drain->ask_again_us);
}

static void asked(struct outgoing *question, const struct outgoing_result *result)
{
    struct drain *drain = (struct drain *)(void *)((char *)question - offsetof(struct drain, question));
    const char *origin = drain->subscription.origin, *allowed = result->found[0], *rate = result->found[1];
    uint64_t now_us = result->now_us;
    if (!origin || result->outcome != OUTGOING_ANSWERED) {
        refuse_leave(drain, result->why, now_us);
    } else if (result->status < 200 || result->status >= 300 || !allowed || (strcmp(allowed, "*") != 0 && strcmp(allowed, origin) != 0)) {
        refuse_leave(drain, "The sink does not allow the origin to post to it (WebHook-Allowed-Origin).", now_us);
    } else {
        unsigned long most = rate && strcmp(rate, "*") != 0 ? strtoul(rate, NULL, 10) : 0;
        drain->leave = LEAVE_GIVEN;
        drain->interval_us = most && most < MINUTE_US ? MINUTE_US / most : 0;
        drain->why[0] = 0;
        pump(drain, now_us);
    }
}

static void ask_leave(struct drain *drain, uint64_t now_us)
{
    static const char *const wanted[OUTGOING_ASKED_MAX] = {"webhook-allowed-origin", "webhook-allowed-rate"};
    const struct subscription *s = &drain->subscription;
    struct outgoing_sender *sender = bus_sender(drain->bus, s);
    char origin[URL_HOST_MAX + 32];
    const char *const headers[] = {origin, "user-agent: Godwit/" GODWIT_VERSION};
    if (!s->origin || s->paused || s->ended || drain->leave == LEAVE_GIVEN || drain->leave == LEAVE_ASKED || (drain->leave == LEAVE_REFUSED && now_us < drain->ask_again_us))
        return;
    snprintf(origin, sizeof(origin), "webhook-request-origin: %s", s->origin);
    drain->question.done = asked;
    const struct outgoing_request request = {.url = s->sink, .method = "OPTIONS", .asked = wanted, .headers = headers, .header_count = 2, .timeout_ms = s->timeout_ms};
    if (sender->begin(sender, &drain->question, &request))
        drain->leave = LEAVE_ASKED;
    else
        bus_due(drain, now_us + SECOND_US / 10);
}

/* Whatever it was told does not count any more. */
static void forget_leave(struct drain *drain)
{
    struct outgoing_sender *sender = bus_sender(drain->bus, &drain->subscription);
    if (drain->leave == LEAVE_ASKED)
        sender->cancel(sender, &drain->question);
    drain->leave = LEAVE_UNASKED;
    drain->interval_us = drain->next_post_us = drain->ask_again_us = 0;
}

/* ---- what became of it -------------------------------------------------------------------------------------------------- */

static void went_well(struct drain *drain)
{
    drain->delivered++;
    drain->failures = 0;
    drain->opened = 0;
    if (drain->window < drain->subscription.concurrency && ++drain->successes >= drain->window) {
        drain->window++;
        drain->successes = 0;
    }
}

static void went_wrong(struct drain *drain, uint64_t now_us)
{
    drain->refused++;
    if (++drain->failures < BREAKER_FAILURES)
        return;
    uint64_t wait_s = drain->opened < 6 ? 1ull << drain->opened : BREAKER_MAX_S;
    if (now_us < drain->open_until_us)
        return;   /* one of those that were under way when it opened */
    drain->opened++;
    drain->open_until_us = now_us + wait_s * SECOND_US / (bug_enabled(BUG_HOOK_BREAKER_SHORT) ? 2 : 1);
    bus_due(drain, drain->open_until_us);
}

static void slow_down(struct drain *drain, const struct outgoing_result *result, uint64_t now_us)
{
    uint64_t wait_s = result->retry_after_s == OUTGOING_NO_TIME ? 1 : result->retry_after_s < SLOW_MAX_S ? result->retry_after_s : SLOW_MAX_S;
    uint64_t until_us = now_us + (wait_s ? wait_s * SECOND_US : SECOND_US / 10) / (bug_enabled(BUG_HOOK_SLOW_EARLY) ? 2 : 1);
    if (until_us > drain->slow_until_us)
        drain->slow_until_us = until_us;
    drain->window = drain->window > 1 ? drain->window / 2 : 1;
    drain->successes = 0;
    bus_due(drain, drain->slow_until_us);
}

/* The sink wants no more: everybody may read why, and once that is so its queue gets no more events. Unless somebody has changed the subscription meanwhile: then the sink is asked
 * once more. */
static void end(struct drain *drain)
{
    const struct subscription *s = &drain->subscription;
    json_t *root = drain->ending ? NULL : json_copy(s->root);
    if (!root || json_object_set_new(root, "ended", json_string("The sink answered 410 Gone."))) {
        json_decref(root);
        return;
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (!text)
        return;
    drain->ending = bug_enabled(BUG_HOOK_GONE_ONE_MORE) ? ENDING_NOT : ENDING_SAID;
    const struct topology_change change = {.kind = CHANGE_PARAMETER_PUT, .flags = bug_enabled(BUG_HOOK_GONE_UNDOES) ? 0 : TOPOLOGY_IF_SAME, .name = bytes_of_text(s->id),
                                           .source = bytes_of_text(SUBSCRIPTION_COMPONENT), .arguments = bytes_of_text(text), .secret = drain->value};
    client_request(&drain->client, &(struct request){.kind = REQUEST_CHANGE, .flags = REQUEST_TRUSTED, .channel = CHANNEL, .change = &change});
    free(text);
}

/* The sink has the event. */
static bool is_taken(const struct outgoing_result *result)
{
    return (result->status >= 200 && result->status < (bug_enabled(BUG_HOOK_RETURNED_DONE) ? 313 : 300)) || (bug_enabled(BUG_HOOK_HANG_DONE) && result->outcome == OUTGOING_TIMED_OUT);
}

/* The sink says that it is not to be blamed: it has had enough for now, or for good. */
static bool is_put_off(const struct outgoing_result *result)
{
    return result->status == 429 || result->status == 410 || (result->outcome == OUTGOING_BUSY && !bug_enabled(BUG_HOOK_BUSY_COUNTS)) ||
           (result->status == 503 && result->retry_after_s != OUTGOING_NO_TIME);
}

static void hook_done(struct outgoing *outgoing, const struct outgoing_result *result)
{
    struct hook *hook = (struct hook *)outgoing;
    struct drain *drain = hook->drain;
    uint64_t now_us = bug_enabled(BUG_HOOK_TIME_OF_LOOK) ? bus_now(drain->bus) : result->now_us;
    note(drain, hook, result);
    endpoint_learn(hook->endpoint, result, now_us);
    if (is_taken(result)) {
        if (hook->sink_version == drain->sink_version)
            went_well(drain);
        else
            drain->delivered++;
        hook_over(hook, SETTLE_ACK);
    } else if (is_put_off(result)) {
        hook_landed(hook);
        drain->waiting++;
        if (hook->sink_version != drain->sink_version)
            ;   /* that was said by a sink which is none any more: the one that is is asked at once */
        else if (result->status == 410)
            end(drain);
        else
            slow_down(drain, result, now_us);
        pass_over_waiting(drain);   /* while it was under way the subscription may have become another one */
    } else {
        uint64_t key = hook->key, seq = hook->seq;
        bool given_up = hook->attempt >= drain->subscription.attempts;
        if (hook->sink_version == drain->sink_version)
            went_wrong(drain, now_us);
        else
            drain->refused++;
        hook_over(hook, bug_enabled(BUG_HOOK_UNCOUNTED) ? SETTLE_UNDELIVERED : SETTLE_REQUEUE);
        give_back_those_behind(drain, key, seq, given_up);
    }
    pump(drain, now_us);
}

/* ---- bindings ------------------------------------------------------------------------------------------------------------ */

/* As the subscription has it, whatever was done before: who made or changed it may have been interrupted; one that has ended gets no more. With its owner's permissions. */
static void bind_queue(struct drain *drain)
{
    const struct subscription *s = &drain->subscription;
    char queue[SUBSCRIPTION_QUEUE_MAX];
    drain->unbound = false;
    drain->bind_again_us = DRAIN_NEVER;
    subscription_queue(s->id, false, queue);
    for (unsigned i = 0; i < s->type_count; i++)
        client_request(&drain->client, &(struct request){.kind = s->ended ? REQUEST_QUEUE_UNBIND : REQUEST_QUEUE_BIND, .flags = s->ended ? REQUEST_TRUSTED : 0, .channel = CHANNEL,
                                                         .name = bytes_of_text(queue), .source = bytes_of_text("events"), .routing_key = bytes_of_text(s->types[i])});
}

/* Of a subscription that was changed, the queue is to do as it says now. There is one who sees to that, so that of two changes the last one counts. */
static void govern_queue(struct drain *drain)
{
    const struct subscription *s = &drain->subscription;
    char queue[SUBSCRIPTION_QUEUE_MAX];
    uint8_t room[SUBSCRIPTION_ARGUMENTS_SIZE];
    struct bytes now, wanted = subscription_arguments(s, room);
    subscription_queue(s->id, false, queue);
    if (!s->governs || !worker_queue_arguments(bus_worker(drain->bus), drain->vhost, bytes_of_text(queue), &now) || bytes_equal(now, wanted))
        return;
    const struct topology_change change = {.kind = CHANGE_QUEUE_ARGUMENTS, .name = bytes_of_text(queue), .arguments = wanted};
    client_request(&drain->client, &(struct request){.kind = REQUEST_CHANGE, .flags = REQUEST_TRUSTED, .channel = CHANNEL, .tag = OF_QUEUE, .change = &change});
}

/* There may be no bus yet, and what was sent to the queue itself can be posted. */
static void not_bound(struct drain *drain, struct bytes why)
{
    drain->unbound = true;
    drain->bind_again_us = bus_now(drain->bus) + REOPEN_US;
    if (!drain->why[0])
        snprintf(drain->why, sizeof(drain->why), "%.*s", (int)(why.size < sizeof(drain->why) ? why.size : sizeof(drain->why) - 1), (const char *)why.data);
    bus_due(drain, drain->bind_again_us);
}

/* ---- what the broker says ------------------------------------------------------------------------------------------------ */

static void break_off(struct drain *drain, struct bytes why)
{
    snprintf(drain->why, sizeof(drain->why), "%.*s", (int)(why.size < sizeof(drain->why) ? why.size : sizeof(drain->why) - 1), (const char *)why.data);
    drain->broken = true;
    bus_due(drain, 0);
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct drain *drain = drain_of(client);
    char queue[SUBSCRIPTION_QUEUE_MAX];
    if (reply->kind == REQUEST_CHANGE && reply->tag == OF_QUEUE)
        return;
    if (reply->kind == REQUEST_CHANGE) {
        /* By now the subscription itself says so, as the next tick reads; or it could not be said, and is said again when the next event is answered like that. */
        drain->ending = ENDING_KEPT;
        bus_due(drain, 0);
        return;
    }
    if (reply->kind == REQUEST_QUEUE_BIND || reply->kind == REQUEST_QUEUE_UNBIND) {
        if (reply->kind == REQUEST_QUEUE_BIND && reply->code)
            not_bound(drain, reply->text);
        return;
    }
    if (reply->code) {
        break_off(drain, reply->text);
    } else if (reply->kind == REQUEST_OPEN) {
        drain->is_open = true;
        govern_queue(drain);
        if (!bug_enabled(BUG_HOOK_UNBOUND))
            bind_queue(drain);
        subscription_queue(drain->subscription.id, false, queue);
        client_request(client, &(struct request){.kind = REQUEST_CONSUME, .channel = CHANNEL, .tag = CONSUMER, .name = bytes_of_text(queue), .prefetch = drain->prefetch});
    } else if (reply->kind == REQUEST_CONSUME) {
        drain->queue = reply->queue;
        drain->handle = reply->handle;
        drain->consuming = true;
        if (drain->leave != LEAVE_REFUSED && !drain->unbound)
            drain->why[0] = 0;
    }
}


static void on_delivered(struct client *client, const struct delivery *delivery)
{
    struct drain *drain = drain_of(client);
    /* The first ones may come with the answer to the request. */
    drain->queue = delivery->queue;
    drain->handle = delivery->handle;
    drain->consuming = true;
    if (is_blocked(drain, delivery)) {
        client_settle(client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
        client_credit(client, delivery->queue, delivery->handle, (uint32_t)delivery->content.size + DELIVERY_OVERHEAD);
        return;
    }
    if (is_passed_over(drain, delivery->content)) {
        drain->passed_over++;
        client_settle(client, delivery->queue, SETTLE_ACK, delivery->seq, 1, NULL);
        client_credit(client, delivery->queue, delivery->handle, (uint32_t)delivery->content.size + DELIVERY_OVERHEAD);
        return;
    }
    if (drain->broken || !hook_new(drain, delivery)) {
        client_settle(client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
        break_off(drain, bytes_of_text("There is too little memory."));
        return;
    }
    bus_due(drain, 0);
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer)
{
    (void)channel, (void)consumer;
    break_off(drain_of(client), bytes_of_text("The subscription's queue was deleted."));
}

static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    (void)code;
    break_off(drain_of(client), text);
}

static const struct client_ops ops = {.deliver = on_delivered, .replied = on_replied, .cancelled = on_cancelled, .closed = on_closed};

/* ---- opening and closing ------------------------------------------------------------------------------------------------- */

static void open_drain(struct drain *drain)
{
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes facts;
    const struct subscription *s = &drain->subscription;
    drain->broken = false;
    drain->ending = ENDING_NOT;
    if (client_attach(bus_worker(drain->bus), &drain->client, &ops) != GW_OK) {
        break_off(drain, bytes_of_text("There are too many connections."));
        return;
    }
    drain->attached = true;
    drain->window = s->concurrency;
    drain->prefetch = s->concurrency + bug_enabled(BUG_HOOK_ONE_MORE);
    snprintf(drain->name, sizeof(drain->name), "%s %s", s->broker ? "shovel" : "webhook", s->id);
    drain->client.user = bytes_of_text(s->owner);
    drain->client.name = bytes_of_text(drain->name);
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "name", drain->client.name);
    amqp_table_put_text(&writer, "protocol", bytes_of_text(s->broker ? "shovel" : "webhook"));
    if (!amqp_table_finish(&writer, &facts))
        facts = (struct bytes){0};
    client_request(&drain->client, &(struct request){.kind = REQUEST_OPEN, .name = drain->vhost, .source = drain->client.user, .arguments = facts});
}

static void close_drain(struct drain *drain)
{
    forget_leave(drain);
    forget_blocks(drain);
    struct outgoing_sender *sender = bus_sender(drain->bus, &drain->subscription);
    for (struct hook *hook; (hook = drain->first);) {
        if (hook->under_way)
            sender->cancel(sender, &hook->outgoing);
        hook_over(hook, SETTLE_UNDELIVERED);
    }
    if (drain->attached)
        client_detach(&drain->client);
    drain->attached = drain->is_open = drain->consuming = drain->broken = drain->unbound = false;
    drain->bind_again_us = DRAIN_NEVER;
}

struct drain *drain_new(struct bus *bus, struct bytes vhost, struct bytes id)
{
    struct drain *drain = calloc(1, sizeof(*drain));
    if (!drain || !(drain->texts = malloc(vhost.size + 1 + id.size))) {
        free(drain);
        return NULL;
    }
    memcpy(drain->texts, vhost.data, vhost.size);
    drain->texts[vhost.size] = 0;
    memcpy(drain->texts + vhost.size + 1, id.data, id.size);
    drain->bus = bus;
    drain->due_us = drain->bind_again_us = DRAIN_NEVER;
    drain->key = bytes_of(drain->texts, vhost.size + 1 + id.size);
    drain->vhost = bytes_of(drain->texts, vhost.size);
    drain->id = bytes_of(drain->texts + vhost.size + 1, id.size);
    return drain;
}

void drain_free(struct drain *drain)
{
    close_drain(drain);
    endpoint_unwait(drain->endpoint, drain);
    endpoint_pass_on(drain->endpoint, bus_now(drain->bus));
    endpoint_leave(drain->endpoint);
    if (drain->is_valid)
        subscription_deinit(&drain->subscription);
    free((void *)(uintptr_t)drain->value.data);
    free(drain->attempts);
    free(drain->texts);
    free(drain);
}

/* Whoever changes the subscription may know that its sink is well again. */
static void take_endpoint(struct drain *drain)
{
    struct endpoint *before = drain->endpoint;
    endpoint_unwait(before, drain);
    drain->endpoint = drain->is_valid ? endpoint_take(bus_endpoints(drain->bus), &drain->subscription.url, drain->subscription.broker) : NULL;
    endpoint_leave(before);
    endpoint_try(drain->endpoint);
}

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

bool drain_follow(struct drain *drain, struct bytes value)
{
    if (drain->value.data && bytes_equal(drain->value, value))
        return false;
    uint8_t *copy = malloc(value.size + 1);
    json_t *root = copy ? json_loadb((const char *)value.data, value.size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    struct subscription next;
    char why[SUBSCRIPTION_WHY_MAX] = "The parameter is no JSON, or there is too little memory.";
    bool valid = root && subscription_read(&next, root, why);
    if (valid && !bytes_equal(bytes_of_text(next.id), drain->id)) {
        subscription_deinit(&next);
        snprintf(why, sizeof(why), "The subscription's id is not the parameter's name.");
        valid = false;
    }
    json_decref(root);
    /* What is under way was sent by the old one's sender. */
    bool same = valid && drain->is_valid && strcmp(next.owner, drain->subscription.owner) == 0 && next.concurrency == drain->subscription.concurrency && next.local == drain->subscription.local &&
                !next.broker == !drain->subscription.broker && same_text(next.order, drain->subscription.order);
    if (!same)
        close_drain(drain);
    else if ((strcmp(next.sink, drain->subscription.sink) != 0 && !bug_enabled(BUG_HOOK_LEAVE_KEPT)) || !next.origin || !drain->subscription.origin ||
             strcmp(next.origin, drain->subscription.origin) != 0)
        forget_leave(drain);
    if (!valid || !drain->is_valid || strcmp(next.sink, drain->subscription.sink) != 0)
        drain->sink_version++;
    if (drain->is_valid)
        subscription_deinit(&drain->subscription);
    free((void *)(uintptr_t)drain->value.data);
    drain->value = copy ? bytes_of(memcpy(copy, value.data, value.size), value.size) : (struct bytes){0};
    drain->is_valid = valid;
    drain->why[0] = 0;
    if (valid)
        drain->subscription = next;
    else
        snprintf(drain->why, sizeof(drain->why), "%s", why);
    if (same) {
        drain->client.user = bytes_of_text(drain->subscription.owner);
        pass_over_waiting(drain);
        if (drain->is_open) {
            govern_queue(drain);
            bind_queue(drain);
        }
    }
    drain->retry_us = drain->open_until_us = drain->slow_until_us = 0;
    drain->failures = 0;
    take_endpoint(drain);
    return true;
}

uint64_t drain_tick(struct drain *drain, uint64_t now_us)
{
    if (drain->broken) {
        close_drain(drain);
        drain->retry_us = now_us + REOPEN_US;
    }
    if (!drain->is_valid)
        return DRAIN_NEVER;
    if (!drain->attached) {
        if (now_us < drain->retry_us)
            return drain->retry_us;
        open_drain(drain);
        if (!drain->attached) {
            drain->broken = false;
            return drain->retry_us = now_us + REOPEN_US;
        }
    }
    if (drain->ending == ENDING_KEPT)
        drain->ending = ENDING_NOT;
    if (drain->unbound && now_us >= drain->bind_again_us) {
        drain->why[0] = 0;
        bind_queue(drain);
    }
    ask_leave(drain, now_us);
    pump(drain, now_us);
    endpoint_pass_on(drain->endpoint, now_us);
    uint64_t due_us = drain->slow_until_us > drain->open_until_us ? drain->slow_until_us : drain->open_until_us;
    if (drain->leave == LEAVE_REFUSED && drain->ask_again_us > due_us)
        due_us = drain->ask_again_us;
    if (drain->waiting && drain->next_post_us > due_us)
        due_us = drain->next_post_us;
    due_us = due_us > now_us ? due_us : DRAIN_NEVER;
    return due_us < drain->bind_again_us ? due_us : drain->bind_again_us;
}

/* ---- what there is to say ------------------------------------------------------------------------------------------------- */

static const char *state_of(const struct drain *drain, uint64_t now_us)
{
    const struct subscription *s = &drain->subscription;
    if (!drain->is_valid)
        return "invalid";
    if (s->ended)
        return "ended";
    if (!drain->consuming)
        return drain->why[0] ? "failed" : "starting";
    if (s->paused)
        return "paused";
    if (s->origin && drain->leave != LEAVE_GIVEN)
        return drain->leave == LEAVE_REFUSED ? "not allowed" : "starting";
    if (now_us < drain->slow_until_us)
        return "slowed";
    bool is_away = drain->endpoint && drain->endpoint->failures >= ENDPOINT_FAILURES;
    return drain->failures >= BREAKER_FAILURES || is_away ? "unreachable" : drain->failures ? "failing" : "active";
}

static const char *outcome_name(enum outgoing_outcome outcome)
{
    static const char *const names[OUTGOING_OUTCOMES] = {"answered", "forbidden", "unresolved", "unreachable", "timed out", "broken", "untrusted", "refused", "busy"};
    return names[outcome];
}

static json_t *attempt_json(const struct attempt *attempt)
{
    json_t *made = json_pack("{s:s, s:I, s:I, s:I, s:s}", "event", attempt->id, "attempt", (json_int_t)attempt->number, "time_ms", (json_int_t)(attempt->wall_us / 1000),
                             "duration_us", (json_int_t)attempt->duration_us, "outcome", outcome_name(attempt->outcome));
    if (made && attempt->status)
        json_object_set_new(made, "status", json_integer(attempt->status));
    if (made && attempt->why[0])
        json_object_set_new(made, "why", json_string(attempt->why));
    return made;
}

static json_t *endpoint_json(const struct endpoint *endpoint, uint64_t now_us)
{
    json_t *made = json_pack("{s:s, s:i, s:i}", "url", endpoint->name, "under_way", (int)endpoint->under_way, "failures", (int)endpoint->failures);
    if (endpoint_is_open(endpoint, now_us))
        json_object_set_new(made, "again_in_ms", json_integer((json_int_t)((endpoint->open_until_us - now_us) / 1000)));
    return made;
}

char *drain_describe(const struct drain *drain, bool attempts, uint64_t now_us)
{
    json_t *root = json_pack("{s:s, s:I, s:I, s:I, s:i, s:i}", "state", state_of(drain, now_us), "delivered", (json_int_t)drain->delivered, "refused",
                             (json_int_t)drain->refused, "passed_over", (json_int_t)drain->passed_over, "under_way", (int)drain->under_way, "waiting", (int)drain->waiting);
    if (!root)
        return NULL;
    if (drain->why[0])
        json_object_set_new(root, "why", json_string(drain->why));
    if (drain->endpoint)
        json_object_set_new(root, "endpoint", endpoint_json(drain->endpoint, now_us));
    uint64_t kept = drain->attempt_count < ATTEMPTS_KEPT ? drain->attempt_count : ATTEMPTS_KEPT;
    if (kept)
        json_object_set_new(root, "last", attempt_json(&drain->attempts[(drain->attempt_count - 1) % ATTEMPTS_KEPT]));
    if (attempts) {
        json_t *list = json_array();
        for (uint64_t i = 0; i < kept; i++)
            json_array_append_new(list, attempt_json(&drain->attempts[(drain->attempt_count - 1 - i) % ATTEMPTS_KEPT]));
        json_object_set_new(root, "attempts", list);
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    return text;
}

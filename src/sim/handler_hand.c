#include "sim/handler_hand.h"

#include "sim/grown.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BODY_MAX 3000u
#define NUMBER_SIZE 8u               /* a body begins with so many digits */
#define HELD_MAX 60u
#define GRAVES "graves"

static const char *const keys[HANDLER_KEYS] = {"k0", "k1", "k2", "k3"};

void handler_program_init(struct handler_program *program, const struct handler_plan *plan, struct handler_model *model, struct random *random, struct trace *trace)
{
    *program = (struct handler_program){.plan = plan, .model = model, .random = random, .trace = trace};
    for (unsigned i = 0; i < HANDLERS_MAX; i++)
        program->hands[i] = (struct hand){.program = program, .index = i};
}

static void forget_requests(struct handler_program *program)
{
    for (struct handler_request *request; (request = program->requests);) {
        program->requests = request->next;
        free(request);
    }
}

void handler_program_deinit(struct handler_program *program)
{
    forget_requests(program);
    free(program->held);
}

/* May something be refused? */
static bool is_excused(struct handler_program *program, int result)
{
    bool is_short = program->is_short || program->trace->now_us < program->short_until_us;
    program->has_failed |= is_short && result == GW_E_STORAGE;
    return program->has_failed || program->model->is_dead || sim_disk_stopped(program->loop.disk) || result == GW_E_AGAIN || (result == GW_E_FULL && is_short) ||
           ((result == GW_E_MEMORY || result == GW_E_REFUSED) && program->lacks_memory);
}

/* ---- bodies ------------------------------------------------------------------------------------------------------------------------ */

static size_t body_size(unsigned number) { return NUMBER_SIZE + (size_t)(random_mix(number) % (number % 16 ? 40 : BODY_MAX)); }

static size_t make_body(unsigned number, char body[NUMBER_SIZE + BODY_MAX])
{
    size_t size = body_size(number);
    char digits[NUMBER_SIZE + 1];
    snprintf(digits, sizeof(digits), "%08u", number);
    memcpy(body, digits, NUMBER_SIZE);
    for (size_t i = NUMBER_SIZE; i < size; i++)
        body[i] = (char)('a' + (number * 7 + i) % 26);
    return size;
}

/* The number of an event whose body is as it was published; otherwise one that there is not. */
static unsigned number_of(gw_event *event)
{
    char body[NUMBER_SIZE + BODY_MAX], digits[NUMBER_SIZE + 1] = "";
    if (gw_event_size(event) < NUMBER_SIZE)
        return UINT32_MAX;
    memcpy(digits, gw_event_data(event), NUMBER_SIZE);
    unsigned number = (unsigned)strtoul(digits, NULL, 10);
    size_t size = make_body(number, body);
    return size == gw_event_size(event) && memcmp(body, gw_event_data(event), size) == 0 ? number : UINT32_MAX;
}

/* ---- events that are late ------------------------------------------------------------------------------------------------------------ */

static void look_for_late(struct handler_program *program)
{
    for (unsigned i = 0; i < program->held_count && !program->model->is_dead; i++) {
        struct held_event *held = &program->held[i];
        if (held->is_late || !sim_loop_is_back(held->event))
            continue;
        held->is_late = true;
        if (sim_loop_is_late(&program->loop, held->event))
            handler_was_late(program->model, held->handler, held->number);
        else
            handler_given_back(program->model, held->handler, held->number);
    }
}

/* After a turn nothing is in hand whose time was over before it. */
static void check_late(struct handler_program *program)
{
    for (unsigned i = 0; i < program->held_count && !program->model->is_dead; i++) {
        const struct held_event *held = &program->held[i];
        uint64_t timeout_ms = program->plan->list[held->handler].timeout_ms;
        uint64_t given_us = program->model->sent[held->number].copies[held->handler].given_us;
        if (!held->is_late && timeout_ms && given_us + timeout_ms * 1000 < program->loop.loop.now_us)
            trace_fail(program->trace, "timeouts", "event %u is in the hands of handler %u %" PRIu64 " us after it got it", held->number, held->handler, program->trace->now_us - given_us);
    }
}

/* ---- answers --------------------------------------------------------------------------------------------------------------------------- */

enum answer { ANSWER_ACK, ANSWER_REPLY, ANSWER_RETRY, ANSWER_RETRY_AFTER, ANSWER_REJECT, ANSWER_LATER, ANSWER_NEVER };

static enum answer think(struct handler_program *program, unsigned handler, unsigned number, bool again)
{
    const struct handler_terms *terms = &program->plan->list[handler];
    unsigned left = (unsigned)random_below(program->random, HANDLER_HABITS);
    const unsigned habits[] = {
        [ANSWER_REPLY] = program->model->sent[number].is_request ? terms->reply : 0, [ANSWER_RETRY] = terms->retry, [ANSWER_RETRY_AFTER] = terms->retry_after,
        [ANSWER_REJECT] = terms->reject, [ANSWER_LATER] = again ? 0 : terms->later, [ANSWER_NEVER] = again ? 0 : terms->never};
    for (unsigned answer = ANSWER_REPLY; answer <= ANSWER_NEVER && !program->calm; answer++) {
        if (left < habits[answer])
            return (enum answer)answer;
        left -= habits[answer];
    }
    return ANSWER_ACK;
}

/* The reply says whose it is, and by whom. */
static void reply(struct handler_program *program, unsigned handler, unsigned number, gw_event *event)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%u from %u", number, handler);
    int result = gw_event_reply(event, text, (size_t)size);
    CHECK(result == GW_DONE || result == GW_E_TIMEOUT);
    for (struct handler_request *request = program->requests; request; request = request->next)
        if (request->number == number)
            request->is_replied = true;
}

/* The event is told what becomes of it, and so is the model unless the event is late: then it is of no effect. */
static void say(struct handler_program *program, unsigned handler, unsigned number, gw_event *event, enum answer answer)
{
    const struct handler_terms *terms = &program->plan->list[handler];
    bool counts = !sim_loop_is_back(event);
    uint32_t attempt = gw_event_attempt(event);
    uint64_t after_ms = answer == ANSWER_RETRY_AFTER ? random_size(program->random, program->plan->delay_ms) : handler_terms_delay_ms(terms, attempt);
    program->acts++;
    trace_event(program->trace, TRACE_HANDLER_SAYS, handler, number, answer, after_ms);
    switch (answer) {
    case ANSWER_REPLY: reply(program, handler, number, event); break;
    case ANSWER_RETRY: gw_event_retry(event); break;
    case ANSWER_RETRY_AFTER: gw_event_retry_after(event, after_ms); break;
    case ANSWER_REJECT: gw_event_reject(event); break;
    default: gw_event_ack(event);
    }
    if (!counts)
        return;
    if (answer == ANSWER_RETRY || answer == ANSWER_RETRY_AFTER)
        handler_failed(program->model, handler, number, after_ms);
    else if (answer == ANSWER_REJECT)
        handler_rejected(program->model, handler, number);
    else
        handler_acked(program->model, handler, number);
}

static void keep(struct handler_program *program, unsigned handler, unsigned number, gw_event *event, bool is_never)
{
    program->held = grown(program->held, program->held_count, &program->held_room, sizeof(*program->held));
    program->held[program->held_count++] = (struct held_event){.event = event, .handler = handler, .number = number, .is_never = is_never};
}

bool handler_program_answer(struct handler_program *program)
{
    look_for_late(program);
    if (!program->held_count)
        return false;
    unsigned at = (unsigned)random_below(program->random, program->held_count);
    struct held_event held = program->held[at];
    if (held.is_never && !held.is_late && !program->calm)
        return false;
    program->held[at] = program->held[--program->held_count];
    say(program, held.handler, held.number, held.event, think(program, held.handler, held.number, true));
    return true;
}

unsigned handler_program_held(const struct handler_program *program) { return program->held_count; }

/* ---- what is called ------------------------------------------------------------------------------------------------------------------- */

static void on_event(gw_event *event, void *context)
{
    struct hand *hand = context;
    struct handler_program *program = hand->program;
    unsigned number = number_of(event);
    look_for_late(program);
    program->acts++;
    if (!handler_called(program->model, hand->index, number, gw_event_attempt(event), gw_event_redelivered(event)))
        return;
    const struct sent *sent = &program->model->sent[number];
    const char *type = gw_event_type(event), *key = gw_event_key(event);
    bool is_known = !program->lacks_memory || (type && (key || sent->key == HANDLER_KEYS));   /* without memory for a text there is none */
    if (is_known && (strcmp(type, handler_types[sent->type]) != 0 || (sent->key < HANDLER_KEYS ? !key || strcmp(key, keys[sent->key]) != 0 : key != NULL)))
        trace_fail(program->trace, "same event", "event %u comes with the type %s and the key %s", number, type, key ? key : "none");
    enum answer answer = think(program, hand->index, number, program->held_count >= HELD_MAX);
    if (answer >= ANSWER_LATER)
        keep(program, hand->index, number, event, answer == ANSWER_NEVER);
    else
        say(program, hand->index, number, event, answer);
    if (program->is_running && program->bus && !program->calm && random_chance(program->random, 1, 30))
        handler_program_publish(program);
}

/* Of a queue of dead letters. */
static void on_grave(gw_event *event, void *context)
{
    struct hand *hand = context;
    hand->program->acts++;
    handler_buried(hand->program->model, hand->index, number_of(event), gw_event_redelivered(event));
    gw_event_ack(event);
}

/* Dead letters with a type of their own say by it whose they are. */
static void on_letter(gw_event *event, void *context)
{
    struct handler_program *program = context;
    char letter[16] = "";
    program->acts++;
    const char *key = gw_event_header(event, "x-first-death-queue");
    for (unsigned i = 0; i < program->plan->count; i++)
        if (key && strcmp(key, program->plan->list[i].name) == 0)
            snprintf(letter, sizeof(letter), "%s", program->plan->list[i].letter);
    if (letter[0])
        handler_buried(program->model, (unsigned)(letter[5] - '0'), number_of(event), gw_event_redelivered(event));
    else if (!program->model->is_dead && !program->lacks_memory)
        trace_fail(program->trace, "dead letters", "one does not say whose it is");
    if (!letter[0] && program->lacks_memory)
        gw_event_retry(event);
    else
        gw_event_ack(event);
}

static void on_told(void *context, int result)
{
    struct handler_ticket *ticket = context;
    struct handler_program *program = ticket->program;
    program->acts++;
    trace_event(program->trace, TRACE_EVENT_TOLD, ticket->number, (uint64_t)-result, 0, 0);
    if (!program->model->is_dead && ticket->number < program->next_told)
        trace_fail(program->trace, "told in order", "the publisher of event %u is told after that of event %u", ticket->number, program->next_told - 1);
    program->next_told = ticket->number + 1;
    if (result != GW_DONE && !(result == GW_E_FULL && ticket->is_short) && !is_excused(program, result))
        trace_fail(program->trace, "no error unasked", "the publisher of event %u is told: %s", ticket->number, gw_result_text(result));
    handler_told(program->model, ticket->number, result == GW_DONE);
    free(ticket);
}

static void on_notice(void *context, int level, const char *sentence) { trace_note(((struct handler_program *)context)->trace, "notice %d: %s", level, sentence); }

/* ---- what the program does -------------------------------------------------------------------------------------------------------------- */

void handler_program_publish(struct handler_program *program)
{
    const struct handler_plan *plan = program->plan;
    struct random *random = program->random;
    char body[NUMBER_SIZE + BODY_MAX];
    unsigned type = (unsigned)random_below(random, HANDLER_TYPES), key = random_below(random, 16) < plan->keyed ? (unsigned)random_below(random, HANDLER_KEYS) : HANDLER_KEYS;
    bool transient = random_below(random, 16) < plan->transient, waits = random_below(random, 256) < plan->waited;
    uint64_t delay_ms = !transient && random_below(random, 16) < plan->delayed ? random_size(random, plan->delay_ms) : 0;
    const gw_publish_options options = {.key = key < HANDLER_KEYS ? keys[key] : NULL, .transient = transient, .delay_ms = delay_ms};
    unsigned number = handler_published(program->model, type, key, !transient, delay_ms);
    size_t size = make_body(number, body);
    int result;
    if (waits) {
        result = gw_publish_wait(program->bus, handler_types[type], body, size, &options, -1);
        if (result == GW_DONE)
            handler_told(program->model, number, true);
    } else {
        struct handler_ticket *ticket = malloc(sizeof(*ticket));
        CHECK(ticket);
        *ticket = (struct handler_ticket){program, number, program->is_short};
        result = gw_publish(program->bus, handler_types[type], body, size, &options, on_told, ticket);
        if (result != GW_DONE)
            free(ticket);
    }
    program->acts++;
    trace_event(program->trace, TRACE_EVENT_PUBLISHED, number, type, (uint64_t)-result, key);
    if (result == GW_DONE)
        return;
    /* Of one that was waited for it is known that it was refused, not that it is nowhere. */
    if (waits)
        handler_told(program->model, number, false);
    else
        handler_unpublished(program->model, number);
    if (!is_excused(program, result))
        trace_fail(program->trace, "no error unasked", "event %u is not published: %s", number, gw_error(&program->loop.loop));
}

static void on_reply(void *context, int result, const void *data, size_t size)
{
    struct handler_request *request = context;
    struct handler_program *program = request->program;
    char text[32];
    int begin = snprintf(text, sizeof(text), "%u from ", request->number);
    program->acts++;
    trace_event(program->trace, TRACE_REPLIED, request->number, (uint64_t)-result, size, 0);
    if (program->model->is_dead)
        result = GW_E_CLOSED;
    if (result == GW_DONE && (!request->is_replied || size <= (size_t)begin || memcmp(text, data, (size_t)begin) != 0))
        trace_fail(program->trace, "replies", "request %u is told a reply that is none of its", request->number);
    else if (result == GW_E_TIMEOUT && program->trace->now_us < request->due_us)
        trace_fail(program->trace, "replies", "request %u times out too early", request->number);
    else if (result == GW_E_REFUSED && request->was_wanted && !program->lacks_memory)
        trace_fail(program->trace, "replies", "request %u is refused, though a handler's queue is there", request->number);
    else if (result != GW_DONE && result != GW_E_TIMEOUT && result != GW_E_REFUSED && (result != GW_E_CLOSED || program->bus) && !is_excused(program, result))
        trace_fail(program->trace, "replies", "request %u is told: %s", request->number, gw_result_text(result));
    if (result == GW_E_REFUSED && !program->lacks_memory)
        handler_unpublished(program->model, request->number);
    if (request->next)
        request->next->previous = request->previous;
    if (request->previous)
        request->previous->next = request->next;
    else
        program->requests = request->next;
    free(request);
}

void handler_program_ask(struct handler_program *program)
{
    struct random *random = program->random;
    char body[NUMBER_SIZE + BODY_MAX];
    unsigned type = (unsigned)random_below(random, HANDLER_TYPES);
    uint64_t timeout_ms = 1 + random_size(random, 100000);
    const gw_request_options options = {.timeout_ms = timeout_ms, .durable = random_chance(random, 1, 2)};
    struct handler_request *request = malloc(sizeof(*request));
    CHECK(request);
    unsigned number = handler_published(program->model, type, HANDLER_KEYS, options.durable, 0);
    handler_asked(program->model, number);
    *request = (struct handler_request){.program = program, .next = program->requests, .number = number, .due_us = program->trace->now_us + timeout_ms * 1000,
                                        .was_wanted = handler_is_wanted(program->model, type)};
    int result = gw_request(program->bus, handler_types[type], body, make_body(number, body), &options, on_reply, request);
    trace_event(program->trace, TRACE_REQUESTED, number, type, (uint64_t)-result, 0);
    program->acts++;
    if (result == GW_DONE) {
        if (program->requests)
            program->requests->previous = request;
        program->requests = request;
        return;
    }
    free(request);
    handler_unpublished(program->model, number);
    if (!is_excused(program, result))
        trace_fail(program->trace, "no error unasked", "gw_request: %s", gw_error(&program->loop.loop));
}

void handler_program_check_asked(struct handler_program *program)
{
    for (struct handler_request *request = program->requests; request; request = request->next)
        if (request->due_us < program->trace->now_us)
            trace_fail(program->trace, "replies", "request %u waits still, though its time is over", request->number);
}

static bool turn_on(struct handler_program *program, struct hand *hand)
{
    const struct handler_terms *terms = &program->plan->list[hand->index];
    const gw_handler_options options = {
        .name = terms->name, .concurrency = terms->concurrency, .retries = terms->retries == 0 ? GW_NO_RETRIES : terms->retries == UINT32_MAX ? GW_RETRY_FOREVER : (int32_t)terms->retries,
        .retry_delays_ms = terms->delays_ms, .retry_delay_count = terms->delay_count, .timeout_ms = terms->timeout_ms ? terms->timeout_ms : GW_FOREVER,
        .dead_letter = terms->letter[0] ? terms->letter : NULL, .order_by_key = terms->order_by_key, .transient = terms->transient};
    handler_on_begins(program->model, hand->index);
    hand->handler = gw_on(program->bus, terms->pattern, on_event, hand, &options);
    trace_event(program->trace, TRACE_HANDLER_ON, hand->index, hand->handler != NULL, 0, 0);
    program->acts++;
    if (hand->handler)
        handler_is_on(program->model, hand->index);
    else if (!is_excused(program, GW_E_FULL) && !program->lacks_memory)
        trace_fail(program->trace, "no error unasked", "gw_on: %s", gw_error(&program->loop.loop));
    return hand->handler != NULL;
}

static void turn_off(struct handler_program *program, struct hand *hand)
{
    trace_event(program->trace, TRACE_HANDLER_OFF, hand->index, 0, 0, 0);
    program->acts++;
    gw_off(hand->handler);
    hand->handler = NULL;
    handler_is_off(program->model, hand->index);
}

void handler_program_change(struct handler_program *program)
{
    struct hand *hand = &program->hands[random_below(program->random, program->plan->count)];
    if (hand->handler)
        turn_off(program, hand);
    else
        turn_on(program, hand);
}

void handler_program_all_on(struct handler_program *program)
{
    for (unsigned i = 0; i < program->plan->count; i++)
        if (!program->hands[i].handler)
            turn_on(program, &program->hands[i]);
}

/* ---- its life --------------------------------------------------------------------------------------------------------------------------- */

static bool open_graves(struct handler_program *program, struct hand *hand)
{
    const struct handler_terms *terms = &program->plan->list[hand->index];
    char queue[32];
    if (terms->transient || terms->letter[0])
        return true;
    snprintf(queue, sizeof(queue), "%s.dead", terms->name);
    hand->graves = sim_loop_drain(program->bus, queue, on_grave, hand);
    return hand->graves != NULL;
}

bool handler_program_start(struct handler_program *program, struct worker *worker, struct sim_disk *disk)
{
    const gw_open_options options = {.notice = on_notice, .notice_context = program};
    sim_loop_begin(&program->loop, program->random, program->trace, disk);
    program->is_running = true;
    program->has_failed = false;
    program->is_closed = false;
    program->bus = sim_loop_open(&program->loop, worker, &options);
    bool good = program->bus && (program->letters = gw_on(program->bus, "dead.*", on_letter, program, &(gw_handler_options){.name = GRAVES, .concurrency = 4, .retries = GW_RETRY_FOREVER}));
    for (unsigned i = 0; i < program->plan->count && good; i++)
        good = open_graves(program, &program->hands[i]) && turn_on(program, &program->hands[i]);
    if (!good && !sim_disk_stopped(disk) && !program->lacks_memory)
        trace_fail(program->trace, "no error unasked", "the program does not start: %s", gw_error(&program->loop.loop));
    return good;
}

bool handler_program_turn(struct handler_program *program)
{
    uint64_t acts = program->acts;
    bool more = sim_loop_turn(&program->loop);
    look_for_late(program);
    check_late(program);
    return more || program->acts != acts;
}

static void forget_all(struct handler_program *program)
{
    program->bus = NULL;
    program->letters = NULL;
    program->held_count = 0;
    for (unsigned i = 0; i < HANDLERS_MAX; i++)
        program->hands[i].handler = program->hands[i].graves = NULL;
}

static void on_closed(void *context, int result)
{
    struct handler_program *program = context;
    program->is_closed = true;
    if (program->requests && !program->model->is_dead)
        trace_fail(program->trace, "replies", "request %u is told nothing when its bus is closed", program->requests->number);
    forget_all(program);
    if (result != GW_DONE && !program->model->is_dead)
        trace_fail(program->trace, "no error unasked", "gw_close: %s", gw_result_text(result));
}

void handler_program_close(struct handler_program *program, uint64_t grace_ms)
{
    CHECK(gw_close(program->bus, grace_ms, on_closed, program) == GW_DONE);
    program->bus = NULL;
    for (unsigned i = 0; i < program->plan->count; i++)
        program->hands[i].handler = NULL;
}

void handler_program_die(struct handler_program *program)
{
    program->model->is_dead = true;
    sim_loop_die(&program->loop);
    forget_requests(program);
    forget_all(program);
    program->is_running = false;
}

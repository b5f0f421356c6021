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

void handler_program_deinit(struct handler_program *program) { free(program->held); }

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
    for (unsigned i = 0; i < program->held_count; i++) {
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

/* ---- answers --------------------------------------------------------------------------------------------------------------------------- */

enum answer { ANSWER_ACK, ANSWER_RETRY, ANSWER_RETRY_AFTER, ANSWER_REJECT, ANSWER_LATER, ANSWER_NEVER };

static enum answer think(struct handler_program *program, unsigned handler, bool again)
{
    const struct handler_terms *terms = &program->plan->list[handler];
    unsigned left = (unsigned)random_below(program->random, HANDLER_HABITS);
    const unsigned habits[] = {[ANSWER_RETRY] = terms->retry, [ANSWER_RETRY_AFTER] = terms->retry_after, [ANSWER_REJECT] = terms->reject, [ANSWER_LATER] = again ? 0 : terms->later,
                               [ANSWER_NEVER] = again ? 0 : terms->never};
    for (unsigned answer = ANSWER_RETRY; answer <= ANSWER_NEVER && !program->calm; answer++) {
        if (left < habits[answer])
            return (enum answer)answer;
        left -= habits[answer];
    }
    return ANSWER_ACK;
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
    say(program, held.handler, held.number, held.event, think(program, held.handler, true));
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
    const char *key = gw_event_key(event);
    if (strcmp(gw_event_type(event), handler_types[sent->type]) != 0 || (sent->key < HANDLER_KEYS ? !key || strcmp(key, keys[sent->key]) != 0 : key != NULL))
        trace_fail(program->trace, "same event", "event %u comes with the type %s and the key %s", number, gw_event_type(event), key ? key : "none");
    enum answer answer = think(program, hand->index, program->held_count >= HELD_MAX);
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
    else if (!program->model->is_dead)
        trace_fail(program->trace, "dead letters", "one does not say whose it is");
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
        *ticket = (struct handler_ticket){program, number};
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
    if (result != GW_E_AGAIN && !sim_disk_stopped(program->loop.disk))
        trace_fail(program->trace, "no error unasked", "event %u is not published: %s", number, gw_error(&program->loop.loop));
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
    else if (!sim_disk_stopped(program->loop.disk))
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
    program->is_closed = false;
    program->bus = sim_loop_open(&program->loop, worker, &options);
    bool good = program->bus && (program->letters = gw_on(program->bus, "dead.*", on_letter, program, &(gw_handler_options){.name = GRAVES, .concurrency = 4, .retries = GW_RETRY_FOREVER}));
    for (unsigned i = 0; i < program->plan->count && good; i++)
        good = open_graves(program, &program->hands[i]) && turn_on(program, &program->hands[i]);
    if (!good && !sim_disk_stopped(disk))
        trace_fail(program->trace, "no error unasked", "the program does not start: %s", gw_error(&program->loop.loop));
    return good;
}

bool handler_program_turn(struct handler_program *program)
{
    uint64_t acts = program->acts;
    bool more = sim_loop_turn(&program->loop);
    look_for_late(program);
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
    forget_all(program);
    program->is_running = false;
}

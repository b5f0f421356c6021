#include "sim/bus_sink.h"

#include "base/err.h"
#include "protocol/amqp/properties.h"
#include "protocol/amqp/sink_uri.h"
#include "sim/grown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define QUICK_US 20000u

struct bus_request {
    struct outgoing *outgoing;
    struct bus_post post;
    uint64_t begun_us, due_us;
    enum outgoing_outcome outcome;
    unsigned status;
    uint64_t retry_after_s;
    bool takes;                      /* it takes the event, whatever the broker learns of that */
    const char *allowed;             /* to a question */
    char rate[16];
};

static struct bus_sinks *sinks_of(struct outgoing_sender *sender) { return ((struct bus_sender *)sender)->sinks; }

/* ---- what comes ------------------------------------------------------------------------------------------------------------- */

/* The value of a header; empty: it is not there. */
static const char *header(const struct outgoing_request *request, const char *name)
{
    size_t size = strlen(name);
    for (unsigned i = 0; i < request->header_count; i++)
        if (strncmp(request->headers[i], name, size) == 0 && strncmp(request->headers[i] + size, ": ", 2) == 0)
            return request->headers[i] + size + 2;
    return "";
}

static bool is_signed_well(struct bus_sinks *sinks, const struct outgoing_request *request)
{
    char signature[SIGNATURE_MAX];
    uint64_t now_s = strtoull(header(request, "webhook-timestamp"), NULL, 10);
    return webhook_sign(&sinks->secret, 1, bytes_of_text(header(request, "webhook-id")), now_s, request->body, signature) &&
           strcmp(signature, header(request, "webhook-signature")) == 0;
}

static bool is_header(struct bytes headers, const char *name, const char *text)
{
    struct amqp_field field;
    return amqp_table_find(headers, name, &field) && field.type == 'S' && bytes_equal(field.bytes, bytes_of_text(text));
}

/* The event as a message: is it that one, with its own key, whatever way it came to the queue? */
static bool is_message_of(const struct bus_event *event, const struct outgoing_message *message, struct bytes id, const char *source, const char *subject, const char *grade)
{
    struct amqp_properties properties;
    return amqp_properties_decode(message->properties, &properties) && bytes_equal(properties.message_id, id) && is_header(properties.headers, "cloudEvents_source", source) &&
           is_header(properties.headers, "cloudEvents_subject", subject) && is_header(properties.headers, "cloudEvents_grade", grade) &&
           is_header(properties.headers, "cloudEvents_type", bus_types[event->type]) && bytes_equal(message->routing_key, bytes_of_text(bus_types[event->type])) &&
           bytes_equal(properties.content_type, bytes_of_text("application/json")) && !(properties.flags & AMQP_USER_ID) && message->is_mandatory;
}

/* The id of what is published; empty: it has none. */
static struct bytes message_id(const struct outgoing_message *message)
{
    struct amqp_properties properties;
    return amqp_properties_decode(message->properties, &properties) && (properties.flags & AMQP_MESSAGE_ID) ? properties.message_id : (struct bytes){0};
}

/* Is it the event, and the whole of it? */
static void look_at_event(struct bus_sinks *sinks, struct bus_post *post, const struct outgoing_request *request)
{
    char body[BUS_BODY_MAX + 64], source[16], subject[32], grade[8];
    struct bus_model *model = sinks->model;
    char said[32];
    struct bytes published = request->message ? message_id(request->message) : (struct bytes){0};
    const char *id = header(request, "ce-id");
    if (request->message) {
        snprintf(said, sizeof(said), "%.*s", (int)(published.size < sizeof(said) ? published.size : sizeof(said) - 1), (const char *)published.data);
        id = said;
    }
    post->event = id[0] == 'e' ? strtoull(id + 1, NULL, 10) : 0;
    post->attempt = request->message ? (unsigned)request->attempt : (unsigned)strtoul(header(request, "webhook-attempt"), NULL, 10);
    if (!post->event || post->event > model->event_count) {
        trace_fail(sinks->trace, "nothing appears", "an event '%s' was posted", id);
        return;
    }
    const struct bus_event *event = bus_event(model, post->event);
    size_t size = bus_event_body(model, post->event, body);
    snprintf(source, sizeof(source), "/p%u", event->publisher);
    snprintf(subject, sizeof(subject), "p%u.k%u", event->publisher, event->key);
    snprintf(grade, sizeof(grade), "g%u", event->grade);
    if (request->message) {
        if (!bytes_equal(request->body, bytes_of(body, size)) || !is_message_of(event, request->message, published, source, subject, grade))
            trace_fail(sinks->trace, "same bytes", "event %" PRIu64 " was published as another one, or elsewhere", post->event);
        return;
    }
    if (!bytes_equal(request->body, bytes_of(body, size)) || strcmp(header(request, "ce-source"), source) != 0 || strcmp(header(request, "ce-subject"), subject) != 0 ||
        strcmp(header(request, "ce-grade"), grade) != 0 || strcmp(header(request, "ce-type"), bus_types[event->type]) != 0 || strcmp(header(request, "webhook-id"), id) != 0 ||
        strcmp(header(request, "content-type"), "application/json") != 0)
        trace_fail(sinks->trace, "same bytes", "event %" PRIu64 " was posted as another one", post->event);
    uint64_t now_s = sinks->trace->now_us / SECOND_US, stamp_s = strtoull(header(request, "webhook-timestamp"), NULL, 10);
    if (stamp_s != now_s)
        trace_fail(sinks->trace, "signatures", "event %" PRIu64 " has the timestamp %" PRIu64 ", it is %" PRIu64, post->event, stamp_s, now_s);
    if (post->life->terms.is_signed ? !is_signed_well(sinks, request) : header(request, "webhook-signature")[0] != 0)
        trace_fail(sinks->trace, "signatures", "event %" PRIu64 " has the signature '%s'", post->event, header(request, "webhook-signature"));
}

/* Where it goes: the number of a sink, BUS_SINKS_MAX: to none; and the life's that has it posted there, or publishes it to an exchange of that name. */
static unsigned sink_of(const struct bus_plan *plan, const struct outgoing_request *request, unsigned long *life)
{
    struct sink_uri uri;
    char why[SINK_URI_WHY_MAX], *rest = NULL;
    *life = 0;
    if (request->message) {
        if (!sink_uri_read(request->url, &uri, why) || strcmp(uri.uri.password, BUS_PASSWORD) != 0 || strncmp(uri.uri.host, "sink", 4) != 0 ||
            !bytes_equal(request->message->exchange, bytes_of_text(uri.exchange)))
            return BUS_SINKS_MAX;
        *life = strtoul(uri.exchange, NULL, 10);
        unsigned long sink = strtoul(uri.uri.host + 4, NULL, 10);
        return sink < plan->sinks && plan->brokers >> sink & 1 ? (unsigned)sink : BUS_SINKS_MAX;
    }
    unsigned long sink = strncmp(request->url, "http://sink", 11) == 0 ? strtoul(request->url + 11, &rest, 10) : BUS_SINKS_MAX;
    if (sink >= plan->sinks || plan->brokers >> sink & 1 || strncmp(rest, ".example/", 9) != 0)
        return BUS_SINKS_MAX;
    *life = strtoul(rest + 9, NULL, 10);
    return (unsigned)sink;
}

static bool look_at(struct bus_sinks *sinks, struct bus_post *post, const struct outgoing_request *request)
{
    unsigned long life;
    unsigned sink = sink_of(sinks->plan, request, &life);
    *post = (struct bus_post){.is_question = request->method, .sink = sink};
    if (sink == BUS_SINKS_MAX || !life || life > sinks->model->life_count) {
        trace_fail(sinks->trace, "the sink is the subscription's", "something was posted to %s", request->url);
        return false;
    }
    post->life = bus_life(sinks->model, (unsigned)life);
    if (!post->is_question)
        look_at_event(sinks, post, request);
    else if (strcmp(request->method, "OPTIONS") != 0 || strcmp(header(request, "webhook-request-origin"), BUS_ORIGIN) != 0)
        trace_fail(sinks->trace, "the origin needs leave", "it was asked for by %s", request->method);
    return !sinks->trace->failed;
}

/* ---- what is answered --------------------------------------------------------------------------------------------------------- */

static enum bus_mood mood_of(struct bus_sinks *sinks, unsigned sink)
{
    uint64_t now_us = sinks->trace->now_us;
    if (sinks->calm)
        return MOOD_GOOD;
    if (now_us >= sinks->sinks[sink].until_us) {
        do
            sinks->sinks[sink].mood = (enum bus_mood)random_below(sinks->random, BUS_MOODS);
        while (!(sinks->plan->moods >> sinks->sinks[sink].mood & 1));
        sinks->sinks[sink].until_us = now_us + random_size(sinks->random, sinks->plan->mood_us);
    }
    return sinks->sinks[sink].mood;
}

static void answer(struct bus_request *request, unsigned status)
{
    request->outcome = OUTGOING_ANSWERED;
    request->status = status;
    request->takes = status >= 200 && status < 300;
}

/* As if it had come, or not, in that mood. */
static void decide(struct bus_sinks *sinks, struct bus_request *request, enum bus_mood mood, uint64_t timeout_us)
{
    static const unsigned good[] = {200, 204, 202}, errors[] = {500, 502, 503, 504}, refusals[] = {400, 401, 404, 422, 302, 304};
    static const uint64_t waits_s[] = {OUTGOING_NO_TIME, 1, 7, 30, 3600, 100000};
    struct random *random = sinks->random;
    uint64_t wait_us = random_below(random, QUICK_US);
    request->retry_after_s = OUTGOING_NO_TIME;
    switch (mood) {
    case MOOD_SLOW: wait_us = random_below(random, timeout_us + timeout_us / 4); answer(request, good[random_below(random, 3)]); break;
    case MOOD_FLAKY: answer(request, random_chance(random, 1, 2) ? good[random_below(random, 3)] : errors[random_below(random, 4)]); break;
    case MOOD_ERRORS: answer(request, errors[random_below(random, 4)]); break;
    case MOOD_REFUSES: answer(request, refusals[random_below(random, 6)]); break;
    case MOOD_THROTTLES:
        answer(request, random_chance(random, 1, 2) ? 429 : random_chance(random, 1, 2) ? 503 : 200);
        if (!request->takes)
            request->retry_after_s = waits_s[random_below(random, 6)];
        break;
    case MOOD_HANGS: wait_us = timeout_us; break;
    case MOOD_RESETS: request->outcome = random_chance(random, 1, 2) ? OUTGOING_UNREACHABLE : OUTGOING_UNRESOLVED; break;
    case MOOD_BREAKS: request->outcome = OUTGOING_BROKEN; request->takes = random_chance(random, 1, 2); break;
    case MOOD_FORBIDDEN: request->outcome = random_chance(random, 1, 2) ? OUTGOING_FORBIDDEN : OUTGOING_UNTRUSTED; break;
    case MOOD_GONE: answer(request, random_chance(random, 1, 8) ? 410 : 200); break;
    default: answer(request, good[random_below(random, 3)]); break;
    }
    if (wait_us >= timeout_us) {   /* it may have been taken all the same */
        wait_us = timeout_us;
        request->outcome = OUTGOING_TIMED_OUT;
        request->status = 0;
    }
    request->due_us = request->begun_us + wait_us;
}

/* What a broker says instead of what a program would. */
static void decide_reply(struct bus_sinks *sinks, struct bus_request *request, enum bus_mood mood)
{
    static const unsigned closings[] = {403, 404, 406, 311};
    struct random *random = sinks->random;
    if (request->outcome != OUTGOING_ANSWERED)
        return;
    bool takes = mood == MOOD_FLAKY ? random_chance(random, 1, 2) : mood == MOOD_GOOD || mood == MOOD_SLOW || mood == MOOD_GONE;
    answer(request, takes ? 200 : mood == MOOD_REFUSES ? 312 : closings[random_below(random, 4)]);
    request->retry_after_s = OUTGOING_NO_TIME;
    if (mood == MOOD_THROTTLES || mood == MOOD_ERRORS) {
        request->outcome = mood == MOOD_THROTTLES ? OUTGOING_BUSY : OUTGOING_REFUSED;
        request->status = 0;
    }
}

static void decide_question(struct bus_sinks *sinks, struct bus_request *request)
{
    bool grants = sinks->calm || random_chance(sinks->random, 2, 3);
    request->allowed = grants ? (random_chance(sinks->random, 1, 2) ? BUS_ORIGIN : "*") : random_chance(sinks->random, 1, 2) ? "other.example" : NULL;
    if (!sinks->calm && random_chance(sinks->random, 1, 3))
        snprintf(request->rate, sizeof(request->rate), "%u", (unsigned)random_between(sinks->random, 1, 600));
    if (request->status >= 400 && random_chance(sinks->random, 1, 2))
        request->status = 200;
}

static bool begin(struct outgoing_sender *sender, struct outgoing *outgoing, const struct outgoing_request *asked)
{
    struct bus_sinks *sinks = sinks_of(sender);
    struct bus_post post;
    if (!sinks->calm && random_chance(sinks->random, 1, 300))
        return false;
    struct bus_request *request = calloc(1, sizeof(*request));
    CHECK(request);
    if (!look_at(sinks, &post, asked)) {   /* the run is over: it only must not be asked for again */
        free(request);
        return false;
    }
    *request = (struct bus_request){.outgoing = outgoing, .begun_us = sinks->trace->now_us};
    enum bus_mood mood = mood_of(sinks, post.sink);
    decide(sinks, request, mood, asked->timeout_ms * 1000u);
    if (asked->message)
        decide_reply(sinks, request, mood);
    if (post.is_question)
        decide_question(sinks, request);
    else if (asked->timeout_ms != post.life->terms.timeout_s * 1000u)
        trace_fail(sinks->trace, "a subscription is what it was made", "its timeout is %" PRIu64 " ms", asked->timeout_ms);
    bus_posted(sinks->model, &post);
    if (!post.is_question)
        bus_endpoint_posted(&sinks->endpoints, &post);
    request->post = post;
    if (request->takes && !post.is_question)
        bus_taken(sinks->model, &post);
    outgoing->transport = request;
    sinks->requests = grown(sinks->requests, sinks->count, &sinks->room, sizeof(struct bus_request *));
    sinks->requests[sinks->count++] = request;
    return true;
}

static void cancel(struct outgoing_sender *sender, struct outgoing *outgoing)
{
    struct bus_sinks *sinks = sinks_of(sender);
    struct bus_request *request = outgoing->transport;
    if (!request)
        return;
    for (unsigned i = 0; i < sinks->count; i++)
        if (sinks->requests[i] == request) {
            sinks->requests[i] = sinks->requests[--sinks->count];
            break;
        }
    outgoing->transport = NULL;
    bus_cancelled(sinks->model, &request->post);
    if (!request->post.is_question)
        bus_endpoint_cancelled(&sinks->endpoints, &request->post);
    free(request);
}

bool bus_sinks_step(struct bus_sinks *sinks)
{
    if (!sinks->count || sinks->is_held)
        return false;
    uint64_t now_us = sinks->trace->now_us;
    unsigned first = (unsigned)random_below(sinks->random, sinks->count), at = first;
    while (sinks->requests[at]->due_us > now_us) {
        at = (at + 1) % sinks->count;
        if (at == first)
            return false;
    }
    struct bus_request *request = sinks->requests[at];
    sinks->requests[at] = sinks->requests[--sinks->count];
    struct outgoing_result result = {.outcome = request->outcome, .status = request->status, .retry_after_s = request->retry_after_s, .duration_us = now_us - request->begun_us,
                                     .now_us = now_us};
    if (request->post.is_question && request->outcome == OUTGOING_ANSWERED) {
        result.found[0] = request->allowed;
        result.found[1] = request->rate[0] ? request->rate : NULL;
    }
    struct outgoing *outgoing = request->outgoing;
    outgoing->transport = NULL;
    if (!request->post.is_question)
        bus_endpoint_answered(&sinks->endpoints, &request->post, &result);
    bus_answered(sinks->model, &request->post, &result);
    outgoing->done(outgoing, &result);
    free(request);
    return true;
}

uint64_t bus_sinks_deadline(const struct bus_sinks *sinks)
{
    uint64_t earliest = BUS_NEVER;
    for (unsigned i = 0; i < sinks->count && !sinks->is_held; i++)
        earliest = sinks->requests[i]->due_us < earliest ? sinks->requests[i]->due_us : earliest;
    return earliest;
}

void bus_sinks_init(struct bus_sinks *sinks, const struct bus_plan *plan, struct random *random, struct trace *trace, struct bus_model *model)
{
    *sinks = (struct bus_sinks){.plan = plan, .random = random, .trace = trace, .model = model, .endpoints = {.model = model},
                                .sender = {.sender = {.begin = begin, .cancel = cancel}, .sinks = sinks}};
    CHECK(webhook_secret_read(bytes_of_text(BUS_SECRET), &sinks->secret));
}

void bus_sinks_deinit(struct bus_sinks *sinks)
{
    CHECK(sinks->count == 0);
    free(sinks->requests);
}

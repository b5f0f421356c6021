#include "sim/bus_hand.h"

#include "base/err.h"
#include "sim/grown.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void answered(void *owner, struct bus_door *door, unsigned status, const char *body, size_t size);

static void hand_init(struct bus_hands *hands, struct bus_hand *hand, unsigned number, struct bus_door *door)
{
    *hand = (struct bus_hand){.hands = hands, .door = door, .number = number};
    door->answered = answered;
    door->owner = hand;
}

void bus_hands_init(struct bus_hands *hands, const struct bus_plan *plan, struct random *random, struct trace *trace, struct bus_model *model, struct sim_broker *broker)
{
    hands->plan = plan;
    hands->random = random;
    hands->trace = trace;
    hands->model = model;
    bus_doors_init(&hands->doors, broker, hands->list, plan->publishers + plan->slots + plan->workers + plan->listeners);
    for (unsigned i = 0; i < plan->publishers; i++)
        hand_init(hands, &hands->publishers[i], i, &hands->list[i]);
    for (unsigned i = 0; i < plan->slots; i++)
        hand_init(hands, &hands->keepers[i], i, &hands->list[plan->publishers + i]);
}

void bus_hands_deinit(struct bus_hands *hands)
{
    for (unsigned i = 0; i < hands->plan->slots; i++)
        free(hands->keepers[i].dead);
    bus_doors_deinit(&hands->doors);
}

/* ---- asking ------------------------------------------------------------------------------------------------------------------ */

static bool ask(struct bus_hand *hand, int doing, const char *head, const void *body, size_t size)
{
    if (!bus_door_ask(hand->door, head, body, size))
        return false;
    hand->doing = doing;
    trace_event(hand->hands->trace, TRACE_DOOR_ASKS, hand->door->number, (uint64_t)doing, hand->event, 0);
    return true;
}

void bus_hand_publish(struct bus_hand *publisher)
{
    struct bus_hands *hands = publisher->hands;
    char head[512], body[BUS_BODY_MAX + 64];
    if (!bus_hand_is_idle(publisher) || hands->is_ending)
        return;
    publisher->event = bus_publish(hands->model, publisher->number, hands->random);
    const struct bus_event *event = bus_event(hands->model, publisher->event);
    snprintf(head, sizeof(head), "POST /events HTTP/1.1\r\nce-specversion: 1.0\r\nce-id: e%" PRIu64 "\r\nce-source: /p%u\r\nce-type: %s\r\nce-subject: p%u.k%u\r\nce-grade: g%u\r\n"
             "Content-Type: application/json\r\n", publisher->event, event->publisher, bus_types[event->type], event->publisher, event->key, event->grade);
    size_t size = bus_event_body(hands->model, publisher->event, body);
    if (!ask(publisher, HAND_PUBLISHES, head, body, size))
        bus_publish_lost(hands->model, publisher->event);
}

static void ask_json(struct bus_hand *hand, int doing, const char *head, json_t *root)
{
    char *text = json_dumps(root, JSON_COMPACT);
    CHECK(text);
    json_decref(root);
    ask(hand, doing, head, text, strlen(text));
    free(text);
}

static void create(struct bus_hand *hand)
{
    struct bus_hands *hands = hand->hands;
    struct bus_terms terms;
    struct bus_wish wish;
    bus_terms_draw(&terms, hands->random);
    terms.origin = terms.origin && !hands->plan->brokers;   /* which are not asked */
    bus_wish_draw(&wish, hands->plan, hands->random);
    hand->life = bus_create(hands->model, hand->number, &terms, &wish);
    ask_json(hand, HAND_CREATES, "POST /subscriptions HTTP/1.1\r\n", bus_subscription_json(&terms, &wish, hand->number, hand->life->number));
}

/* A change may be meant for what the keeper has seen: last, or before somebody (himself) has changed it. */
static const char *choose_match(struct bus_hand *hand)
{
    struct random *random = hand->hands->random;
    hand->match = MATCH_NOTHING;
    if (hand->tag_of != hand->life || hand->life->ended || !random_chance(random, 1, 3))
        return NULL;
    hand->match = hand->old_tag[0] && random_chance(random, 1, 2) ? MATCH_OLD : MATCH_LATEST;
    return hand->match == MATCH_OLD ? hand->old_tag : hand->tag;
}

/* `tag`: what it says in If-Match, NULL: nothing. */
static void change(struct bus_hand *hand, const struct bus_wish *wish, bool revives, const char *tag)
{
    struct bus_life *life = hand->life;
    char head[64 + BUS_TAG_SIZE];
    json_t *patch = bus_wish_json(wish, &life->now, life->number);
    if (revives)
        json_object_set_new(patch, "paused", json_false());
    life->revives = json_object_get(patch, "sink") || json_is_false(json_object_get(patch, "paused"));
    bus_change(hand->hands->model, life, wish);
    snprintf(head, sizeof(head), "PATCH /subscriptions/s%u HTTP/1.1\r\n%s%s%s", hand->number, tag ? "If-Match: " : "", tag ? tag : "", tag ? "\r\n" : "");
    ask_json(hand, HAND_CHANGES, head, patch);
}

static void change_something(struct bus_hand *hand)
{
    struct bus_hands *hands = hand->hands;
    struct bus_wish drawn, wish = hand->life->now;
    bool revives = hand->life->ended && random_chance(hands->random, 2, 3);
    bus_wish_draw(&drawn, hands->plan, hands->random);
    switch (random_below(hands->random, 6)) {
    case 0: wish.patterns = drawn.patterns; break;
    case 1: wish.filter = drawn.filter; break;
    case 2:
        wish.sink = drawn.sink;
        wish.is_broker = drawn.is_broker;
        break;
    case 3: wish = drawn; break;
    default: wish.paused = !wish.paused; break;
    }
    if (revives)
        wish.paused = false;
    change(hand, &wish, revives, choose_match(hand));
}

bool bus_hand_resume(struct bus_hand *hand)
{
    hand->life = hand->hands->model->slots[hand->number];
    if (!hand->life || hand->life->is_leaving || !hand->life->now.paused)
        return false;
    struct bus_wish wish = hand->life->now;
    wish.paused = false;
    hand->match = MATCH_NOTHING;
    change(hand, &wish, false, NULL);
    return true;
}

static void ask_plainly(struct bus_hand *hand, int doing, const char *method, const char *what)
{
    char head[128];
    snprintf(head, sizeof(head), "%s /subscriptions/s%u%s HTTP/1.1\r\n", method, hand->number, what);
    ask(hand, doing, head, NULL, 0);
}

static void remove_it(struct bus_hand *hand)
{
    bus_remove(hand->hands->model, hand->life);
    ask_plainly(hand, HAND_REMOVES, "DELETE", "");
}

bool bus_hand_look_at_replay(struct bus_hand *hand)
{
    hand->life = hand->hands->model->slots[hand->number];
    if (!hand->life || hand->life->is_leaving || !hand->life->replay.is_asked)
        return false;
    ask_plainly(hand, HAND_LOOKS_AT_REPLAY, "GET", "/replay");
    return true;
}

static void ask_for_replay(struct bus_hand *hand)
{
    struct bus_hands *hands = hand->hands;
    struct bus_replay replay = {.until_us = BUS_NEVER};
    char head[64];
    json_t *wish = json_object();
    uint64_t now_s = hands->trace->now_us / 1000000u, ago_s = random_size(hands->random, now_s);
    switch (random_below(hands->random, 3)) {
    case 0:
        replay.what = REPLAY_ALL;
        json_object_set_new(wish, "from", json_string("first"));
        break;
    case 1:
        replay.what = REPLAY_SINCE;
        replay.since_us = (now_s - ago_s) * 1000000u;
        json_object_set_new(wish, "from", json_sprintf("%" PRIu64 "s", ago_s));
        if (random_chance(hands->random, 1, 2)) {
            uint64_t until_s = random_below(hands->random, ago_s + 1);
            replay.until_us = (now_s - until_s) * 1000000u;
            json_object_set_new(wish, "to", json_sprintf("%" PRIu64 "s", until_s));
        }
        break;
    default:
        replay.what = REPLAY_IDS;
        json_object_set_new(wish, "ids", json_array());
        for (unsigned i = 0; i < 4; i++) {
            replay.ids[i] = random_between(hands->random, 1, hands->model->event_count + 1);
            json_array_append_new(json_object_get(wish, "ids"), json_sprintf("e%" PRIu64, replay.ids[i]));
        }
    }
    bus_replay(hands->model, hand->life, &replay);
    snprintf(head, sizeof(head), "POST /subscriptions/s%u/replay HTTP/1.1\r\n", hand->number);
    ask_json(hand, HAND_REPLAYS, head, wish);
}

bool bus_hand_find_out(struct bus_hand *hand)
{
    hand->life = hand->hands->model->slots[hand->number];
    if (!hand->is_unsure && !(hand->life && hand->life->ended == ENDED_MAYBE))
        return false;
    ask_plainly(hand, HAND_LOOKS, "GET", "");
    return true;
}

void bus_hand_keep(struct bus_hand *hand)
{
    struct bus_hands *hands = hand->hands;
    if (!bus_hand_is_idle(hand) || hands->is_ending || bus_hand_find_out(hand))
        return;
    if (!hand->life)
        create(hand);
    else if (hand->life->is_leaving || random_chance(hands->random, 1, 10))
        remove_it(hand);
    else if (random_chance(hands->random, 1, 6) && !hand->life->replay.is_asked && !hand->life->ended)
        ask_for_replay(hand);
    else if (hand->life->replay.is_asked && random_chance(hands->random, 1, 2))
        bus_hand_look_at_replay(hand);
    else if (random_chance(hands->random, 1, 6))
        ask_plainly(hand, HAND_LOOKS, "GET", "");
    else
        change_something(hand);
}

void bus_hand_read_log(struct bus_hand *hand)
{
    hand->life = hand->hands->model->slots[hand->number];
    if (hand->life && !hand->life->is_leaving)
        ask_plainly(hand, HAND_READS_LOG, "GET", "/attempts");
}

void bus_hand_read_dead(struct bus_hand *hand)
{
    char head[128];
    hand->life = hand->hands->model->slots[hand->number];
    snprintf(head, sizeof(head), "GET /queues/subscription.s%u.dead/messages?ack=auto HTTP/1.1\r\n", hand->number);
    if (hand->life && !hand->life->is_leaving)
        ask(hand, HAND_READS_DEAD, head, NULL, 0);
}

/* ---- answers -------------------------------------------------------------------------------------------------------------------- */

static void read_dead(struct bus_hand *hand, const char *body)
{
    const char *number = strstr(body, "\"n\":");
    hand->dead = grown(hand->dead, hand->dead_count, &hand->dead_room, sizeof(*hand->dead));
    hand->dead[hand->dead_count++] = number ? strtoull(number + 4, NULL, 10) : 0;
    bus_hand_read_dead(hand);
}

static void look(struct bus_hand *hand, unsigned status, const char *body)
{
    json_t *shown = status == 200 ? json_loads(body, 0, NULL) : NULL;
    hand->is_unsure = false;
    bus_looked(hand->hands->model, hand->life, shown);
    json_decref(shown);
}

static void look_at_replay(struct bus_hand *hand, unsigned status, const char *body)
{
    json_t *said = status == 200 ? json_loads(body, 0, NULL) : NULL;
    bus_replay_looked(hand->hands->model, hand->life, said);
    json_decref(said);
}

/* As it was answered just now it is known until it is changed, or ends. */
static void see_tag(struct bus_hand *hand)
{
    char tag[BUS_TAG_SIZE];
    if (!bus_door_header(hand->door, "etag", tag, sizeof(tag))) {
        trace_fail(hand->hands->trace, "what is shown has a version", "subscription s%u came without an ETag", hand->number);
        return;
    }
    if (hand->tag_of != hand->life)
        hand->tag[0] = hand->old_tag[0] = 0;
    if (hand->tag[0] && strcmp(hand->tag, tag) != 0)
        memcpy(hand->old_tag, hand->tag, sizeof(tag));
    memcpy(hand->tag, tag, sizeof(tag));
    hand->tag_of = hand->life;
}

/* The change was refused, since the subscription is not what was seen: that must be so, and nothing is changed. */
static void be_refused(struct bus_hand *hand)
{
    if (hand->match == MATCH_LATEST && !hand->life->ended)
        trace_fail(hand->hands->trace, "a change is made to what was seen", "subscription s%u (life %u) was not changed, and was as it had been seen", hand->number, hand->life->number);
    hand->tag_of = hand->match == MATCH_LATEST ? NULL : hand->tag_of;
    bus_undone(hand->hands->model, hand->life);
}

/* Nobody knows what became of the request. */
static void lose(struct bus_hand *hand, int doing)
{
    struct bus_model *model = hand->hands->model;
    hand->tag_of = NULL;
    if (doing == HAND_PUBLISHES)
        bus_publish_lost(model, hand->event);
    else if (doing == HAND_REPLAYS)
        bus_replay_answered(model, hand->life, false);
    else if (doing == HAND_CREATES || doing == HAND_CHANGES || doing == HAND_REMOVES)
        hand->is_unsure = true;
}

static void answered(void *owner, struct bus_door *door, unsigned status, const char *body, size_t size)
{
    struct bus_hand *hand = owner;
    struct bus_hands *hands = hand->hands;
    int doing = hand->doing;
    (void)size;
    hand->doing = HAND_IDLE;
    trace_note(hands->trace, "door %u is answered %u: %.300s", door->number, status, body);
    if (!status) {
        lose(hand, doing);
        return;
    }
    hands->ops++;
    static const unsigned wanted[] = {0, 201, 201, 200, 204, 200, 200, 200, 202, 200};
    bool is_good = status == wanted[doing] || ((doing == HAND_LOOKS || doing == HAND_LOOKS_AT_REPLAY) && status == 404) ||
                   (doing == HAND_REPLAYS && status == 409 && hand->life->ended) || (doing == HAND_READS_DEAD && status == 204) || (doing == HAND_REMOVES && status == 404 && hand->is_unsure) ||
                   (doing == HAND_PUBLISHES && status == 503 && strstr(body, "low on memory")) || (doing == HAND_CHANGES && status == 412 && hand->match);
    if (!is_good) {
        trace_fail(hands->trace, "no error unasked", "request %d of door %u was answered %u: %.300s", doing, door->number, status, body);
        return;
    }
    if (doing == HAND_CHANGES && status == 200 && hand->match == MATCH_OLD) {
        trace_fail(hands->trace, "a change is made to what was seen", "subscription s%u (life %u) was changed, and was not any more as it had been seen", hand->number, hand->life->number);
        return;
    }
    if (status == 200 && (doing == HAND_CHANGES || doing == HAND_LOOKS))
        see_tag(hand);
    switch (doing) {
    case HAND_PUBLISHES: bus_published(hands->model, hand->event, status == 201); break;
    case HAND_CHANGES:
        if (status == 412) {
            be_refused(hand);
            break;
        }
        bus_done(hands->model, hand->life);
        break;
    case HAND_CREATES: case HAND_REMOVES: bus_done(hands->model, hand->life); break;
    case HAND_LOOKS: look(hand, status, body); break;
    case HAND_READS_LOG: {
        json_t *log = json_loads(body, 0, NULL);
        bus_check_log(hands->model, hand->life, log);
        json_decref(log);
        break;
    }
    case HAND_REPLAYS:
        bus_replay_answered(hands->model, hand->life, true);
        if (status == 409)
            bus_replay_refused(hand->life);
        break;
    case HAND_LOOKS_AT_REPLAY: look_at_replay(hand, status, body); break;
    default:
        if (status == 200)
            read_dead(hand, body);
    }
}

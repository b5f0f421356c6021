#include "protocol/gateway/reception.h"

#include "base/bugs.h"
#include "base/map.h"
#include "broker/worker.h"
#include "protocol/amqp/table.h"
#include "protocol/gateway/event_stream.h"
#include "protocol/gateway/idempotency.h"
#include "protocol/gateway/sources.h"
#include "protocol/gateway/subscriptions.h"
#include "protocol/gateway/work.h"

#include <stdio.h>
#include <stdlib.h>

#define TEXT(bytes) (int)(bytes).size, (const char *)(bytes).data
#define NEVER UINT64_MAX
#define MS 1000u
#define WAIT_MAX_MS 300000u
#define LEASE_MAX_MS 43200000u
#define LEASE_MS 60000u
#define LEASES_MAX 65536u            /* of a hall */
#define IDLE_US 60000000u            /* a holder without anything to hold is kept so long */
#define TICK_US 50000u               /* what is due is looked at no more often */
#define CHANNEL 1u                   /* of requests; settles have those above it */

enum poll_state { POLL_OPENING, POLL_GETTING, POLL_CONSUMING, POLL_WAITING, POLL_CANCELLING };

struct poll {
    struct poll *next, *previous;    /* of its holder's */
    struct holder *holder;
    struct task *task;               /* NULL: it was answered, or is gone */
    enum poll_state state;
    uint32_t tag, handle;
    uint64_t queue, due_us, lease_ms;
    bool waits, acks;                /* when there is none; as soon as it is answered */
    struct bytes name;               /* the queue's; lies behind it */
};

struct lease {
    struct lease *next, *previous;   /* of the reception's */
    struct holder *holder;
    uint64_t nonce, queue, seq, due_us;
    uint16_t channel;                /* of its settle that is under way; 0: none is */
    unsigned from;                   /* the hall that asked for that … */
    uint64_t ask;                    /* … and its number there */
    struct bytes name;               /* the queue's; lies behind it */
};

/* A user in a vhost: the client that holds. */
struct holder {
    struct client client;            /* first: see holder_of */
    struct reception *reception;
    struct holder *next;
    struct poll *polls;
    uint32_t leases;
    uint32_t next_tag;
    uint16_t next_channel, refusal;
    uint64_t used_us;
    bool is_open, is_gone;
    struct bytes vhost;              /* lies behind it, as do the client's names */
};

struct reception {
    struct gateway_hall *hall;
    struct holder *holders;
    struct lease *leases;
    struct map by_nonce;             /* struct lease */
    struct map asks;                 /* number → struct task that waits for another hall */
    uint64_t due_us, next_ask;
};

/* What halls say to one another. Behind it: user, vhost and queue of an ask. */
struct letter {
    uint64_t ask, nonce;
    uint8_t kind;                    /* enum letter_kind */
    uint8_t outcome;                 /* enum settle_kind of an ask, enum ask_answer of an answer */
    uint8_t user_size, vhost_size, queue_size;
};
enum ask_answer { ASK_DONE, ASK_UNKNOWN, ASK_FAILED };

static struct holder *holder_of(struct client *client) { return (struct holder *)client; }

static void due_by(struct reception *reception, uint64_t us)
{
    if (us < reception->due_us)
        reception->due_us = us;
}

/* ---- leases ------------------------------------------------------------------------------------------------------------ */

static void lease_free(struct lease *lease)
{
    struct reception *reception = lease->holder->reception;
    if (lease->next)
        lease->next->previous = lease->previous;
    if (lease->previous)
        lease->previous->next = lease->next;
    else
        reception->leases = lease->next;
    map_remove(&reception->by_nonce, lease->nonce);
    lease->holder->leases--;
    free(lease);
}

/* Numbers that follow each other look as if they did not. */
static uint64_t scatter(uint64_t number)
{
    number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9u;
    number = (number ^ (number >> 27)) * 0x94d049bb133111ebu;
    return number ^ (number >> 31);
}

static struct lease *lease_new(struct poll *poll, const struct delivery *delivery)
{
    struct holder *holder = poll->holder;
    struct reception *reception = holder->reception;
    if (reception->by_nonce.count >= LEASES_MAX)
        return NULL;
    struct lease *lease = calloc(1, sizeof(*lease) + poll->name.size);
    if (!lease)
        return NULL;
    lease->holder = holder;
    lease->nonce = scatter(reception->hall->seed + 0x9e3779b97f4a7c15u * ++reception->hall->next_id);
    lease->queue = delivery->queue;
    lease->seq = delivery->seq;
    lease->due_us = worker_now(holder->client.worker) + poll->lease_ms * MS / (bug_enabled(BUG_LEASE_SHORT) ? 2 : 1);
    lease->name = bytes_of(memcpy(lease + 1, poll->name.data, poll->name.size), poll->name.size);
    if (map_put(&reception->by_nonce, lease->nonce, lease) != GW_OK) {
        free(lease);
        return NULL;
    }
    lease->next = reception->leases;
    if (reception->leases)
        reception->leases->previous = lease;
    reception->leases = lease;
    holder->leases++;
    due_by(reception, lease->due_us);
    return lease;
}

static void give_back(struct lease *lease, enum settle_kind why)
{
    client_settle(&lease->holder->client, lease->queue, why, lease->seq, 1, NULL);
    lease_free(lease);
}

/* ---- polls ------------------------------------------------------------------------------------------------------------- */

static void poll_free(struct poll *poll)
{
    if (poll->task)
        poll->task->poll = NULL;
    if (poll->next)
        poll->next->previous = poll->previous;
    if (poll->previous)
        poll->previous->next = poll->next;
    else
        poll->holder->polls = poll->next;
    free(poll);
}

static struct task *take_task(struct poll *poll)
{
    struct task *task = poll->task;
    poll->task = NULL;
    if (task)
        task->poll = NULL;
    return task;
}

static void ask(struct poll *poll, enum request_kind kind, enum poll_state state)
{
    poll->state = state;
    client_request(&poll->holder->client, &(struct request){.kind = kind, .channel = CHANNEL, .tag = poll->tag, .name = poll->name, .queue = poll->queue,
                                                            .handle = poll->handle, .prefetch = 1});
}

/* Nobody waits any more. What is under way is waited for. */
static void poll_over(struct poll *poll)
{
    if (poll->state == POLL_OPENING)
        poll_free(poll);
    else if (poll->state == POLL_WAITING)
        ask(poll, REQUEST_CANCEL, POLL_CANCELLING);
}

static void poll_refuse(struct poll *poll, unsigned code, struct bytes text)
{
    struct task *task = take_task(poll);
    if (task)
        task_refuse(task, code, text);
}

static void poll_nothing(struct poll *poll)
{
    struct task *task = take_task(poll);
    if (task)
        task_answer(task, 204, NULL);
}

void reception_leave(struct task *task)
{
    if (task->poll) {
        struct poll *poll = task->poll;
        take_task(poll);
        poll_over(poll);
    }
    if (task->ask) {
        map_remove(&task->gateway->hall->reception->asks, task->ask);
        task->ask = 0;
    }
}

/* ---- what the broker says to a holder ----------------------------------------------------------------------------------- */

static struct poll *poll_find(const struct holder *holder, uint32_t tag)
{
    for (struct poll *poll = holder->polls; poll; poll = poll->next)
        if (poll->tag == tag)
            return poll;
    return NULL;
}

/* False: it was not wanted, or could not be answered. */
static bool serve(struct poll *poll, const struct delivery *delivery)
{
    struct lease *lease = poll->acks ? NULL : lease_new(poll, delivery);
    struct task *task = take_task(poll);
    char token[40];
    if (lease)
        snprintf(token, sizeof(token), "%u-%016llx", worker_index(poll->holder->client.worker), (unsigned long long)lease->nonce);
    http_session_clock(task->gateway->http, worker_wall_us(poll->holder->client.worker) / 1000);
    if ((lease || poll->acks) && reception_answer(task, delivery, lease ? token : NULL)) {
        if (poll->acks)
            client_settle(&poll->holder->client, delivery->queue, SETTLE_ACK, delivery->seq, 1, NULL);
        return true;
    }
    if (lease)
        lease_free(lease);
    task_problem(task, 503, "There is too little memory, or too many messages are taken and not settled.");
    return false;
}

static void on_delivered(struct client *client, const struct delivery *delivery)
{
    struct holder *holder = holder_of(client);
    struct poll *poll = poll_find(holder, delivery->consumer);
    holder->used_us = worker_now(client->worker);
    if (!poll || !poll->task || !serve(poll, delivery))
        client_settle(client, delivery->queue, SETTLE_UNDELIVERED, delivery->seq, 1, NULL);
    if (poll && poll->state == POLL_GETTING)
        poll_free(poll);
    else if (poll)
        poll_over(poll);
}

static void begin(struct poll *poll) { ask(poll, REQUEST_GET, POLL_GETTING); }

static void opened(struct holder *holder, const struct reply *reply)
{
    holder->is_open = !reply->code;
    holder->is_gone = reply->code;
    due_by(holder->reception, reply->code ? 0 : NEVER);
    for (struct poll *poll = holder->polls, *next; poll; poll = next) {
        next = poll->next;
        if (!reply->code) {
            begin(poll);
            continue;
        }
        poll_refuse(poll, reply->code, reply->text);
        poll_free(poll);
    }
}

static void got(struct poll *poll, const struct reply *reply)
{
    if (reply->code)
        poll_refuse(poll, reply->code, reply->text);
    else if (!poll->waits)
        poll_nothing(poll);
    if (poll->task)
        ask(poll, REQUEST_CONSUME, POLL_CONSUMING);
    else
        poll_free(poll);
}

static void consuming(struct poll *poll, const struct reply *reply)
{
    if (reply->code) {
        poll_refuse(poll, reply->code, reply->text);
        poll_free(poll);
        return;
    }
    poll->state = POLL_WAITING;
    poll->queue = reply->queue;
    poll->handle = reply->handle;
    if (!poll->task)
        poll_over(poll);
}

static void answer_ask(struct reception *reception, unsigned from, uint64_t number, enum ask_answer answer)
{
    const struct letter letter = {.ask = number, .kind = LETTER_ANSWER, .outcome = (uint8_t)answer};
    worker_send(reception->hall->worker, from, bytes_of(&letter, sizeof(letter)));
}

static void settled(struct holder *holder, const struct reply *reply)
{
    for (struct lease *lease = holder->reception->leases; lease; lease = lease->next)
        if (lease->holder == holder && lease->channel == reply->channel) {
            answer_ask(holder->reception, lease->from, lease->ask, reply->code ? ASK_FAILED : ASK_DONE);
            lease->channel = 0;
            if (!reply->code)
                lease_free(lease);
            return;
        }
}

static void on_replied(struct client *client, const struct reply *reply)
{
    struct holder *holder = holder_of(client);
    if (reply->kind == REQUEST_OPEN) {
        opened(holder, reply);
        return;
    }
    if (reply->kind == REQUEST_COMMIT) {
        settled(holder, reply);
        return;
    }
    struct poll *poll = poll_find(holder, reply->tag);
    if (!poll)
        return;
    if (reply->kind == REQUEST_GET)
        got(poll, reply);
    else if (reply->kind == REQUEST_CONSUME)
        consuming(poll, reply);
    else if (reply->kind == REQUEST_CANCEL)
        poll_free(poll);
}

static void on_cancelled(struct client *client, uint16_t channel, uint32_t consumer)
{
    struct poll *poll = poll_find(holder_of(client), consumer);
    (void)channel;
    if (!poll)
        return;
    poll_refuse(poll, 404, bytes_of_text("The queue is gone."));
    if (poll->state != POLL_CANCELLING)
        poll_free(poll);
}

static void on_closed(struct client *client, uint16_t code, struct bytes text)
{
    struct holder *holder = holder_of(client);
    holder->is_gone = true;
    due_by(holder->reception, 0);
    for (struct poll *poll = holder->polls; poll; poll = poll->next)
        poll_refuse(poll, code, text);
    for (struct lease *lease = holder->reception->leases, *next; lease; lease = next) {
        next = lease->next;
        if (lease->holder == holder)
            give_back(lease, SETTLE_CLOSED);
    }
}

static const struct client_ops ops = {.deliver = on_delivered, .replied = on_replied, .cancelled = on_cancelled, .closed = on_closed};

/* ---- holders ----------------------------------------------------------------------------------------------------------- */

static void holder_free(struct holder *holder)
{
    while (holder->polls)
        poll_free(holder->polls);
    for (struct lease *lease = holder->reception->leases, *next; lease; lease = next) {
        next = lease->next;
        if (lease->holder == holder && lease->channel)
            lease_free(lease);   /* it is being settled, whoever hears of it */
        else if (lease->holder == holder)
            give_back(lease, SETTLE_CLOSED);
    }
    client_detach(&holder->client);
    free(holder);
}

static struct bytes keep(uint8_t **at, struct bytes bytes)
{
    uint8_t *begin = *at;
    if (bytes.size)
        memcpy(begin, bytes.data, bytes.size);
    *at += bytes.size;
    return bytes_of(begin, bytes.size);
}

static struct holder *holder_new(struct reception *reception, struct bytes user, struct bytes vhost)
{
    static const char name[] = "messages taken by HTTP";
    uint8_t room[256];
    struct amqp_table_writer writer;
    struct bytes facts;
    struct holder *holder = calloc(1, sizeof(*holder) + user.size + vhost.size);
    if (!holder || client_attach(reception->hall->worker, &holder->client, &ops) != GW_OK) {
        free(holder);
        return NULL;
    }
    uint8_t *at = (uint8_t *)(holder + 1);
    holder->reception = reception;
    holder->client.user = keep(&at, user);
    holder->vhost = keep(&at, vhost);
    holder->client.name = bytes_of_text(name);
    holder->next_channel = CHANNEL;
    amqp_table_begin(&writer, room, sizeof(room));
    amqp_table_put_text(&writer, "name", holder->client.name);
    amqp_table_put_text(&writer, "protocol", bytes_of_text("HTTP"));
    if (!amqp_table_finish(&writer, &facts))
        facts = (struct bytes){0};
    client_request(&holder->client, &(struct request){.kind = REQUEST_OPEN, .name = holder->vhost, .source = holder->client.user, .arguments = facts});
    holder->next = reception->holders;
    reception->holders = holder;
    return holder;
}

static struct holder *holder_for(struct reception *reception, struct bytes user, struct bytes vhost)
{
    for (struct holder *holder = reception->holders; holder; holder = holder->next)
        if (!holder->is_gone && bytes_equal(holder->client.user, user) && bytes_equal(holder->vhost, vhost))
            return holder;
    return holder_new(reception, user, vhost);
}

static struct reception *reception_of(struct gateway_hall *hall)
{
    if (!hall->reception && (hall->reception = calloc(1, sizeof(*hall->reception)))) {
        hall->reception->hall = hall;
        hall->reception->due_us = NEVER;
    }
    return hall->stopping ? NULL : hall->reception;
}

/* ---- resources --------------------------------------------------------------------------------------------------------- */

static bool read_acks(struct task *task, bool *acks)
{
    char text[8];
    bool bad;
    if (!task_parameter(task, "ack", text, sizeof(text), &bad))
        return !bad;
    *acks = strcmp(text, "auto") == 0;
    if (*acks || strcmp(text, "manual") == 0)
        return true;
    task_problem(task, 400, "The parameter ack must be manual or auto.");
    return false;
}

void reception_get(struct task *task)
{
    struct gateway_hall *hall = task->gateway->hall;
    struct reception *reception = reception_of(hall);
    uint64_t wait_ms = 0, lease_ms = LEASE_MS;
    bool acks = false;
    if (!task_duration(task, "wait", WAIT_MAX_MS, &wait_ms) || !task_duration(task, "lease", LEASE_MAX_MS, &lease_ms) || !read_acks(task, &acks))
        return;
    if (task->call->is_head) {
        task_problem(task, 405, "A message is not taken by HEAD.");
        return;
    }
    if (!client_limits_allow(&task->member->client, false, task_name(task, 0))) {
        const struct bytes queue = task_name(task, 0), vhost = member_vhost(task->member), user = task->member->client.user;
        task_problem(task, 403, "ACCESS_REFUSED - access to queue '%.*s' in vhost '%.*s' refused for user '%.*s'", (int)queue.size, (const char *)queue.data,
                     (int)vhost.size, (const char *)vhost.data, (int)user.size, (const char *)user.data);
        return;
    }
    struct holder *holder = reception ? holder_for(reception, task->member->client.user, member_vhost(task->member)) : NULL;
    struct poll *poll = holder ? calloc(1, sizeof(*poll) + task_name(task, 0).size) : NULL;
    if (!poll) {
        task_problem(task, 503, "The broker stops, or there is too little memory.");
        return;
    }
    poll->holder = holder;
    poll->task = task;
    poll->tag = ++holder->next_tag;
    poll->waits = wait_ms;
    poll->acks = acks;
    poll->lease_ms = lease_ms;
    poll->due_us = wait_ms ? task->gateway->now_us + wait_ms * MS : NEVER;
    poll->name = bytes_of(memcpy(poll + 1, task_name(task, 0).data, task_name(task, 0).size), task_name(task, 0).size);
    poll->next = holder->polls;
    if (holder->polls)
        holder->polls->previous = poll;
    holder->polls = poll;
    task->poll = poll;
    holder->used_us = task->gateway->now_us;
    due_by(reception, poll->due_us);
    if (holder->is_open)
        begin(poll);
}

static bool read_token(struct bytes text, unsigned workers, unsigned *worker, uint64_t *nonce)
{
    const uint8_t *dash = text.size ? memchr(text.data, '-', text.size) : NULL;
    uint64_t number;
    *nonce = 0;
    if (!dash || text.data + text.size - dash != 17 || !http_number(bytes_of(text.data, (size_t)(dash - text.data)), &number) || number >= workers)
        return false;
    for (unsigned i = 1; i <= 16; i++) {
        uint8_t c = dash[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f'))
            return false;
        *nonce = *nonce << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    *worker = (unsigned)number;
    return true;
}

static bool read_outcome(struct task *task, enum settle_kind *outcome)
{
    static const struct { const char *word; enum settle_kind kind; } words[] = {{"ack", SETTLE_ACK}, {"requeue", SETTLE_REQUEUE}, {"reject", SETTLE_DISCARD}};
    char text[16] = "ack";
    bool bad;
    if (!task_parameter(task, "outcome", text, sizeof(text), &bad) && bad)
        return false;
    for (unsigned i = 0; i < 3; i++)
        if (strcmp(text, words[i].word) == 0) {
            *outcome = words[i].kind;
            return true;
        }
    task_problem(task, 400, "The parameter outcome must be ack, requeue or reject.");
    return false;
}

static void refuse_token(struct task *task)
{
    task_problem(task, 404, "No message of the queue is held by that token: it is settled, or went back when its lease was over.");
}

void reception_settle(struct task *task)
{
    struct gateway_hall *hall = task->gateway->hall;
    struct bytes user = task->member->client.user, vhost = member_vhost(task->member), queue = task_name(task, 0);
    enum settle_kind outcome;
    unsigned worker;
    struct letter letter = {.kind = LETTER_ASK};
    uint8_t room[sizeof(letter) + 3 * UINT8_MAX], *at = room + sizeof(letter);
    if (!read_outcome(task, &outcome))
        return;
    if (!read_token(task_name(task, 1), hall->workers, &worker, &letter.nonce) || vhost.size > UINT8_MAX) {
        refuse_token(task);
        return;
    }
    if (!reception_expect(task)) {
        task_problem(task, 503, "The broker stops, or there is too little memory.");
        return;
    }
    letter.ask = task->ask;
    letter.outcome = (uint8_t)outcome;
    letter.user_size = (uint8_t)user.size;
    letter.vhost_size = (uint8_t)vhost.size;
    letter.queue_size = (uint8_t)queue.size;
    memcpy(room, &letter, sizeof(letter));
    keep(&at, user);
    keep(&at, vhost);
    keep(&at, queue);
    worker_send(hall->worker, worker, bytes_of(room, (size_t)(at - room)));
}

bool reception_expect(struct task *task)
{
    struct reception *reception = reception_of(task->gateway->hall);
    if (!reception || map_put(&reception->asks, reception->next_ask + 1, task) != GW_OK)
        return false;
    task->ask = ++reception->next_ask;
    return true;
}

struct task *reception_expected(struct gateway_hall *hall, uint64_t ask)
{
    struct task *task = hall->reception ? map_remove(&hall->reception->asks, ask) : NULL;
    if (task) {
        task->ask = 0;
        task->gateway->now_us = worker_now(hall->worker);
        http_session_clock(task->gateway->http, worker_wall_us(hall->worker) / 1000);
    }
    return task;
}

/* ---- letters ----------------------------------------------------------------------------------------------------------- */

/* A channel number that no settle of the holder's has that is under way. */
static uint16_t take_channel(struct holder *holder)
{
    for (;;) {
        uint16_t channel = ++holder->next_channel > CHANNEL ? holder->next_channel : (holder->next_channel = CHANNEL + 1);
        struct lease *lease = holder->reception->leases;
        while (lease && (lease->holder != holder || lease->channel != channel))
            lease = lease->next;
        if (!lease)
            return channel;
    }
}

static enum ask_answer settle(struct reception *reception, unsigned from, const struct letter *letter, const uint8_t *names)
{
    struct lease *lease = map_get(&reception->by_nonce, letter->nonce);
    struct bytes user = bytes_of(names, letter->user_size), vhost = bytes_of(names + user.size, letter->vhost_size);
    struct bytes queue = bytes_of(names + user.size + vhost.size, letter->queue_size);
    if (!lease || lease->channel || !bytes_equal(lease->holder->client.user, user) || !bytes_equal(lease->holder->vhost, vhost) || !bytes_equal(lease->name, queue))
        return ASK_UNKNOWN;
    struct client *client = &lease->holder->client;
    if (bug_enabled(BUG_LEASE_ACK_EARLY)) {
        give_back(lease, letter->outcome);
        answer_ask(reception, from, letter->ask, ASK_DONE);
        return ASK_DONE;
    }
    struct transaction *transaction = client_transaction_new(client);
    if (!transaction)
        return ASK_FAILED;
    lease->channel = take_channel(lease->holder);
    lease->from = from;
    lease->ask = letter->ask;
    client_settle(client, lease->queue, letter->outcome, lease->seq, 1, transaction);
    client_transaction_commit(client, transaction, lease->channel);
    return ASK_DONE;   /* soon */
}

static void answered(struct reception *reception, const struct letter *letter)
{
    struct task *task = reception_expected(reception->hall, letter->ask);
    if (!task)
        return;
    if (letter->outcome == ASK_DONE)
        task_answer(task, 204, NULL);
    else if (letter->outcome == ASK_UNKNOWN)
        refuse_token(task);
    else
        task_problem(task, 503, "The outcome could not be stored: storage has failed or is full.");
}

void hall_letter(void *owner, unsigned from, struct bytes bytes)
{
    struct gateway_hall *hall = owner;
    struct reception *reception = reception_of(hall);
    struct letter letter;
    memcpy(&letter, bytes.data, sizeof(letter));
    if (letter.kind == LETTER_LOOK || letter.kind == LETTER_LOOKED) {
        subscriptions_letter(hall, from, bytes);
        return;
    }
    if (letter.kind == LETTER_SOURCE || letter.kind == LETTER_SOURCE_TOLD) {
        sources_letter(hall, from, bytes);
        return;
    }
    if (letter.kind >= LETTER_CLAIM) {
        idempotency_letter(hall, from, bytes);
        return;
    }
    if (letter.kind == LETTER_ANSWER) {
        if (hall->reception)
            answered(hall->reception, &letter);
        return;
    }
    enum ask_answer answer = reception ? settle(reception, from, &letter, bytes.data + sizeof(letter)) : ASK_UNKNOWN;
    if (answer != ASK_DONE) {
        const struct letter back = {.ask = letter.ask, .kind = LETTER_ANSWER, .outcome = (uint8_t)answer};
        worker_send(hall->worker, from, bytes_of(&back, sizeof(back)));
    }
}

/* ---- time -------------------------------------------------------------------------------------------------------------- */

uint64_t hall_deadline(const struct gateway_hall *hall) { return hall->reception ? hall->reception->due_us : NEVER; }

static void sweep_holder(struct holder *holder, uint64_t now_us)
{
    for (struct poll *poll = holder->polls, *next; poll; poll = next) {
        next = poll->next;
        if (poll->task && poll->due_us <= now_us) {
            poll_nothing(poll);
            poll_over(poll);
        } else if (poll->task) {
            due_by(holder->reception, poll->due_us);
        }
    }
}

void hall_tick(struct gateway_hall *hall, uint64_t now_us)
{
    struct reception *reception = hall->reception;
    if (!reception || now_us < reception->due_us)
        return;
    reception->due_us = NEVER;
    for (struct lease *lease = reception->leases, *next; lease; lease = next) {
        next = lease->next;
        if (!lease->channel && lease->due_us <= now_us && bug_enabled(BUG_LEASE_LOST))
            lease_free(lease);
        else if (!lease->channel && lease->due_us <= now_us)
            give_back(lease, SETTLE_TIMED_OUT);
        else if (!lease->channel)
            due_by(reception, lease->due_us > now_us + TICK_US ? lease->due_us : now_us + TICK_US);
    }
    for (struct holder **at = &reception->holders; *at;) {
        struct holder *holder = *at;
        sweep_holder(holder, now_us);
        bool idle = !holder->polls && !holder->leases;
        if (holder->is_gone || (idle && now_us > holder->used_us + IDLE_US)) {
            *at = holder->next;
            holder_free(holder);
            continue;
        }
        if (idle)
            due_by(reception, holder->used_us + IDLE_US + 1);
        at = &holder->next;
    }
}

void hall_stop(struct gateway_hall *hall, uint64_t now_us)
{
    struct reception *reception = hall->reception;
    (void)now_us;
    hall->stopping = true;
    if (!reception)
        return;
    for (struct holder *holder; (holder = reception->holders);) {
        reception->holders = holder->next;
        for (struct poll *poll = holder->polls; poll; poll = poll->next)
            poll_refuse(poll, 541, bytes_of_text("The broker stops."));
        holder_free(holder);
    }
    reception->due_us = NEVER;
}

void hall_free(struct gateway_hall *hall)
{
    listeners_forget(hall);
    idempotency_free(hall);
    if (!hall->reception)
        return;
    map_deinit(&hall->reception->by_nonce);
    map_deinit(&hall->reception->asks);
    free(hall->reception);
    hall->reception = NULL;
}

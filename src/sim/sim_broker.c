#include "sim/sim_broker.h"

#include <stdlib.h>

#define GIVE_UP_US 60000000u
#define FEED_MAX (256u << 10)   /* bytes that a reactor receives at a time */

static void on_alarm(struct alarm_sink *sink, enum alarm_level level, const char *text)
{
    struct sim_broker *broker = (struct sim_broker *)((char *)sink - offsetof(struct sim_broker, alarms));
    broker->alarm_count += level != ALARM_INFO;
    trace_event(broker->trace, TRACE_ALARM, level, 0, 0, 0);
    trace_note(broker->trace, "alarm: %s", text);
}

void sim_broker_init(struct sim_broker *broker, const struct plan *plan, struct random *random, struct trace *trace, struct sim_disk *disk)
{
    memset(broker, 0, sizeof(*broker));
    broker->plan = plan;
    broker->random = random;
    broker->trace = trace;
    broker->disk = disk;
    broker->alarms.raise = on_alarm;
    broker->sessions = session_config_default;
    broker->sessions.heartbeat_s = 10;
    broker->sessions.frame_max = random_chance(random, 1, 2) ? 4096 : 131072;
    if (random_chance(random, 1, 2))
        broker->sessions.output_limit = 8192;
}

/* ---- mailboxes and dirt ------------------------------------------------------------------------------------------------------ */

static bool post(struct worker_port *port, unsigned to, struct batch *batch)
{
    struct sim_worker *from = (struct sim_worker *)((char *)port - offsetof(struct sim_worker, port));
    struct sim_broker *broker = from->broker;
    struct sim_mailbox *box = &broker->workers[to].from[from->index];
    CHECK(to < broker->worker_count && to != from->index);
    if (broker->closing) {
        worker_receive(broker->workers[to].worker, batch);
        return true;
    }
    if (box->count == SIM_MAILBOX_ROOM || (!broker->calm && random_chance(broker->random, broker->plan->post_refused, 256)))
        return false;
    if (!worker_is_sealed(from->worker))
        trace_fail(broker->trace, "a publish goes with its slice", "worker %u posts publishes whose slice stays behind", from->index);
    box->batches[(box->first + box->count++) % SIM_MAILBOX_ROOM] = batch;
    trace_event(broker->trace, TRACE_POST, from->index, to, 0, 0);
    return true;
}

static struct batch *take_batch(struct sim_mailbox *box)
{
    if (box->count == 0)
        return NULL;
    struct batch *batch = box->batches[box->first];
    box->first = (box->first + 1) % SIM_MAILBOX_ROOM;
    box->count--;
    return batch;
}

static void dirty(struct session_host *host, void *owner)
{
    (void)host;
    ((struct sim_session *)owner)->look = true;
}

/* ---- the process ----------------------------------------------------------------------------------------------------------------- */

static void free_broker(struct sim_broker *broker)
{
    broker_free(broker->broker);
    if (broker->lodgers)
        broker->lodgers->ended(broker->lodgers->owner);
    broker->broker = NULL;
    for (unsigned i = 0; i < broker->worker_count; i++)
        broker->workers[i].worker = NULL;
}

enum gw_err sim_broker_start(struct sim_broker *broker)
{
    static const uint8_t chance[32] = "the same in every simulated life";
    struct broker_config config = {
        .workers = broker->plan->workers,
        .shards = broker->plan->shards,
        .log_body = LOG_FILE,
        .log_file_size = broker->plan->log_file_size,
        .log_file_count = broker->plan->log_file_count,
        .memory_per_worker = broker->plan->memory_per_worker,
        .disk_free_limit = 1,
        .max_clients = 64,
        .alarms = &broker->alarms,
        .random = chance,
    };
    broker->worker_count = broker->plan->workers;
    broker->why[0] = 0;
    broker->closing = false;
    broker->broker = broker_new(&config);
    if (!broker->broker)
        return GW_ERR_NOMEM;
    for (unsigned i = 0; i < broker->worker_count; i++) {
        struct sim_worker *worker = &broker->workers[i];
        *worker = (struct sim_worker){.port = {post}, .host = {dirty}, .broker = broker, .index = i};
        worker->worker = worker_new(broker->broker, i, sim_disk_face(broker->disk), &worker->port);
        if (!worker->worker) {
            free_broker(broker);
            return GW_ERR_NOMEM;
        }
    }
    if (broker->lodgers && !broker->lodgers->made(broker->lodgers->owner)) {
        free_broker(broker);
        return GW_ERR_NOMEM;
    }
    enum gw_err err = broker_open(broker->broker, broker->why, sizeof(broker->why));
    trace_event(broker->trace, TRACE_BROKER_OPEN, err, broker->plan->workers, broker->plan->shards, 0);
    if (err != GW_OK) {
        trace_note(broker->trace, "the broker does not start: %s", broker->why);
        while (sim_disk_step(broker->disk))
            ;
        if (broker->lodgers)
            broker->lodgers->ending(broker->lodgers->owner);
        free_broker(broker);
    }
    return err;
}

static void end_session(struct sim_session *session)
{
    struct sim_worker *worker = session->worker;
    struct sim_session **at = &worker->sessions;
    while (*at != session)
        at = &(*at)->next;
    *at = session->next;
    session_free(session->session);
    session->link->session_gone = true;
    if (session->orphan) {
        link_deinit(session->link);
        free(session->link);
    }
    free(session);
}

/* Takes the batches that are on their way, so that whoever frees the workers frees them too. */
static void empty_mailboxes(struct sim_broker *broker)
{
    for (unsigned to = 0; to < broker->worker_count; to++)
        for (unsigned from = 0; from < broker->worker_count; from++)
            for (struct batch *batch; (batch = take_batch(&broker->workers[to].from[from]));)
                worker_receive(broker->workers[to].worker, batch);
}

enum gw_err sim_broker_close(struct sim_broker *broker)
{
    for (unsigned i = 0; i < broker->worker_count; i++)
        while (broker->workers[i].sessions)
            end_session(broker->workers[i].sessions);
    if (broker->lodgers)
        broker->lodgers->ending(broker->lodgers->owner);
    empty_mailboxes(broker);
    broker->calm = broker->closing = true;
    enum gw_err err = broker_close(broker->broker);
    trace_event(broker->trace, TRACE_BROKER_CLOSE, err, 0, 0, 0);
    while (sim_disk_step(broker->disk))
        ;
    free_broker(broker);
    return err;
}

void sim_broker_kill(struct sim_broker *broker)
{
    CHECK(sim_disk_stopped(broker->disk));
    if (broker->broker)
        sim_broker_close(broker);
}

/* ---- connections -------------------------------------------------------------------------------------------------------------------- */

bool sim_broker_accept(struct sim_broker *broker, struct link *link, unsigned client)
{
    struct sim_worker *worker = &broker->workers[random_below(broker->random, broker->worker_count)];
    struct sim_session *session = calloc(1, sizeof(*session));
    CHECK(session);
    *session = (struct sim_session){.worker = worker, .link = link, .client = client};
    enum gw_err err = session_new(worker->worker, &broker->sessions, &worker->host, session, true, broker->trace->now_us, &session->session);
    if (err != GW_OK) {
        free(session);
        return false;
    }
    session->next = worker->sessions;
    worker->sessions = session;
    trace_event(broker->trace, TRACE_CONNECT, client, worker->index, 0, 0);
    return true;
}

void sim_broker_orphan(struct sim_broker *broker, struct link *link)
{
    if (!broker->broker)
        return;
    for (unsigned i = 0; i < broker->worker_count; i++) {
        for (struct sim_session *session = broker->workers[i].sessions; session; session = session->next) {
            if (session->link != link)
                continue;
            session->link = malloc(sizeof(*session->link));
            CHECK(session->link);
            *session->link = *link;
            session->orphan = true;
            link_init(link);
            return;
        }
    }
}

/* ---- a turn ------------------------------------------------------------------------------------------------------------------------ */

static bool feed(struct sim_broker *broker, struct sim_session *session)
{
    struct stream *stream = &session->link->to_session;
    struct bytes waiting = stream_bytes(stream);
    if (waiting.size == 0 || !session_wants_input(session->session) || (!broker->calm && random_chance(broker->random, 1, 4)))
        return false;
    size_t size = broker->calm ? waiting.size : net_piece(broker->random, waiting.size, broker->plan->slow_net);
    if (size > FEED_MAX)
        size = FEED_MAX;
    trace_event(broker->trace, TRACE_FEED, session->client, size, 0, 0);
    /* A copy of exactly that size, so that reading past its end is found by an address sanitizer. */
    uint8_t *copy = malloc(size);
    CHECK(copy);
    memcpy(copy, waiting.data, size);
    session_feed(session->session, bytes_of(copy, size), broker->trace->now_us);
    free(copy);
    stream_read(stream, size);
    session->look = true;
    return true;
}

/* Sends what the session has to say. A peer that is gone half-way takes a little (the system's buffers), then nothing. */
static bool send_output(struct sim_broker *broker, struct sim_session *session)
{
    struct iovec iov[16];
    bool sent = false;
    for (;;) {
        unsigned count = session_output(session->session, iov, 16);
        size_t size = 0, room = SIZE_MAX;
        for (unsigned i = 0; i < count; i++)
            size += iov[i].iov_len;
        if (size == 0)
            break;
        if (session->link->client_gone)
            room = stream_bytes(&session->link->to_client).size < 20000 ? 4000 : 0;
        else if (!broker->calm && random_chance(broker->random, 1, 4))
            room = random_between(broker->random, 0, size);
        size_t left = size < room ? size : room;
        size = left;
        for (unsigned i = 0; i < count && left > 0; i++) {
            size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;
            stream_write(&session->link->to_client, iov[i].iov_base, part);
            left -= part;
        }
        session_sent(session->session, size, broker->trace->now_us);
        sent = sent || size > 0;
        if (room != SIZE_MAX) {
            session->look = !session->link->client_gone;
            return sent;
        }
    }
    return sent;
}

static bool serve_sessions(struct sim_broker *broker, struct sim_worker *worker)
{
    bool happened = false;
    for (struct sim_session *session = worker->sessions, *next; session; session = next) {
        next = session->next;
        if (session_deadline(session->session) <= broker->trace->now_us) {
            session_tick(session->session, broker->trace->now_us);
            session->look = true;
        }
        if (session->look) {
            session->look = false;
            happened |= send_output(broker, session);
        }
        /* The system gives up at last on a peer that answers nothing. */
        if (session->link->client_gone && broker->trace->now_us - session->link->gone_us > GIVE_UP_US)
            session->link->reset = true;
        bool lost = session->link->reset && (stream_bytes(&session->link->to_session).size == 0 || !session_wants_input(session->session));
        if (session_finished(session->session) || lost) {
            end_session(session);
            happened = true;
        }
    }
    return happened;
}

bool sim_broker_turn(struct sim_broker *broker, unsigned index)
{
    struct sim_worker *worker = &broker->workers[index];
    bool happened = worker->busy;
    for (struct sim_session *session = worker->sessions; session; session = session->next)
        happened |= feed(broker, session);
    for (unsigned from = 0; from < broker->worker_count; from++) {
        while (worker->from[from].count > 0 && (broker->calm || random_chance(broker->random, 3, 4))) {
            worker_receive(worker->worker, take_batch(&worker->from[from]));
            happened = true;
        }
    }
    if (broker->lodgers)
        happened |= broker->lodgers->before_turn(broker->lodgers->owner, index);
    worker->busy = worker_turn(worker->worker, broker->trace->now_us);
    happened |= worker->busy;
    if (broker->lodgers)
        happened |= broker->lodgers->after_turn(broker->lodgers->owner, index);
    if (happened)
        trace_event(broker->trace, TRACE_TURN, index, worker->busy, 0, 0);
    return serve_sessions(broker, worker) || happened;
}

bool sim_broker_at_rest(const struct sim_broker *broker)
{
    if (sim_disk_in_flight(broker->disk) > 0 || (broker->lodgers && !broker->lodgers->at_rest(broker->lodgers->owner)))
        return false;
    for (unsigned i = 0; i < broker->worker_count; i++) {
        const struct sim_worker *worker = &broker->workers[i];
        if (worker->busy)
            return false;
        for (unsigned from = 0; from < broker->worker_count; from++)
            if (worker->from[from].count > 0)
                return false;
        for (const struct sim_session *session = worker->sessions; session; session = session->next) {
            const struct link *link = session->link;
            if (session->look || link->reset)
                return false;
            if (!link->client_gone && (stream_bytes(&link->to_client).size > 0
                                       || (stream_bytes(&link->to_session).size > 0 && session_wants_input(session->session))))
                return false;
        }
    }
    return true;
}

uint64_t sim_broker_deadline(const struct sim_broker *broker)
{
    uint64_t earliest = broker->lodgers ? broker->lodgers->deadline(broker->lodgers->owner) : UINT64_MAX;
    for (unsigned i = 0; i < broker->worker_count; i++) {
        uint64_t deadline = worker_deadline(broker->workers[i].worker);
        earliest = deadline < earliest ? deadline : earliest;
        for (const struct sim_session *session = broker->workers[i].sessions; session; session = session->next) {
            deadline = session_deadline(session->session);
            earliest = deadline < earliest ? deadline : earliest;
        }
    }
    return earliest;
}

void sim_broker_jump(const struct sim_broker *broker)
{
    struct trace *trace = broker->trace;
    uint64_t deadline = sim_broker_deadline(broker), most = trace->now_us + 1000000;
    if (deadline < trace->now_us)
        deadline = trace->now_us;
    trace->now_us = (deadline < most ? deadline : most) + random_below(broker->random, 1000);
}

void sim_broker_note(const struct sim_broker *broker)
{
    for (unsigned i = 0; i < broker->worker_count; i++) {
        const struct sim_worker *worker = &broker->workers[i];
        trace_note(broker->trace, "worker %u: %s", i, worker->busy ? "busy" : "idle");
        for (const struct sim_session *session = worker->sessions; session; session = session->next)
            trace_note(broker->trace, "  session of client %u: %zu bytes to read (%s), %zu sent, %s%s%s", session->client,
                       stream_bytes(&session->link->to_session).size, session_wants_input(session->session) ? "wanted" : "not wanted",
                       stream_bytes(&session->link->to_client).size, session->look ? "to be looked at" : "quiet",
                       session->link->client_gone ? ", client gone" : "", session->link->reset ? ", reset" : "");
    }
}

unsigned sim_broker_sessions(const struct sim_broker *broker)
{
    unsigned count = 0;
    for (unsigned i = 0; i < broker->worker_count; i++)
        for (const struct sim_session *session = broker->workers[i].sessions; session; session = session->next)
            count++;
    return count;
}

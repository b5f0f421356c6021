#include "sim/bus_job.h"

#include "base/err.h"
#include "broker/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND_US 1000000ull
#define GRACE_US 100000u             /* what is over is looked at so often, with some to spare */
#define QUEUE "work"
#define PATH "/queues/" QUEUE "/messages"

static void answered(void *owner, struct bus_door *door, unsigned status, const char *body, size_t size);

void bus_jobs_init(struct bus_jobs *jobs, struct random *random, struct trace *trace, const uint32_t *epoch, struct bus_door *doors, unsigned count)
{
    *jobs = (struct bus_jobs){.random = random, .trace = trace, .epoch = epoch, .worker_count = count};
    for (unsigned i = 0; i < count; i++) {
        jobs->workers[i].jobs = jobs;
        jobs->workers[i].door = &doors[i];
        doors[i].answered = answered;
        doors[i].owner = &jobs->workers[i];
    }
}

void bus_jobs_deinit(struct bus_jobs *jobs) { free(jobs->list); }

/* ---- the queue --------------------------------------------------------------------------------------------------------------- */

static void on_replied(struct client *client, const struct reply *reply)
{
    CHECK(!reply->code);
    if (reply->kind == REQUEST_OPEN)
        client_request(client, &(struct request){.kind = REQUEST_QUEUE_DECLARE, .flags = REQUEST_DURABLE, .channel = 1, .name = bytes_of_text(QUEUE)});
}

void bus_jobs_declare(struct bus_jobs *jobs, struct worker *worker)
{
    static const struct client_ops ops = {.replied = on_replied};
    jobs->client = calloc(1, sizeof(*jobs->client));
    CHECK(jobs->client && client_attach(worker, jobs->client, &ops) == GW_OK);
    jobs->client->user = jobs->client->name = bytes_of_text("guest");
    client_request(jobs->client, &(struct request){.kind = REQUEST_OPEN, .name = bytes_of_text("/"), .source = jobs->client->user});
}

void bus_jobs_declared(struct bus_jobs *jobs)
{
    client_detach(jobs->client);
    free(jobs->client);
    jobs->client = NULL;
}

/* ---- asking -------------------------------------------------------------------------------------------------------------------- */

static bool ask(struct bus_worker *worker, int doing, const char *head, const char *body)
{
    struct bus_jobs *jobs = worker->jobs;
    if (!bus_door_ask(worker->door, head, body, strlen(body)))
        return false;
    worker->doing = doing;
    worker->asked_us = jobs->trace->now_us;
    worker->epoch = *jobs->epoch;
    trace_event(jobs->trace, TRACE_DOOR_ASKS, worker->door->number, 100u + (unsigned)doing, worker->job, 0);
    return true;
}

static void publish(struct bus_worker *worker)
{
    struct bus_jobs *jobs = worker->jobs;
    char body[32];
    if (jobs->count == jobs->room) {
        jobs->room = jobs->room ? jobs->room * 2 : 64;
        jobs->list = realloc(jobs->list, jobs->room * sizeof(*jobs->list));
        CHECK(jobs->list);
    }
    jobs->list[jobs->count++] = (struct bus_job){0};
    worker->job = jobs->count;
    snprintf(body, sizeof(body), "%" PRIu64, worker->job);
    ask(worker, WORKER_PUBLISHES, "POST " PATH " HTTP/1.1\r\nContent-Type: text/plain\r\n", body);
}

static void take(struct bus_worker *worker, bool is_auto, unsigned wait_s)
{
    char head[160];
    worker->job = 0;
    worker->is_auto = is_auto;
    worker->lease_s = (uint32_t)random_between(worker->jobs->random, 1, BUS_LEASE_MAX_S);
    snprintf(head, sizeof(head), "GET " PATH "?wait=%us&lease=%us&ack=%s HTTP/1.1\r\n", wait_s, worker->lease_s, is_auto ? "auto" : "manual");
    worker->door->is_patient = wait_s;
    ask(worker, WORKER_TAKES, head, "");
}

bool bus_job_take(struct bus_worker *worker)
{
    if (worker->doing != WORKER_IDLE)
        return false;
    take(worker, true, 0);
    return true;
}

static void settle(struct bus_worker *worker, unsigned which)
{
    static const char *const words[] = {"ack", "requeue", "reject"};
    char head[160];
    worker->settling = worker->leases[which];
    worker->leases[which] = worker->leases[--worker->count];
    worker->job = worker->settling.job;
    worker->jobs->list[worker->job - 1].held_epoch = 0;   /* somebody else may have it before the answer is here */
    worker->outcome = random_chance(worker->jobs->random, 2, 3) ? JOB_ACK : random_chance(worker->jobs->random, 1, 2) ? JOB_REQUEUE : JOB_REJECT;
    snprintf(head, sizeof(head), "DELETE " PATH "/%s?outcome=%s HTTP/1.1\r\n", worker->settling.token, words[worker->outcome]);
    ask(worker, WORKER_SETTLES, head, "");
}

void bus_job_act(struct bus_worker *worker)
{
    struct random *random = worker->jobs->random;
    if (worker->doing != WORKER_IDLE) {
        if (worker->door->is_patient && random_chance(random, 1, 40))
            bus_door_drop(worker->door);   /* it waits no more */
        return;
    }
    worker->door->is_patient = false;
    if (worker->count && random_chance(random, worker->count == BUS_LEASES_MAX ? 3 : 1, 3))
        settle(worker, (unsigned)random_below(random, worker->count));
    else if (random_chance(random, 1, 2))
        publish(worker);
    else
        take(worker, random_chance(random, 1, 6), random_chance(random, 1, 3) ? (unsigned)random_between(random, 1, 30) : 0);
}

/* ---- answers ------------------------------------------------------------------------------------------------------------------- */

#define FAIL(invariant, format, ...) trace_fail(jobs->trace, invariant, "job %" PRIu64 ": " format, worker->job, __VA_ARGS__)

static void was_taken(struct bus_worker *worker, const char *body)
{
    struct bus_jobs *jobs = worker->jobs;
    uint64_t now_us = jobs->trace->now_us;
    char redelivered[8] = "";
    worker->job = strtoull(body, NULL, 10);
    worker->found = true;
    jobs->taken++;
    if (!worker->job || worker->job > jobs->count) {
        FAIL("nothing appears", "'%.40s' was taken", body);
        return;
    }
    struct bus_job *job = &jobs->list[worker->job - 1];
    bus_door_header(worker->door, "godwit-redelivered", redelivered, sizeof(redelivered));
    if (job->gone && (job->gone_sure || job->gone_epoch == *jobs->epoch))
        FAIL("what is done stays done", "it was settled in life %u", job->gone_epoch);
    if (job->held_epoch == *jobs->epoch && now_us < job->held_until_us)
        FAIL("one owner", "it is held until %" PRIu64 " at the least", job->held_until_us);
    if (job->seen && strcmp(redelivered, "true") != 0)
        FAIL("redeliveries are flagged", "it was taken before, and says '%s'", redelivered);
    job->seen = true;
    job->gone = worker->is_auto;
    job->gone_sure = false;
    job->gone_epoch = *jobs->epoch;
    job->held_epoch = 0;
    if (worker->is_auto)
        return;
    job->held_epoch = *jobs->epoch;
    job->held_until_us = worker->asked_us + worker->lease_s * SECOND_US;
    struct bus_lease *lease = &worker->leases[worker->count++];
    *lease = (struct bus_lease){.job = worker->job, .least_us = job->held_until_us, .most_us = now_us + worker->lease_s * SECOND_US, .epoch = *jobs->epoch};
    if (!bus_door_header(worker->door, "godwit-token", lease->token, sizeof(lease->token)))
        FAIL("tokens", "there is %s", "none");
}

static void was_settled(struct bus_worker *worker, bool good)
{
    struct bus_jobs *jobs = worker->jobs;
    struct bus_job *job = &jobs->list[worker->job - 1];
    const struct bus_lease *lease = &worker->settling;
    if (good && lease->epoch != worker->epoch)
        FAIL("leases end with the broker", "it was taken in life %u", lease->epoch);
    if (good && worker->asked_us > lease->most_us + GRACE_US)
        FAIL("leases end", "it was held until %" PRIu64 " at the most", lease->most_us);
    if (!good && lease->epoch == *jobs->epoch && jobs->trace->now_us < lease->least_us)
        FAIL("leases last", "it is held until %" PRIu64 " at the least", lease->least_us);
    if (!good)
        return;
    if (worker->outcome != JOB_REQUEUE) {
        job->gone = job->gone_sure = true;
        job->gone_epoch = *jobs->epoch;
    }
}

static void lose(struct bus_worker *worker, int doing)
{
    struct bus_jobs *jobs = worker->jobs;
    if (doing == WORKER_TAKES && worker->is_auto)
        jobs->lost++;
    if (doing == WORKER_SETTLES && worker->outcome != JOB_REQUEUE)
        jobs->list[worker->job - 1].may_be_gone = true;
}

static void answered(void *owner, struct bus_door *door, unsigned status, const char *body, size_t size)
{
    struct bus_worker *worker = owner;
    struct bus_jobs *jobs = worker->jobs;
    int doing = worker->doing;
    (void)size;
    worker->doing = WORKER_IDLE;
    trace_note(jobs->trace, "worker at door %u, job %" PRIu64 ": %u %.200s", door->number, worker->job, status, body);
    if (!status)
        lose(worker, doing);
    else if (doing == WORKER_PUBLISHES && (status == 201 || (status == 503 && strstr(body, "low on memory"))))
        jobs->list[worker->job - 1].confirmed = status == 201;
    else if (doing == WORKER_TAKES && status == 200)
        was_taken(worker, body);
    else if (doing == WORKER_TAKES && status == 204)
        worker->found = false;
    else if (doing == WORKER_SETTLES && (status == 204 || status == 404))
        was_settled(worker, status == 204);
    else
        FAIL("no error unasked", "door %u, which does %d, was answered %u: %.200s", door->number, doing, status, body);
}

/* ---- at rest, and at the end --------------------------------------------------------------------------------------------------------- */

void bus_jobs_quiet(struct bus_jobs *jobs)
{
    for (uint64_t i = 0; i < jobs->count; i++)
        jobs->list[i].gone_sure |= jobs->list[i].gone && jobs->list[i].gone_epoch == *jobs->epoch;
}

void bus_jobs_check_end(struct bus_jobs *jobs)
{
    uint64_t missing = 0, first = 0;
    for (uint64_t i = 0; i < jobs->count; i++) {
        const struct bus_job *job = &jobs->list[i];
        if (!job->confirmed || job->gone || job->may_be_gone)
            continue;
        first = missing++ ? first : i + 1;
    }
    if (missing > jobs->lost)
        trace_fail(jobs->trace, "confirmed stays", "%" PRIu64 " jobs are not there, the first of them %" PRIu64 "; at most %" PRIu64 " can have gone with answers that never came", missing, first,
                   jobs->lost);
}

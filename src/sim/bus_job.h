/* Workers by HTTP: they put jobs into a queue, take them out with a lease, and say by its token what became of them. And what is to be expected of that:
 *
 *   one owner     nobody gets a job as long as somebody else's lease of it lasts; a lease lasts as long as was asked for, and no longer than the broker
 *   settled       what was answered 204 is gone for good, over crashes too; what was not comes again, flagged */
#ifndef SIM_BUS_JOB_H
#define SIM_BUS_JOB_H

#include "sim/bus_door.h"

#define BUS_WORKERS_MAX 3u
#define BUS_LEASES_MAX 8u            /* that a worker remembers */
#define BUS_LEASE_MAX_S 120u

struct bus_jobs;

struct bus_job {
    bool confirmed, seen;
    bool gone, gone_sure;            /* settled for good; and that is on disk */
    bool may_be_gone;
    uint32_t gone_epoch;
    uint32_t held_epoch;             /* the broker's life in which it is held … */
    uint64_t held_until_us;          /* … for so long at the least */
};

struct bus_lease {
    char token[48];
    uint64_t job, least_us, most_us; /* until when it lasts */
    uint32_t epoch;
};

struct bus_worker {
    struct bus_jobs *jobs;
    struct bus_door *door;
    enum { WORKER_IDLE, WORKER_PUBLISHES, WORKER_TAKES, WORKER_SETTLES } doing;
    uint64_t job, asked_us;
    uint32_t lease_s;
    uint32_t epoch;                  /* the broker's life in which it asked */
    bool is_auto;
    enum { JOB_ACK, JOB_REQUEUE, JOB_REJECT } outcome;
    struct bus_lease settling, leases[BUS_LEASES_MAX];
    unsigned count;
    bool found;                      /* the last one that it took was there */
};

struct bus_jobs {
    struct random *random;
    struct trace *trace;
    const uint32_t *epoch;           /* of the broker's life */
    struct client *client;           /* what declares the queue; NULL: it is there */
    struct bus_worker workers[BUS_WORKERS_MAX];
    unsigned worker_count;
    struct bus_job *list;            /* by number - 1 */
    uint64_t count, room;
    uint64_t lost;                   /* jobs that were taken and gone with an answer that never came, at the most */
    uint64_t taken;
};

void bus_jobs_init(struct bus_jobs *jobs, struct random *random, struct trace *trace, const uint32_t *epoch, struct bus_door *doors, unsigned count);
void bus_jobs_deinit(struct bus_jobs *jobs);

/* The queue is asked for, of a broker that runs; done, or not worth waiting for any more: bus_jobs_declared. */
void bus_jobs_declare(struct bus_jobs *jobs, struct worker *worker);
void bus_jobs_declared(struct bus_jobs *jobs);

void bus_job_act(struct bus_worker *worker);
/* Takes one that is there, for good. False: it waits for an answer. */
bool bus_job_take(struct bus_worker *worker);

/* All is at rest: what was said is on disk. */
void bus_jobs_quiet(struct bus_jobs *jobs);
/* All that was there has been taken. */
void bus_jobs_check_end(struct bus_jobs *jobs);

#endif
